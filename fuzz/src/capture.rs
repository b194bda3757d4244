//! Fuzz target: the file of a captured call.
//!
//! Splitting a file must lose nothing. serde_json must accept any decrypted text that the reader
//! accepts, and both must read the same call. Tensors must have as many elements as their shapes
//! say. Writing the call again must give the same call.

use serde_json::Value;
use tensorgate_policy::contract::check_structure;

use tensorgate_settings::capture::{
    Blob, Captured, CapturedOutcome, CapturedResource, Envelope, FORMAT, HEAD_BYTES, HandlerFacts,
    Input, MAGIC, Named, TAG_BYTES, VALUE_BYTES, head, packed, unpacked,
};

/// Runs one input.
pub fn run(data: &[u8]) {
    match Envelope::parse(data) {
        Some(envelope) => {
            let again = [
                &head(envelope.id, envelope.salt, envelope.nonce),
                envelope.sealed,
            ];
            assert_eq!(again.concat(), data);
            assert_eq!(&envelope.head[..], &data[..HEAD_BYTES]);
        }
        None => {
            let whole = data.len() >= HEAD_BYTES + TAG_BYTES;
            assert!(
                !(whole && data.starts_with(MAGIC)),
                "a whole file was refused"
            );
        }
    }
    let Ok(call) = Captured::decode(data) else {
        return;
    };
    let value: Value = serde_json::from_slice(data).expect("what is accepted is JSON");
    assert!(value["format"] == FORMAT || value["format"] == 1);
    let other: Captured = serde_json::from_value(value).expect("and the same call");
    assert_eq!(other, call);
    let text = call.encode().expect("what was read can be written");
    let again = Captured::decode(&text).expect("and read again");
    assert_eq!(again, call);
    assert_eq!(again.encode().expect("the same"), text);
    if let Input::Tensors(tensors) = &call.input {
        let tensors: Vec<_> = tensors.iter().map(Named::tensor).collect();
        assert!(check_structure(&tensors).is_ok());
    }
    for came in &call.resources {
        let CapturedResource::Columns {
            features,
            keys,
            missing,
            values,
            ..
        } = came
        else {
            continue;
        };
        assert_eq!(
            values.len(),
            if missing.is_some() { 0 } else { features.len() }
        );
        for column in values {
            let read = unpacked(column);
            assert_eq!(read.len(), keys.len());
            assert_eq!(packed(&read), *column, "bit for bit");
            assert_eq!(column.0.len(), keys.len() * VALUE_BYTES);
        }
    }
}

/// Calls as hosts write them, as seeds.
pub fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let plain = Captured {
        format: FORMAT,
        engine: "tensorgate 0.1.0 0123456789abcdef".to_owned(),
        at_unix_ms: 1_780_000_000_000,
        request_id: "8f1a2b3c-0000-4000-8000-000000000001".to_owned(),
        client: "scorer".to_owned(),
        model: "digits".to_owned(),
        handler: HandlerFacts {
            name: "resize".to_owned(),
            role: "preprocess".to_owned(),
            sha256: "ab".repeat(32),
            fuel: 50_000_000,
            memory_bytes: 1 << 26,
            timeout_ms: 50,
            config: [("size".to_owned(), "224".to_owned())].into(),
            files: None,
            lookups: [].into(),
            parameters: Vec::new(),
        },
        request: None,
        input: Input::Tensors(Vec::new()),
        resources: Vec::new(),
        wasi: None,
        outcome: CapturedOutcome {
            what: "answered".to_owned(),
            sha256: Some("cd".repeat(32)),
            fuel_used: 12_345,
        },
        broke: false,
    };
    let tensor = |datatype: &str, shape: &[i64], data: &[u8]| Named {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        data: Blob(data.to_vec()),
    };
    let with = |tensors: Vec<Named>| Captured {
        input: Input::Tensors(tensors),
        ..plain.clone()
    };
    let file = |missing: Option<&str>, data: &[u8]| CapturedResource::File {
        url: "https://a.example/x".to_owned(),
        missing: missing.map(str::to_owned),
        content_type: "image/png".to_owned(),
        data: Blob(data.to_vec()),
    };
    let columns = |missing: Option<&str>, values: Vec<Blob>| CapturedResource::Columns {
        lookup: "users".to_owned(),
        features: vec!["age".to_owned(), "score".to_owned()],
        keys: vec!["k1".to_owned(), "k2".to_owned()],
        missing: missing.map(str::to_owned),
        values,
    };
    let brought = |brought: Vec<CapturedResource>| Captured {
        resources: brought,
        ..plain.clone()
    };
    let ended = |what: &str, sha256: Option<String>, broke| Captured {
        outcome: CapturedOutcome {
            what: what.to_owned(),
            sha256,
            fuel_used: 7,
        },
        broke,
        ..plain.clone()
    };
    let column = |values: &[Option<f64>]| packed(values);
    let calls = [
        ("plain", plain.clone()),
        ("fp32", with(vec![tensor("FP32", &[1, 2], &[0; 8])])),
        (
            "bytes",
            with(vec![tensor("BYTES", &[2], b"\x01\0\0\0a\0\0\0\0")]),
        ),
        ("empty", with(vec![tensor("INT64", &[0], b"")])),
        ("too-few", with(vec![tensor("FP64", &[2], &[0; 8])])),
        ("negative", with(vec![tensor("BOOL", &[-1], b"\x01")])),
        ("unknown", with(vec![tensor("FP8", &[1], b"\x01")])),
        (
            "raw",
            Captured {
                input: Input::Raw {
                    content_type: "image/png".to_owned(),
                    data: Blob(b"\x89PNG".to_vec()),
                },
                ..plain.clone()
            },
        ),
        ("file", brought(vec![file(None, b"data")])),
        ("no-file", brought(vec![file(Some("not-found"), b"")])),
        (
            "columns",
            brought(vec![columns(
                None,
                vec![
                    column(&[Some(1.5), None]),
                    column(&[Some(f64::NAN), Some(-0.0)]),
                ],
            )]),
        ),
        (
            "no-columns",
            brought(vec![columns(Some("timeout"), Vec::new())]),
        ),
        (
            "half-columns",
            brought(vec![columns(None, vec![column(&[None])])]),
        ),
        ("rejected", ended("rejected", Some("ef".repeat(32)), false)),
        ("fault", ended("fuel", None, false)),
        ("broke", ended("answered", Some("01".repeat(32)), true)),
        (
            "format",
            Captured {
                format: 2,
                ..plain.clone()
            },
        ),
    ];
    let texts = calls.map(|(name, call)| (name, call.encode().expect("a call can be written")));
    let mut examples: Vec<_> = texts.into();
    let envelope = head(&[7; 8], &[8; 32], &[9; 12]);
    examples.push(("envelope", [&envelope[..], &[0; 40]].concat()));
    examples.push(("envelope-bare", [&envelope[..], &[0; 16]].concat()));
    examples.push(("envelope-cut", envelope));
    examples
}
