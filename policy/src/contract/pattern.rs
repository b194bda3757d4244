//! What the text of an item looks like: an expression that matches all of it or nothing, compiled to a table when the policy is read.
//!
//! One step a character, whatever the expression and whatever the text: there is nothing to go back to. What would need a large table is
//! refused with the policy. The alphabet is Unicode's characters, cut into the classes that the expression tells apart.

mod foreign;
mod loops;
mod parse;
mod table;

use alloc::string::String;
use alloc::vec::Vec;

pub(super) use foreign::{Expression, Fault, MAX_REPEATS, MAX_WEIGHT, Meter};

/// A compiled expression.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    /// Where each class of characters begins, ascending, the first at 0.
    classes: Vec<u32>,
    /// The class of every ASCII character.
    ascii: Vec<u16>,
    /// State and class → state; row after row.
    moves: Vec<u16>,
    /// Whether a text may end in a state.
    ends: Vec<bool>,
}

/// From which no text matches any more.
pub(super) const DEAD: u16 = 0;
/// In which every text begins.
pub(super) const START: u16 = 1;

/// Why an expression is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternFault {
    /// It is longer than is read.
    #[error("the pattern has more than {} characters", parse::MAX_CHARS)]
    Long,
    /// Something at a character is not understood.
    #[error("at character {at}: {what}")]
    Syntax {
        /// The character's place, from 1.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its table would be too large.
    #[error(
        "the pattern needs too large a table: bound fewer repeats, max_item_bytes bounds the length already"
    )]
    Large,
}

impl PatternFault {
    /// What is wrong, without where.
    const fn cause(self) -> &'static str {
        match self {
            Self::Long => "a pattern is longer than is read",
            Self::Syntax { what, .. } => what,
            Self::Large => "a pattern comes to too much",
        }
    }
}

impl Pattern {
    /// Reads and compiles an expression.
    pub(crate) fn compile(text: &str) -> Result<Self, PatternFault> {
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

    /// Whether a text that ends in this state matches.
    pub(super) fn may_end(&self, state: u16) -> bool {
        self.ends.get(usize::from(state)).is_some_and(|ends| *ends)
    }
}

/// By its text: nobody reads the table.
impl core::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
