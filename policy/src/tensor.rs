//! One view of an inference request, whatever protocol carried it.
//!
//! `wire` fills these in. Element data is always in OIP's raw form: row-major, little-endian, `BYTES`
//! elements as a 4-byte little-endian length and that many bytes. Raw contents are borrowed from the body;
//! JSON and typed contents are converted once. So one check serves every protocol, and handlers and
//! backends get the bytes that were checked.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// A decoded inference request. Nothing in it has been checked against a contract.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest<'a> {
    /// The model named in the body (gRPC); `None` where the path names it (REST).
    pub model: Option<Cow<'a, str>>,
    /// The version named in the body; an absent or empty one is `None`.
    pub version: Option<Cow<'a, str>>,
    /// The caller's own request id, echoed in the answer; absent or empty is `None`.
    pub id: Option<Cow<'a, str>>,
    /// Request parameters, in the order they came; names are distinct.
    pub parameters: Vec<Parameter<'a>>,
    /// Input tensors, in the order they came; names may repeat (a contract's check refuses that).
    pub inputs: Vec<Tensor<'a>>,
    /// Outputs asked for; empty means all.
    pub outputs: Vec<RequestedOutput<'a>>,
    /// A file that is no tensors, as it came: a preprocess handler reads it.
    pub body: Option<&'a [u8]>,
    /// Its media type, where the file is a part of the body that says one of its own.
    pub body_type: Option<Cow<'a, str>>,
    /// Whether outputs come back as binary data where they do not say so themselves (OIP REST's `binary_data_output`).
    pub binary_data_output: bool,
    /// The members of a JSON document that says no tensors (OpenAI's), but for the model's name, in the order they came; names are distinct.
    pub document: Vec<(Cow<'a, str>, crate::json::Value<'a>)>,
    /// Whether the answer is written output by output rather than row by row (TF Serving's REST and TorchServe, which answer as they were asked).
    pub by_column: bool,
}

impl InferRequest<'_> {
    /// Whether a document asks for an answer in pieces.
    pub fn streams(&self) -> bool {
        crate::json::member(&self.document, "stream") == Some(&crate::json::Value::Bool(true))
    }

    /// Whether an output is among those that come back.
    pub fn asks_for(&self, output: &str) -> bool {
        self.outputs.is_empty() || self.outputs.iter().any(|asked| asked.name == output)
    }

    /// Whether an output comes back as binary data: its own word goes before the request's.
    pub fn wants_binary(&self, output: &str) -> bool {
        let own = self.outputs.iter().find_map(|asked| {
            let binary = asked.binary_data?;
            (asked.name == output).then_some(binary)
        });
        own.unwrap_or(self.binary_data_output)
    }
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Its name in the model's signature.
    pub name: Cow<'a, str>,
    /// The datatype as spelled by the sender: an unknown one is a contract's `datatype` refusal.
    pub datatype: Cow<'a, str>,
    /// Dims as sent: a negative one is a contract's `shape` refusal.
    pub shape: Vec<i64>,
    /// Tensor parameters, in the order they came; names are distinct.
    pub parameters: Vec<Parameter<'a>>,
    /// Elements in raw form, or why they could not be brought into it.
    pub data: Result<Cow<'a, [u8]>, DataFault>,
}

/// Why elements could not be brought into raw form. The request is well-formed; the values are not the datatype's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataFault {
    /// A value of another kind than the datatype's (a string or a fraction for an integer, a number for BOOL,
    /// contents in another datatype's field, a datatype that this protocol cannot carry in this form).
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
    /// Nested JSON data whose nesting is ragged or disagrees with `shape`.
    #[error("nesting of data disagrees with shape")]
    Nesting,
    /// No contents were sent for this input.
    #[error("no contents")]
    Missing,
    /// A `BYTES` blob whose length prefixes do not add up to it.
    #[error("element lengths do not add up to the contents")]
    Framing,
}

/// The items of a `BYTES` blob in raw form, without their lengths; an `Err` ([`DataFault::Framing`]) is the last.
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

/// An output that the caller asks for by name.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedOutput<'a> {
    /// The output's name.
    pub name: Cow<'a, str>,
    /// Its parameters.
    pub parameters: Vec<Parameter<'a>>,
    /// Whether it comes back as binary data; `None` as the request says (OIP REST's `binary_data`).
    pub binary_data: Option<bool>,
}

/// An inference answer, from a backend or a handler, on its way to the caller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    /// The model's public name.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The caller's own id, if it sent one.
    pub id: Option<String>,
    /// Output tensors with data in raw form.
    pub outputs: Vec<Tensor<'static>>,
}
