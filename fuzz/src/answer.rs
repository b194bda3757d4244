//! Answers out, beside serde_json and prost: what is written they read back as it was, element by element; and a refusal says nothing of its cause.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use prost::Message as _;
use serde_json::Value;
use tensorgate_policy::denial::RateNote;
use tensorgate_policy::tensor::InferResponse;
use tensorgate_policy::{Datatype, Denial, Protocol, Reason, Tensor};
use tensorgate_wire::encode::BinaryOutputs;
use tensorgate_wire::{Answer, encode};

use crate::{elements, messages};

/// Stands in every cause, and so must stand in no answer.
const SECRET: &str = "8c1f-cause-for-the-log-only";

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    // Input that runs out is no finding.
    let _ = refusal(&mut data);
    let _ = response(&mut data);
}

fn refusal(data: &mut Unstructured<'_>) -> Result<()> {
    let reason = *data.choose(&Reason::ALL)?;
    let denial = Denial {
        reason,
        field: data.arbitrary()?,
        cause: format!("{SECRET} {}", data.arbitrary::<&str>()?),
        rate: if data.arbitrary()? {
            Some(RateNote {
                policy: data.arbitrary()?,
                quota: data.arbitrary()?,
                window_s: data.arbitrary()?,
                retry_after_s: data.arbitrary()?,
            })
        } else {
            None
        },
        allow: None,
    };
    let request_id = data.arbitrary::<&str>()?;
    let fields = |headers: &[(&str, String)]| {
        for (name, value) in headers {
            assert!(!value.contains(SECRET), "{name}: {value}");
            assert!(
                value.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{name}: {value:?}"
            );
        }
    };
    match Answer::to_denial(&denial, Protocol::OipRest, request_id) {
        Answer::Rest {
            status,
            headers,
            body,
        } => {
            fields(&headers);
            assert_eq!(status, reason.http_status());
            let text = String::from_utf8(body).expect("text");
            assert!(!text.contains(SECRET), "{text}");
            let value: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(
                value.get("type").and_then(Value::as_str),
                Some(&*format!("urn:tensorgate:{}", reason.name()))
            );
            assert!(value.get("error").is_some_and(Value::is_string), "{text}");
        }
        Answer::Grpc { .. } => panic!("gRPC for REST"),
    }
    match Answer::to_denial(&denial, Protocol::OipGrpc, request_id) {
        Answer::Grpc {
            status,
            message,
            headers,
        } => {
            fields(&headers);
            assert_eq!(status, reason.grpc_status());
            assert!(!message.contains(SECRET), "{message}");
        }
        Answer::Rest { .. } => panic!("REST for gRPC"),
    }
    Ok(())
}

fn response(data: &mut Unstructured<'_>) -> Result<()> {
    let mut outputs = Vec::new();
    for _ in 0..data.int_in_range(0..=3_usize)? {
        let mut shape = Vec::new();
        for _ in 0..data.int_in_range(0..=3_usize)? {
            shape.push(data.int_in_range(-1..=4_i64)?);
        }
        outputs.push(Tensor {
            name: data.arbitrary::<String>()?.into(),
            datatype: data.choose(&Datatype::ALL)?.name().into(),
            shape,
            parameters: Vec::new(),
            data: Ok(data.arbitrary::<Vec<u8>>()?.into()),
        });
    }
    let response = InferResponse {
        model: data.arbitrary()?,
        version: data.arbitrary()?,
        id: data.arbitrary()?,
        outputs,
    };
    let none = BinaryOutputs::default();
    if let Some(frame) = encode::infer_response(Protocol::OipGrpc, &response, &none) {
        by_prost(&response, &frame.body);
    }
    if let Some(json) = encode::infer_response(Protocol::OipRest, &response, &none) {
        assert_eq!(json.json_bytes, None);
        by_serde(&response, &json.body);
    }
    Ok(())
}

fn by_prost(response: &InferResponse, frame: &[u8]) {
    let message = frame.get(5..).expect("a frame");
    assert_eq!(frame, crate::support::frame(message));
    let theirs = messages::InferResponse::decode(message).expect("a message");
    assert_eq!(theirs.model_name, response.model);
    assert_eq!(theirs.id, response.id.clone().unwrap_or_default());
    assert_eq!(theirs.outputs.len(), response.outputs.len());
    assert_eq!(theirs.raw_output_contents.len(), response.outputs.len());
    for ((ours, theirs), raw) in response
        .outputs
        .iter()
        .zip(&theirs.outputs)
        .zip(&theirs.raw_output_contents)
    {
        assert_eq!((&*ours.name, &ours.shape), (&*theirs.name, &theirs.shape));
        assert_eq!(ours.data.as_deref(), Ok(&**raw));
    }
}

fn by_serde(response: &InferResponse, json: &[u8]) {
    let theirs: Value = serde_json::from_slice(json).expect("JSON");
    let outputs = theirs.get("outputs").and_then(Value::as_array);
    let outputs = outputs.map(Vec::as_slice).unwrap_or_default();
    assert_eq!(outputs.len(), response.outputs.len());
    for (ours, theirs) in response.outputs.iter().zip(outputs) {
        assert_eq!(
            theirs.get("name").and_then(Value::as_str),
            Some(&*ours.name)
        );
        let Some(values) = theirs.get("data") else {
            panic!("an output without data")
        };
        if let Some(expected) = elements::of_json(&ours.datatype, values) {
            assert_eq!(ours.data.as_deref(), Ok(&*expected), "{}", ours.datatype);
        }
    }
}
