//! A request of OpenAI's API: one object with the model's name, parsed to a tree of limited size.
//! The contract validates its members.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tensorgate_policy::InferRequest;
use tensorgate_policy::decision::Addressee;
use tensorgate_policy::json::{Members, Value};

use super::request::{name, once};
use super::scan::Scanner;
use crate::fault::{BodyFault, quote};
use crate::limits::{MAX_JSON_MEMBERS, MAX_JSON_VALUES};
use crate::raw_contents::Budget;

/// Member with the model's name.
const MODEL: &str = "model";
/// Member that requests a streamed response.
const STREAM: &str = "stream";
/// Maximum members of an object that are compared pairwise.
const FEW_MEMBERS: usize = 16;

/// Reads a request.
pub(crate) fn document(body: &[u8]) -> Result<InferRequest<'_>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let mut reader = Reader {
        values: 0,
        budget: Budget::new(),
    };
    let mut model = None;
    let (mut document, mut names) = (Members::new(), BTreeSet::new());
    scanner.object(|scanner, key| match &*key {
        MODEL => once(&mut model, MODEL, name(scanner, MODEL)),
        _ => reader.member(scanner, &mut document, &mut names, key),
    })?;
    scanner.end()?;
    Ok(InferRequest {
        model,
        document,
        ..InferRequest::default()
    })
}

/// One object, parsed to a tree with the same limits.
pub(crate) fn members(body: &[u8]) -> Result<Members<'_>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let mut reader = Reader {
        values: 0,
        budget: Budget::new(),
    };
    let (mut members, mut names) = (Members::new(), BTreeSet::new());
    scanner.object(|scanner, key| reader.member(scanner, &mut members, &mut names, key))?;
    scanner.end()?;
    Ok(members)
}

/// The addressee of a request, if it names a model. Nothing else is kept.
pub(crate) fn named(body: &[u8]) -> Result<Option<Addressee<'_>>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let (mut model, mut stream) = (None, None);
    scanner.object(|scanner, key| match &*key {
        MODEL => once(&mut model, MODEL, name(scanner, MODEL)),
        STREAM if matches!(scanner.token(), Some(b't' | b'f' | b'n')) => {
            once(&mut stream, STREAM, scanner.word())
        }
        // Another type means no streaming, as in the decoder.
        STREAM => once(&mut stream, STREAM, scanner.value().map(|_| None)),
        _ => scanner.value().map(drop),
    })?;
    scanner.end()?;
    Ok(model.map(|model| Addressee {
        model,
        version: None,
        streams: stream.flatten() == Some(true),
    }))
}

/// Remaining limits of a document.
struct Reader {
    values: usize,
    budget: Budget,
}

impl Reader {
    fn member<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        members: &mut Members<'a>,
        names: &mut BTreeSet<Cow<'a, str>>,
        key: Cow<'a, str>,
    ) -> Result<(), BodyFault> {
        if members.len() >= MAX_JSON_MEMBERS {
            return Err(BodyFault::TooMany {
                what: "members of an object",
                max: MAX_JSON_MEMBERS,
            });
        }
        let value = self.value(scanner)?;
        // Long names with common prefixes make comparisons expensive, so many members use a set.
        let twice = if members.len() < FEW_MEMBERS {
            members.iter().any(|(known, _)| *known == key)
        } else {
            if names.is_empty() {
                names.extend(members.iter().map(|(known, _)| known.clone()));
            }
            !names.insert(key.clone())
        };
        if twice {
            return Err(BodyFault::Duplicate(quote(&key)));
        }
        members.push((key, value));
        Ok(())
    }

    /// The recursion is as deep as the scanner allows.
    fn value<'a>(&mut self, scanner: &mut Scanner<'a>) -> Result<Value<'a>, BodyFault> {
        self.values = self.values.saturating_add(1);
        if self.values > MAX_JSON_VALUES {
            return Err(BodyFault::TooMany {
                what: "values",
                max: MAX_JSON_VALUES,
            });
        }
        match scanner.token() {
            Some(b'{') => {
                let (mut members, mut names) = (Members::new(), BTreeSet::new());
                scanner
                    .object(|scanner, key| self.member(scanner, &mut members, &mut names, key))?;
                Ok(Value::Object(members))
            }
            Some(b'[') => {
                let mut elements = Vec::new();
                scanner.array(|scanner| {
                    elements.push(self.value(scanner)?);
                    Ok(())
                })?;
                Ok(Value::Array(elements))
            }
            Some(b'"') => scanner.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => {
                let number = scanner.number()?;
                let value = if number.integer {
                    number.to_integer().map(Value::Int)
                } else {
                    if number.is_long() {
                        self.budget.take_long_number()?;
                    }
                    let float = number.to_f64().filter(|value| value.is_finite());
                    float.map(Value::Float)
                };
                value.ok_or_else(|| scanner.form("a number beyond 64 bits"))
            }
            _ => Ok(scanner.word()?.map_or(Value::Null, Value::Bool)),
        }
    }
}
