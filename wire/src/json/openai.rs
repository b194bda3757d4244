//! A request of OpenAI's API: one object with the model's name, parsed to a tree of limited size.
//! The contract validates its members.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tensorgate_policy::InferRequest;
use tensorgate_policy::contract::openai::constraints::is_member;
use tensorgate_policy::decision::Addressee;
use tensorgate_policy::json::{Members, Value};

use super::request::{name, once};
use super::scan::Scanner;
use crate::fault::{BodyFault, quote};
use crate::limits::{MAX_JSON_MEMBERS, MAX_JSON_VALUES, MAX_SCHEMA_JSON_DEPTH};
use crate::raw_contents::Budget;

/// Member with the model's name.
const MODEL: &str = "model";
/// Member that requests a streamed response.
const STREAM: &str = "stream";
/// Member with a list of functions, each of which may have a schema.
const TOOLS: &str = "tools";
/// Maximum members of an object that are compared pairwise.
const FEW_MEMBERS: usize = 16;

/// Reads a request.
pub(crate) fn document(body: &[u8]) -> Result<InferRequest<'_>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let mut reader = Reader::new();
    let (mut model, mut document) = (None, ObjectSoFar::default());
    scanner.object(|scanner, key| match &*key {
        MODEL => once(&mut model, MODEL, name(scanner, MODEL)),
        _ => {
            document.check_room()?;
            let value = within_depth_of(&key, scanner, |scanner| reader.value(scanner))?;
            document.add(key, value)
        }
    })?;
    scanner.end()?;
    Ok(InferRequest {
        model,
        document: document.members,
        ..InferRequest::default()
    })
}

/// One object, parsed to a tree with the same limits.
pub(crate) fn members(body: &[u8]) -> Result<Members<'_>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let (mut reader, mut object) = (Reader::new(), ObjectSoFar::default());
    scanner.object(|scanner, key| {
        object.check_room()?;
        let value = reader.value(scanner)?;
        object.add(key, value)
    })?;
    scanner.end()?;
    Ok(object.members)
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
        _ => within_depth_of(&key, scanner, |scanner| scanner.value().map(drop)),
    })?;
    scanner.end()?;
    Ok(model.map(|model| Addressee {
        model,
        version: None,
        streams: stream.flatten() == Some(true),
    }))
}

/// Reads the value of a member of a request within the depth that its kind may have. A fault of a
/// schema's depth names the function.
fn within_depth_of<'a, T>(
    key: &str,
    scanner: &mut Scanner<'a>,
    read: impl FnOnce(&mut Scanner<'a>) -> Result<T, BodyFault>,
) -> Result<T, BodyFault> {
    if !matches!(key, TOOLS | "response_format") && !is_member(key) {
        return read(scanner);
    }
    let (text, start) = (scanner.text, scanner.at);
    let result = scanner.within_depth(MAX_SCHEMA_JSON_DEPTH, read);
    result.map_err(|fault| {
        let BodyFault::Deep { max, at } = fault else {
            return fault;
        };
        let (mut field, mut function) = (format!("parameter {}", quote(key)), String::new());
        if key == TOOLS {
            let (index, name) = last_tool(text.get(start..at).unwrap_or_default());
            field.push_str(&format!("[{index}]"));
            if let Some(name) = name {
                function = format!(", in the function {}", quote(&name));
            }
        }
        BodyFault::DeepSchema {
            field,
            function,
            max,
            at,
        }
    })
}

/// Index of the tool in which a cut list of tools ends, and the name of its function if that comes
/// before the cut.
fn last_tool(tools: &str) -> (usize, Option<Cow<'_, str>>) {
    let (mut index, mut found) = (0_usize, None);
    let mut scanner = Scanner::new(tools);
    // It fails where the text ends.
    let _ = scanner.within_depth(MAX_SCHEMA_JSON_DEPTH, |scanner| {
        scanner.array(|scanner| {
            found = None;
            scanner.object(|scanner, key| match (&*key, scanner.token()) {
                ("function", Some(b'{')) => {
                    scanner.object(|scanner, key| match (&*key, scanner.token()) {
                        ("name", Some(b'"')) => {
                            found = Some(scanner.string()?);
                            Ok(())
                        }
                        _ => scanner.value().map(drop),
                    })
                }
                _ => scanner.value().map(drop),
            })?;
            index = index.saturating_add(1);
            Ok(())
        })
    });
    (index, found)
}

