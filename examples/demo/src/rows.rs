//! The demo's table: what is sent, and what must come back.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use prost::Message;
use serde_json::{Value, json};
use tensorgate_client::Reply;
use tensorgate_wire::proto::ModelInferResponse;

use crate::request::{
    Request, fields, grpc_call, grpc_infer, image, infer_path, rest, rest_text, tensor,
};
use crate::split::{PIXELS, Split};

/// The demo's public keys, one file a client.
const KEYS: &str = "examples/policies/digits/keys";
/// Real held-out digits.
const IMAGES: &str = "examples/images";
/// A well-formed key that no policy knows.
const UNKNOWN_KEY: &str = include_str!("../../policies/digits/keys/unknown.key");

/// One request and its answer.
pub struct Row {
    /// What it is.
    pub title: &'static str,
    /// What must come back.
    pub expect: Expect,
    /// What is sent.
    pub request: Request,
    /// How often; the last reply counts.
    pub times: usize,
}

/// What must come back.
pub enum Expect {
    /// An answer that says this.
    Served {
        /// What the answer says.
        says: String,
        /// How to read it from a reply.
        read: fn(&Reply) -> Option<String>,
    },
    /// A refusal for this reason.
    Denied(&'static str),
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served { says, .. } => f.write_str(says),
            Self::Denied(reason) => f.write_str(reason),
        }
    }
}

/// Every row, in the order in which it is sent.
pub fn rows(split: &Split) -> Result<Vec<Row>> {
    let keys = Keys {
        scorer: key("scorer")?,
        burst: key("burst")?,
    };
    let mut rows = served(&keys, split)?;
    rows.extend(refused_callers(&keys, split));
    rows.extend(refused_routes(&keys, split));
    rows.extend(refused_tensors(&keys, split));
    rows.extend(refused_bodies(&keys, split));
    rows.extend(contained(&keys, split));
    Ok(rows)
}

struct Keys {
    scorer: String,
    burst: String,
}

fn key(client: &str) -> Result<String> {
    let path = Path::new(KEYS).join(format!("{client}.key"));
    Ok(std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}", path.display()))?
        .trim()
        .to_owned())
}

fn deny(title: &'static str, reason: &'static str, request: Request) -> Row {
    Row {
        title,
        expect: Expect::Denied(reason),
        request,
        times: 1,
    }
}

fn serve(
    title: &'static str,
    says: impl Into<String>,
    read: fn(&Reply) -> Option<String>,
    request: Request,
) -> Row {
    Row {
        title,
        expect: Expect::Served {
            says: says.into(),
            read,
        },
        request,
        times: 1,
    }
}

fn served(keys: &Keys, split: &Split) -> Result<Vec<Row>> {
    let digit = |index| format!("digit {}", split.label(index));
    let get = |path: &str, pairs: &[(&str, &str)]| Request::Rest {
        method: "GET",
        path: path.into(),
        fields: fields(pairs),
        body: Vec::new(),
    };
    let png = |file: &str| -> Result<Request> {
        let path = Path::new(IMAGES).join(file);
        let body = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let fields = fields(&[("x-api-key", &keys.scorer), ("content-type", "image/png")]);
        Ok(Request::Rest {
            method: "POST",
            path: infer_path("digits-png"),
            fields,
            body,
        })
    };
    let body = |first, count| json!({"inputs": [image(&split.pixels(first, count))]});
    Ok(vec![
        serve(
            "liveness, without a credential",
            "200",
            |reply| Some(reply.status.to_string()),
            get("/v2/health/live", &[]),
        ),
        serve(
            "the model's signature, from its contract",
            "image FP32",
            input_name,
            get("/v2/models/digits", &[("x-api-key", &keys.scorer)]),
        ),
        serve(
            "a digit as a JSON tensor",
            digit(0),
            best_of_json,
            rest(&keys.scorer, "digits", &body(0, 1)),
        ),
        serve(
            "a batch of 32 digits",
            "32 digits",
            count_of_json,
            rest(&keys.scorer, "digits", &body(0, 32)),
        ),
        serve(
            "a digit over gRPC, raw contents",
            digit(1),
            best_of_grpc,
            grpc_infer(&keys.scorer, "digits", &split.pixels(1, 1), true),
        ),
        serve(
            "a digit over gRPC, typed contents",
            digit(2),
            best_of_grpc,
            grpc_infer(&keys.scorer, "digits", &split.pixels(2, 1), false),
        ),
        serve(
            "a PNG through two sandboxed handlers",
            "digit 3",
            label_of_json,
            png("digit-3-4.png")?,
        ),
        serve(
            "a 64x64 PNG through the same",
            "digit 5",
            label_of_json,
            png("digit-5-1-64x64.png")?,
        ),
    ])
}

