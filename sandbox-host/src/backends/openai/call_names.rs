//! Names of the functions that a streamed choice calls, which arrive in pieces.

use std::collections::BTreeMap;

use tensorgate_policy::contract::openai::OfferedCalls;

use super::fault;
use crate::backends::BackendError;

/// The most calls of a choice, as many as a message of a request may have.
const MAX_CALLS: u64 = 32;

/// The names so far, by the index of the call. Clients join the pieces in the same way.
#[derive(Debug, Default)]
pub(super) struct CallNames(BTreeMap<u64, String>);

impl CallNames {
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
        let joined = self.0.entry(index).or_default();
        joined.push_str(name);
        if !offered.allow_start(joined) || (has_arguments && !offered.allow(joined)) {
            return unoffered();
        }
        Ok(())
    }

    /// Checks at the end of the choice that each name is complete.
    pub(super) fn check_end(&self, offered: &OfferedCalls) -> Result<(), BackendError> {
        if self.0.values().all(|name| offered.allow(name)) {
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
    fn any_call_is_a_fault_if_nothing_was_offered() {
        for pieces in [(0, "", false), (0, "", true), (0, "a", true)] {
            assert!(!passes(&[], &[pieces]), "{pieces:?}");
        }
        let mut names = CallNames::default();
        assert_eq!(names.add(&OfferedCalls::Any, 99, "a", true), Ok(()));
        assert_eq!(names.check_end(&OfferedCalls::Any), Ok(()));
    }
}
