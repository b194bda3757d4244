//! How much one handler has brought at once, and how much of that for one client: whoever has requests that take long keeps half of the places free
//! for others. Nobody waits here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<Arc<str>, usize>,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    client: Arc<str>,
}

impl Places {
    /// So many places.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// A place for a client; none if all are taken, or its half of them.
    pub(super) fn take(self: &Arc<Self>, client: &Arc<str>) -> Option<Place> {
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
        Some(Place {
            places: Arc::clone(self),
            client: Arc::clone(client),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = (self.places.taken.lock()).unwrap_or_else(PoisonError::into_inner);
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
        let (places, a, b) = (Places::new(3), Arc::from("a"), Arc::from("b"));
        let first = places.take(&a).unwrap();
        let _second = places.take(&a).unwrap();
        assert!(places.take(&a).is_none(), "its half");
        let third = places.take(&b).unwrap();
        assert!(places.take(&b).is_none(), "all are taken");
        drop((first, third));
        assert!(places.take(&a).is_some());
        assert_eq!(places.taken.lock().unwrap().by_client.len(), 1);
    }
}
