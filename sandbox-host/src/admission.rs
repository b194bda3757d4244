//! Admission control: limits the number of requests that are being read and checked.
//!
//! An overloaded host that accepts everything finishes nothing in time. So excess requests are
//! rejected at their head, where a rejection costs least. A body that the gate has not buffered
//! arrives at its client's pace, so it is admitted once it is complete.
//!
//! The limit adapts (additive increase, multiplicative decrease, as in TCP). While an admitted body
//! is read and checked within a fifth of a second, the limit grows by one now and then. When one
//! takes longer, the limit shrinks by a tenth. Time in handlers and backends does not count: they
//! have queues of their own, and a slow one must not block the others. One client leaves some slots
//! to other active clients (`Shares`).

pub(crate) mod body_memory;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::shares::Shares;
use tensorgate_telemetry::metrics::Metrics;
use tokio::time::Instant;

/// The target time for reading and checking a buffered body. It needs about a millisecond of work,
/// so at this value it waited for many others. A client with a timeout of one second still gets its
/// response.
const TARGET_TIME: Duration = Duration::from_millis(200);
/// The initial limit.
pub const FIRST_LIMIT: usize = 256;
/// The minimum, so that a host that was slow once can find out that it no longer is.
const MIN_LIMIT: usize = 16;
/// The maximum: the streams of several connections of a gate.
const MAX_LIMIT: usize = 4_096;
/// A step is this fraction of the limit.
const STEP: usize = 10;
/// After this time without a change, a reduced limit grows by a step, up to the initial limit. A
/// past burst says nothing about the next one.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// The largest body or message of a stream whose time adapts the limit. A longer one may arrive
/// slowly or take long because of its size, which does not show that the host is slow.
pub const HELD_BYTES: usize = 256 << 10;

/// The admission control of a host.
#[derive(Debug)]
pub struct Admission {
    state: Mutex<State>,
    shown: Gauge,
}

#[derive(Debug)]
struct State {
    limit: usize,
    inside: Shares,
    /// Requests that met the target time at high utilisation since the last change of the limit.
    successes: usize,
    /// When the limit last shrank. Requests from before say nothing about the smaller limit.
    shrank: Option<Instant>,
    /// When the limit last shrank, or last grew without load.
    stepped: Option<Instant>,
}

impl Admission {
    /// Creates an admission control with the initial limit.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let state = State {
            limit: FIRST_LIMIT,
            inside: Shares::default(),
            successes: 0,
            shrank: None,
            stepped: None,
        };
        let shown = metrics.admission_limit.clone();
        shown.set(i64::try_from(FIRST_LIMIT).unwrap_or(i64::MAX));
        Arc::new(Self {
            state: Mutex::new(state),
            shown,
        })
    }

    /// Admits a client's request. Returns `None` if the limit is reached.
    pub fn admit(self: &Arc<Self>, client_key: ClientKey, now: Instant) -> Option<AdmissionPermit> {
        let mut state = self.lock();
        if state.recover(now) {
            self.publish(&state);
        }
        let limit = state.limit;
        if !state.inside.acquire(client_key, (0, 1), limit, now) {
            return None;
        }
        Some(AdmissionPermit {
            admission: Arc::clone(self),
            client_key,
            since: now,
        })
    }

    /// The number of admitted requests.
    pub fn inside(&self) -> usize {
        self.lock().inside.used()
    }

    /// Called under the lock, so that the latest value is shown.
    fn publish(&self, state: &State) {
        self.shown
            .set(i64::try_from(state.limit).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the limit grew.
    fn recover(&mut self, now: Instant) -> bool {
        let long_ago =
            |stepped: Instant| now.saturating_duration_since(stepped) >= RECOVERY_INTERVAL;
        let grows = self.limit < FIRST_LIMIT && self.stepped.is_some_and(long_ago);
        if grows {
            let more = self.limit.div_euclid(STEP).max(1);
            self.limit = self.limit.saturating_add(more).min(FIRST_LIMIT);
            self.stepped = Some(now);
        }
        grows
    }

    fn adapt(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) > TARGET_TIME {
            // One step for all requests that were admitted together.
            if self.shrank.is_none_or(|shrank| since >= shrank) {
                let fewer = self.limit.div_euclid(STEP).max(1);
                self.limit = self.limit.saturating_sub(fewer).max(MIN_LIMIT);
                self.shrank = Some(now);
                self.stepped = Some(now);
                self.successes = 0;
            }
        } else if self.inside.used().saturating_mul(2) >= self.limit {
            self.successes = self.successes.saturating_add(1);
            if self.successes >= self.limit {
                self.limit = self.limit.saturating_add(1).min(MAX_LIMIT);
                self.successes = 0;
            }
        }
    }
}

