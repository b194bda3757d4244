//! TF Serving: `Predict`, model status and signature.

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::tensor::{Parameter, items};
use tensorgate_policy::{Datatype, Tensor};

use crate::encode::consistent_data;
use crate::encode::tf_serving::{shape_proto, spec};
pub use crate::grpc::served::{Described, Signature};
use crate::grpc::writer::Message;
use crate::grpc::{list_of, number_of, served};
use crate::owned::owned;
use crate::signature;

/// Method of an inference.
pub const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
/// Method for a model's metadata.
pub const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
/// Method for a model's status.
pub const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";

/// Requested metadata field.
const SIGNATURES: &str = "signature_def";

/// Contents of a `PredictResponse`.
#[derive(Debug)]
pub struct Predicted {
    /// Model named in the response.
    pub model: Option<String>,
    /// Version named in the response.
    pub version: Option<String>,
    /// Its tensors.
    pub outputs: Vec<Tensor<'static>>,
}

/// A `PredictRequest` for one version of a model, with the default signature unless a parameter
/// names another. `None` if an input is inconsistent.
pub fn request(
    (model, version): (&str, &str),
    parameters: &[Parameter<'_>],
    inputs: &[Tensor<'_>],
    outputs: &[TensorRule],
) -> Option<Vec<u8>> {
    let signature = signature::among(parameters);
    let mut message = Message::default().message(1, spec(model, version, signature));
    for input in inputs {
        let entry = Message::default()
            .bytes(1, &*input.name)
            .message(2, tensor_proto(input)?);
        message = message.message(2, entry);
    }
    for output in outputs {
        message = message.element(3, output.name());
    }
    Some(message.into_bytes())
}

/// A `TensorProto`: elements as in memory, strings as a list.
fn tensor_proto(input: &Tensor<'_>) -> Option<Message> {
    let (datatype, data) = consistent_data(input)?;
    let mut proto = Message::default()
        .varint(1, number_of(datatype))
        .message(2, shape_proto(input.shape.iter().copied()));
    if datatype != Datatype::Bytes {
        return Some(proto.bytes(4, data));
    }
    for item in items(data) {
        proto = proto.element(list_of(datatype), item.ok()?);
    }
    Some(proto)
}

/// Reads a `PredictResponse`; the error is for the log.
pub fn answer(message: &[u8]) -> Result<Predicted, String> {
    let read = served::predicted(message).map_err(|fault| fault.to_string())?;
    let outputs = read.outputs.into_iter().map(owned);
    Ok(Predicted {
        model: read.model.map(str::to_owned),
        version: read.version,
        outputs: outputs.collect::<Result<_, _>>()?,
    })
}

/// A `GetModelStatusRequest` for one version; empty names address nothing.
pub fn status_request(model: &str, version: &str) -> Vec<u8> {
    Message::default()
        .message(1, spec(model, version, ""))
        .into_bytes()
}

/// Whether a `GetModelStatusResponse` says that a version is available; the error is for the log.
pub fn is_available(message: &[u8], version: &str) -> Result<bool, String> {
    served::is_available(message, version).map_err(|fault| fault.to_string())
}

/// A `GetModelMetadataRequest` for one version.
pub fn metadata_request(model: &str, version: &str) -> Vec<u8> {
    Message::default()
        .message(1, spec(model, version, ""))
        .element(2, SIGNATURES)
        .into_bytes()
}

/// The default signature in a `GetModelMetadataResponse`, if any. The error is for the log.
pub fn signature(message: &[u8]) -> Result<Option<Signature>, String> {
    served::signature(message, SIGNATURES, signature::DEFAULT).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::grpc::predict;
    use std::borrow::Cow;
    use tensorgate_policy::tensor::ParameterValue;

    fn tensor(name: &str, datatype: Datatype, shape: &[i64], data: &[u8]) -> Tensor<'static> {
        Tensor {
            name: Cow::Owned(name.to_owned()),
            datatype: Cow::Borrowed(datatype.name()),
            shape: shape.to_vec(),
            parameters: Vec::new(),
            data: Ok(data.to_vec().into()),
        }
    }

    #[test]
    fn written_requests_are_read_back_by_our_decoder() {
        let inputs = [
            tensor("x", Datatype::Fp32, &[2, 1], &[0, 0, 128, 63, 0, 0, 0, 192]),
            tensor("flags", Datatype::Bool, &[3], &[1, 0, 1]),
            tensor(
                "texts",
                Datatype::Bytes,
                &[2],
                &[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0],
            ),
            tensor("none", Datatype::Int64, &[0, 4], &[]),
        ];
        let named = Parameter {
            name: Cow::Borrowed("signature_name"),
            value: ParameterValue::String(Cow::Borrowed("other")),
        };
        for (parameters, signature) in [(&[][..], None), (&[named][..], Some("other"))] {
            let written = request(("m", "7"), parameters, &inputs, &[]).unwrap();
            let read = predict(&written).unwrap();
            assert_eq!(read.model.as_deref(), Some("m"));
            assert_eq!(read.version.as_deref(), Some("7"));
            let actual = read.parameters.first().map(|found| &found.value);
            let expected = signature.map(|name| ParameterValue::String(Cow::Borrowed(name)));
            assert_eq!(actual, expected.as_ref());
            assert_eq!(read.inputs, inputs);
        }
    }

    #[test]
    fn a_mismatched_input_is_not_written() {
        let wrong = [tensor("x", Datatype::Fp32, &[2], &[0; 4])];
        assert_eq!(request(("m", "7"), &[], &wrong, &[]), None);
    }

    /// An entry of a map of messages.
    fn entry(name: &str, value: Message) -> Message {
        Message::default().bytes(1, name).message(2, value)
    }

    #[test]
    fn an_answer_is_read_in_both_encodings_and_never_padded() {
        let shape = |dims: &[i64]| shape_proto(dims.iter().copied());
        let proto = |datatype: u64, dims: &[i64]| {
            Message::default()
                .varint(1, datatype)
                .message(2, shape(dims))
        };
        let floats = [1.5_f32.to_le_bytes(), (-2_f32).to_le_bytes()].concat();
        for (message, expected) in [
            (proto(1, &[2]).bytes(4, &floats), Ok(&floats[..])),
            (proto(1, &[2]).bytes(5, &floats), Ok(&floats[..])),
            // A short list is not extended: the contract rejects its size.
            (proto(1, &[2]).bytes(5, &floats[..4]), Ok(&floats[..4])),
            (
                proto(1, &[2]).bytes(4, &floats).bytes(5, &floats),
                Err("comes beside"),
            ),
            (proto(4, &[1]).packed(7, [300].into_iter()), Err("output")),
            (proto(7, &[1]).element(8, "ab"), Ok(b"\x02\0\0\0ab")),
        ] {
            let message = Message::default()
                .message(1, entry("y", message))
                .message(2, spec("m", "7", "serving_default"))
                .into_bytes();
            match (answer(&message), expected) {
                (Ok(read), Ok(data)) => {
                    assert_eq!(read.model.as_deref(), Some("m"));
                    assert_eq!(read.version.as_deref(), Some("7"));
                    assert_eq!(read.outputs[0].data.as_deref(), Ok(data));
                }
                (Err(cause), Err(text)) => assert!(cause.contains(text), "{cause}"),
                (read, expected) => unreachable!("{read:?}, expected {expected:?}"),
            }
        }
        assert!(answer(b"\xff").is_err());
        assert!(answer(b"").unwrap().outputs.is_empty());
    }

    #[test]
    fn a_status_is_of_the_requested_version() {
        let status =
            |version: u64, state: u64| Message::default().varint(1, version).varint(2, state);
        for (message, expected) in [
            (Message::default(), false),
            (Message::default().message(1, status(7, 30)), true),
            (Message::default().message(1, status(7, 20)), false),
            (Message::default().message(1, status(6, 30)), false),
            (
                Message::default()
                    .message(1, status(6, 40))
                    .message(1, status(7, 30)),
                true,
            ),
        ] {
            assert_eq!(is_available(&message.into_bytes(), "7"), Ok(expected));
        }
    }

    #[test]
    fn a_signature_is_the_default_one_with_every_tensor_that_it_names() {
        let info = |datatype: u64, shape: Message| {
            Message::default()
                .bytes(1, "serving_default_x:0")
                .varint(2, datatype)
                .message(3, shape)
        };
        let of = |name: &str| {
            let definition = Message::default()
                .message(1, entry("x", info(1, shape_proto([-1, 4].into_iter()))))
                .message(2, entry("y", info(9, Message::default().varint(3, 1))))
                .bytes(3, "tensorflow/serving/predict");
            let other = Message::default().bytes(3, "other");
            let all = Message::default()
                .message(1, entry("train", other))
                .message(1, entry(name, definition));
            let any = Message::default()
                .bytes(1, "type.googleapis.com/tensorflow.serving.SignatureDefMap")
                .bytes(2, all.into_bytes());
            Message::default()
                .message(1, spec("m", "7", ""))
                .message(2, entry("signature_def", any))
                .into_bytes()
        };
        let read = signature(&of("serving_default")).unwrap().unwrap();
        assert_eq!(read.model.as_deref(), Some("m"));
        assert_eq!(read.version.as_deref(), Some("7"));
        let described = |name: &str, datatype: &str, shape: Option<&[i64]>| Described {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.map(<[i64]>::to_vec),
        };
        assert_eq!(read.inputs, [described("x", "FP32", Some(&[-1, 4]))]);
        assert_eq!(read.outputs, [described("y", "INT64", None)]);
        assert_eq!(signature(&of("other")), Ok(None));
        assert_eq!(signature(b""), Ok(None));
        assert!(signature(b"\x0a").is_err());
    }
}
