//! Function calls of a choice: their IDs, and in a stream their numbers, their IDs and their names,
//! which arrive in pieces.
//!
//! Clients join the IDs and names of all pieces. Some servers repeat both with each piece, so that
//! a client would read `look_uplook_up`. The caller gets an ID once, and a name as follows:
//!
//! - A piece that equals the whole name so far repeats it, and is left out.
//! - Each other piece is a fragment, and is passed on.
//! - If the names are known (`unoffered_calls: refuse`), only a complete name can be repeated: `a`
//!   and `a` are the fragments of `aa` where `aa` is offered and `a` is not.

use std::collections::BTreeMap;

use tensorgate_policy::contract::openai::OfferedCalls;
use tensorgate_policy::values::safe_text::prefix;

use super::fault;
use crate::backends::BackendError;

/// The longest finish reason or function name in bytes, and the longest tool call ID that is kept.
pub(super) const MAX_WORD_BYTES: usize = 128;
/// The most calls of a streamed choice, which are all followed until its end.
const MAX_CALLS: usize = 128;

/// The most bytes of a request ID in the ID of a call: a UUID.
const MAX_REQUEST_ID_BYTES: usize = 36;

/// The ID of a call that its server wrote without one. Clients refer to it in their next request.
pub(super) fn generated_id(request_id: &str, choice: u64, call: u64) -> String {
    let request_id = request_id.get(..MAX_REQUEST_ID_BYTES).unwrap_or(request_id);
    format!("call_{request_id}_{choice}_{call}")
}

/// A piece of a call as its server wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenPiece<'p> {
    /// The number of the call.
    pub(super) index: Option<u64>,
    /// The ID of the call.
    pub(super) id: Option<&'p str>,
    /// A piece of its name, or all of it. Empty if there is none.
    pub(super) name: &'p str,
    /// Whether a part of the arguments follows.
    pub(super) has_arguments: bool,
}

/// What the caller gets of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentPiece {
    /// The number of the call.
    pub(super) index: u64,
    /// Whether the piece is the first of its call.
    pub(super) is_first: bool,
    /// Whether the caller gets the ID of the call with it.
    pub(super) sends_id: bool,
    /// Whether the caller gets the name in it.
    pub(super) sends_name: bool,
}

/// A call of a streamed choice so far.
#[derive(Debug, Default)]
struct Call {
    /// The start of the first ID that the server wrote.
    written_id: Option<String>,
    /// Whether the caller has the ID.
    has_id: bool,
    /// The name as the caller joins it.
    name: String,
}

/// The calls of a streamed choice so far.
#[derive(Debug, Default)]
pub(super) struct CallNames {
    /// The calls by their index, at most [`MAX_CALLS`].
    calls: BTreeMap<u64, Call>,
    /// The index after the largest one.
    next: u64,
    /// The indexes of calls whose server used an index again, by that index.
    moved: BTreeMap<u64, u64>,
}

impl CallNames {
    /// Adds a piece of a call. The name must be complete when arguments follow it.
    pub(super) fn add(
        &mut self,
        offered: &OfferedCalls,
        piece: WrittenPiece<'_>,
    ) -> Result<SentPiece, BackendError> {
        let id = piece.id.map(|id| prefix(id, MAX_WORD_BYTES));
        let index = self.index(id, &piece);
        let is_first = !self.calls.contains_key(&index);
        if is_first && self.calls.len() >= MAX_CALLS {
            return fault("more calls than a stream may have");
        }
        self.next = self.next.max(index.saturating_add(1));
        let Call {
            written_id,
            has_id,
            name,
        } = self.calls.entry(index).or_default();
        if written_id.is_none() {
            *written_id = id.map(str::to_owned);
        }
        let sends_id = !*has_id && (id.is_some() || !piece.name.is_empty());
        *has_id |= sends_id;
        let is_repeated = piece.name == *name && offered.allow(name);
        let sends_name = !piece.name.is_empty() && !is_repeated;
        if sends_name {
            name.push_str(piece.name);
        }
        if !offered.allow_start(name) || (piece.has_arguments && !offered.allow(name)) {
            return unoffered();
        }
        if name.len() > MAX_WORD_BYTES {
            return fault("the name of a function is too long");
        }
        Ok(SentPiece {
            index,
            is_first,
            sends_id,
            sends_name,
        })
    }

    /// The index of the call that a piece belongs to. `id` is the start of its ID. A server that
    /// writes no index begins a call with its name, unless the ID is that of a call. One that
    /// writes the same index for each call begins another with a name and another ID.
    fn index(&mut self, id: Option<&str>, piece: &WrittenPiece<'_>) -> u64 {
        let has_name = !piece.name.is_empty();
        let Some(written) = piece.index else {
            let next = if has_name {
                self.next
            } else {
                self.next.saturating_sub(1)
            };
            return self.with_id(id).unwrap_or(next);
        };
        let index = self.moved.get(&written).copied().unwrap_or(written);
        let known = self.calls.get(&index);
        let known = known.and_then(|call| call.written_id.as_deref());
        if !has_name || id.is_none() || known.is_none() || known == id {
            return index;
        }
        let other = self.with_id(id).unwrap_or(self.next);
        self.moved.insert(written, other);
        other
    }

    /// The index of the call whose ID starts like this.
    fn with_id(&self, id: Option<&str>) -> Option<u64> {
        let mut calls = self.calls.iter();
        let is_same = |call: &Call| id.is_some() && call.written_id.as_deref() == id;
        let found = calls.find(|(_, call)| is_same(call));
        found.map(|(index, _)| *index)
    }

    /// Checks at the end of the choice that each name is complete.
    pub(super) fn check_end(&self, offered: &OfferedCalls) -> Result<(), BackendError> {
        if self.calls.values().all(|call| offered.allow(&call.name)) {
            return Ok(());
        }
        unoffered()
    }
}

/// A client may provoke such calls, so the fault opens no circuit: the circuit breaker counts it as
/// an answer.
pub(super) fn unoffered<T>() -> Result<T, BackendError> {
    fault("a call of a function that the request did not offer")
}

#[cfg(test)]
mod tests;