fn refused_callers(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]})
        .to_string()
        .into_bytes();
    let with = |pairs: &[(&str, &str)]| {
        let mut fields = fields(pairs);
        fields.push((b"content-type".to_vec(), b"application/json".to_vec()));
        Request::Rest {
            method: "POST",
            path: infer_path("digits"),
            fields,
            body: body.clone(),
        }
    };
    let bearer = format!("Bearer {}", keys.scorer);
    let key = ("x-api-key", keys.scorer.as_str());
    vec![
        deny("no credential", "unauthenticated", with(&[])),
        deny(
            "a key that nobody has",
            "unauthenticated",
            with(&[("x-api-key", UNKNOWN_KEY.trim())]),
        ),
        deny(
            "two credentials",
            "ambiguous-request",
            with(&[key, ("authorization", &bearer)]),
        ),
        deny(
            "a forged identity header",
            "ambiguous-request",
            with(&[key, ("x-tensorgate-client", "admin")]),
        ),
        deny(
            "a forged context header",
            "ambiguous-request",
            with(&[("x-tensorgate-context", "v1.e30.AAAA")]),
        ),
    ]
}

fn refused_routes(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let load = Request::Rest {
        method: "POST",
        path: "/v2/repository/models/digits/load".into(),
        fields: fields(&[("x-api-key", &keys.scorer)]),
        body: b"{}".to_vec(),
    };
    let encoded = Request::Rest {
        method: "POST",
        path: "/v2/models/../repository/models/digits/load".into(),
        fields: fields(&[("x-api-key", &keys.scorer)]),
        body: b"{}".to_vec(),
    };
    let load_grpc = grpc_call(
        &keys.scorer,
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        b"\x12\x06digits",
    );
    vec![
        deny(
            "a model without a grant",
            "not-granted",
            rest(&keys.scorer, "private", &body),
        ),
        deny(
            "a model that does not exist",
            "not-granted",
            rest(&keys.scorer, "nothing", &body),
        ),
        deny("repository load, REST", "not-an-inference-route", load),
        deny(
            "the same behind dot segments",
            "not-an-inference-route",
            encoded,
        ),
        deny("repository load, gRPC", "not-an-inference-route", load_grpc),
    ]
}

