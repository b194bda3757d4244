//! Writes `seeds/` out of the decision vectors, so that a fuzzer begins where the tables end. Removes nothing: seeds that were
//! found otherwise stay.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use tensorgate_policy::Protocol;
use tensorgate_vectors::{load, vectors_dir};

/// Seeds of one target; a fuzzer needs examples, not the whole table.
const MAX_SEEDS: usize = 60;
/// One seed, bytes.
const MAX_BYTES: usize = 2048;

/// Numbers and strings at the edges of what readers agree on.
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
    for vector in load()? {
        let request = &vector.request;
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
            Protocol::OipRest => {}
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
        // Each as a float, as an integer and as an item.
        for datatype in [9_u8, 10, 4, 11] {
            let name = format!("{at}-{datatype}");
            add(
                "json_scalar",
                &name,
                [&[datatype], scalar.as_bytes()].concat(),
            );
        }
    }
    for entry in std::fs::read_dir(vectors_dir().join("policies"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // As JSON, and as YAML, of which JSON is a part.
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

/// Bytes of JSON before binary data, where a request says that there is any.
fn json_bytes(headers: &[tensorgate_vectors::Field]) -> Option<u16> {
    let (_, value) = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"inference-header-content-length"))?;
    str::from_utf8(value).ok()?.parse().ok()
}
