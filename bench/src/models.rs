//! The models and their requests. Sizes are as the targets name them, and values satisfy the
//! contract.

use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use prost::Message as _;
use serde_json::{Value, json};
use tensorgate_wire::proto::ModelInferRequest;
use tensorgate_wire::proto::model_infer_request::InferInputTensor;

use crate::load::Shot;
use crate::outcome::Outcome;

/// The one version of every model.
pub const VERSION: &str = "1";
/// Numbers in an answer.
pub const CLASSES: usize = 10;

/// A tensor as a server describes it.
pub struct TensorShape {
    /// Its name.
    pub name: &'static str,
    /// Its OIP datatype.
    pub datatype: &'static str,
    /// Its dimensions; -1 is any.
    pub dims: &'static [i64],
}

/// The output of every model.
pub const OUTPUT: TensorShape = TensorShape {
    name: "scores",
    datatype: "FP32",
    dims: &[1, 10],
};

/// The upstream's response over REST.
pub const JSON_ANSWER: &str = r#"{"model_name":"small","model_version":"1","outputs":[{"name":"scores","datatype":"FP32","shape":[1,10],"data":[0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5]}]}"#;

/// A 1 KB request: two digits of 8×8.
pub const SMALL: &str = "small";
/// 600 KB: one normalised photograph.
pub const LARGE: &str = "large";
/// Any number of floats, up to 16 MiB of them.
pub const FLOATS: &str = "floats";
/// The same with a contract that checks no values: measures the rest of the cost.
pub const UNREAD: &str = "unread";
/// 256 MiB: larger than `hold_bytes`.
pub const STREAMED: &str = "streamed";
/// 150 KB: one photograph as bytes, which a handler makes into the input of [`LARGE`].
pub const PHOTO: &str = "photo";
/// The same task on 1 KB: 768 bytes of a picture of 16×16.
pub const THUMB: &str = "thumb";

/// A model of OpenAI's API.
pub const CHAT: &str = "chat";

/// Elements of an 8 MiB tensor.
pub const HUGE_ELEMENTS: usize = 2 << 20;
/// Elements of a 16 MiB tensor, the largest that [`FLOATS`] accepts.
pub const HUGEST_ELEMENTS: usize = 4 << 20;
/// Elements of a 256 MiB tensor.
pub const STREAMED_ELEMENTS: usize = 64 << 20;
/// Elements of a JSON body of 100 KB.
pub const JSON_100K_ELEMENTS: usize = 11_650;
/// Elements of a JSON body of 575 KB.
pub const JSON_ELEMENTS: usize = 65_536;
/// Elements of the 1 KB body.
const SMALL_ELEMENTS: usize = 128;
/// A photograph's side, pixels, and its channels.
pub const SIDE: usize = 224;
/// A small picture's side, pixels.
pub const THUMB_SIDE: usize = 16;
/// Red, green, blue.
pub const CHANNELS: usize = 3;

/// The input that a backend describes for a model; `None` for an unknown model.
pub fn backend_input(model: &str) -> Option<TensorShape> {
    Some(match model {
        SMALL => TensorShape {
            name: "image",
            datatype: "FP32",
            dims: &[-1, 1, 8, 8],
        },
        LARGE | PHOTO => TensorShape {
            name: "image",
            datatype: "FP32",
            dims: &[1, 3, 224, 224],
        },
        THUMB => TensorShape {
            name: "image",
            datatype: "FP32",
            dims: &[1, 3, 16, 16],
        },
        FLOATS | UNREAD | STREAMED => TensorShape {
            name: "image",
            datatype: "FP32",
            dims: &[-1],
        },
        _ => return None,
    })
}

