//! Decodes bodies by format. Names, parameters, datatypes and sizes are validated by the contract.

use tensorgate_policy::decision::{Addressee, BodyFormat, ReadBy};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Denial, InferRequest, Reason};

use crate::limits::{MAX_JSON_DEPTH, MAX_PARAMETERS, MAX_QUOTED_CHARS};
use crate::raw::Budget;
use crate::{grpc, json, multipart, torch};

/// The addressee that a body names, by a quick scan; `None` leaves it to [`decode`]. A document of
/// OpenAI's API is scanned completely, and `None` means that it names no model.
///
/// # Errors
/// A document that [`decode`] would reject too: `malformed`, `duplicate-key`, `too-deep`.
pub fn addressee(format: BodyFormat, body: &[u8]) -> Result<Option<Addressee<'_>>, Denial> {
    Ok(match format {
        BodyFormat::OipGrpcInfer | BodyFormat::OipGrpcModel | BodyFormat::TorchGrpc => {
            grpc::open(body).ok().and_then(grpc::addressee)
        }
        BodyFormat::TfGrpcPredict | BodyFormat::TfGrpcModel { .. } => {
            grpc::open(body).ok().and_then(grpc::addressee_in_spec)
        }
        BodyFormat::OpenAi(_) => json::named(body)?,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => None,
    })
}

/// Decodes a whole body. Denials are `malformed`, `duplicate-key`, `too-deep` or
/// `unsupported-encoding` (gRPC's compressed flag), with the caller's field if there is one.
/// [`BodyFormat::Raw`] gives a request with only the body.
///
/// `by` comes from the model ([`tensorgate_policy::Decision::read_by`]): TF Serving's JSON,
/// TorchServe's formats and JSON templates contain no datatypes and use the contract's.
///
/// # Errors
/// The body does not have its format: the reason, with the caller's field.
pub fn decode<'a, 'p>(
    format: BodyFormat,
    body: &'a [u8],
    by: impl Into<ReadBy<'p>>,
) -> Result<InferRequest<'a>, Denial> {
    Ok(read(format, body, by.into())?)
}

fn read<'a>(
    format: BodyFormat,
    body: &'a [u8],
    by: ReadBy<'_>,
) -> Result<InferRequest<'a>, BodyFault> {
    let rules = by.inputs;
    match format {
        BodyFormat::OipJson => json::infer(body),
        BodyFormat::OipBinary { json_bytes } => json::infer_binary(body, json_bytes),
        BodyFormat::OipGrpcInfer => grpc::open(body).and_then(grpc::infer),
        BodyFormat::OipGrpcModel => grpc::open(body).and_then(grpc::model),
        BodyFormat::TfJson => json::predict(body, rules),
        BodyFormat::OpenAi(_) => json::document(body),
        BodyFormat::TfGrpcPredict => grpc::open(body).and_then(grpc::predict),
        BodyFormat::TfGrpcModel { metadata } => {
            grpc::open(body).and_then(|message| grpc::question(message, metadata))
        }
        BodyFormat::TorchJson => {
            json::predictions(body, rules, &mut Budget::new()).map(|(inputs, by_column)| {
                InferRequest {
                    inputs,
                    by_column,
                    ..InferRequest::default()
                }
            })
        }
        BodyFormat::TorchForm(boundary) => {
            multipart::parts(body, &boundary).and_then(|parts| torch::request(parts, rules))
        }
        BodyFormat::TorchGrpc => {
            grpc::open(body).and_then(|message| grpc::predictions(message, rules))
        }
        BodyFormat::Template => match by.template {
            Some(template) => json::template(body, template, rules),
            None => Err(BodyFault::Form {
                what: "the model has no template",
                at: 0,
            }),
        },
        BodyFormat::Raw => Ok(InferRequest {
            body: Some(body),
            by_column: true,
            ..InferRequest::default()
        }),
        BodyFormat::Empty if body.is_empty() => Ok(InferRequest::default()),
        BodyFormat::Empty => Err(BodyFault::Form {
            what: "a body comes where none may",
            at: 0,
        }),
    }
}

// Decoding faults and their reasons. The only place in this crate that maps faults to reasons.

/// A body that is not exactly one unambiguous request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    /// Bytes that violate the format.
    #[error("{what} at byte {at}")]
    Form { what: &'static str, at: usize },
    /// A known field with an invalid value.
    #[error("{place} {what}")]
    Field { place: String, what: &'static str },
    /// An unknown field.
    #[error("{0} is not a field of the message")]
    Unknown(String),
    /// A repeated key or singular field.
    #[error("{0} is given twice")]
    Duplicate(String),
    /// Nesting beyond the limit.
    #[error("nesting is deeper than {MAX_JSON_DEPTH} levels at byte {at}")]
    Deep { at: usize },
    /// A count beyond the limit.
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
    /// A gRPC frame with the compressed flag.
    #[error("the frame is compressed")]
    Compressed,
}

impl BodyFault {
    pub(crate) fn field(place: impl Into<String>, what: &'static str) -> Self {
        Self::Field {
            place: place.into(),
            what,
        }
    }
}

impl From<BodyFault> for Denial {
    fn from(fault: BodyFault) -> Self {
        let cause = fault.to_string();
        match fault {
            BodyFault::Form { .. } | BodyFault::TooMany { .. } => {
                Self::new(Reason::Malformed, cause)
            }
            BodyFault::Field { place, .. } | BodyFault::Unknown(place) => {
                Self::with_field(Reason::Malformed, place, cause)
            }
            BodyFault::Duplicate(place) => Self::with_field(Reason::DuplicateKey, place, cause),
            BodyFault::Deep { .. } => Self::new(Reason::TooDeep, cause),
            BodyFault::Compressed => Self::new(Reason::UnsupportedEncoding, cause),
        }
    }
}

/// Quotes a caller's name: truncated and escaped for one line.
pub(crate) fn quote(name: &str) -> String {
    let mut quoted = String::from("\"");
    let mut chars = name.chars();
    for character in chars.by_ref().take(MAX_QUOTED_CHARS) {
        quoted.extend(character.escape_debug());
    }
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted.push('"');
    quoted
}

// Lists of named scalars, with the same limit and uniqueness in every protocol.

/// Adds a parameter with a new name.
pub(crate) fn add<'a>(
    parameters: &mut Vec<Parameter<'a>>,
    parameter: Parameter<'a>,
) -> Result<(), BodyFault> {
    if parameters
        .iter()
        .any(|earlier| earlier.name == parameter.name)
    {
        return Err(BodyFault::Duplicate(format!(
            "parameter {}",
            quote(&parameter.name)
        )));
    }
    if parameters.len() >= MAX_PARAMETERS {
        return Err(BodyFault::TooMany {
            what: "parameters",
            max: MAX_PARAMETERS,
        });
    }
    parameters.push(parameter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_is_one_bounded_line() {
        for (name, expected) in [
            ("image", "\"image\"".to_owned()),
            (
                "a\r\nb\0\"\u{202e}",
                "\"a\\r\\nb\\0\\\"\\u{202e}\"".to_owned(),
            ),
            (&"x".repeat(64), format!("\"{}\"", "x".repeat(64))),
            (&"x".repeat(65), format!("\"{}…\"", "x".repeat(64))),
        ] {
            assert_eq!(quote(name), expected);
        }
    }
}
