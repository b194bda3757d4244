//! Fuzz target: responses and rejections that the gate writes.
//!
//! serde_json and prost must read each response back, element by element. A rejection must not
//! reveal its cause: with another cause, the response must be identical to the byte. Searching it
//! for a secret would not work, because a fuzzer sees compared strings and puts them into the
//! caller's own part.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use prost::Message as _;
use serde_json::Value;
use tensorgate_policy::denial::{AnswerLimit, ClientErrorStatus, Expected, RateNote};
use tensorgate_policy::policy::Unit;
use tensorgate_policy::tensor::InferResponse;
use tensorgate_policy::{Datatype, Denial, Protocol, Reason, Tensor};
use tensorgate_wire::encode::AnswerForm;
use tensorgate_wire::{Answer, encode};

use crate::{elements, messages};

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    // Running out of input is not a finding.
    let _ = refusal(&mut data);
    let _ = response(&mut data);
}

fn refusal(data: &mut Unstructured<'_>) -> Result<()> {
    let reason = *data.choose(&Reason::ALL)?;
    let denial = Denial {
        reason,
        field: data.arbitrary()?,
        expected: data
            .arbitrary::<Option<String>>()?
            .map(|expected| Box::new(Expected(expected))),
        cause: data.arbitrary()?,
        rates: {
            let mut rates = Vec::new();
            for _ in 0..data.int_in_range(0..=3_u8)? {
                rates.push(RateNote {
                    policy: data.arbitrary()?,
                    unit: *data.choose(&[
                        Unit::Requests,
                        Unit::Elements,
                        Unit::Bytes,
                        Unit::Tokens,
                    ])?,
                    quota: data.arbitrary()?,
                    window_s: data.arbitrary()?,
                    left: data.arbitrary()?,
                    reset_s: data.arbitrary()?,
                });
            }
            rates
        },
        retry_after_s: data.arbitrary()?,
        server_status: ClientErrorStatus::from_http(data.arbitrary()?),
        limit: *data.choose(&[None, Some(AnswerLimit::Answers), Some(AnswerLimit::Stream)])?,
        allow: None,
        codings: None,
        overload: None,
    };
    let request_id = data.arbitrary::<&str>()?;
    let otherwise = Denial {
        cause: format!("not {}", denial.cause),
        ..denial.clone()
    };
    // Only faults in the caller's own request may name a field.
    let named = reason.shows_field();
    let unnamed = Denial {
        field: None,
        ..denial.clone()
    };
    for protocol in [Protocol::OipRest, Protocol::OipGrpc] {
        let answer = Answer::to_denial(&denial, protocol, request_id);
        assert_eq!(
            answer,
            Answer::to_denial(&otherwise, protocol, request_id),
            "the response depends on the cause"
        );
        if !named {
            let unnamed = Answer::to_denial(&unnamed, protocol, request_id);
            assert_eq!(answer, unnamed, "the response names a field");
        }
        match (protocol, answer) {
            (
                Protocol::OipRest,
                Answer::Rest {
                    status,
                    headers,
                    body,
                },
            ) => {
                check_header_values(&headers);
                assert_eq!(status, denial.http_status());
                let value: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(
                    value.get("type").and_then(Value::as_str),
                    Some(&*format!(
                        "urn:tensorgate:{}",
                        reason.public_reason().name()
                    ))
                );
                assert!(value.get("error").is_some_and(Value::is_string), "{value}");
            }
            (
                Protocol::OipGrpc,
                Answer::Grpc {
                    status, headers, ..
                },
            ) => {
                check_header_values(&headers);
                assert_eq!(status, denial.grpc_status());
            }
            (_, answer) => panic!("not in the caller's protocol: {answer:?}"),
        }
    }
    Ok(())
}

/// Every value of a header is printable ASCII.
fn check_header_values(headers: &[(&str, String)]) {
    for (name, value) in headers {
        assert!(
            value.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{name}: {value:?}"
        );
    }
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
    let none = AnswerForm::default();
    if let Ok(frame) = encode::infer_response(Protocol::OipGrpc, &response, &none) {
        by_prost(&response, &frame.body);
    }
    if let Ok(json) = encode::infer_response(Protocol::OipRest, &response, &none) {
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
