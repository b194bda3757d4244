//! The files of `policy/vectors`, field by field, as their README describes them. Unknown keys are
//! rejected.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Number, Value};
use tensorgate_policy::Protocol;

use crate::coding::Coding;
use crate::sign::Signer;

/// One table of cases under one policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub policy: String,
    pub now: u64,
    pub cases: Vec<Case>,
}

/// One credential of `keys.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub text: String,
    pub client: Option<String>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub name: String,
    pub request: Request,
    pub protocols: Option<Vec<Spelling>>,
    #[serde(default = "default_key")]
    pub key: Option<String>,
    pub token: Option<Token>,
    #[serde(default)]
    pub headers: Vec<(String, Blob)>,
    #[serde(default = "once")]
    pub repeat: u32,
    pub used: Option<u64>,
    pub chunks: Option<usize>,
    pub coding: Option<Coding>,
    pub expect: RawExpect,
    pub only: Option<Vec<Driver>>,
    pub why: Option<String>,
}

/// A token, made when the case is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    /// An object, or its text.
    pub header: Value,
    /// An object, or its text.
    pub claims: Value,
    pub key: Signer,
    pub client: Option<String>,
    #[serde(default = "bearer")]
    pub scheme: String,
}

fn bearer() -> String {
    "Bearer ".into()
}

fn default_key() -> Option<String> {
    Some("scorer".into())
}

fn once() -> u32 {
    1
}

/// What a case expects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExpect {
    pub verdict: Verdict,
    pub reason: Option<String>,
    pub field: Option<String>,
    pub shadow: Option<Vec<String>>,
    /// Header fields that the server behind gets; `null` means no such field.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Allow,
    Deny,
}

/// The drivers that can run a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The gate filter under the in-memory proxy.
    Native,
    /// A real Envoy with the gate filter.
    Envoy,
    /// The sandbox host by itself.
    Host,
}

/// The encoding of a request that is given without a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spelling {
    /// JSON, `data` flat.
    OipRest,
    /// JSON, `data` nested as `shape` says.
    OipRestNested,
    /// The binary data extension: JSON, followed by every input in raw form.
    OipRestBinary,
    /// gRPC, `contents` with packed scalars.
    OipGrpcTyped,
    /// gRPC, `contents` with one field per scalar.
    OipGrpcUnpacked,
    /// gRPC, `raw_input_contents`.
    OipGrpcRaw,
    /// The same, as the one message of a stream.
    OipGrpcStream,
    /// TF Serving's JSON, `instances`.
    TfRestRows,
    /// TF Serving's JSON, `inputs`; bytes in base64.
    TfRestColumns,
    /// TF Serving's gRPC, typed lists.
    TfGrpcTyped,
    /// TF Serving's gRPC, `tensor_content`.
    TfGrpcContent,
    /// TorchServe's JSON, `instances`.
    TorchRestRows,
    /// TorchServe's JSON: an object with a value for every input, or `data` with that of the only
    /// input. Bytes are in base64.
    TorchRestColumns,
    /// A form to TorchServe, one part per input.
    TorchRestForm,
    /// TorchServe's gRPC, one entry per input.
    TorchGrpc,
    /// The model's own JSON, with tensors where its template has them.
    Template,
}

impl Spelling {
    /// Every spelling.
    pub const ALL: [Self; 16] = [
        Self::OipRest,
        Self::OipRestNested,
        Self::OipRestBinary,
        Self::OipGrpcTyped,
        Self::OipGrpcUnpacked,
        Self::OipGrpcRaw,
        Self::OipGrpcStream,
        Self::TfRestRows,
        Self::TfRestColumns,
        Self::TfGrpcTyped,
        Self::TfGrpcContent,
        Self::TorchRestRows,
        Self::TorchRestColumns,
        Self::TorchRestForm,
        Self::TorchGrpc,
        Self::Template,
    ];

