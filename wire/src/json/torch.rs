//! A JSON body of TorchServe's predictions, whose form is its handlers' business there. Read are the forms of the envelopes that come with
//! it, and tensors without any:
//!
//! | document | what it says |
//! |---|---|
//! | `{"instances": […]}` | rows, as TF Serving and KServe have them; answered by row |
//! | `{"data": …}`, `{"body": …}` | whole tensors: the value of the only input, or an object with a value for every input |
//! | `{"NAME": …, …}` | an object with a value for every input |
//! | any other value | the value of the only input |
//!
//! A key that is the name of an input means that input. Datatypes are the contract's, here as there.

use std::borrow::Cow;

use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;

use super::column::{Column, Columns, columns, rows};
use super::scan::Scanner;
use super::tree::is_base64;
use crate::fault::BodyFault;
use crate::raw::Budget;

/// The key of a request by row.
const ROWS: &str = "instances";
/// Keys of requests whose tensors are whole.
const WHOLE: [&str; 2] = ["data", "body"];

/// The envelope that a key is; `None` where it names an input, or may.
fn envelope(key: &str, rules: &[TensorRule]) -> Option<&'static str> {
    if rules.iter().any(|rule| rule.name() == key) {
        return None;
    }
    let mut envelopes = WHOLE.into_iter().chain([ROWS]);
    envelopes.find(|envelope| *envelope == key)
}

/// Reads a whole body: its tensors, and whether its answer is to be whole too, rather than by row.
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

/// Reads the value of one input, the whole of a text.
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
