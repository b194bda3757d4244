//! A JSON body of TorchServe's predictions. TorchServe leaves the form to handlers. Supported are
//! the forms of its envelopes, and tensors without an envelope:
//!
//! | document | meaning |
//! |---|---|
//! | `{"instances": […]}` | rows, as in TF Serving and KServe; answered by row |
//! | `{"data": …}`, `{"body": …}` | whole tensors: a single value, or an object |
//! | `{"NAME": …, …}` | an object with a value per input |
//! | any other value | the value of the only input |
//!
//! A key that is an input's name means that input. The contract gives the datatypes.

use std::borrow::Cow;

use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;

use super::columns::{Column, Columns, columns, rows};
use super::scan::Scanner;
use super::tree::is_base64;
use crate::fault::BodyFault;
use crate::raw_contents::Budget;

/// The key of a request by row.
const ROWS: &str = "instances";
/// Keys of requests with whole tensors.
const BODY_KEYS: [&str; 2] = ["data", "body"];

/// The envelope of a key; `None` if the key is or may be an input.
fn envelope(key: &str, rules: &[TensorRule]) -> Option<&'static str> {
    if rules.iter().any(|rule| rule.name() == key) {
        return None;
    }
    let mut envelopes = BODY_KEYS.into_iter().chain([ROWS]);
    envelopes.find(|envelope| *envelope == key)
}

/// Reads a whole body: its tensors, and whether the response is whole instead of by row.
pub(crate) fn predictions<'a>(
    body: &'a [u8],
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<(Vec<Tensor<'a>>, bool), BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let read = document(&mut scanner, rules, budget)?;
    scanner.end()?;
    Ok(read)
}

fn document<'a>(
    scanner: &mut Scanner<'a>,
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<(Vec<Tensor<'a>>, bool), BodyFault> {
    if scanner.token() != Some(b'{') || is_base64(scanner) {
        return Ok((columns(scanner, "the body", rules, budget)?, true));
    }
    let mut named = Columns::new(rules);
    let mut enveloped: Option<(&'static str, Vec<Tensor<'a>>)> = None;
    scanner.object(|scanner, key| {
        let Some(envelope) = envelope(&key, rules) else {
            return named.read(scanner, key, budget);
        };
        let tensors = if envelope == ROWS {
            rows(scanner, envelope, rules, budget)?
        } else {
            columns(scanner, envelope, rules, budget)?
        };
        match enveloped {
            None => {
                enveloped = Some((envelope, tensors));
                Ok(())
            }
            Some((known, _)) if known == envelope => Err(BodyFault::Duplicate(envelope.to_owned())),
            Some((known, _)) => Err(beside(known)),
        }
    })?;
    match enveloped {
        None => Ok((named.finish(), true)),
        Some((envelope, tensors)) if named.is_empty() => Ok((tensors, envelope != ROWS)),
        Some((envelope, _)) => Err(beside(envelope)),
    }
}

fn beside(envelope: &'static str) -> BodyFault {
    BodyFault::field(
        envelope,
        "is all of a request, and comes beside another member",
    )
}

/// Reads the value of one input from a whole text.
pub(crate) fn tensor<'a>(
    name: &'a str,
    text: &'a [u8],
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Tensor<'a>, BodyFault> {
    let mut scanner = Scanner::over(text)?;
    let mut column = Column::new(Cow::Borrowed(name), rules);
    column.read(&mut scanner, budget)?;
    scanner.end()?;
    Ok(column.finish(false))
}
