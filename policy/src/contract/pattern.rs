//! Patterns of text elements: an anchored expression, compiled to a table when the policy is
//! loaded.
//!
//! Matching takes one step per character and never backtracks. An expression with a large table is
//! rejected with the policy. The alphabet is Unicode, split into the classes that the expression
//! distinguishes.

mod parse;
mod table;

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A compiled expression.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    text: String,
    /// First character of each class in ascending order, beginning at 0.
    classes: Vec<u32>,
    /// Class of every ASCII character.
    ascii: Vec<u16>,
    /// Next state by state and class, row by row.
    moves: Vec<u16>,
    /// Whether a state accepts.
    ends: Vec<bool>,
}

/// State from which no text matches.
pub(super) const DEAD: u16 = 0;
/// Start state.
pub(super) const START: u16 = 1;

/// Why an expression is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Too long.
    #[error("the pattern has more than {} characters", parse::MAX_CHARS)]
    Long,
    /// Syntax error at a character.
    #[error("at character {at}: {what}")]
    Syntax {
        /// Position of the character, from 1.
        at: usize,
        /// The error.
        what: &'static str,
    },
    /// Its table would be too large.
    #[error(
        "the pattern needs too large a table: bound fewer repeats, max_item_bytes bounds the length already"
    )]
    Large,
}

impl Pattern {
    /// Parses and compiles an expression.
    pub fn compile(text: &str) -> Result<Self, PatternFault> {
        let node = parse::parse(text)?;
        table::compile(text, &node).ok_or(PatternFault::Large)
    }

    /// The state after one more character.
    pub(super) fn step(&self, state: u16, character: char) -> u16 {
        let point = u32::from(character);
        let ascii = usize::try_from(point).ok();
        let class = match ascii.and_then(|at| self.ascii.get(at)) {
            Some(class) => usize::from(*class),
            None => self
                .classes
                .partition_point(|from| *from <= point)
                .saturating_sub(1),
        };
        let at = usize::from(state)
            .saturating_mul(self.classes.len())
            .saturating_add(class);
        self.moves.get(at).copied().unwrap_or(DEAD)
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let state = text
            .chars()
            .fold(START, |state, character| self.step(state, character));
        self.may_end(state)
    }

    /// Whether a text that ends in this state matches.
    pub(super) fn may_end(&self, state: u16) -> bool {
        self.ends.get(usize::from(state)).is_some_and(|ends| *ends)
    }
}

/// Shows the text only.
impl core::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
