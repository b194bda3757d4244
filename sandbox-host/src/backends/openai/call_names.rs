//! Function calls of a choice: their IDs, and in a stream their numbers and their names, which
//! arrive in pieces.

use std::collections::BTreeMap;

use tensorgate_policy::contract::openai::{self, OfferedCalls};

use super::fault;
use crate::backends::BackendError;

/// The longest finish reason or function name in bytes, and the longest tool call ID that is kept.
pub(super) const MAX_WORD_BYTES: usize = 128;
/// The most calls of a choice, as many as a message of a request may have.
const MAX_CALLS: u64 = openai::MAX_CALLS as u64;

/// The most bytes of a request ID in the ID of a call: a UUID.
const MAX_REQUEST_ID_BYTES: usize = 36;

/// The ID of a call that its server wrote without one. Clients refer to it in their next request.
pub(super) fn generated_id(request_id: &str, choice: u64, call: u64) -> String {
    let request_id = request_id.get(..MAX_REQUEST_ID_BYTES).unwrap_or(request_id);
    format!("call_{request_id}_{choice}_{call}")
}

/// The calls of a streamed choice so far.
#[derive(Debug, Default)]
pub(super) struct CallNames {
    /// The names by the index of the call. Clients join the pieces in the same way.
    names: BTreeMap<u64, String>,
    /// The index after the largest one.
    next: u64,
    /// The IDs by the index of the call, of the first [`MAX_CALLS`].
    ids: BTreeMap<u64, String>,
    /// The indexes of calls whose server used an index again, by that index.
    moved: BTreeMap<u64, u64>,
}

impl CallNames {
    /// The index of the call that a piece belongs to, and whether the piece is its first. A server
    /// that writes no index begins a call with its name. One that writes the same index for each
    /// call begins another with a name and another ID.
    pub(super) fn number(
        &mut self,
        written: Option<u64>,
        id: Option<&str>,
        has_name: bool,
    ) -> (u64, bool) {
        let written = written.unwrap_or(if has_name {
            self.next
        } else {
            self.next.saturating_sub(1)
        });
        let mut index = self.moved.get(&written).copied().unwrap_or(written);
        let known = self.ids.get(&index).map(String::as_str);
        if has_name && id.is_some() && known.is_some() && known != id {
            index = self.next;
            self.moved.insert(written, index);
        }
        let is_first = index >= self.next;
        self.next = self.next.max(index.saturating_add(1));
        if let Some(id) = id
            && index < MAX_CALLS
            && id.len() <= MAX_WORD_BYTES
        {
            self.ids.entry(index).or_insert_with(|| id.to_owned());
        }
        (index, is_first)
    }

    /// Adds a piece of a call. The name must be complete when arguments follow it. A name is no
    /// longer than an offered one.
    pub(super) fn add(
        &mut self,
        offered: &OfferedCalls,
        index: u64,
        name: &str,
        has_arguments: bool,
    ) -> Result<(), BackendError> {
        if matches!(offered, OfferedCalls::Any) {
            return Ok(());
        }
        if index >= MAX_CALLS {
            return fault("more calls than a message may have");
        }
        let joined = self.names.entry(index).or_default();
        joined.push_str(name);
        if !offered.allow_start(joined) || (has_arguments && !offered.allow(joined)) {
            return unoffered();
        }
        Ok(())
    }

    /// Checks at the end of the choice that each name is complete.
    pub(super) fn check_end(&self, offered: &OfferedCalls) -> Result<(), BackendError> {
        if self.names.values().all(|name| offered.allow(name)) {
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
mod tests {
    use super::*;

    /// Whether these pieces of calls pass: an index, a piece of a name, whether arguments come.
    fn passes(offered: &[&str], pieces: &[(u64, &str, bool)]) -> bool {
        let names = offered.iter().map(|name| (*name).to_owned());
        let offered = OfferedCalls::Named(names.collect());
        let mut names = CallNames::default();
        let added = pieces.iter().try_for_each(|(index, piece, has_arguments)| {
            names.add(&offered, *index, piece, *has_arguments)
        });
        added.and_then(|()| names.check_end(&offered)).is_ok()
    }

    #[test]
    fn names_are_compared_as_clients_join_them() {
        let offered = ["get", "get_all"];
        for (pieces, expected) in [
            (&[(0, "get", true)][..], true),
            (&[(0, "get", false), (0, "", true), (0, "", true)], true),
            (
                &[(0, "ge", false), (0, "t_a", false), (0, "ll", true)],
                true,
            ),
            (&[(0, "get", false), (1, "ge", false), (1, "t", true)], true),
            (&[(0, "other", false)], false),
            (&[(0, "get", false), (0, "_x", false)], false),
            // Not complete: before arguments, and at the end.
            (&[(0, "ge", true), (0, "t", false)], false),
            (&[(0, "ge", false)], false),
            (&[(0, "", true)], false),
            (&[(0, "", false)], false),
            (&[(MAX_CALLS, "get", true)], false),
        ] {
            assert_eq!(passes(&offered, pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn pieces_without_an_index_belong_to_the_call_that_the_last_name_began() {
        let mut calls = CallNames::default();
        for (index, has_name, expected) in [
            (None, true, (0, true)),
            (None, false, (0, false)),
            (None, true, (1, true)),
            (Some(0), false, (0, false)),
            (None, false, (1, false)),
            (Some(5), true, (5, true)),
            (Some(5), true, (5, false)),
            (Some(u64::MAX), true, (u64::MAX, true)),
        ] {
            assert_eq!(calls.number(index, None, has_name), expected);
        }
        assert_eq!(CallNames::default().number(None, None, false), (0, true));
    }

    #[test]
    fn another_id_with_a_name_begins_another_call() {
        let mut calls = CallNames::default();
        for (index, id, has_name, expected) in [
            (0, Some("a"), true, (0, true)),
            (0, None, false, (0, false)),
            // A server may write another ID with each piece, but then no name.
            (0, Some("x"), false, (0, false)),
            (0, Some("b"), true, (1, true)),
            (0, None, false, (1, false)),
            (0, Some("b"), true, (1, false)),
            (1, Some("c"), true, (2, true)),
            (1, None, false, (2, false)),
            (0, Some("d"), true, (3, true)),
            (3, Some("d"), false, (3, false)),
        ] {
            let found = calls.number(Some(index), id, has_name);
            assert_eq!(found, expected, "{index} {id:?}");
        }
        // What is kept is bounded.
        let mut calls = CallNames::default();
        for call in 0..1_000_u64 {
            calls.number(Some(0), Some(&format!("id-{call}")), true);
            calls.number(Some(call.saturating_mul(7)), Some(&"x".repeat(129)), true);
        }
        assert!(calls.ids.len() <= 32 && calls.moved.len() <= 64);
    }

    #[test]
    fn a_generated_id_is_short_and_differs_between_calls() {
        assert_eq!(generated_id("id-1", 0, 2), "call_id-1_0_2");
        assert!(generated_id(&"x".repeat(128), 127, 31).len() < 64);
    }

    #[test]
    fn any_call_is_a_fault_if_nothing_was_offered() {
        for pieces in [(0, "", false), (0, "", true), (0, "a", true)] {
            assert!(!passes(&[], &[pieces]), "{pieces:?}");
        }
        let mut names = CallNames::default();
        assert_eq!(names.add(&OfferedCalls::Any, 99, "a", true), Ok(()));
        assert_eq!(names.check_end(&OfferedCalls::Any), Ok(()));
    }
}
