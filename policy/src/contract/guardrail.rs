//! The guardrail contract of Agent Router: names of its tensors, and whether an answer is one that
//! the router applies as a whole.
//!
//! The router ignores a finding whose offsets are outside the text, and passes the text there on
//! as it is. So an answer with such a finding is a fault here, and the router gets an error.

use alloc::format;
use alloc::string::String;

use tensorgate_values::tensor::{Tensor, items};

use super::quote;

/// Input: the text to analyze.
pub const TEXT: &str = "text";
/// Input: [`STAGES`].
pub const STAGE: &str = "stage";
/// Output: [`ACTIONS`].
pub const ACTION: &str = "action";
/// Output: the text that replaces the analyzed one.
pub const REPLACEMENT: &str = "replacement";
/// Output: what each finding is.
pub const TYPE: &str = "type";
/// Output: the first character of each finding, counted in code points from 0.
pub const START: &str = "start";
/// Output: the character after each finding.
pub const END: &str = "end";
/// Output: how certain each finding is, from 0 to 1.
pub const SCORE: &str = "score";

/// Whether the text is a client's prompt or a model's response.
pub const STAGES: [&str; 2] = ["input", "output"];
/// What the router is told to do.
pub const ACTIONS: [&str; 3] = ["allow", "block", MODIFY];
const MODIFY: &str = "modify";
/// Maximum findings of one answer.
pub const MAX_FINDINGS: u64 = 4_096;

/// Number of characters (code points) of the analyzed text.
pub fn text_characters(inputs: &[Tensor<'_>]) -> usize {
    let text = item(inputs, TEXT).unwrap_or_default();
    text.iter().filter(|byte| !is_continuation(**byte)).count()
}

/// Whether a byte of UTF-8 continues a character.
const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Checks an answer whose tensors keep their rules, for a text of so many characters.
///
/// # Errors
/// One sentence that says what is wrong and what to return.
pub fn check_answer(characters: usize, answer: &[Tensor<'_>]) -> Result<(), String> {
    let action = item(answer, ACTION).unwrap_or_default();
    if !ACTIONS.iter().any(|known| known.as_bytes() == action) {
        let action = quote(&String::from_utf8_lossy(action));
        return Err(format!(
            "action is {action}; return one of {}",
            ACTIONS.join(", ")
        ));
    }
    let is_there = |name: &str| answer.iter().any(|tensor| tensor.name == name);
    let findings = match (numbers(answer, START), numbers(answer, END)) {
        (Some(starts), Some(ends)) => findings(characters, starts, ends)?,
        (None, None) if ![TYPE, SCORE].into_iter().any(is_there) => 0,
        _ => return Err("findings need both start and end".into()),
    };
    if action == MODIFY.as_bytes() && findings == 0 && !is_there(REPLACEMENT) {
        return Err("action is \"modify\"; return a replacement or findings with it".into());
    }
    Ok(())
}

/// Number of findings, if each is a part of the text.
fn findings(
    characters: usize,
    starts: impl Iterator<Item = i64>,
    ends: impl Iterator<Item = i64>,
) -> Result<usize, String> {
    let mut count = 0_usize;
    for (start, end) in starts.zip(ends) {
        let is_inside = usize::try_from(end).is_ok_and(|end| end <= characters);
        if start < 0 || start >= end || !is_inside {
            return Err(format!(
                "finding {count} is from {start} to {end}; return offsets in characters, start \
                 below end, within the text of {characters}"
            ));
        }
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// The first element of a tensor of `BYTES`.
fn item<'t>(tensors: &'t [Tensor<'_>], name: &str) -> Option<&'t [u8]> {
    items(data(tensors, name)?).next()?.ok()
}

/// The elements of a tensor of `INT64`.
fn numbers<'t>(
    tensors: &'t [Tensor<'_>],
    name: &str,
) -> Option<impl Iterator<Item = i64> + use<'t>> {
    let (words, _) = data(tensors, name)?.as_chunks::<8>();
    Some(words.iter().map(|word| i64::from_le_bytes(*word)))
}

fn data<'t>(tensors: &'t [Tensor<'_>], name: &str) -> Option<&'t [u8]> {
    let tensor = tensors.iter().find(|tensor| tensor.name == name)?;
    tensor.data.as_ref().ok().map(|data| &**data)
}

#[cfg(test)]
mod tests;
