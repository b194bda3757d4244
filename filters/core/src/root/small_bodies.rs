//! Memory of one worker for small bodies, which it need not share with other workers. One client
//! gets at most half of it.

use std::cell::Cell;
use std::rc::Rc;

use tensorgate_policy::values::{FNV_OFFSET, fnv1a};

/// Maximum size of a small body, in bytes: the size of one read from a connection.
pub(crate) const SMALL_BYTES: usize = 64 << 10;
/// Memory for all small bodies of one worker, in bytes.
const SMALL_BODIES_BYTES: usize = 4 << 20;
/// The part of it that one client may use, in bytes.
const CLIENT_SMALL_BYTES: usize = SMALL_BODIES_BYTES / 2;
/// Number of per-client counters. Shared data cannot create a counter safely under load, so clients
/// are hashed into a fixed number of counters that exist from the start.
pub(crate) const CLIENT_COUNTS: usize = 64;

/// The memory of one worker for small bodies.
#[derive(Clone, Debug)]
pub(crate) struct SmallBodies(Rc<SmallUsage>);

/// Reserved bytes.
#[derive(Debug)]
struct SmallUsage {
    all: Cell<usize>,
    clients: [Cell<usize>; CLIENT_COUNTS],
}

/// Memory for one small body, released on drop.
#[derive(Debug)]
pub(crate) struct SmallReservation {
    usage: Rc<SmallUsage>,
    /// Number of the client's counter.
    client: usize,
    bytes: usize,
}

impl Default for SmallBodies {
    fn default() -> Self {
        Self(Rc::new(SmallUsage {
            all: Cell::default(),
            clients: [const { Cell::new(0) }; CLIENT_COUNTS],
        }))
    }
}

impl SmallBodies {
    /// An empty reservation of a client.
    pub(crate) fn reservation(&self, client: Option<&str>) -> SmallReservation {
        SmallReservation {
            usage: Rc::clone(&self.0),
            client: client_number(client),
            bytes: 0,
        }
    }
}

impl SmallReservation {
    /// Changes the reservation to `bytes`. If there is not enough memory for that, the old
    /// reservation stays.
    pub(crate) fn try_reserve(&mut self, bytes: usize) -> bool {
        let Some(client) = self.usage.clients.get(self.client) else {
            return false;
        };
        let with = |used: &Cell<usize>| used.get().saturating_sub(self.bytes).saturating_add(bytes);
        let (all, of_client) = (with(&self.usage.all), with(client));
        if all > SMALL_BODIES_BYTES || of_client > CLIENT_SMALL_BYTES {
            return false;
        }
        self.usage.all.set(all);
        client.set(of_client);
        self.bytes = bytes;
        true
    }
}

impl Drop for SmallReservation {
    fn drop(&mut self) {
        // Less is always granted.
        self.try_reserve(0);
    }
}

/// Number of a client's counter. All workers compute the same hash of the client's name.
pub(crate) fn client_number(client: Option<&str>) -> usize {
    let hash = fnv1a(FNV_OFFSET, client.unwrap_or_default().as_bytes());
    let counts = u64::try_from(CLIENT_COUNTS).unwrap_or(u64::MAX);
    let number = hash.checked_rem(counts).unwrap_or_default();
    usize::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_client_gets_half_of_the_memory_for_small_bodies() {
        let memory = SmallBodies::default();
        let fill = |client| {
            let one = || {
                let mut one = memory.reservation(Some(client));
                one.try_reserve(SMALL_BYTES).then_some(one)
            };
            core::iter::from_fn(one).collect::<Vec<_>>()
        };
        let mut flood = fill("flood");
        assert_eq!(flood.len(), 32);
        let mut grows = flood.pop().unwrap();
        assert!(grows.try_reserve(1) && grows.try_reserve(SMALL_BYTES));
        assert!(!grows.try_reserve(SMALL_BYTES + 1));
        let neighbour = fill("neighbour");
        assert_eq!(neighbour.len(), 32, "the other half is there");
        assert!(fill("third").is_empty(), "both halves are used");
        drop((flood, grows));
        assert_eq!(fill("third").len(), 32);
        drop(neighbour);
        assert_eq!(memory.0.all.get(), 0);
    }
}
