//! Protocol-independent inference requests and responses.
//!
//! `wire` decodes into these types. Element data is always in OIP's raw form: row-major,
//! little-endian; `BYTES` elements have a 4-byte little-endian length prefix. Raw contents are
//! borrowed from the body; JSON and typed contents are converted once. One validation therefore
//! serves all protocols, and handlers and backends get the validated bytes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::tensor_data::TensorData;

/// A decoded inference request, not yet validated against a contract.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest<'a> {
    /// Model named in the body (gRPC); `None` if the path names it (REST).
    pub model: Option<Cow<'a, str>>,
    /// Version named in the body; `None` if absent or empty.
    pub version: Option<Cow<'a, str>>,
    /// The caller's request id, echoed in the response; `None` if absent or empty.
    pub id: Option<Cow<'a, str>>,
    /// Request parameters in order; names are unique.
    pub parameters: Vec<Parameter<'a>>,
    /// Input tensors in order; the contract rejects repeated names.
    pub inputs: Vec<Tensor<'a>>,
    /// Requested outputs; empty means all.
    pub outputs: Vec<RequestedOutput<'a>>,
    /// A raw file for a preprocess handler.
    pub body: Option<&'a [u8]>,
    /// Media type of the file, if it is a part of the body with its own type.
    pub body_type: Option<Cow<'a, str>>,
    /// Whether outputs are binary data by default (OIP REST's `binary_data_output`).
    pub binary_data_output: bool,
    /// Members of a JSON document without tensors (OpenAI), except the model's name, in order;
    /// names are unique.
    pub document: Vec<(Cow<'a, str>, crate::json::Value<'a>)>,
    /// Whether the response is written by output instead of by row. TF Serving's REST and
    /// TorchServe respond in the form of the request.
    pub by_column: bool,
}

/// How a client of OIP REST gets outputs that JSON cannot represent (the protocol's binary data
/// extension).
pub const ASK_FOR_BINARY: &str =
    "ask for binary output with \"parameters\": {\"binary_data_output\": true}";

impl InferRequest<'_> {
    /// Whether a document requests a streamed response.
    pub fn streams(&self) -> bool {
        crate::json::member(&self.document, "stream") == Some(&crate::json::Value::Bool(true))
    }

    /// Whether an output is requested.
    pub fn asks_for(&self, output: &str) -> bool {
        self.outputs.is_empty() || self.outputs.iter().any(|entry| entry.name == output)
    }

    /// Whether an output is sent as binary data: its own setting, or else the request's.
    pub fn wants_binary(&self, output: &str) -> bool {
        let own = self.outputs.iter().find_map(|entry| {
            let binary = entry.binary_data?;
            (entry.name == output).then_some(binary)
        });
        own.unwrap_or(self.binary_data_output)
    }
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Name in the model's signature.
    pub name: Cow<'a, str>,
    /// Datatype as received; the contract rejects an unknown one.
    pub datatype: Cow<'a, str>,
    /// Dimensions as received; the contract rejects negative ones.
    pub shape: Vec<i64>,
    /// Tensor parameters in order; names are unique.
    pub parameters: Vec<Parameter<'a>>,
    /// Elements in raw form, or why they could not be converted.
    pub data: Result<TensorData<'a>, DataFault>,
}

/// Why elements could not be converted to raw form. The request is well-formed; the values do not
/// fit the datatype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataFault {
    /// A value of another kind (a string or fraction for an integer, a number for BOOL), contents
    /// in another datatype's field, or a datatype that this protocol form does not support.
    #[error("element {index} is not of the tensor's datatype")]
    Kind {
        /// Position of the element, row-major.
        index: usize,
    },
    /// An integer beyond the datatype's range.
    #[error("element {index} is beyond the datatype's range")]
    Overflow {
        /// Position of the element, row-major.
        index: usize,
    },
    /// A number too large for a finite value of a float datatype (`1e400` as FP64, `1e39` as FP32).
    #[error("element {index} is not finite in the tensor's datatype")]
    NotFinite {
        /// Position of the element, row-major.
        index: usize,
    },
    /// Ragged JSON data, or nesting that disagrees with `shape`.
    #[error("nesting of data disagrees with shape")]
    Nesting,
    /// No contents for this input.
    #[error("no contents")]
    Missing,
    /// A `BYTES` blob whose length prefixes do not match its size.
    #[error("element lengths do not add up to the contents")]
    Framing,
}

/// Elements of a `BYTES` blob in raw form, without their prefixes; an `Err`
/// ([`DataFault::Framing`]) is the last item.
pub fn items(mut blob: &[u8]) -> impl Iterator<Item = Result<&[u8], DataFault>> {
    core::iter::from_fn(move || {
        if blob.is_empty() {
            return None;
        }
        let split = blob.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let Some((item, rest)) = split else {
            blob = &[];
            return Some(Err(DataFault::Framing));
        };
        blob = rest;
        Some(Ok(item))
    })
}

/// A named scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its value.
    pub value: ParameterValue<'a>,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the protocol's own names")]
pub enum ParameterValue<'a> {
    Bool(bool),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    String(Cow<'a, str>),
}

/// An output requested by name.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedOutput<'a> {
    /// The output's name.
    pub name: Cow<'a, str>,
    /// Its parameters.
    pub parameters: Vec<Parameter<'a>>,
    /// Whether it is sent as binary data; `None` for the request's setting (OIP REST's
    /// `binary_data`).
    pub binary_data: Option<bool>,
}

/// An inference response from a backend or a handler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// The model's public name.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The caller's own id, if any.
    pub id: Option<String>,
    /// Output tensors with data in raw form.
    pub outputs: Vec<Tensor<'static>>,
}
