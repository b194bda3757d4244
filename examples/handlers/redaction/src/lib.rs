//! A guardrail that finds e-mail addresses and card numbers in the `text` of Agent Router's `POST
//! /analyze`, and masks or blocks them.
//!
//! | config | default | |
//! |---|---|---|
//! | `action` | modify | what the router is told if there is a finding: `modify` or `block` |
//! | `mask` | \[REDACTED\] | what replaces a finding in the text of `modify` |
//!
//! An answer has at most 4,096 findings. With more, it has none of them, so that no router masks
//! only some: `modify` still has the whole replacement, and `block` is the action alone.

mod find;

use core::ops::Range;

use handler_settings::choice;
use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

pub use crate::find::{Finding, findings};

/// The most findings that the contract allows in one answer.
const MAX_FINDINGS: usize = 4_096;

struct Redaction;

#[derive(Clone, Copy)]
enum Action {
    Modify,
    Block,
}

impl Preprocess for Redaction {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let action = choice(
            "action",
            Action::Modify,
            &[("modify", Action::Modify), ("block", Action::Block)],
        )?;
        let mask = config("mask").unwrap_or_else(|| "[REDACTED]".to_owned());
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected tensors, not a body"));
        };
        let text = tensors.iter().find(|tensor| tensor.name == "text");
        let items = text
            .ok_or_else(|| Error::bad_input("expected the tensor text"))?
            .items()?;
        let [text] = items.as_slice() else {
            return Err(Error::bad_input("expected one text"));
        };
        let text = core::str::from_utf8(text).map_err(Error::bad_input)?;
        let found = findings(text);
        if found.is_empty() {
            return Ok(vec![one("action", "allow")?]);
        }
        let mut answer = match action {
            Action::Modify => vec![
                one("action", "modify")?,
                one("replacement", masked(text, &found, &mask))?,
            ],
            Action::Block => vec![one("action", "block")?],
        };
        if found.len() <= MAX_FINDINGS {
            answer.extend(listed(text, &found)?);
        }
        Ok(answer)
    }
}

/// A tensor of one text.
fn one(name: &str, text: impl AsRef<[u8]>) -> Result<Tensor, Error> {
    Tensor::from_items(name, &[1], [text])
}

/// The text with a mask in place of each finding.
fn masked(text: &str, findings: &[Finding], mask: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = 0;
    for finding in findings {
        masked.push_str(text.get(rest..finding.bytes.start).unwrap_or_default());
        masked.push_str(mask);
        rest = finding.bytes.end;
    }
    masked.push_str(text.get(rest..).unwrap_or_default());
    masked
}

/// The findings as the contract has them, with offsets in characters.
fn listed(text: &str, findings: &[Finding]) -> Result<Vec<Tensor>, Error> {
    let mut offsets = Vec::with_capacity(findings.len());
    let (mut bytes, mut characters) = (0, 0_i64);
    let mut at = |end: usize| {
        let passed = text.get(bytes..end).unwrap_or_default().chars().count();
        bytes = end;
        characters = characters.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
        characters
    };
    for Finding {
        bytes: Range { start, end },
        ..
    } in findings
    {
        offsets.push((at(*start), at(*end)));
    }
    let count = u64::try_from(findings.len()).map_err(Error::fault)?;
    let kinds = findings.iter().map(|finding| finding.kind);
    let scores = findings.iter().map(|finding| finding.score);
    Ok(vec![
        Tensor::from_items("type", &[count], kinds)?,
        Tensor::from_array(
            "start",
            offsets
                .iter()
                .map(|(start, _)| *start)
                .collect::<Array1<_>>(),
        )?,
        Tensor::from_array(
            "end",
            offsets.iter().map(|(_, end)| *end).collect::<Array1<_>>(),
        )?,
        Tensor::from_array("score", scores.collect::<Array1<f32>>())?,
    ])
}

export_preprocess!(Redaction);

#[cfg(test)]
mod tests;
