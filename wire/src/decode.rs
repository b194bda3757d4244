//! Decodes bodies by format. Names, parameters, datatypes and sizes are validated by the contract.

use tensorgate_policy::decision::{Addressee, BodyFormat, ReadBy};
use tensorgate_policy::request::ServerQuery;
use tensorgate_policy::tensor::{DataFault, Parameter, items};
use tensorgate_policy::{Datatype, Denial, InferRequest, Reason};

use crate::limits::{
    MAX_CONVERTED_ELEMENTS, MAX_JSON_DEPTH, MAX_LONG_NUMBERS, MAX_PARAMETERS, MAX_QUOTED_CHARS,
};
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

/// Checks the body of a gRPC request about the server: one message without fields, or with the name
/// of a service for a health check. A request that ends with its headers has no body. Nothing reads
/// the message, so a compressed one is not expanded.
///
/// # Errors
/// `malformed` or `duplicate-key`.
pub fn check_server_query(question: ServerQuery, body: &[u8]) -> Result<(), Denial> {
    if body.is_empty() {
        return Ok(());
    }
    if grpc::compressed(body)?.is_some() {
        return Ok(());
    }
    let message = grpc::open(body)?;
    Ok(grpc::server_query(question, message)?)
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

// Elements in OIP's raw form: row-major, little-endian, length-prefixed `BYTES`. The contract
// compares sizes and shapes.

/// Appends one `BYTES` element: a 4-byte little-endian length and the data. `None` if the length
/// does not fit.
pub(crate) fn push_item(framed: &mut Vec<u8>, item: &[u8]) -> Option<()> {
    framed.extend_from_slice(&u32::try_from(item.len()).ok()?.to_le_bytes());
    framed.extend_from_slice(item);
    Some(())
}

/// Rejects invalid blobs: wrong `BYTES` lengths, and BOOL bytes other than 0 and 1, which servers
/// treat differently.
pub(crate) fn check_blob(datatype: Option<Datatype>, blob: &[u8]) -> Result<(), DataFault> {
    match datatype {
        Some(Datatype::Bool) => blob
            .iter()
            .position(|byte| *byte > 1)
            .map_or(Ok(()), |index| Err(DataFault::Kind { index })),
        Some(Datatype::Bytes) => items(blob).try_for_each(|item| item.map(drop)),
        _ => Ok(()),
    }
}

/// Remaining [`MAX_CONVERTED_ELEMENTS`] and [`MAX_LONG_NUMBERS`] of one request, and whether early
/// conversion is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    elements: usize,
    long_numbers: usize,
    early: bool,
}

/// A used part of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetUse {
    elements: usize,
    long_numbers: usize,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self {
            elements: MAX_CONVERTED_ELEMENTS,
            long_numbers: MAX_LONG_NUMBERS,
            early: true,
        }
    }

    /// Whether elements may be converted before the document is known to be well-formed.
    pub(crate) const fn allows_early(&self) -> bool {
        self.early
    }

    /// The budget after a failed early conversion that will be repeated: the full budget, so that
    /// key order does not change the verdict, but without another early conversion, so that the
    /// work at most doubles.
    pub(crate) const fn after_failure(self) -> Self {
        Self {
            early: false,
            ..self
        }
    }

    /// The part used since `before`.
    pub(crate) const fn spent_since(&self, before: &Self) -> BudgetUse {
        BudgetUse {
            elements: before.elements.saturating_sub(self.elements),
            long_numbers: before.long_numbers.saturating_sub(self.long_numbers),
        }
    }

    /// Charges a part used elsewhere; `false` if the budget does not suffice.
    pub(crate) fn charge(&mut self, spent: BudgetUse) -> bool {
        let elements = self.elements.checked_sub(spent.elements);
        let long_numbers = self.long_numbers.checked_sub(spent.long_numbers);
        let (Some(elements), Some(long_numbers)) = (elements, long_numbers) else {
            return false;
        };
        (self.elements, self.long_numbers) = (elements, long_numbers);
        true
    }

    /// Remaining elements.
    pub(crate) const fn elements(&self) -> usize {
        self.elements
    }

    pub(crate) fn take(&mut self, elements: usize) -> Result<(), BodyFault> {
        let what = "elements to convert in all";
        self.elements = self
            .elements
            .checked_sub(elements)
            .ok_or(BodyFault::TooMany {
                what,
                max: MAX_CONVERTED_ELEMENTS,
            })?;
        Ok(())
    }

    /// Charges a float that is expensive to round.
    pub(crate) fn take_long_number(&mut self) -> Result<(), BodyFault> {
        let what = "floats of more than 19 significant digits";
        self.long_numbers = self.long_numbers.checked_sub(1).ok_or(BodyFault::TooMany {
            what,
            max: MAX_LONG_NUMBERS,
        })?;
        Ok(())
    }
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

#[cfg(test)]
mod raw_tests {
    use super::*;

    #[test]
    fn a_blob_that_is_not_of_its_datatype_is_refused() {
        for (datatype, blob, expected) in [
            (Datatype::Bytes, &b""[..], Ok(())),
            (Datatype::Bytes, b"\x01\0\0\0a\0\0\0\0", Ok(())),
            (Datatype::Bytes, b"\x01\0\0\0", Err(DataFault::Framing)),
            (Datatype::Bytes, b"\x01\0\0", Err(DataFault::Framing)),
            (Datatype::Bytes, b"\x01\0\0\0ab", Err(DataFault::Framing)),
            (
                Datatype::Bytes,
                b"\xff\xff\xff\xffa",
                Err(DataFault::Framing),
            ),
            (
                Datatype::Bytes,
                b"\xfb\xff\xff\x7fa",
                Err(DataFault::Framing),
            ),
            (Datatype::Bool, b"\0\x01\0", Ok(())),
            (
                Datatype::Bool,
                b"\0\x01\x02",
                Err(DataFault::Kind { index: 2 }),
            ),
            (Datatype::Bool, b"\xff", Err(DataFault::Kind { index: 0 })),
            (Datatype::Fp32, b"\x01", Ok(())),
        ] {
            assert_eq!(
                check_blob(Some(datatype), blob),
                expected,
                "{datatype} {blob:?}"
            );
        }
        assert_eq!(check_blob(None, b"\xff"), Ok(()));
    }

    #[test]
    fn the_budget_is_for_all_tensors_together() {
        let mut budget = Budget::new();
        assert!(budget.take(MAX_CONVERTED_ELEMENTS - 1).is_ok());
        assert!(budget.take(1).is_ok());
        assert!(budget.take(0).is_ok());
        assert!(budget.take(1).is_err());
    }
}