/// An object in progress.
#[derive(Default)]
struct ObjectSoFar<'a> {
    members: Members<'a>,
    /// The names, if there are many. Long ones with common prefixes make comparisons expensive.
    names: BTreeSet<Cow<'a, str>>,
}

impl<'a> ObjectSoFar<'a> {
    /// Checks that another member is allowed.
    fn check_room(&self) -> Result<(), BodyFault> {
        if self.members.len() >= MAX_JSON_MEMBERS {
            return Err(BodyFault::TooMany {
                what: "members of an object",
                max: MAX_JSON_MEMBERS,
            });
        }
        Ok(())
    }

    fn add(&mut self, key: Cow<'a, str>, value: Value<'a>) -> Result<(), BodyFault> {
        let (members, names) = (&mut self.members, &mut self.names);
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
}

/// A list or an object around the value that is read next.
enum Open<'a> {
    List(Vec<Value<'a>>),
    Object {
        object: ObjectSoFar<'a>,
        /// Name of the value that is read next.
        key: Cow<'a, str>,
    },
}

impl<'a> Open<'a> {
    fn add(&mut self, value: Value<'a>) -> Result<(), BodyFault> {
        match self {
            Self::List(elements) => {
                elements.push(value);
                Ok(())
            }
            Self::Object { object, key } => object.add(std::mem::take(key), value),
        }
    }

    /// Steps to the next value. Returns whether there is one.
    fn advance(&mut self, scanner: &mut Scanner<'a>) -> Result<bool, BodyFault> {
        match self {
            Self::List(_) => scanner.has_next(false),
            Self::Object { object, key } => {
                let has_next = scanner.has_next(true)?;
                if has_next {
                    *key = scanner.key()?;
                    object.check_room()?;
                }
                Ok(has_next)
            }
        }
    }

    fn close(self) -> Value<'a> {
        match self {
            Self::List(elements) => Value::Array(elements),
            Self::Object { object, .. } => Value::Object(object.members),
        }
    }
}

/// Reads values of a document within its remaining limits.
struct Reader<'a> {
    values: usize,
    budget: Budget,
    /// What is around the value that is read next, outermost first.
    open: Vec<Open<'a>>,
}

impl<'a> Reader<'a> {
    const fn new() -> Self {
        Self {
            values: 0,
            budget: Budget::new(),
            open: Vec::new(),
        }
    }

    /// Reads a value. It does not recurse, so that depth costs no stack.
    fn value(&mut self, scanner: &mut Scanner<'a>) -> Result<Value<'a>, BodyFault> {
        loop {
            self.values = self.values.saturating_add(1);
            if self.values > MAX_JSON_VALUES {
                return Err(BodyFault::TooMany {
                    what: "values",
                    max: MAX_JSON_VALUES,
                });
            }
            let mut value = match scanner.token() {
                Some(b'{') => {
                    if scanner.open(b'}')? {
                        let (object, key) = (ObjectSoFar::default(), scanner.key()?);
                        self.open.push(Open::Object { object, key });
                        continue;
                    }
                    Value::Object(Members::new())
                }
                Some(b'[') => {
                    if scanner.open(b']')? {
                        self.open.push(Open::List(Vec::new()));
                        continue;
                    }
                    Value::Array(Vec::new())
                }
                _ => self.scalar(scanner)?,
            };
            // A value has ended, and maybe some that it is the last one of.
            loop {
                let Some(innermost) = self.open.last_mut() else {
                    return Ok(value);
                };
                innermost.add(value)?;
                if innermost.advance(scanner)? {
                    break;
                }
                value = self.open.pop().map_or(Value::Null, Open::close);
            }
        }
    }

    fn scalar(&mut self, scanner: &mut Scanner<'a>) -> Result<Value<'a>, BodyFault> {
        match scanner.token() {
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

#[cfg(test)]
mod tests;
