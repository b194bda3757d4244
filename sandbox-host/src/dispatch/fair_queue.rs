//! Fair queue for the permits of a backend (max-min fairness). It is a plain table without clock,
//! lock or task.
//!
//! A released permit goes to the client that [`Turns`] names next. So one client's slow requests
//! delay another client by at most one of them. A client that is alone may use every permit. While
//! other clients are active, one eighth of the permits (if there are eight or more) is reserved for
//! clients with fewer permits than that. Requests that hang then cannot block everyone.

use tensorgate_base::client_key::ClientKey;
use tensorgate_base::shares::RecentClients;
use tensorgate_base::turns::{Enqueued, Ticket, Turns};
use tokio::time::Instant;

/// The reserved part of the permits is one in this many.
const RESERVED_FRACTION: usize = 8;

/// The permits, their holders, and the queue. `T` notifies a queued request. The table is bounded
/// by the number of permits plus the queue length.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    limit: usize,
    max_waiting: usize,
    turns: Turns<T>,
    recent_clients: RecentClients,
}

/// A client that was granted a permit, and how to notify its request.
pub(super) type GrantedPermit<T> = (ClientKey, T);

impl<T> FairQueue<T> {
    /// Creates a queue with `limit` permits and at most `queue` waiting requests.
    pub(super) fn new(limit: usize, queue: usize) -> Self {
        Self {
            limit,
            max_waiting: queue,
            turns: Turns::default(),
            recent_clients: RecentClients::default(),
        }
    }

    /// The number of permits.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether all permits are in use or requests are waiting.
    pub(super) const fn is_saturated(&self) -> bool {
        self.turns.taken() >= self.limit || self.turns.waiting() > 0
    }

    /// The number of clients with waiting requests.
    pub(super) fn clients_waiting(&self) -> usize {
        self.turns.clients_waiting()
    }

    /// Acquires a permit at once, if no other client comes first.
    pub(super) fn try_acquire(&mut self, client_key: ClientKey, now: Instant) -> bool {
        self.recent_clients.record(client_key, now);
        let (taken, _) = self.turns.usage(client_key);
        let first = self.turns.next();
        let takes =
            self.admits(client_key, taken, now) && first.is_none_or(|(least, _)| least > taken);
        if takes {
            self.turns.acquire(client_key);
        }
        takes
    }

    /// The number of permits to be released before a new request of this client gets one, its own
    /// included, at the current shares.
    pub(super) fn permits_ahead(&self, client_key: ClientKey) -> usize {
        let (taken, waits) = self.turns.usage(client_key);
        let place = waits.saturating_add(1);
        let others = self.turns.clients_waiting();
        let others = others.saturating_sub(usize::from(waits > 0));
        let clients = others.saturating_add(1);
        // Up to its fair share, a client goes before clients that have theirs. Beyond it, clients
        // take turns.
        let share = self.limit.checked_div(clients).unwrap_or(self.limit);
        let beyond = place.saturating_sub(share.saturating_sub(taken));
        place
            .saturating_add(others.saturating_mul(beyond))
            .min(self.turns.waiting().saturating_add(1))
    }

    /// Adds a request to the queue, possibly preempting another. Returns `None` if the queue is
    /// full and no client has more requests.
    pub(super) fn enqueue(&mut self, client_key: ClientKey, tell: T) -> Option<Enqueued<T>> {
        self.turns.enqueue(client_key, self.max_waiting, tell).ok()
    }

    /// Removes a request from the queue.
    pub(super) fn remove(&mut self, waits: Ticket) {
        self.turns.remove(waits);
    }

    /// Releases a permit. Returns the requests that were granted one.
    pub(super) fn release(&mut self, client_key: ClientKey, now: Instant) -> Vec<GrantedPermit<T>> {
        self.turns.release(client_key);
        self.grant(now)
    }

    /// Sets the number of permits. Excess permits are removed as they are released. Returns the
    /// requests that were granted one.
    pub(super) fn set_limit(&mut self, limit: usize, now: Instant) -> Vec<GrantedPermit<T>> {
        self.limit = limit;
        self.grant(now)
    }

    fn grant(&mut self, now: Instant) -> Vec<GrantedPermit<T>> {
        let mut granted = Vec::new();
        while let Some((taken, client_key)) = self.turns.next() {
            if !self.admits(client_key, taken, now) {
                break;
            }
            granted.extend(self.turns.grant_next());
        }
        granted
    }

    /// Whether a client with this many permits may have one more.
    fn admits(&self, client_key: ClientKey, taken: usize, now: Instant) -> bool {
        let Some(free) = self
            .limit
            .checked_sub(self.turns.taken())
            .filter(|free| *free > 0)
        else {
            return false;
        };
        // With few permits none is reserved, because one would be too large a part.
        let kept = self.limit.div_euclid(RESERVED_FRACTION);
        if free > kept || taken < kept {
            return true;
        }
        let here = usize::from(self.turns.contains(client_key));
        self.turns.clients() <= here && !self.recent_clients.has_others(client_key, now)
    }
}

#[cfg(test)]
mod tests;
