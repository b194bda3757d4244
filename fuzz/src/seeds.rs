//! Writes `seeds/` from the decision vectors, so that a fuzzer starts with their coverage. Existing
//! seeds are kept.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use tensorgate_fuzz::stream::MODELS;
use tensorgate_fuzz::{template, torch_form};
use tensorgate_policy::Protocol;
use tensorgate_policy::request::Api;
use tensorgate_vectors::{RawRequest, load, vectors_dir};
use tensorgate_wire::rate_limit::{
    Code, Descriptor, LimitOverride, RateLimitRequest, RateLimitResponse, Status, TimeUnit,
};

/// The most seeds of one target.
const MAX_SEEDS: usize = 100;
/// The most seeds of target `stream` from one file of vectors.
const MAX_OF_A_FILE: usize = 10;
/// The most bytes of one seed.
const MAX_BYTES: usize = 2048;

/// Numbers and strings at the limits of what readers agree on.
const SCALARS: [&str; 15] = [
    "-0",
    "1e400",
    "0.1",
    "1E-46",
    "16777217",
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775808",
    "2.2250738585072011e-308",
    "1.00000017881393432617187499",
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\u0000\/""#,
    "\"é\"",
    "true",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut seeds: BTreeMap<&str, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| {
        let all = seeds.entry(target).or_default();
        if all.len() < MAX_SEEDS
            && bytes.len() <= MAX_BYTES
            && !all.values().any(|known| *known == bytes)
        {
            let name = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect();
            all.insert(name, bytes);
        }
    };
    let mut of_file: BTreeMap<String, usize> = BTreeMap::new();
    for vector in load()? {
        let request = &vector.request;
        if let Some(bytes) = in_pieces(&vector.policy_file, request) {
            // Some vectors of each file, not all of the first file.
            let file = vector.id.split_once('/').map_or("", |(file, _)| file);
            let seen = of_file.entry(file.to_owned()).or_default();
            *seen += 1;
            if *seen <= MAX_OF_A_FILE {
                add("stream", &vector.id, bytes);
            }
        }
        match request.protocol {
            Protocol::OipRest if json_bytes(&request.headers).is_some() => {
                let length = json_bytes(&request.headers).unwrap_or_default();
                add(
                    "binary",
                    &vector.id,
                    [&length.to_le_bytes()[..], &request.body].concat(),
                );
            }
            Protocol::OipRest if !request.body.is_empty() => {
                add("json", &vector.id, request.body.clone());
            }
            Protocol::OipGrpc => {
                let message = request.body.get(5..).unwrap_or_default();
                add("grpc", &vector.id, message.to_vec());
            }
            // Vectors of these protocols' own file only; others contain the common requests.
            Protocol::TfRest | Protocol::TfGrpc if !vector.id.starts_with("tf-serving/") => {}
            Protocol::TfRest if !request.body.is_empty() => {
                // The first of the target's models has one unnamed input, the last has many named
                // inputs.
                let model = u8::from(request.path.contains("/json")) * 3;
                add("predict", &vector.id, [&[model], &*request.body].concat());
            }
            Protocol::TfGrpc => {
                let message = request.body.get(5..).unwrap_or_default();
                add("predict_grpc", &vector.id, message.to_vec());
            }
            Protocol::OpenAi if !request.body.is_empty() => {
                let api = Api::ALL
                    .iter()
                    .position(|api| api.path() == request.path)
                    .unwrap_or_default();
                let api = u8::try_from(api).unwrap_or_default();
                add("openai", &vector.id, [&[api], &*request.body].concat());
            }
            Protocol::TorchRest | Protocol::TorchGrpc if !vector.id.starts_with("torchserve") => {}
            Protocol::TorchRest if request.body.starts_with(b"--") => {
                let model = torch_model(&request.path);
                add(
                    "torch_form",
                    &vector.id,
                    [&[model], &*request.body].concat(),
                );
            }
            Protocol::TorchGrpc => {
                let message = request.body.get(5..).unwrap_or_default();
                let named = message.get(2..).unwrap_or_default();
                let model = torch_model(&String::from_utf8_lossy(named));
                add("torch_grpc", &vector.id, [&[model], message].concat());
            }
            Protocol::Json if request.path == "/analyze" => {
                add("analyze", &vector.id, [b"\0", &*request.body].concat());
            }
            // As above, from the protocol's own vector files.
            Protocol::Json if !request.body.is_empty() && vector.id.starts_with("template") => {
                if let Some(model) = template_model(&request.path) {
                    add("template", &vector.id, [&[model], &*request.body].concat());
                }
            }
            Protocol::OipRest
            | Protocol::TfRest
            | Protocol::OpenAi
            | Protocol::TorchRest
            | Protocol::Json => {}
        }
        let mut lines = vec![u8::from(request.body.is_empty())];
        for (name, value) in request.fields() {
            lines.extend([&name[..], b":", &value, b"\n"].concat());
        }
        add("headers", &vector.id, lines);
        for (name, value) in &request.headers {
            if name == b"x-api-key" {
                add("credential", &vector.id, [b"\0", &value[..]].concat());
            } else if name == b"authorization" {
                add("credential", &vector.id, [b"\x02", &value[..]].concat());
            }
        }
    }
    for (at, scalar) in SCALARS.iter().enumerate() {
        // Each value as a float, as an integer and as a list item.
        for datatype in [9_u8, 10, 4, 11] {
            let name = format!("{at}-{datatype}");
            add(
                "json_scalar",
                &name,
                [&[datatype], scalar.as_bytes()].concat(),
            );
        }
    }
    for (name, bytes) in tensorgate_fuzz::capture::examples() {
        add("capture", name, bytes);
    }
    // Each policy without a change, then none of them.
    for choice in 0..=6_u8 {
        add("compiled", &format!("choice-{choice}"), vec![choice]);
    }
    for (name, bytes) in rate_limits() {
        add("rate_limit", name, bytes);
    }
    for entry in std::fs::read_dir(vectors_dir().join("policies"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // As JSON and as YAML, which includes JSON.
        let text = std::fs::read(&path)?;
        add("policy_json", &name, text.clone());
        add("policy_yaml", &name, text);
    }
    for (target, seeds) in seeds {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(target);
        std::fs::create_dir_all(&dir)?;
        for (name, bytes) in seeds {
            std::fs::write(dir.join(name), bytes)?;
        }
    }
    Ok(())
}

/// The input of target `stream` for a request, if its body can be streamed.
fn in_pieces(policy: &str, request: &RawRequest) -> Option<Vec<u8>> {
    /// The flags of a body without a declared length.
    const UNDECLARED: u8 = 2 << 3;
    const GRPC: u8 = 1;
    let model = request.path.split('/').nth(3).unwrap_or_default();
    let model = MODELS.iter().position(|known| *known == model);
    let model = u8::try_from(model.unwrap_or_default()).ok()?;
    // A message names its model itself, so any model of its policy will do.
    let contents = policy == "policies/contents.json";
    let first = if contents { MODELS.len() - 1 } else { 0 };
    let first = u8::try_from(first).ok()?;
    match (request.protocol, json_bytes(&request.headers)) {
        (Protocol::OipRest, Some(length)) => {
            let [low, high] = length.to_le_bytes();
            Some([&[UNDECLARED, model, 1, low, high], &*request.body].concat())
        }
        (Protocol::OipGrpc, _) if request.path.ends_with("/ModelInfer") => {
            let message = request.body.get(5..)?;
            // Any entry of raw contents: field 7.
            message
                .contains(&(7 << 3 | 2))
                .then(|| [&[UNDECLARED | GRPC, first, 1, 0, 0], message].concat())
        }
        _ => None,
    }
}

/// The number of a model of TorchServe's vectors in the target's list. The first model has its name
/// in the path or at the start of the message. Otherwise it is the model that accepts a file.
fn torch_model(place: &str) -> u8 {
    let place = place.strip_prefix("/predictions/").unwrap_or(place);
    let known = torch_form::MODELS
        .iter()
        .position(|model| place.starts_with(model));
    u8::try_from(known.unwrap_or(torch_form::MODELS.len())).unwrap_or_default()
}

/// The number of a model in the target's list, by its route.
fn template_model(path: &str) -> Option<u8> {
    let model = path.rsplit('/').next()?;
    let known = template::MODELS.iter().position(|known| *known == model)?;
    u8::try_from(known).ok()
}

/// Bytes of JSON in front of binary data, if the request declares binary data.
fn json_bytes(headers: &[tensorgate_vectors::Field]) -> Option<u16> {
    let (_, value) = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"inference-header-content-length"))?;
    str::from_utf8(value).ok()?.parse().ok()
}

