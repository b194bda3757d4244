//! Who gets a place at a backend next, and who gives way where too many wait. A table: it knows no clock, no lock and no task.
//!
//! A place that comes free goes to whoever's turn it is ([`Turns`]): so one client's slow requests keep no other's waiting for longer than one of
//! them takes. Nothing is kept from a client that is alone; as long as others ask too, an eighth of the places, where there are eight, is left to those
//! who have less than that, so that requests that hang are in nobody's way.

use tokio::time::Instant;

use super::Whose;
use crate::sharing::Lately;
use crate::turns::{Joined, Turns, Waits};

/// Of the places, the part that is left to clients that have few.
const KEPT: usize = 8;

/// Places, who has them, and who waits for one; `T` is how whoever waits is told. It knows no more clients than there are places and room to wait.
#[derive(Debug)]
pub(super) struct Fair<T> {
    limit: usize,
    queue: usize,
    turns: Turns<T>,
    lately: Lately,
}

/// Whom to tell of a place that is its own now.
pub(super) type Granted<T> = (Whose, T);

impl<T> Fair<T> {
    /// So many places, and room for so many to wait.
    pub(super) fn new(limit: usize, queue: usize) -> Self {
        Self {
            limit,
            queue,
            turns: Turns::default(),
            lately: Lately::default(),
        }
    }

    /// How many places there are.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether no more could be at the backend than are.
    pub(super) const fn in_use(&self) -> bool {
        self.turns.taken() >= self.limit || self.turns.waiting() > 0
    }

    /// Clients that wait.
    pub(super) fn clients_waiting(&self) -> usize {
        self.turns.clients_waiting()
    }

    /// Takes a place at once, if that is nobody else's.
    pub(super) fn take(&mut self, whose: Whose, now: Instant) -> bool {
        self.lately.asks(whose, now);
        let (taken, _) = self.turns.of(whose);
        let first = self.turns.next();
        let takes = self.admits(whose, taken, now) && first.is_none_or(|(least, _)| least > taken);
        if takes {
            self.turns.take(whose);
        }
        takes
    }

    /// How many places come free before a client that joins the queue has one, that one included, if all goes on as it is.
    pub(super) fn before(&self, whose: Whose) -> usize {
        let (taken, waits) = self.turns.of(whose);
        let place = waits.saturating_add(1);
        let others = self.turns.clients_waiting();
        let others = others.saturating_sub(usize::from(waits > 0));
        let clients = others.saturating_add(1);
        // Up to its share it goes before those who have theirs, and in turn with them beyond it.
        let share = self.limit.checked_div(clients).unwrap_or(self.limit);
        let beyond = place.saturating_sub(share.saturating_sub(taken));
        place
            .saturating_add(others.saturating_mul(beyond))
            .min(self.turns.waiting().saturating_add(1))
    }

    /// Joins the queue, and who gives way for it. `None`: there is no room, for this client least of all.
    pub(super) fn wait(&mut self, whose: Whose, tell: T) -> Option<Joined<T>> {
        self.turns.wait(whose, self.queue, tell).ok()
    }

    /// Leaves the queue, whoever still is in it.
    pub(super) fn leave(&mut self, waits: Waits) {
        self.turns.leave(waits);
    }

    /// Gives a place back: who has one now.
    pub(super) fn give_back(&mut self, whose: Whose, now: Instant) -> Vec<Granted<T>> {
        self.turns.give_back(whose);
        self.grant(now)
    }

    /// Sets how many places there are; those that are to go do so as they come free. Who has one now.
    pub(super) fn set_limit(&mut self, limit: usize, now: Instant) -> Vec<Granted<T>> {
        self.limit = limit;
        self.grant(now)
    }

    fn grant(&mut self, now: Instant) -> Vec<Granted<T>> {
        let mut granted = Vec::new();
        while let Some((taken, whose)) = self.turns.next() {
            if !self.admits(whose, taken, now) {
                break;
            }
            granted.extend(self.turns.grant());
        }
        granted
    }

    /// Whether a client that has so many places may have one more.
    fn admits(&self, whose: Whose, taken: usize, now: Instant) -> bool {
        let Some(free) = self
            .limit
            .checked_sub(self.turns.taken())
            .filter(|free| *free > 0)
        else {
            return false;
        };
        // Of a few places none can be left: it would be too large a part of them.
        let kept = self.limit.div_euclid(KEPT);
        if free > kept || taken < kept {
            return true;
        }
        let here = usize::from(self.turns.knows(whose));
        self.turns.clients() <= here && !self.lately.others(whose, now)
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
