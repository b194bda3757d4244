//! Places at one backend: a bounded number of requests at once, a bounded number waiting, the rest shed. How many at once is the policy's, or what was
//! learnt within it; who is next, and who gives way, is [`Fair`]'s to say.
//!
//! Whoever would wait for longer than it can is shed at once: a queue in which everybody waits nearly until its deadline hands a backend nothing but
//! requests that it cannot answer in time any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Backend;
use tensorgate_policy::{Denial, Reason};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Whose;
use super::fair::Fair;
use super::knee::Knee;
use crate::metrics::{BackendLabels, Metrics, Raised};
use crate::turns::Waits;

/// One in so many of the calls that a mean is of is the latest.
const SHARE: u32 = 8;
/// The part by which a wait may be longer than it would be if all took the same time.
const SPREAD: u128 = 4;
/// Clients whose own mean is known at once.
const MAX_CLIENTS: usize = 1_024;
/// Of a client that nothing was heard of for so long one request is let wait, whatever is known of those before: a backend that was slow may be quick
/// again, and others that keep it busy must not keep a client from finding that out.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// One backend's.
#[derive(Debug)]
pub(super) struct Places {
    fair: Mutex<Fair<oneshot::Sender<Told>>>,
    queue: usize,
    knee: Option<Mutex<Knee>>,
    had: Mutex<Had>,
    limit: Gauge,
    queued: Gauge,
    clients: Gauge,
    shed: Counter,
    gave_way: Counter,
}

/// What becomes of one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It has a place.
    Place,
    /// Its room in the queue is another client's now.
    GiveWay,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    whose: Whose,
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

/// How long places are had of late; nothing is known before one was given back.
#[derive(Debug, Default)]
struct Had {
    all: Option<Duration>,
    own: HashMap<Whose, Own>,
}

/// How long one client's are.
#[derive(Clone, Copy, Debug)]
struct Own {
    mean: Duration,
    /// When one was given back, or let wait to find out.
    heard: Instant,
}

impl Had {
    /// One was had for so long. One whose request was cut off says only that it takes no less.
    fn given_back(&mut self, whose: Whose, had: Duration, served: bool, now: Instant) {
        let part = |whole: Duration| whole.checked_div(SHARE).unwrap_or(whole);
        let next = |mean: Option<Duration>| match mean {
            Some(mean) if served || had > mean => {
                Some(mean.saturating_sub(part(mean)).saturating_add(part(had)))
            }
            None if served => Some(had),
            known => known,
        };
        self.all = next(self.all);
        let Some(mean) = next(self.own.get(&whose).map(|own| own.mean)) else {
            return;
        };
        // What is forgotten is learnt again.
        if self.own.len() >= MAX_CLIENTS && !self.own.contains_key(&whose) {
            self.own.clear();
        }
        self.own.insert(whose, Own { mean, heard: now });
    }

    /// Whether a client is not answered within the time that is left if so many places come free before it has one, and all goes on as of late.
    fn comes_late(
        &mut self,
        whose: Whose,
        (before, limit): (usize, usize),
        left: Duration,
        now: Instant,
    ) -> bool {
        let (Some(all), Some(own)) = (self.all, self.own.get_mut(&whose)) else {
            return false;
        };
        let number = |number: usize| u128::try_from(number).unwrap_or(u128::MAX);
        let waits = all.as_nanos().saturating_mul(number(before));
        let waits = waits.div_euclid(number(limit).max(1));
        // Requests do not all take the same time.
        let waits = waits.saturating_add(waits.div_euclid(SPREAD));
        let late = waits.saturating_add(own.mean.as_nanos()) > left.as_nanos();
        if late && now.saturating_duration_since(own.heard) >= ASK_AGAIN {
            own.heard = now;
            return false;
        }
        late
    }
}

impl Places {
    pub(super) fn new(rule: &Backend, labels: &BackendLabels, metrics: &Metrics) -> Arc<Self> {
        let most = rule.max_in_flight();
        let knee = |least| Mutex::new(Knee::new(least, most, Instant::now()));
        let limit = metrics.backend_limit.get_or_create(labels).clone();
        limit.set(shown(most));
        Arc::new(Self {
            fair: Mutex::new(Fair::new(most, rule.queue())),
            queue: rule.queue(),
            knee: rule.min_in_flight().map(knee),
            had: Mutex::default(),
            limit,
            queued: metrics.backend_queue.get_or_create(labels).clone(),
            clients: metrics.backend_queue_clients.get_or_create(labels).clone(),
            shed: metrics.shed.get_or_create(labels).clone(),
            gave_way: metrics.gave_way.get_or_create(labels).clone(),
        })
    }

