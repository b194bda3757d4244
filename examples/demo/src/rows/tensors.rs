//! Tensors that violate the model's contract.

use prost::Message as _;
use serde_json::{Value, json};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;

use super::{Keys, Row, deny};
use crate::request::{
    INFER, grpc_call, grpc_infer, grpc_shape, image, infer_message, posted_file, predict,
    prediction, recognise, rest, rest_text, tensor,
};
use crate::split::{PIXELS, Split};

/// The rows of this group.
pub fn rows(keys: &Keys, split: &Split) -> Vec<Row> {
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
            "TF Serving: rows of different lengths",
            "shape",
            predict(
                &keys.scorer,
                "digits",
                r#"{"instances":[[[0,0],[0]]]}"#.into(),
            ),
        ),
        deny(
            "TF Serving: a string where the contract has a number",
            "datatype",
            predict(&keys.scorer, "digits", r#"{"inputs":[[[["1"]]]]}"#.into()),
        ),
        deny(
            "TF Serving: rows and columns at once",
            "malformed",
            predict(
                &keys.scorer,
                "digits",
                r#"{"instances":[],"inputs":[]}"#.into(),
            ),
        ),
        deny(
            "TorchServe: a file that contains the boundary",
            "malformed",
            posted_file(
                &keys.scorer,
                "digits-png",
                "image/png",
                b"\x89PNG\n--------------------------5d1b0a7c93e2f846--\n",
            ),
        ),
        deny(
            "TorchServe: a file of an unsupported type",
            "unsupported-media-type",
            posted_file(
                &keys.scorer,
                "digits-png",
                "application/x-python-code",
                b"x",
            ),
        ),
        deny(
            "TorchServe: an envelope beside an input",
            "malformed",
            prediction(&keys.scorer, "digits", r#"{"data":[1],"image":[1]}"#.into()),
        ),
        deny(
            "the model's own JSON: an unknown member",
            "malformed",
            recognise(&keys.scorer, &json!({"images": [], "model_path": "/"})),
        ),
        deny(
            "the model's own JSON: rows without pixels",
            "missing-input",
            recognise(&keys.scorer, &json!({"images": [{"name": "a digit"}]})),
        ),
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
            "BOOL of 2147483648 by 1, without data",
            "datatype",
            send(json!([tensor("image", "BOOL", &[1 << 31, 1], &[])])),
        ),
        deny(
            "the same as the model's own datatype, over gRPC",
            "shape",
            grpc_shape(&keys.scorer, "digits", &[1 << 31, 1, 1, 1]),
        ),
        deny(
            "a negative dim, over gRPC",
            "shape",
            grpc_shape(&keys.scorer, "digits", &[-1, 1, 8, 8]),
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
            "a dim of 0",
            "shape",
            send(json!([tensor("image", "FP32", &[0, 1, 8, 8], &pixels)])),
        ),
        deny(
            "more raw contents than inputs, over gRPC",
            "malformed",
            grpc_call(
                &keys.scorer,
                INFER,
                &infer_message("digits", &[1, 1, 8, 8], None, vec![vec![0; 256]; 2]),
            ),
        ),
        deny(
            "a length of BYTES that wraps an int32",
            "size-mismatch",
            grpc_call(&keys.scorer, INFER, &with_note(&pixels)),
        ),
        deny(
            "NaN, over gRPC",
            "not-finite",
            grpc_infer(&keys.scorer, "digits", &with_first(f32::NAN), true),
        ),
        deny(
            "1e400 as a pixel",
            "not-finite",
            rest_text(
                &keys.scorer,
                "digits",
                json!({"inputs": [good]})
                    .to_string()
                    .replacen("\"data\":[", "\"data\":[1e400,", 1),
            ),
        ),
        deny(
            "a pixel out of range",
            "out-of-range",
            send(json!([image(&with_first(17.0))])),
        ),
    ]
}

/// An image, and a text with a length that is negative as an int32.
fn with_note(pixels: &[f32]) -> Vec<u8> {
    let image: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| pixel.to_le_bytes())
        .collect();
    let note = [&u32::MAX.to_le_bytes()[..], b"note"].concat();
    let input = |name: &str, datatype: &str, shape: &[i64]| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        ..Default::default()
    };
    let message = ModelInferRequest {
        model_name: "digits-loop".into(),
        inputs: vec![
            input("image", "FP32", &[1, 1, 8, 8]),
            input("note", "BYTES", &[1]),
        ],
        raw_input_contents: vec![image.into(), note.into()],
        ..Default::default()
    };
    message.encode_to_vec()
}
