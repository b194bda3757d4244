//! Limits concurrent egress of a handler. One client may use half of the permits, so that slow
//! requests leave the other half to other clients. There is no queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The permits of a handler.
#[derive(Debug)]
pub struct EgressPermits {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<Arc<str>, usize>,
}

/// A permit, released on drop.
#[derive(Debug)]
pub struct EgressPermit {
    permits: Arc<EgressPermits>,
    client: Arc<str>,
}

impl EgressPermits {
    /// Creates this many permits.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// Acquires a permit for a client. Returns `None` if all are in use, or the client's half of
    /// them.
    pub fn acquire(self: &Arc<Self>, client: &Arc<str>) -> Option<EgressPermit> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_client.get(client).copied().unwrap_or(0);
        if taken.all >= self.most || own >= self.most.div_ceil(2) {
            return None;
        }
        taken.all = taken.all.saturating_add(1);
        taken
            .by_client
            .insert(Arc::clone(client), own.saturating_add(1));
        drop(taken);
        Some(EgressPermit {
            permits: Arc::clone(self),
            client: Arc::clone(client),
        })
    }
}

impl Drop for EgressPermit {
    fn drop(&mut self) {
        let mut taken = (self.permits.taken.lock()).unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let left = taken.by_client.get_mut(&self.client).map(|own| {
            *own = own.saturating_sub(1);
            *own
        });
        if left == Some(0) {
            taken.by_client.remove(&self.client);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_half_of_the_places_and_gives_them_back() {
        let (places, a, b) = (EgressPermits::new(3), Arc::from("a"), Arc::from("b"));
        let first = places.acquire(&a).unwrap();
        let _second = places.acquire(&a).unwrap();
        assert!(places.acquire(&a).is_none(), "its half");
        let third = places.acquire(&b).unwrap();
        assert!(places.acquire(&b).is_none(), "all are taken");
        drop((first, third));
        assert!(places.acquire(&a).is_some());
        assert_eq!(places.taken.lock().unwrap().by_client.len(), 1);
    }
}