/// An admitted request, until dropped.
#[derive(Debug)]
pub struct AdmissionPermit {
    admission: Arc<Admission>,
    client_key: ClientKey,
    since: Instant,
}

impl AdmissionPermit {
    /// The body was read and checked. The time that this took adapts the limit.
    pub fn finish(self, now: Instant) {
        let mut state = self.admission.lock();
        state.adapt(self.since, now);
        self.admission.publish(&state);
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.inside.release(self.client_key, (1, 1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    fn one() -> ClientKey {
        ClientKey::from_name(Some("one"))
    }

    /// Admits as many requests as possible, and finishes them after `took`. Returns their number.
    fn wave(admission: &Arc<Admission>, now: &mut Instant, took: Duration) -> usize {
        let inside: Vec<_> = std::iter::from_fn(|| admission.admit(one(), *now)).collect();
        let count = inside.len();
        *now += took;
        for entered in inside {
            entered.finish(*now);
        }
        count
    }

    #[test]
    fn the_door_closes_at_its_limit_and_opens_when_one_leaves() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        let mut inside: Vec<_> = std::iter::from_fn(|| admission.admit(one(), now)).collect();
        assert_eq!(inside.len(), FIRST_LIMIT);
        assert!(admission.admit(one(), now).is_none());
        drop(inside.pop());
        assert!(admission.admit(one(), now).is_some(), "one has left");
    }

    #[test]
    fn one_client_that_fills_the_door_leaves_it_open_to_another() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        let other = ClientKey::from_name(Some("other"));
        drop(admission.admit(other, now));
        let inside: Vec<_> = std::iter::from_fn(|| admission.admit(one(), now)).collect();
        assert_eq!(inside.len(), FIRST_LIMIT / 8 * 7);
        let others: Vec<_> = std::iter::from_fn(|| admission.admit(other, now)).collect();
        assert!(others.len() >= FIRST_LIMIT / 16, "{}", others.len());
        drop((inside, others));
        assert_eq!(admission.inside(), 0);
    }

    #[test]
    fn a_slow_wave_is_one_step_down_and_good_ones_lead_up_again() {
        let (admission, mut now) = (Admission::new(&Metrics::new()), Instant::now());
        let (slow, quick) = (TARGET_TIME * 2, TARGET_TIME / 2);
        assert_eq!(wave(&admission, &mut now, slow), 256);
        assert_eq!(wave(&admission, &mut now, slow), 231, "a tenth fewer, once");
        assert_eq!(wave(&admission, &mut now, quick), 208);
        for _ in 0..6 {
            wave(&admission, &mut now, quick);
        }
        assert!((209..=214).contains(&wave(&admission, &mut now, quick)));
        for _ in 0..100 {
            wave(&admission, &mut now, slow);
        }
        assert_eq!(wave(&admission, &mut now, slow), MIN_LIMIT);
    }

    #[test]
    fn a_door_that_is_hardly_used_learns_nothing_from_quick_ones() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        for _ in 0..FIRST_LIMIT * 3 {
            admission.admit(one(), now).unwrap().finish(now);
        }
        assert_eq!(admission.lock().limit, FIRST_LIMIT);
    }

    #[test]
    fn a_limit_that_shrank_comes_back_with_time_alone() {
        let (admission, mut now) = (Admission::new(&Metrics::new()), Instant::now());
        for _ in 0..100 {
            wave(&admission, &mut now, TARGET_TIME * 2);
        }
        assert_eq!(admission.lock().limit, MIN_LIMIT);
        for _ in 0..60 {
            now += RECOVERY_INTERVAL;
            drop(admission.admit(one(), now));
        }
        assert_eq!(admission.lock().limit, FIRST_LIMIT, "and no further");
    }

    #[test]
    fn a_request_that_leaves_unjudged_teaches_nothing() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        drop(admission.admit(one(), now));
        let state = admission.lock();
        assert_eq!((state.limit, state.inside.used()), (FIRST_LIMIT, 0));
    }
}
