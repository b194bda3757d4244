//! Places at one backend: a bounded number of requests at once, a bounded number waiting, the rest shed. How many at once is the policy's, or what was
//! learnt within it.
//!
//! Whoever would wait for longer than it can is shed at once: a queue in which everybody waits nearly until its deadline hands a backend nothing but
//! requests that it cannot answer in time any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Backend;
use tensorgate_policy::{Denial, Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::knee::Knee;
use crate::metrics::{BackendLabels, Metrics, Raised};

/// One in so many of the calls that the mean is of is the latest.
const SHARE: u32 = 8;
/// The part by which a wait may be longer than it would be if all took the same time.
const SPREAD: u128 = 4;

/// One backend's.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Places that are to go and are still taken.
    owed: AtomicUsize,
    waiting: AtomicUsize,
    queue: usize,
    knee: Option<Mutex<Knee>>,
    /// How long a place is had of late; none before one was given back.
    had: Mutex<Option<Duration>>,
    limit: Gauge,
    queued: Gauge,
    shed: Counter,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    since: Instant,
    /// Whether its request was answered, or is being.
    served: bool,
    places: Arc<Places>,
}

impl Place {
    /// Its request is answered: how long it is had from first to last is how long such requests take.
    pub(super) const fn served(&mut self) {
        self.served = true;
    }
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
            had: Mutex::default(),
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
            since: Instant::now(),
            served: false,
            places: Arc::clone(self),
        };
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place(permit));
        }
        let shed = |cause| {
            self.shed.inc();
            Err(Denial::new(Reason::Overloaded, cause))
        };
        let Some(waiting) = Waiting::enter(&self.waiting, self.queue) else {
            return shed(format!(
                "{} requests wait for the backend already",
                self.queue
            ));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if self.comes_late(waiting.place, left) {
            return shed(format!(
                "with {} requests before it, it would not be answered in the {} ms that are left",
                waiting.place.saturating_sub(1),
                left.as_millis()
            ));
        }
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

    /// Whether whoever is so many-th in the queue is not answered within the time that is left, if all goes on as of late.
    fn comes_late(&self, waiting: usize, left: Duration) -> bool {
        let Some(had) = *self.had.lock().unwrap_or_else(PoisonError::into_inner) else {
            return false;
        };
        let limit = u128::try_from(self.limit.get()).unwrap_or(1).max(1);
        let waiting = u128::try_from(waiting).unwrap_or(u128::MAX);
        let waits = had.as_nanos().saturating_mul(waiting).div_euclid(limit);
        // Requests do not all take the same time.
        let waits = waits.saturating_add(waits.div_euclid(SPREAD));
        waits.saturating_add(had.as_nanos()) > left.as_nanos()
    }

    /// A place was had for so long. One whose request was cut off says only that it takes no less.
    fn given_back(&self, had: Duration, served: bool) {
        // Nothing panics while it holds the mean.
        let mut mean = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |whole: Duration| whole.checked_div(SHARE).unwrap_or(whole);
        *mean = match *mean {
            Some(mean) if served || had > mean => {
                Some(mean.saturating_sub(part(mean)).saturating_add(part(had)))
            }
            None if served => Some(had),
            known => known,
        };
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
        self.places.given_back(self.since.elapsed(), self.served);
        if let Some(permit) = self.permit.take()
            && self.places.pay()
        {
            permit.forget();
        }
    }
}

/// A place in the queue; given back when dropped.
struct Waiting<'a> {
    waiting: &'a AtomicUsize,
    /// How many wait, this one included.
    place: usize,
}

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, queue: usize) -> Option<Self> {
        let enter = |now: usize| now.checked_add(1).filter(|after| *after <= queue);
        let before = waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter)
            .ok()?;
        Some(Self {
            waiting,
            place: before.saturating_add(1),
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::{Value, json};
    use tensorgate_policy::Policy;

    fn places(policy: &Policy) -> Arc<Places> {
        let Some(rule) = policy.backends().get("b") else {
            unreachable!("the policy has it");
        };
        let labels = BackendLabels {
            backend: "b".to_owned(),
        };
        Places::new(rule, &labels, &Metrics::new())
    }

    /// What became of a crowd.
    #[derive(Debug, Default)]
    struct Came {
        answered: u32,
        late: u32,
        shed: u32,
    }

    /// A crowd of so many a second for ten seconds, at a backend of four places that answers in a tenth of a second; each has half a second.
    async fn crowd(settings: &Value, a_second: u32) -> Came {
        let places = places(&policy(settings, &json!({})));
        let mut crowd = tokio::task::JoinSet::new();
        let gap = Duration::from_secs(1)
            .checked_div(a_second)
            .unwrap_or_default();
        for _ in 0..a_second.saturating_mul(10) {
            tokio::time::sleep(gap).await;
            let places = Arc::clone(&places);
            crowd.spawn(async move {
                let now = Instant::now();
                let deadline = now.checked_add(Duration::from_millis(500)).unwrap_or(now);
                let place = places.take(deadline).await;
                let mut place = place.map_err(|denial| denial.reason)?;
                let answer = tokio::time::sleep(Duration::from_millis(100));
                let answered = tokio::time::timeout_at(deadline, answer).await;
                answered.map_err(|_| Reason::BackendTimeout)?;
                place.served();
                Ok(())
            });
        }
        let mut came = Came::default();
        while let Some(one) = crowd.join_next().await {
            let count = match one {
                Ok(Ok(())) => &mut came.answered,
                Ok(Err(Reason::Overloaded)) => &mut came.shed,
                _ => &mut came.late,
            };
            *count = count.saturating_add(1);
        }
        came
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_twice_what_fits_is_shed_at_once_and_the_others_are_answered_in_time() {
        let settings = json!({"max_in_flight": 4, "queue": 128});
        // Ten seconds of four places.
        let fits = 400;
        for (a_second, least) in [(36, 350), (80, fits * 9 / 10), (400, fits * 9 / 10)] {
            let came = crowd(&settings, a_second).await;
            assert!(came.answered >= least, "{a_second} a second: {came:?}");
            // Those who came before anybody was answered waited for what nobody knew.
            assert!(
                came.late * 10 <= came.answered,
                "{a_second} a second: who is let in is answered: {came:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_was_slow_gets_its_queue_back() {
        let policy = policy(&json!({"max_in_flight": 1, "queue": 8}), &json!({}));
        let places = places(&policy);
        let within = |ms| {
            let now = Instant::now();
            now.checked_add(Duration::from_millis(ms)).unwrap_or(now)
        };
        let served = async |time: Duration| {
            let place = places.take(within(100)).await;
            tokio::time::advance(time).await;
            place.into_iter().for_each(|mut place| place.served());
        };
        served(Duration::from_secs(10)).await;
        let second = places.take(within(100)).await;
        assert!(second.is_ok(), "nobody is before it");
        let third = places.take(within(100)).await;
        assert_eq!(
            third.err().map(|denial| denial.reason),
            Some(Reason::Overloaded)
        );
        drop(second);
        for _ in 0..100 {
            // Those that were cut off at once do not make it quick.
            drop(places.take(within(100)).await);
        }
        let held = places.take(within(100)).await;
        assert!(held.is_ok() && places.take(within(100)).await.is_err());
        drop(held);
        for _ in 0..100 {
            served(Duration::from_millis(1)).await;
        }
        let held = places.take(within(100)).await;
        let waits = places.take(within(100));
        let freed = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(held);
        };
        assert!(tokio::join!(waits, freed).0.is_ok());
    }

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
        let places = places(&policy);
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