/// The contract of a model, as a policy writes it.
pub fn contract(model: &str) -> Value {
    if model == CHAT {
        return json!({
            "backend": "chat", "versions": [VERSION], "protocols": ["openai"],
            "parameters": {"temperature": {"float": [0, 2]}},
            "openai": {"chat": {
                "max_messages": 64, "max_message_bytes": "32KiB", "max_prompt_bytes": "128KiB", "max_tokens": 1024,
            }},
        });
    }
    let small = json!({"name": "image", "datatype": "FP32", "shape": [{"name": "n", "max": 32}, 1, 8, 8], "range": [0, 16]});
    let photo =
        json!({"name": "image", "datatype": "FP32", "shape": [1, 3, 224, 224], "range": [-4, 4]});
    let input = match model {
        LARGE | PHOTO => photo,
        THUMB => {
            json!({"name": "image", "datatype": "FP32", "shape": [1, 3, THUMB_SIDE, THUMB_SIDE], "range": [-4, 4]})
        }
        FLOATS => {
            json!({"name": "image", "datatype": "FP32", "shape": [{"max": HUGEST_ELEMENTS}], "range": [-4, 4]})
        }
        STREAMED => {
            json!({"name": "image", "datatype": "FP32", "shape": [{"max": STREAMED_ELEMENTS}], "range": [-4, 4]})
        }
        UNREAD => {
            json!({"name": "image", "datatype": "FP32", "shape": [{"max": HUGE_ELEMENTS}], "finite": false})
        }
        _ => small,
    };
    let mut rules = json!({
        "backend": "upstream",
        "versions": [VERSION],
        "protocols": ["oip-rest", "oip-grpc"],
        "encodings": ["gzip"],
        "inputs": [input],
        "outputs": [{"name": OUTPUT.name, "datatype": OUTPUT.datatype, "shape": OUTPUT.dims}],
    });
    let side = match model {
        PHOTO => SIDE,
        THUMB => THUMB_SIDE,
        _ => return rules,
    };
    if let Some(map) = rules.as_object_mut() {
        let accepted =
            json!([{"name": "photo", "datatype": "UINT8", "shape": [1, side, side, CHANNELS]}]);
        map.insert("preprocess".to_owned(), json!("normalise"));
        map.insert("accepts".to_owned(), json!({"inputs": accepted}));
    }
    if model == PHOTO
        && let Some(map) = rules.as_object_mut()
    {
        map.insert("backend_model".to_owned(), json!(LARGE));
    }
    rules
}

/// A fixed sequence of values with many digits, all within every contract. No value repeats an
/// earlier one, so compression does not shrink them more than it would shrink measured values.
fn values(count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(|at| {
        // Steps of the golden ratio.
        let step = at.wrapping_mul(0x9e37_79b9) >> 16 & 0xffff;
        let step = u16::try_from(step).unwrap_or_default();
        f32::from(step) / 65536.0 + 0.000_061
    })
}

/// A REST path.
fn path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// A JSON body with this many floats for a model.
pub fn json_shot(model: &str) -> Outcome<Shot> {
    if model == SMALL {
        small_json_shot(model)
    } else {
        json_floats_shot(model, JSON_ELEMENTS)
    }
}

/// 1 KB of JSON for a model that has the contract of [`SMALL`].
pub fn small_json_shot(model: &str) -> Outcome<Shot> {
    let numbers = values(SMALL_ELEMENTS).map(|value| format!("{value:.3}"));
    json_of(model, "[2,1,8,8]", numbers)
}

/// JSON with any number of floats for a model that accepts them.
pub fn json_floats_shot(model: &str, count: usize) -> Outcome<Shot> {
    let numbers = values(count).map(|value| format!("{value:.5}"));
    json_of(model, &format!("[{count}]"), numbers)
}

/// 1 KB of JSON with one value that no contract here accepts.
pub fn spoilt_json_shot() -> Outcome<Shot> {
    let numbers = values(SMALL_ELEMENTS).enumerate().map(|(at, value)| {
        let value = if at == SMALL_ELEMENTS / 2 {
            1000.0
        } else {
            value
        };
        format!("{value:.3}")
    });
    json_of(SMALL, "[2,1,8,8]", numbers)
}

/// 1 KB of a conversation.
pub fn chat_shot() -> Outcome<Shot> {
    let said = "How long may a tensor be before a checker has to read all of it? ";
    let message = |role: &str, times: usize| json!({"role": role, "content": said.repeat(times)});
    let body = json!({
        "model": CHAT, "max_tokens": 64, "temperature": 0.5,
        "messages": [message("system", 2), message("user", 4), message("assistant", 3), message("user", 4)],
    });
    Shot::new(
        Method::POST,
        "/v1/chat/completions",
        &[("content-type", "application/json")],
        Bytes::from(body.to_string()),
    )
}