    /// The protocol that it belongs to, as a policy names it.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::OipRest | Self::OipRestNested | Self::OipRestBinary => Protocol::OipRest,
            Self::OipGrpcTyped | Self::OipGrpcUnpacked | Self::OipGrpcRaw | Self::OipGrpcStream => {
                Protocol::OipGrpc
            }
            Self::TfRestRows | Self::TfRestColumns => Protocol::TfRest,
            Self::TfGrpcTyped | Self::TfGrpcContent => Protocol::TfGrpc,
            Self::TorchRestRows | Self::TorchRestColumns | Self::TorchRestForm => {
                Protocol::TorchRest
            }
            Self::TorchGrpc => Protocol::TorchGrpc,
            Self::Template => Protocol::Json,
        }
    }

    /// Its name in the files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OipRest => "oip-rest",
            Self::OipRestNested => "oip-rest-nested",
            Self::OipRestBinary => "oip-rest-binary",
            Self::OipGrpcTyped => "oip-grpc-typed",
            Self::OipGrpcUnpacked => "oip-grpc-unpacked",
            Self::OipGrpcRaw => "oip-grpc-raw",
            Self::OipGrpcStream => "oip-grpc-stream",
            Self::TfRestRows => "tf-rest-rows",
            Self::TfRestColumns => "tf-rest-columns",
            Self::TfGrpcTyped => "tf-grpc-typed",
            Self::TfGrpcContent => "tf-grpc-content",
            Self::TorchRestRows => "torch-rest-rows",
            Self::TorchRestColumns => "torch-rest-columns",
            Self::TorchRestForm => "torch-rest-form",
            Self::TorchGrpc => "torch-grpc",
            Self::Template => "template",
        }
    }
}

/// A request in one of three forms.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    Tensors(Tensors),
    Http(Http),
    Grpc(Grpc),
}

/// An inference request without a protocol.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tensors {
    pub model: String,
    pub version: Option<String>,
    pub id: Option<String>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    #[serde(default)]
    pub outputs: Vec<String>,
    pub inputs: Vec<Input>,
}

/// One tensor; exactly one of `data`, `fill` and `bytes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    pub data: Option<Vec<Value>>,
    pub fill: Option<Value>,
    pub bytes: Option<Blob>,
}

/// A REST request as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub headers: Vec<(String, Blob)>,
    #[serde(default)]
    pub body: Blob,
}

/// A gRPC request as it is; exactly one of `message`, `frames` and `body`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grpc {
    pub method: Option<String>,
    pub path: Option<String>,
    pub content_type: Option<Blob>,
    #[serde(default)]
    pub headers: Vec<(String, Blob)>,
    pub message: Option<Message>,
    pub frames: Option<Vec<Frame>>,
    pub body: Option<Blob>,
}

/// One length-prefixed message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Frame {
    #[serde(default)]
    pub flag: u8,
    pub length: Option<u32>,
    pub message: Message,
}

/// A protobuf message, field by field.
pub(crate) type Message = Vec<(u32, Field)>;

/// A protobuf field's value.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Field {
    Varint(Number),
    Message(Message),
    Special(Special),
    Bytes(Blob),
}

/// Values that JSON has no form of its own for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Special {
    /// Eight bytes, little-endian, as hex.
    Fixed64(String),
    /// Four bytes, little-endian, as hex.
    Fixed32(String),
    /// A group's start tag, its content, its end tag.
    Group(Message),
    /// Varints, length-delimited.
    Packed(Vec<Number>),
}

/// Bytes: text, hex, something repeated, or a sequence of these.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Blob {
    Text(String),
    Hex(Hex),
    Repeat(Repeat),
    Pieces(Vec<Blob>),
}

impl Default for Blob {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hex {
    pub hex: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repeat {
    pub repeat: String,
    pub times: usize,
}

impl Blob {
    /// The bytes. An odd number of hex digits or a wrong one is a mistake in the vector.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.as_bytes().to_vec()),
            Self::Hex(hex) => from_hex(&hex.hex),
            Self::Repeat(repeat) => Ok(repeat.repeat.as_bytes().repeat(repeat.times)),
            Self::Pieces(pieces) => pieces
                .iter()
                .map(Self::bytes)
                .collect::<Result<Vec<_>, _>>()
                .map(|pieces| pieces.concat()),
        }
    }
}

/// Hex digits, with spaces allowed between bytes.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(|_| format!("{text:?} is not hex"))?;
            if pair.len() != 2 || pair.starts_with('+') {
                return Err(format!("{text:?} is not hex"));
            }
            u8::from_str_radix(pair, 16).map_err(|_| format!("{text:?} is not hex"))
        })
        .collect()
}
