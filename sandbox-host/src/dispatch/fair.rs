//! Who gets a place at a backend next, and who gives way where too many wait. A table: it knows no clock, no lock and no task.
//!
//! A place that comes free goes to whoever waits and has the fewest places, of those with as many to the one whose turn is the longest ago (max-min
//! fairness): so one client's slow requests keep no other's waiting for longer than one of them takes. Where as many wait as may, the newest
//! request of the client that has and wants most gives way to one of a client that has and wants less. Nothing is kept from a client that is alone; as
//! long as others ask too, an eighth of the places, where there are eight, is left to those who have less than that, so that requests that hang are in
//! nobody's way.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use super::Whose;
use crate::sharing::Lately;

/// Of the places, the part that is left to clients that have few.
const KEPT: usize = 8;

/// Places, who has them, and who waits for one; `T` is how whoever waits is told.
#[derive(Debug)]
pub(super) struct Fair<T> {
    limit: usize,
    queue: usize,
    taken: usize,
    waiting: usize,
    /// Those who have a place or wait for one: no more than there are places and room to wait.
    clients: HashMap<Whose, Client<T>>,
    /// Those who wait: by the places that they have, and by their turn.
    next: BTreeSet<(usize, u64, Whose)>,
    /// The same by what they have and want together.
    heaviest: BTreeSet<(usize, Whose)>,
    lately: Lately,
    /// Numbers turns and requests that wait.
    count: u64,
}

#[derive(Debug)]
struct Client<T> {
    taken: usize,
    turn: u64,
    /// The oldest first, by their numbers.
    waiting: VecDeque<(u64, T)>,
}

/// Whom to tell of a place that is its own now.
pub(super) type Granted<T> = (Whose, T);

impl<T> Client<T> {
    fn load(&self) -> usize {
        self.taken.saturating_add(self.waiting.len())
    }
}

impl<T> Fair<T> {
    /// So many places, and room for so many to wait.
    pub(super) fn new(limit: usize, queue: usize) -> Self {
        Self {
            limit,
            queue,
            taken: 0,
            waiting: 0,
            clients: HashMap::new(),
            next: BTreeSet::new(),
            heaviest: BTreeSet::new(),
            lately: Lately::default(),
            count: 0,
        }
    }

    /// How many places there are.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether no more could be at the backend than are.
    pub(super) const fn in_use(&self) -> bool {
        self.taken >= self.limit || self.waiting > 0
    }

    /// Clients that wait.
    pub(super) fn clients_waiting(&self) -> usize {
        self.next.len()
    }

    /// Takes a place at once, if that is nobody else's.
    pub(super) fn take(&mut self, whose: Whose, now: Instant) -> bool {
        self.lately.asks(whose, now);
        let taken = self.clients.get(&whose).map_or(0, |client| client.taken);
        let first = self.next.first();
        let takes =
            self.admits(whose, taken, now) && first.is_none_or(|(least, ..)| *least > taken);
        if takes {
            self.change(whose, |client| {
                client.taken = client.taken.saturating_add(1)
            });
            self.taken = self.taken.saturating_add(1);
        }
        takes
    }

    /// How many places come free before a client that joins the queue has one, that one included, if all goes on as it is.
    pub(super) fn before(&self, whose: Whose) -> usize {
        let client = self.clients.get(&whose);
        let (taken, waits) = client.map_or((0, 0), |client| (client.taken, client.waiting.len()));
        let place = waits.saturating_add(1);
        let others = self.next.len().saturating_sub(usize::from(waits > 0));
        let clients = others.saturating_add(1);
        // Up to its share it goes before those who have theirs, and in turn with them beyond it.
        let share = self.limit.checked_div(clients).unwrap_or(self.limit);
        let beyond = place.saturating_sub(share.saturating_sub(taken));
        place
            .saturating_add(others.saturating_mul(beyond))
            .min(self.waiting.saturating_add(1))
    }

