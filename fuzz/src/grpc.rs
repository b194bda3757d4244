//! Fuzz target: a gRPC message, compared with prost. prost must read an accepted message as the
//! same request. When prost writes it again in its own order, the gate must read the same request.
//! The input is used as a message and as a whole frame.

use std::collections::BTreeMap;

use prost::Message as _;
use tensorgate_policy::InferRequest;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_wire::decode;

use crate::elements;
use crate::messages::{self, Choice, ModelRequest};
use crate::support::{check_body_denial, frame};

/// Runs one input.
pub fn run(data: &[u8]) {
    // The input as a frame, to test the frame's flag and length.
    for format in [BodyFormat::OipGrpcInfer, BodyFormat::OipGrpcModel] {
        match decode(format, data, &[]) {
            Ok(_) => assert_eq!(data, frame(data.get(5..).unwrap_or_default()), "one frame"),
            Err(denial) => check_body_denial(&denial),
        }
    }
    model(data);
    infer(data);
}

fn model(data: &[u8]) {
    let body = frame(data);
    match decode(BodyFormat::OipGrpcModel, &body, &[]) {
        Ok(ours) => {
            let theirs = ModelRequest::decode(data).expect("prost reads what the gate accepts");
            assert_eq!(ours.model.as_deref().unwrap_or_default(), theirs.name);
            assert_eq!(ours.version.as_deref().unwrap_or_default(), theirs.version);
            assert!(ours.inputs.is_empty() && ours.parameters.is_empty());
        }
        Err(denial) => check_body_denial(&denial),
    }
}

fn infer(data: &[u8]) {
    let body = frame(data);
    let ours = decode(BodyFormat::OipGrpcInfer, &body, &[]);
    let theirs = messages::InferRequest::decode(data);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => compare(ours, theirs),
        (Ok(_), Err(error)) => panic!("accepted a message that prost rejects: {error}"),
        (Err(denial), _) => check_body_denial(denial),
    }
    if let Ok(theirs) = theirs {
        let canonical = frame(&theirs.encode_to_vec());
        match decode(BodyFormat::OipGrpcInfer, &canonical, &[]) {
            Ok(again) => compare(&again, &theirs),
            Err(denial) => {
                check_body_denial(&denial);
                assert!(ours.is_err(), "rejected when prost writes it: {denial:?}");
            }
        }
    }
}

fn compare(ours: &InferRequest<'_>, theirs: &messages::InferRequest) {
    assert_eq!(ours.model.as_deref().unwrap_or_default(), theirs.model_name);
    assert_eq!(
        ours.version.as_deref().unwrap_or_default(),
        theirs.model_version
    );
    assert_eq!(ours.id.as_deref().unwrap_or_default(), theirs.id);
    parameters(&ours.parameters, &theirs.parameters);
    assert_eq!(ours.inputs.len(), theirs.inputs.len());
    assert_eq!(ours.outputs.len(), theirs.outputs.len());
    for (ours, theirs) in ours.outputs.iter().zip(&theirs.outputs) {
        assert_eq!(ours.name, theirs.name);
        parameters(&ours.parameters, &theirs.parameters);
    }
    let raw = &theirs.raw_input_contents;
    for (index, (ours, theirs)) in ours.inputs.iter().zip(&theirs.inputs).enumerate() {
        assert_eq!(ours.name, theirs.name);
        assert_eq!(ours.datatype, theirs.datatype);
        assert_eq!(ours.shape, theirs.shape);
        let mut named = theirs.parameters.clone();
        // Borrowed from the body where it was received in raw form.
        let size = raw.get(index).and_then(|raw| {
            let said = named.remove("binary_data_size")?.choice;
            Some((said, raw.len()))
        });
        match size {
            Some((Some(Choice::Int64(said)), bytes)) => {
                assert_eq!(usize::try_from(said), Ok(bytes))
            }
            Some((Some(Choice::Uint64(said)), bytes)) => {
                assert_eq!(usize::try_from(said), Ok(bytes))
            }
            Some((said, _)) => panic!("accepted {said:?} for a size"),
            None => {}
        }
        parameters(&ours.parameters, &named);
        let Ok(data) = &ours.data else { continue };
        if raw.is_empty() {
            let contents = theirs.contents.clone().unwrap_or_default();
            let expected = elements::of_contents(&theirs.datatype, &contents);
            assert_eq!(Some(&**data), expected.as_deref(), "{}", theirs.datatype);
        } else {
            assert_eq!(Some(&**data), raw.get(index).map(Vec::as_slice));
        }
    }
}

fn parameters(ours: &[Parameter<'_>], theirs: &BTreeMap<String, messages::Parameter>) {
    assert_eq!(ours.len(), theirs.len());
    for Parameter { name, value } in ours {
        let theirs = theirs
            .get(&**name)
            .and_then(|parameter| parameter.choice.clone());
        let same = match (value, &theirs) {
            (ParameterValue::Bool(ours), Some(Choice::Bool(theirs))) => ours == theirs,
            (ParameterValue::Int64(ours), Some(Choice::Int64(theirs))) => ours == theirs,
            (ParameterValue::Uint64(ours), Some(Choice::Uint64(theirs))) => ours == theirs,
            (ParameterValue::Double(ours), Some(Choice::Double(theirs))) => {
                ours.to_bits() == theirs.to_bits()
            }
            (ParameterValue::String(ours), Some(Choice::String(theirs))) => ours == theirs,
            _ => false,
        };
        assert!(same, "{value:?} and {theirs:?}");
    }
}