fn refused_tensors(keys: &Keys, split: &Split) -> Vec<Row> {
    let pixels = split.pixels(0, 1);
    let with_first = |first: f32| {
        pixels
            .iter()
            .enumerate()
            .map(|(index, pixel)| if index == 0 { first } else { *pixel })
            .collect::<Vec<_>>()
    };
    let send = |inputs: Value| rest(&keys.scorer, "digits", &json!({"inputs": inputs}));
    let good = image(&pixels);
    vec![
        deny(
            "wrong rank",
            "shape",
            send(json!([tensor("image", "FP32", &[1, PIXELS], &pixels)])),
        ),
        deny(
            "wrong dim",
            "shape",
            send(json!([tensor("image", "FP32", &[1, 1, 4, 16], &pixels)])),
        ),
        deny(
            "a dim that overflows",
            "shape",
            send(json!([tensor(
                "image",
                "FP32",
                &[1 << 62, 1, 8, 8],
                &pixels
            )])),
        ),
        deny(
            "batch too large",
            "shape",
            send(json!([image(&split.pixels(0, 33))])),
        ),
        deny(
            "wrong datatype",
            "datatype",
            send(json!([tensor("image", "INT32", &[1, 1, 8, 8], &pixels)])),
        ),
        deny("an input is missing", "missing-input", send(json!([]))),
        deny(
            "an unknown input",
            "unknown-input",
            send(json!([good, tensor("extra", "FP32", &[1], &[0.0])])),
        ),
        deny(
            "an input given twice",
            "duplicate-input",
            send(json!([good, good])),
        ),
        deny(
            "less data than the shape says",
            "size-mismatch",
            send(json!([tensor("image", "FP32", &[2, 1, 8, 8], &pixels)])),
        ),
        deny(
            "NaN, over gRPC",
            "not-finite",
            grpc_infer(&keys.scorer, "digits", &with_first(f32::NAN), true),
        ),
        deny(
            "a pixel out of range",
            "out-of-range",
            send(json!([image(&with_first(17.0))])),
        ),
    ]
}

fn refused_bodies(keys: &Keys, split: &Split) -> Vec<Row> {
    let good = json!({"inputs": [image(&split.pixels(0, 1))]}).to_string();
    let deep = format!("{{\"inputs\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let twice = good.replacen("{\"data\"", "{\"name\":\"image\",\"data\"", 1);
    let trailing = format!("{good}{{}}");
    vec![
        deny(
            "JSON 200 levels deep",
            "too-deep",
            rest_text(&keys.scorer, "digits", deep),
        ),
        deny(
            "a duplicate key",
            "duplicate-key",
            rest_text(&keys.scorer, "digits", twice),
        ),
        deny(
            "bytes after the document",
            "malformed",
            rest_text(&keys.scorer, "digits", trailing),
        ),
    ]
}

fn contained(keys: &Keys, split: &Split) -> Vec<Row> {
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let over = Row {
        times: 6,
        ..deny(
            "the sixth request of five a minute",
            "rate-limited",
            rest(&keys.burst, "digits", &body),
        )
    };
    vec![
        over,
        deny(
            "a handler that loops",
            "handler-fault",
            rest(&keys.scorer, "digits-loop", &body),
        ),
        serve(
            "its neighbour, afterwards",
            format!("digit {}", split.label(0)),
            best_of_json,
            rest(&keys.scorer, "digits", &body),
        ),
    ]
}

fn outputs(reply: &Reply) -> Option<Vec<Value>> {
    reply.json()?.get("outputs")?.as_array().cloned()
}

/// `digit N`, N being the most probable class of the first image.
fn best(probabilities: impl Iterator<Item = f64>) -> Option<String> {
    let (digit, _) = probabilities
        .take(10)
        .enumerate()
        .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    Some(format!("digit {digit}"))
}

fn best_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    best(
        outputs
            .first()?
            .get("data")?
            .as_array()?
            .iter()
            .filter_map(Value::as_f64),
    )
}

fn count_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    let values = outputs.first()?.get("data")?.as_array()?.len();
    Some(format!("{} digits", values.checked_div(10)?))
}

fn label_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    let label = outputs
        .iter()
        .find(|output| output.get("name").and_then(Value::as_str) == Some("label"))?;
    Some(format!(
        "digit {}",
        label.get("data")?.as_array()?.first()?.as_str()?
    ))
}

fn best_of_grpc(reply: &Reply) -> Option<String> {
    let response = ModelInferResponse::decode(reply.message()?).ok()?;
    let raw = response.raw_output_contents.first()?;
    best(
        raw.chunks_exact(4)
            .filter_map(|bytes| Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?)))),
    )
}

fn input_name(reply: &Reply) -> Option<String> {
    let metadata = reply.json()?;
    let input = metadata.get("inputs")?.as_array()?.first()?.clone();
    Some(format!(
        "{} {}",
        input.get("name")?.as_str()?,
        input.get("datatype")?.as_str()?
    ))
}
