//! What a client is known to use, for the rules on new sources and new credentials.

use std::time::Duration;

use crate::watch::time::Time;
use crate::watch::window::Repeats;

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
pub(super) const BYTES: usize = size_of::<Known>() + REMEMBERED * size_of::<u64>();

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
        let is_new = self.remember(thing);
        let is_judged = self.has_learned && !self.is_roaming;
        is_new && is_judged && self.repeats.permit(now)
    }

    /// Remembers a thing as the last used. Returns whether it is new.
    fn remember(&mut self, thing: u64) -> bool {
        if self.things.last() == Some(&thing) {
            return false;
        }
        let known_at = self.things.iter().position(|known| *known == thing);
        if let Some(at) = known_at {
            self.things.remove(at);
        } else if self.things.len() >= REMEMBERED {
            self.things.remove(0);
        }
        self.things.push(thing);
        known_at.is_none()
    }
}
