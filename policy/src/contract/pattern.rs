//! Patterns of texts: finite automata that the compiler of policies has built.
//!
//! Matching takes one step for each byte and never backtracks. The automaton keeps the sparse form
//! of `regex-automata`, which is checked once while a policy is loaded.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use regex_automata::Anchored;
use regex_automata::dfa::Automaton as _;
use regex_automata::dfa::sparse::DFA;
use regex_automata::util::start;
use serde::{Deserialize, Serialize};

pub(super) use regex_automata::util::primitives::StateID as State;

/// A pattern that a text matches as a whole.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Pattern {
    text: String,
    automaton: DFA<Vec<u8>>,
    start: State,
}

/// A pattern in a compiled policy: its text, and its automaton in little-endian byte order. The
/// digest of the layout needs an example of it, which is found by the name of a newtype.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Pattern")]
struct Stored((String, Vec<u8>));

/// An automaton is malformed, or not anchored at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the automaton of a pattern is malformed")]
pub struct MalformedAutomaton;

impl Pattern {
    /// A pattern with the automaton of its text. The automaton must be anchored at both ends of a
    /// text.
    ///
    /// # Errors
    /// It has no anchored start.
    pub fn new(text: String, automaton: DFA<Vec<u8>>) -> Result<Self, MalformedAutomaton> {
        let at_start = start::Config::new().anchored(Anchored::Yes);
        let start = automaton.start_state(&at_start);
        Ok(Self {
            start: start.map_err(|_| MalformedAutomaton)?,
            text,
            automaton,
        })
    }

    /// Memory of the automaton, in bytes.
    pub fn automaton_bytes(&self) -> usize {
        self.automaton.memory_usage()
    }

    fn automaton_to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.automaton.write_to_len()];
        // It fails only where the bytes are too few. Bytes of another length would not be loaded.
        let written = self.automaton.write_to_little_endian(&mut bytes);
        bytes.truncate(written.unwrap_or(0));
        bytes
    }

    /// State before the first byte.
    pub(super) const fn start(&self) -> State {
        self.start
    }

    /// State after more bytes; `None` if no text that begins so matches.
    pub(super) fn advance(&self, mut state: State, bytes: &[u8]) -> Option<State> {
        for byte in bytes {
            state = self.automaton.next_state(state, *byte);
            if self.automaton.is_dead_state(state) {
                return None;
            }
        }
        Some(state)
    }

    /// Whether a text that ends in this state matches.
    pub(super) fn may_end(&self, state: State) -> bool {
        let end = self.automaton.next_eoi_state(state);
        self.automaton.is_match_state(end)
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let end = self.advance(self.start, text.as_bytes());
        end.is_some_and(|end| self.may_end(end))
    }
}

impl TryFrom<Stored> for Pattern {
    type Error = MalformedAutomaton;

    fn try_from(Stored((text, bytes)): Stored) -> Result<Self, MalformedAutomaton> {
        let (automaton, length) = DFA::from_bytes(&bytes).map_err(|_| MalformedAutomaton)?;
        if length != bytes.len() {
            return Err(MalformedAutomaton);
        }
        Self::new(text, automaton.to_owned())
    }
}

impl From<Pattern> for Stored {
    fn from(pattern: Pattern) -> Self {
        let bytes = pattern.automaton_to_bytes();
        Self((pattern.text, bytes))
    }
}

/// Automata have no equality of their own.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.automaton_to_bytes() == other.automaton_to_bytes()
    }
}

/// Shows the text only.
impl core::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}
