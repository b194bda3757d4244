//! Fuzz target: a `PredictionsRequest`, compared with prost. prost must read an accepted message as
//! the same request. When prost writes it again, the gate must read the same request. The input is
//! used as a message and as a whole frame.

use std::collections::HashMap;

use prost::Message;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, InferRequest};
use tensorgate_wire::upstream::torchserve;
use tensorgate_wire::{addressee, decode};

use crate::support::{check_body_denial, frame};
use crate::torch_form::rules;

#[derive(Clone, PartialEq, Message)]
struct PredictionsRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(map = "string, bytes", tag = "3")]
    input: HashMap<String, Vec<u8>>,
    #[prost(string, optional, tag = "4")]
    sequence_id: Option<String>,
}

/// Runs one input: the model's number, then a message.
pub fn run(data: &[u8]) {
    let Some((model, data)) = data.split_first() else {
        return;
    };
    let rules = rules(*model);
    // The response of a server of the protocol.
    if let Ok(outputs) = torchserve::answer(data, rules) {
        assert!(outputs.iter().all(|output| output.data.is_ok()));
    }
    drop(torchserve::is_healthy(data));
    // The input as a frame, to test the frame's flag and length.
    match decode(BodyFormat::TorchGrpc, data, rules) {
        Ok(_) => assert_eq!(data, frame(data.get(5..).unwrap_or_default()), "one frame"),
        Err(denial) => check_body_denial(&denial),
    }
    let body = frame(data);
    let whom = addressee(BodyFormat::TorchGrpc, &body).expect("left to the decoder");
    let ours = match decode(BodyFormat::TorchGrpc, &body, rules) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    // The model is known before the message is decoded, because the values are read by that model's
    // rules. A message without a model is rejected.
    assert_eq!(
        ours.model.as_deref(),
        whom.as_ref().map(|whom| &*whom.model),
        "early search for the model"
    );
    let theirs = PredictionsRequest::decode(data)
        .unwrap_or_else(|error| panic!("accepted a message that prost rejects: {error}"));
    if whom.is_none() {
        assert!(ours.inputs.is_empty() && ours.body.is_none(), "no model");
        return;
    }
    compare(&ours, &theirs, rules);
    // A map has each name once.
    if theirs.input.len() == ours.inputs.len() {
        let canonical = frame(&theirs.encode_to_vec());
        let again = decode(BodyFormat::TorchGrpc, &canonical, rules);
        compare(
            &again.expect("prost writes what the gate reads"),
            &theirs,
            rules,
        );
    }
}

fn compare(ours: &InferRequest<'_>, theirs: &PredictionsRequest, rules: &[TensorRule]) {
    assert_eq!(ours.model.as_deref().unwrap_or_default(), theirs.model_name);
    assert_eq!(
        ours.version.as_deref().unwrap_or_default(),
        theirs.model_version
    );
    assert_eq!(theirs.sequence_id, None);
    if rules.is_empty() {
        let only = theirs.input.values().next().map(Vec::as_slice);
        assert_eq!((theirs.input.len(), ours.body), (1, only));
        return;
    }
    for tensor in &ours.inputs {
        let twice = ours
            .inputs
            .iter()
            .filter(|other| other.name == tensor.name)
            .count()
            > 1;
        // prost keeps the last of two entries with one name.
        let Some(value) = theirs.input.get(&*tensor.name).filter(|_| !twice) else {
            continue;
        };
        if let (true, Ok(data)) = (tensor.datatype == Datatype::Bytes.name(), &tensor.data) {
            let all: Vec<_> = items(data).collect();
            assert_eq!(all, [Ok(value.as_slice())], "one element");
        }
    }
}
