//! Converts TorchServe's named values (form parts or map entries) to a request: files for `BYTES`,
//! JSON for other datatypes.
//!
//! The contract's datatype decides, never the bytes. For `BYTES` a value is one element, unless its
//! content type is JSON. A value named `data` or `body` that is not an input is a whole body, as
//! for TorchServe's handlers.

use std::borrow::Cow;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::request::{ContentType, OCTET_STREAM};
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{Datatype, InferRequest, Tensor};

use crate::fault::{BodyFault, quote};
use crate::json;
use crate::raw_contents::{Budget, push_item};

/// A named value.
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    /// Declared content type; absent in messages.
    pub(crate) content_type: ContentType<'a>,
    pub(crate) bytes: &'a [u8],
}

/// Names of a whole body.
const BODY_NAMES: [&str; 2] = ["data", "body"];

/// The request of these values for a model with these rules; without rules it is a single file.
pub(crate) fn request<'a>(
    values: Vec<Named<'a>>,
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    if rules.is_empty() {
        return file(values);
    }
    let mut budget = Budget::new();
    let is_body =
        |value: &Named<'_>| BODY_NAMES.contains(&value.name) && rule(value.name, rules).is_none();
    let (inputs, by_column) = if values.iter().any(is_body) {
        match (values.as_slice(), rules) {
            ([value], [rule]) if is_element(value, rule) => (vec![element(rule, value)?], true),
            ([value], _) => {
                is_text(value)?;
                json::predictions(value.bytes, rules, &mut budget)?
            }
            _ => {
                return Err(BodyFault::field(
                    "data",
                    "must be the only part of the request",
                ));
            }
        }
    } else {
        let tensors = values
            .iter()
            .map(|value| tensor(value, rules, &mut budget))
            .collect::<Result<_, _>>()?;
        (tensors, true)
    };
    Ok(InferRequest {
        inputs,
        by_column,
        ..InferRequest::default()
    })
}

fn rule<'r>(name: &str, rules: &'r [TensorRule]) -> Option<&'r TensorRule> {
    rules.iter().find(|rule| rule.name() == name)
}

/// The only file, for a model with a raw body.
fn file(values: Vec<Named<'_>>) -> Result<InferRequest<'_>, BodyFault> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) if BODY_NAMES.contains(&value.name) => Ok(InferRequest {
            body: Some(value.bytes),
            body_type: match value.content_type {
                ContentType::Absent => None,
                ContentType::Other(name) => Some(name),
                // Only JSON occurs here: a form rejects parts of the other types.
                ContentType::Json
                | ContentType::Grpc
                | ContentType::Form(_)
                | ContentType::Malformed => Some(Cow::Borrowed("application/json")),
            },
            by_column: true,
            ..InferRequest::default()
        }),
        _ => Err(BodyFault::field(
            "data",
            "must be the only part of the request, as a file",
        )),
    }
}

fn tensor<'a>(
    value: &Named<'a>,
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Tensor<'a>, BodyFault> {
    match rule(value.name, rules) {
        None => Ok(Tensor {
            name: Cow::Borrowed(value.name),
            datatype: Cow::Borrowed(""),
            shape: Vec::new(),
            parameters: Vec::new(),
            data: Err(DataFault::Kind { index: 0 }),
        }),
        Some(rule) if is_element(value, rule) => element(rule, value),
        Some(_) => {
            is_text(value)?;
            json::tensor(value.name, value.bytes, rules, budget)
        }
    }
}

fn is_element(value: &Named<'_>, rule: &TensorRule) -> bool {
    rule.datatype() == Datatype::Bytes && value.content_type != ContentType::Json
}

/// The only element of an input whose dimensions are all 1.
fn element<'a>(rule: &TensorRule, value: &Named<'_>) -> Result<Tensor<'a>, BodyFault> {
    let mut framed = Vec::with_capacity(value.bytes.len().saturating_add(4));
    push_item(&mut framed, value.bytes)
        .ok_or_else(|| BodyFault::field(part(value), "is too long"))?;
    Ok(Tensor {
        name: Cow::Owned(rule.name().to_owned()),
        datatype: Cow::Borrowed(Datatype::Bytes.name()),
        shape: vec![1; rule.shape().len()],
        parameters: Vec::new(),
        data: Ok(framed.into()),
    })
}

/// Whether the type allows JSON: JSON's, none, or one that clients use for unknown files.
fn is_text(value: &Named<'_>) -> Result<(), BodyFault> {
    let text = match &value.content_type {
        ContentType::Absent | ContentType::Json => true,
        ContentType::Other(name) => [OCTET_STREAM, "text/plain"].contains(&&**name),
        ContentType::Grpc | ContentType::Form(_) | ContentType::Malformed => false,
    };
    if text {
        return Ok(());
    }
    Err(BodyFault::field(
        part(value),
        "has a content type that numbers cannot have",
    ))
}

fn part(value: &Named<'_>) -> String {
    format!("part {}", quote(value.name))
}
