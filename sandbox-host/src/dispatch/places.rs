//! Places at one backend: a bounded number of requests at once, a bounded number waiting, the rest shed. How many at once is the policy's, or what was
//! learnt within it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Backend;
use tensorgate_policy::{Denial, Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::knee::Knee;
use crate::metrics::{BackendLabels, Metrics, Raised};

/// One backend's.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Places that are to go and are still taken.
    owed: AtomicUsize,
    waiting: AtomicUsize,
    queue: usize,
    knee: Option<Mutex<Knee>>,
    limit: Gauge,
    queued: Gauge,
    shed: Counter,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(rule: &Backend, labels: &BackendLabels, metrics: &Metrics) -> Arc<Self> {
        let most = rule.max_in_flight().min(Semaphore::MAX_PERMITS);
        let knee = |least| Mutex::new(Knee::new(least, most, Instant::now()));
        let limit = metrics.backend_limit.get_or_create(labels).clone();
        limit.set(shown(most));
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            owed: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: rule.queue(),
            knee: rule.min_in_flight().map(knee),
            limit,
            queued: metrics.backend_queue.get_or_create(labels).clone(),
            shed: metrics.shed.get_or_create(labels).clone(),
        })
    }

    /// A place. Those who wait are served in order.
    pub(super) async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Place, Denial> {
        let closed = |_| Denial::new(Reason::Overloaded, "the backend's places are closed");
        let place = |permit| Place {
            permit: Some(permit),
            places: Arc::clone(self),
        };
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place(permit));
        }
        let Some(_waiting) = Waiting::enter(&self.waiting, self.queue) else {
            self.shed.inc();
            return Err(Denial::new(
                Reason::Overloaded,
                format!("{} requests wait for the backend already", self.queue),
            ));
        };
        let _raised = Raised::new(&self.queued);
        match tokio::time::timeout_at(deadline, Arc::clone(&self.free).acquire_owned()).await {
            Ok(permit) => permit.map(place).map_err(closed),
            Err(_) => Err(Denial::new(
                Reason::BackendTimeout,
                "no place at the backend came free within the deadline",
            )),
        }
    }

    /// A server answered somebody who has a place.
    pub(super) fn answered(&self) {
        let in_use = self.free.available_permits() == 0;
        self.learn(|knee, now| knee.answered(in_use, now));
    }

    /// A server did not answer in time, or had too much to do.
    pub(super) fn overloaded(&self) {
        self.learn(Knee::overloaded);
    }

    fn learn(&self, learn: impl Fn(&mut Knee, Instant)) {
        let Some(knee) = &self.knee else { return };
        // Nothing panics while it holds what was learnt.
        let mut knee = knee.lock().unwrap_or_else(PoisonError::into_inner);
        let before = knee.limit();
        learn(&mut knee, Instant::now());
        let after = knee.limit();
        if let Some(fewer) = before.checked_sub(after).filter(|fewer| *fewer > 0) {
            let gone = self.free.forget_permits(fewer);
            let owed = fewer.saturating_sub(gone);
            self.owed.fetch_add(owed, Ordering::AcqRel);
        } else {
            let mut more = after.saturating_sub(before);
            while more > 0 && self.pay() {
                more = more.saturating_sub(1);
            }
            self.free.add_permits(more);
        }
        // Under the lock, so that what is shown last is what holds.
        self.limit.set(shown(after));
    }

    /// Whether a place that is to go, did.
    fn pay(&self) -> bool {
        let one = |owed: usize| owed.checked_sub(1);
        self.owed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one)
            .is_ok()
    }
}

fn shown(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.places.pay()
        {
            permit.forget();
        }
    }
}

/// A place in the queue; given back when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        let enter = |now: usize| now.checked_add(1).filter(|after| *after <= queue);
        waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter)
            .ok()
            .map(|_| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_queue_takes_its_length_and_no_more() {
        let waiting = AtomicUsize::new(0);
        let first = Waiting::enter(&waiting, 2);
        let second = Waiting::enter(&waiting, 2);
        assert!(first.is_some() && second.is_some());
        assert!(Waiting::enter(&waiting, 2).is_none());
        drop(first);
        assert!(Waiting::enter(&waiting, 2).is_some());
        assert!(Waiting::enter(&AtomicUsize::new(0), 0).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_are_to_go_do_so_as_they_come_free_and_come_back() {
        let settings = json!({"max_in_flight": 10, "adaptive_concurrency": {"min_in_flight": 1}});
        let policy = policy(&settings, &json!({}));
        let Some(rule) = policy.backends().get("b") else {
            unreachable!("the policy has it");
        };
        let labels = BackendLabels {
            backend: "b".to_owned(),
        };
        let places = Places::new(rule, &labels, &Metrics::new());
        let deadline = Instant::now();
        let mut held = Vec::new();
        while let Ok(place) = places.take(deadline).await {
            held.push(place);
        }
        assert_eq!(held.len(), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        places.overloaded();
        assert_eq!(places.limit.get(), 8);
        held.pop();
        held.pop();
        assert!(places.take(deadline).await.is_err(), "two had to go");
        held.pop();
        let back = places.take(deadline).await;
        assert!(back.is_ok() && places.take(deadline).await.is_err());
        drop((held, back));
        assert_eq!(places.free.available_permits(), 8);
        tokio::time::advance(Duration::from_secs(1)).await;
        places.overloaded();
        assert_eq!(places.free.available_permits(), 7, "those that are free");
    }
}