/// Requests, and possible responses of a service.
fn rate_limits() -> Vec<(&'static str, Vec<u8>)> {
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let limit_override = |quota, unit, multiplier| {
        Some(LimitOverride {
            quota,
            unit,
            multiplier,
        })
    };
    let limit = limit_override(3, TimeUnit::Minute, 1);
    let asks = |limit, hits, names: &[&str]| RateLimitRequest {
        domain: "tensorgate".to_owned(),
        descriptors: names
            .iter()
            .map(|name| Descriptor {
                entries: vec![entry("limit", name), entry("client", "rate-1")],
                limit,
                hits,
            })
            .collect(),
        hits: hits.unwrap_or(1),
    };
    let status = |code, limit, left| Status {
        code,
        limit,
        left,
        reset_ns: Some(1_500_000_000),
    };
    let says = |code, statuses: &[Status]| RateLimitResponse {
        code,
        statuses: statuses.to_vec(),
    };
    let (ok, over) = (
        status(Code::Ok, limit, 2),
        status(Code::OverLimit, limit, 0),
    );
    let day = status(Code::Ok, limit_override(1, TimeUnit::Day, 1), 1);
    let seconds = status(Code::Ok, limit_override(3, TimeUnit::Second, 60), 2);
    let questions = [
        ("question", asks(limit, Some(1), &["three"])),
        ("question-bare", asks(None, None, &["three"])),
        (
            "question-of-several",
            asks(
                limit_override(9, TimeUnit::Second, 90),
                Some(u64::MAX),
                &["a", "b", "c"],
            ),
        ),
        ("question-of-nothing", RateLimitRequest::default()),
    ];
    let answers = [
        ("ok", says(Code::Ok, &[ok])),
        ("over", says(Code::OverLimit, &[over])),
        ("over-untold", says(Code::OverLimit, &[])),
        ("ok-of-several", says(Code::Ok, &[day, ok, seconds, ok])),
        (
            "over-of-several",
            says(Code::OverLimit, &[day, over, ok, ok]),
        ),
        ("contradicts-itself", says(Code::Ok, &[over])),
        ("of-no-limit", says(Code::Ok, &[status(Code::Ok, None, 0)])),
        ("unknown", RateLimitResponse::default()),
    ];
    let questions = questions.map(|(name, it)| (name, [&[0], &*it.to_bytes()].concat()));
    let answers = answers.map(|(name, it)| (name, [&[1], &*it.to_bytes()].concat()));
    questions.into_iter().chain(answers).collect()
}