    /// A place for one of a client's requests. Those of one client are served in order.
    pub(super) async fn take(
        self: &Arc<Self>,
        whose: Whose,
        deadline: Instant,
    ) -> Result<Place, Denial> {
        let now = Instant::now();
        let place = || Place {
            whose,
            since: Instant::now(),
            served: false,
            places: Arc::clone(self),
        };
        let shed = |cause| {
            self.shed.inc();
            Err(Denial::new(Reason::Overloaded, cause))
        };
        let (tell, told) = oneshot::channel();
        let mut gives_way = None;
        let waits = self.change(|fair| {
            if fair.take(whose, now) {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(now);
            let before = fair.before(whose);
            let before_it = (before, fair.limit());
            if lock(&self.had).comes_late(whose, before_it, left, now) {
                return Err(format!(
                    "with {} requests before it, it would not be answered in the {} ms that are left",
                    before.saturating_sub(1),
                    left.as_millis()
                ));
            }
            let Some(joined) = fair.wait(whose, tell) else {
                return Err(format!(
                    "{} requests wait for the backend already, and none of a client that has more",
                    self.queue
                ));
            };
            gives_way = joined.gave_way;
            Ok(Some(joined.waits))
        });
        if let Some(other) = gives_way {
            // One that has left in this moment needs not be told.
            let _ = other.send(Told::GiveWay);
        }
        let waits = match waits {
            Ok(None) => return Ok(place()),
            Ok(Some(waits)) => waits,
            Err(cause) => return shed(cause),
        };
        let mut waiting = Waiting {
            places: self,
            whose,
            waits,
            told,
        };
        let _raised = Raised::new(&self.queued);
        match tokio::time::timeout_at(deadline, &mut waiting.told).await {
            Ok(Ok(Told::Place)) => Ok(place()),
            Ok(Ok(Told::GiveWay)) => {
                self.gave_way.inc();
                shed(format!(
                    "{} requests wait for the backend, and this one gave way to a client that has fewer",
                    self.queue
                ))
            }
            Ok(Err(_)) => shed("the backend's places are closed".to_owned()),
            Err(_) => Err(Denial::new(
                Reason::BackendTimeout,
                "no place at the backend came free within the deadline",
            )),
        }
    }

    /// A server answered somebody who has a place.
    pub(super) fn answered(&self) {
        if self.knee.is_some() {
            let in_use = lock(&self.fair).in_use();
            self.learn(|knee, now| knee.answered(in_use, now));
        }
    }

    /// A server did not answer in time, or had too much to do.
    pub(super) fn overloaded(&self) {
        self.learn(Knee::overloaded);
    }

    fn learn(&self, learn: impl Fn(&mut Knee, Instant)) {
        let Some(knee) = &self.knee else { return };
        let now = Instant::now();
        let mut knee = lock(knee);
        let before = knee.limit();
        learn(&mut knee, now);
        let after = knee.limit();
        if after == before {
            return;
        }
        // Under the lock, so that what is set and shown last is what holds.
        let granted = self.change(|fair| fair.set_limit(after, now));
        self.limit.set(shown(after));
        drop(knee);
        self.tell(granted);
    }

    fn give_back(&self, whose: Whose) {
        let granted = self.change(|fair| fair.give_back(whose, Instant::now()));
        self.tell(granted);
    }

    /// Tells those who have a place now. One that has left meanwhile takes none.
    fn tell(&self, mut granted: Vec<(Whose, oneshot::Sender<Told>)>) {
        while let Some((whose, tell)) = granted.pop() {
            if tell.send(Told::Place).is_err() {
                granted.extend(self.change(|fair| fair.give_back(whose, Instant::now())));
            }
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Fair<oneshot::Sender<Told>>) -> R) -> R {
        let mut fair = lock(&self.fair);
        let before = shown(fair.clients_waiting());
        let changed = change(&mut fair);
        let after = shown(fair.clients_waiting());
        self.clients.inc_by(after.saturating_sub(before));
        changed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = Instant::now();
        let had = now.saturating_duration_since(self.since);
        lock(&self.places.had).given_back(self.whose, had, self.served, now);
        self.places.give_back(self.whose);
    }
}

/// A request in the queue. It leaves when this is dropped, and gives back what it was granted and has not learnt of.
struct Waiting<'a> {
    places: &'a Places,
    whose: Whose,
    waits: Waits,
    told: oneshot::Receiver<Told>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.told.close();
        match self.told.try_recv() {
            Ok(Told::Place) => self.places.give_back(self.whose),
            Ok(Told::GiveWay) => {}
            Err(_) => self.places.change(|fair| fair.leave(self.waits)),
        }
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
