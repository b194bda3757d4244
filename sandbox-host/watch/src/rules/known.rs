//! What a client is known to use, for the rules on new sources and new credentials.
//!
//! A client that keeps using new things, such as a mobile one, has no usual ones. It is told by
//! new things in three hours of a week, which were learned or reported. So no thief makes a client
//! such a one without three alerts.

use std::time::Duration;

use crate::saved::{Saved, load_list, save_list};
use crate::table::short;
use crate::time::{HOUR_S, Time};
use crate::window::Repeats;

/// The most things that are remembered of a client. The one that was not used for longest is
/// forgotten.
const REMEMBERED: usize = 32;
/// A client that uses this many things while it is learned keeps using new ones.
const MANY: usize = 16;
/// How long a client is learned,
const LEARNING: Duration = Duration::from_secs(3_600);
/// and for how many requests at least.
const LEARNED_REQUESTS: u32 = 100;
/// The hours with new things that make a client one that keeps using new ones,
const CHANGES: usize = 3;
/// if they are no older than a week.
const CHANGES_WITHIN_H: u64 = 168;

/// The bytes of what the state has on the heap.
#[cfg(test)]
pub(super) const HEAP_BYTES: usize = REMEMBERED * size_of::<u32>();

/// The things that a client has used, as hashes, the last used one at the end.
#[derive(Debug, Default)]
pub(super) struct Known {
    things: Vec<u32>,
    first: Option<Time>,
    requests: u32,
    has_learned: bool,
    /// The last hours with new things, the last one at the end. Zero for none.
    changes: [u32; CHANGES],
    repeats: Repeats,
}

impl Saved for Known {
    fn save(&self, out: &mut Vec<u8>) {
        save_list(&self.things, out);
        self.first.save(out);
        self.requests.save(out);
        self.has_learned.save(out);
        self.changes.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            things: load_list(REMEMBERED, input)?,
            first: Saved::load(input)?,
            requests: Saved::load(input)?,
            has_learned: Saved::load(input)?,
            changes: Saved::load(input)?,
            repeats: Repeats::default(),
        })
    }
}

/// What a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A known thing, or one that is learned or waits for its report.
    Usual,
    /// A new thing that an alert is due for.
    New,
    /// A new thing of a client that keeps using new ones.
    OneOfMany,
}

impl Known {
    /// Takes a request that uses a thing.
    pub(super) fn observe(&mut self, thing: u64, now: Time) -> Use {
        let first = *self.first.get_or_insert(now);
        self.requests = self.requests.saturating_add(1);
        let thing = short(thing);
        let hour = u32::try_from(now.window(HOUR_S)).unwrap_or(u32::MAX);
        if !self.has_learned {
            self.has_learned = now.since(first) >= LEARNING && self.requests > LEARNED_REQUESTS;
            if self.has_learned && self.things.len() >= MANY {
                self.changes = [hour; CHANGES];
            }
        }
        if self.has_used(thing) {
            return Use::Usual;
        }
        let keeps_changing = self.keeps_changing(hour);
        let is_judged = self.has_learned && !keeps_changing;
        if is_judged && !self.repeats.permit(now) {
            // It stays new until it is reported. Else an alert would hide the next new thing.
            return Use::Usual;
        }
        // The first thing of all is no change.
        if !self.things.is_empty() && self.changes.last() != Some(&hour) {
            self.changes.rotate_left(1);
            if let Some(last) = self.changes.last_mut() {
                *last = hour;
            }
        }
        if self.things.len() >= REMEMBERED {
            self.things.remove(0);
        }
        self.things.push(thing);
        match (is_judged, keeps_changing) {
            (true, _) => Use::New,
            (false, true) => Use::OneOfMany,
            (false, false) => Use::Usual,
        }
    }

    /// Whether the last changes all are of the last week.
    fn keeps_changing(&self, hour: u32) -> bool {
        let oldest = self.changes.first().copied().unwrap_or_default();
        let passed = u64::from(hour.saturating_sub(oldest));
        oldest > 0 && passed <= CHANGES_WITHIN_H
    }

    /// Whether a thing is known. If so, it is the last used one from here on.
    fn has_used(&mut self, thing: u32) -> bool {
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
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    #[test]
    fn each_new_thing_is_reported_even_if_an_alert_was_just_raised() {
        let mut known = Known::default();
        let mut uses = |thing, s| known.observe(thing, Time::from_s(s)) == Use::New;
        for s in 0..=3_600 {
            assert!(!uses(1, s));
        }
        assert_eq!([uses(2, 4_000), uses(2, 4_001)], [true, false]);
        assert_eq!([uses(3, 4_002), uses(3, 7_599)], [false; 2], "too soon");
        assert_eq!([uses(3, 7_600), uses(3, 7_601)], [true, false]);
        assert!(![1, 2, 3].into_iter().any(|thing| uses(thing, 20_000)));
    }

    /// What a client uses that has a new thing each so many hours.
    fn changes(each_h: u64, count: u64) -> Vec<Use> {
        let mut known = Known::default();
        (0..=3_600).for_each(|s| {
            known.observe(0, Time::from_s(s));
        });
        let uses =
            (1..=count).map(|number| known.observe(number, Time::from_s(number * each_h * HOUR_S)));
        uses.collect()
    }

    #[test]
    fn a_client_that_keeps_changing_is_reported_three_times_and_one_that_moves_each_time() {
        use Use::{New, OneOfMany};
        let expected = [New, New, New, OneOfMany, OneOfMany, OneOfMany];
        assert_eq!(changes(2, 6), expected);
        assert_eq!(changes(24, 6), expected);
        assert_eq!(changes(24 * 5, 6), [New; 6]);
    }
}
