//! What TorchServe's clients send by name, as parts of a form or entries of a message, to a request: files for `BYTES`, JSON for everything
//! else. How the names came is not its business, and neither is what a file holds.
//!
//! Which of the two a value is, the contract's datatype says, never its bytes: of `BYTES` it is one element, as it came, unless its type is
//! JSON's; of everything else it is JSON. A value named `data` or `body`, where no input is, is a whole body: TorchServe's handlers look for
//! it under these names.

use std::borrow::Cow;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::request::{ContentType, OCTET_STREAM};
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{Datatype, InferRequest, Tensor};

use crate::fault::{BodyFault, quote};
use crate::json;
use crate::raw::{Budget, push_item};

/// A value under a name.
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    /// As it declares it; absent in messages.
    pub(crate) content_type: ContentType<'a>,
    pub(crate) bytes: &'a [u8],
}

/// Names of a whole body.
const WHOLE: [&str; 2] = ["data", "body"];

/// The request that values are, to a model with these rules; without any it takes a file as it is.
pub(crate) fn request<'a>(
    values: Vec<Named<'a>>,
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    if rules.is_empty() {
        return file(values);
    }
    let mut budget = Budget::new();
    let stands_for_all =
        |value: &Named<'_>| WHOLE.contains(&value.name) && rule(value.name, rules).is_none();
    let (inputs, by_column) = if values.iter().any(stands_for_all) {
        match (values.as_slice(), rules) {
            ([value], [rule]) if is_element(value, rule) => (vec![element(rule, value)?], true),
            ([value], _) => {
                is_text(value)?;
                json::predictions(value.bytes, rules, &mut budget)?
            }
            _ => {
                return Err(BodyFault::field(
                    "data",
                    "is all of a request, and comes beside another part",
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

/// The one file that comes for a model that takes it as it is.
fn file(values: Vec<Named<'_>>) -> Result<InferRequest<'_>, BodyFault> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) if WHOLE.contains(&value.name) => Ok(InferRequest {
            body: Some(value.bytes),
            body_type: match value.content_type {
                ContentType::Absent => None,
                ContentType::Other(name) => Some(name),
                _ => Some(Cow::Borrowed("application/json")),
            },
            by_column: true,
            ..InferRequest::default()
        }),
        _ => Err(BodyFault::field(
            "data",
            "is not the one part of a request that is a file",
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

/// The only element of an input, whose dims are all 1.
fn element<'a>(rule: &TensorRule, value: &Named<'_>) -> Result<Tensor<'a>, BodyFault> {
    let mut framed = Vec::with_capacity(value.bytes.len().saturating_add(4));
    push_item(&mut framed, value.bytes)
        .ok_or_else(|| BodyFault::field(part(value), "is too long"))?;
    Ok(Tensor {
        name: Cow::Owned(rule.name().to_owned()),
        datatype: Cow::Borrowed(Datatype::Bytes.name()),
        shape: vec![1; rule.shape().len()],
        parameters: Vec::new(),
        data: Ok(Cow::Owned(framed)),
    })
}

/// That a value can be JSON by its type: JSON's, none, or one that clients give to files whose kind they do not know.
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
        "is of a type that numbers do not come in",
    ))
}

fn part(value: &Named<'_>) -> String {
    format!("part {}", quote(value.name))
}