fn json_of(model: &str, shape: &str, numbers: impl Iterator<Item = String>) -> Outcome<Shot> {
    let mut text =
        format!(r#"{{"inputs":[{{"name":"image","datatype":"FP32","shape":{shape},"data":["#);
    for (at, number) in numbers.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(text, "{comma}{number}")?;
    }
    text.push_str("]}]}");
    Shot::new(
        Method::POST,
        &path(model),
        &[("content-type", "application/json")],
        Bytes::from(text),
    )
}

/// Little-endian bytes of this many floats.
fn raw(count: usize) -> Vec<u8> {
    values(count).flat_map(f32::to_le_bytes).collect()
}

/// A photograph.
pub fn photo() -> Vec<u8> {
    photo_of(SIDE)
}

/// A picture with this many pixels a side.
pub fn photo_of(side: usize) -> Vec<u8> {
    (0..side.saturating_mul(side).saturating_mul(CHANNELS))
        .map(|at| u8::try_from(at.wrapping_mul(31) & 255).unwrap_or_default())
        .collect()
}

fn input(model: &str) -> (&'static str, &'static str, Vec<i64>, Vec<u8>) {
    let wide = |count: usize| i64::try_from(count).unwrap_or_default();
    let floats = |count: usize, shape: Vec<i64>| ("image", "FP32", shape, raw(count));
    match model {
        SMALL => floats(SMALL_ELEMENTS, vec![2, 1, 8, 8]),
        LARGE => {
            let count = SIDE.saturating_mul(SIDE).saturating_mul(CHANNELS);
            floats(count, vec![1, 3, wide(SIDE), wide(SIDE)])
        }
        PHOTO => {
            let shape = vec![1, wide(SIDE), wide(SIDE), wide(CHANNELS)];
            ("photo", "UINT8", shape, photo_of(SIDE))
        }
        THUMB => {
            let shape = vec![1, wide(THUMB_SIDE), wide(THUMB_SIDE), wide(CHANNELS)];
            ("photo", "UINT8", shape, photo_of(THUMB_SIDE))
        }
        STREAMED => floats(STREAMED_ELEMENTS, vec![wide(STREAMED_ELEMENTS)]),
        _ => floats(HUGE_ELEMENTS, vec![wide(HUGE_ELEMENTS)]),
    }
}

/// A gRPC request with raw contents.
pub fn grpc_shot(model: &str) -> Outcome<Shot> {
    grpc_shot_as(model, model)
}

/// The same request with the name that the model has at another server.
pub fn grpc_shot_as(name_there: &str, model: &str) -> Outcome<Shot> {
    let (name, datatype, shape, raw) = input(model);
    let message = ModelInferRequest {
        model_name: name_there.to_owned(),
        inputs: vec![InferInputTensor {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape,
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    }
    .encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len())?.to_be_bytes());
    framed.extend(message);
    Shot::new(
        Method::POST,
        "/inference.GRPCInferenceService/ModelInfer",
        &[("content-type", "application/grpc"), ("te", "trailers")],
        Bytes::from(framed),
    )
}

/// A REST request with OIP's binary extension: a JSON description, then the raw bytes.
pub fn binary_shot(model: &str) -> Outcome<Shot> {
    binary_of(model, input(model))
}

/// The same with any number of floats.
pub fn binary_floats_shot(model: &str, count: usize) -> Outcome<Shot> {
    let shape = vec![i64::try_from(count).unwrap_or_default()];
    binary_of(model, ("image", "FP32", shape, raw(count)))
}

fn binary_of(
    model: &str,
    (name, datatype, shape, raw): (&str, &str, Vec<i64>, Vec<u8>),
) -> Outcome<Shot> {
    let head = json!({"inputs": [{
        "name": name, "datatype": datatype, "shape": shape,
        "parameters": {"binary_data_size": raw.len()},
    }]})
    .to_string();
    let length = head.len().to_string();
    let mut body = head.into_bytes();
    body.extend(raw);
    Shot::new(
        Method::POST,
        &path(model),
        &[
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", &length),
        ],
        Bytes::from(body),
    )
}