    /// Joins the queue: the number there, and who gives way for it. `None`: there is no room, for this client least of all.
    pub(super) fn wait(&mut self, whose: Whose, tell: T) -> Option<(u64, Option<T>)> {
        let gives_way = if self.waiting < self.queue {
            None
        } else {
            let load = self.clients.get(&whose).map_or(0, Client::load);
            let (most, heaviest) = *self.heaviest.last()?;
            // Otherwise both would only change places.
            if most <= load.saturating_add(1) {
                return None;
            }
            let newest = self.change(heaviest, |client| client.waiting.pop_back());
            self.waiting = self.waiting.saturating_sub(1);
            Some(newest?.1)
        };
        let (number, turn) = (self.number(), self.number());
        self.change(whose, |client| {
            if client.waiting.is_empty() {
                client.turn = turn;
            }
            client.waiting.push_back((number, tell));
        });
        self.waiting = self.waiting.saturating_add(1);
        Some((number, gives_way))
    }

    /// Leaves the queue, whoever still is in it.
    pub(super) fn leave(&mut self, whose: Whose, number: u64) {
        let left = self.change(whose, |client| {
            let place = client
                .waiting
                .binary_search_by_key(&number, |(number, _)| *number);
            place.ok().and_then(|place| client.waiting.remove(place))
        });
        if left.is_some() {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// Gives a place back: who has one now.
    pub(super) fn give_back(&mut self, whose: Whose, now: Instant) -> Vec<Granted<T>> {
        self.taken = self.taken.saturating_sub(1);
        self.change(whose, |client| {
            client.taken = client.taken.saturating_sub(1)
        });
        self.grant(now)
    }

    /// Sets how many places there are; those that are to go do so as they come free. Who has one now.
    pub(super) fn set_limit(&mut self, limit: usize, now: Instant) -> Vec<Granted<T>> {
        self.limit = limit;
        self.grant(now)
    }

    fn grant(&mut self, now: Instant) -> Vec<Granted<T>> {
        let mut granted = Vec::new();
        while let Some((taken, _, whose)) = self.next.first().copied() {
            if !self.admits(whose, taken, now) {
                break;
            }
            let turn = self.number();
            let oldest = self.change(whose, |client| {
                client.turn = turn;
                client.taken = client.taken.saturating_add(1);
                client.waiting.pop_front()
            });
            self.taken = self.taken.saturating_add(1);
            self.waiting = self.waiting.saturating_sub(1);
            granted.extend(oldest.map(|(_, tell)| (whose, tell)));
        }
        granted
    }

    /// Whether a client that has so many places may have one more.
    fn admits(&self, whose: Whose, taken: usize, now: Instant) -> bool {
        let Some(free) = self.limit.checked_sub(self.taken).filter(|free| *free > 0) else {
            return false;
        };
        // Of a few places none can be left: it would be too large a part of them.
        let kept = self.limit.div_euclid(KEPT);
        if free > kept || taken < kept {
            return true;
        }
        let here = usize::from(self.clients.contains_key(&whose));
        self.clients.len() <= here && !self.lately.others(whose, now)
    }

    /// Changes a client, and where it stands.
    fn change<R>(&mut self, whose: Whose, change: impl FnOnce(&mut Client<T>) -> R) -> R {
        let client = self.clients.entry(whose).or_insert_with(|| Client {
            taken: 0,
            turn: 0,
            waiting: VecDeque::new(),
        });
        if !client.waiting.is_empty() {
            self.next.remove(&(client.taken, client.turn, whose));
            self.heaviest.remove(&(client.load(), whose));
        }
        let changed = change(client);
        if !client.waiting.is_empty() {
            self.next.insert((client.taken, client.turn, whose));
            self.heaviest.insert((client.load(), whose));
        } else if client.taken == 0 {
            self.clients.remove(&whose);
        }
        changed
    }

    fn number(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.count
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
