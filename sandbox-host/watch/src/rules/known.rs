//! What a client is known to use, for the rules on new sources and new credentials.

use std::time::Duration;

use crate::time::Time;
use crate::window::Repeats;

/// The most things that are remembered of a client. The one that was not used for longest is
/// forgotten.
const REMEMBERED: usize = 32;
/// A client that uses this many things while it is learned always uses new ones, and is not judged.
const ROAMING: usize = 16;
/// How long a client is learned,
const LEARNING: Duration = Duration::from_secs(3_600);
/// and for how many requests at least.
const LEARNED_REQUESTS: u32 = 100;

/// The bytes of the state, with what it has on the heap.
#[cfg(test)]
pub(super) const BYTES: usize = crate::table::key_bytes::<Known>() + REMEMBERED * size_of::<u64>();

/// The things that a client has used, as hashes, the last used one at the end.
#[derive(Debug, Default)]
pub(super) struct Known {
    things: Vec<u64>,
    first: Option<Time>,
    requests: u32,
    is_roaming: bool,
    has_learned: bool,
    repeats: Repeats,
}

impl Known {
    /// Takes a request. Returns whether it uses a new thing and an alert is due.
    pub(super) fn observe(&mut self, thing: u64, now: Time) -> bool {
        let first = *self.first.get_or_insert(now);
        self.requests = self.requests.saturating_add(1);
        if !self.has_learned {
            let is_long = now.since(first) >= LEARNING && self.requests > LEARNED_REQUESTS;
            self.has_learned = is_long;
            self.is_roaming = self.things.len() >= ROAMING;
        }
        if self.has_used(thing) {
            return false;
        }
        let is_judged = self.has_learned && !self.is_roaming;
        if is_judged && !self.repeats.permit(now) {
            // It stays new until it is reported. Else an alert would hide the next new thing.
            return false;
        }
        if self.things.len() >= REMEMBERED {
            self.things.remove(0);
        }
        self.things.push(thing);
        is_judged
    }

    /// Whether a thing is known. If so, it is the last used one from here on.
    fn has_used(&mut self, thing: u64) -> bool {
        if self.things.last() == Some(&thing) {
            return true;
        }
        let known_at = self.things.iter().position(|known| *known == thing);
        if let Some(at) = known_at {
            self.things.remove(at);
            self.things.push(thing);
        }
        known_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_thing_is_reported_even_if_an_alert_was_just_raised() {
        let mut known = Known::default();
        let mut uses = |thing, s| known.observe(thing, Time::from_s(s));
        for s in 0..=3_600 {
            assert!(!uses(1, s));
        }
        assert_eq!([uses(2, 4_000), uses(2, 4_001)], [true, false]);
        assert_eq!([uses(3, 4_002), uses(3, 7_599)], [false; 2], "too soon");
        assert_eq!([uses(3, 7_600), uses(3, 7_601)], [true, false]);
        assert!(![1, 2, 3].into_iter().any(|thing| uses(thing, 20_000)));
    }
}
