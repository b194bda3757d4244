//! How many requests may come in at once. A host that takes on all that is sent to it works on everything and finishes nothing in
//! time: each request waits behind more than its client has patience for. So what comes beyond what is finished in good time is refused
//! while it costs least, at its head.
//!
//! How many that is, the host learns: as long as a body that the gate has held whole is read and judged within a fifth of a second, one
//! more may come in now and then; when one takes longer, a tenth fewer may (additive increase, multiplicative decrease, as TCP does it). The
//! time at handlers and backends is not in it: those have queues of their own, and a slow one must not close the door to the others. Nor does one client:
//! it leaves some of the places to others that ask (`sharing`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::dispatch::Whose;
use crate::metrics::Metrics;
use crate::sharing::Shares;

/// The time in which a body that lies ready next door is read and judged. One that takes a millisecond of work waited for many others
/// by then; a client that waits for a second still gets its answer.
const GOOD_TIME: Duration = Duration::from_millis(200);
/// Requests that may come in at first.
pub const FIRST_LIMIT: usize = 256;
/// Requests that may come in always, so that a host that was slow once can find out that it no longer is.
const LEAST_LIMIT: usize = 16;
/// Requests that may ever come in at once: as many streams as several connections of a gate carry.
const MOST_LIMIT: usize = 4_096;
/// Of the limit, the part that it shrinks by, and grows by again.
const STEP: usize = 10;
/// After so long without a change, a limit that shrank grows by a step, up to what it was at first: a crowd that has gone says nothing
/// about the next one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(1);
/// Bytes of a body that lie at the gate for certain, whatever its policy says: past them a body may come at its client's pace, or take long
/// to be read for its size alone, and neither says that the host is slow.
pub const HELD_BYTES: usize = 256 << 10;

/// The door.
#[derive(Debug)]
pub struct Admission {
    state: Mutex<State>,
    shown: Gauge,
}

#[derive(Debug)]
struct State {
    limit: usize,
    inside: Shares,
    /// Finished in good time since the limit last changed, while the limit was in use.
    good: usize,
    /// When the limit last shrank. Who came in before says nothing about the smaller limit.
    shrank: Option<Instant>,
    /// When it last shrank, or grew again for having been left alone.
    stepped: Option<Instant>,
}

impl Admission {
    /// A door that has learnt nothing yet.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let state = State {
            limit: FIRST_LIMIT,
            inside: Shares::default(),
            good: 0,
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

    /// A client's request comes in; nothing if as many are in as may be.
    pub fn enter(self: &Arc<Self>, whose: Whose, now: Instant) -> Option<Entered> {
        let mut state = self.lock();
        if state.forgive(now) {
            self.show(&state);
        }
        let limit = state.limit;
        if !state.inside.give(whose, (0, 1), limit, now) {
            return None;
        }
        Some(Entered {
            admission: Arc::clone(self),
            whose,
            since: now,
        })
    }

    /// How many are in.
    pub fn inside(&self) -> usize {
        self.lock().inside.used()
    }

    /// Under the lock, so that what is shown last is what holds.
    fn show(&self, state: &State) {
        self.shown
            .set(i64::try_from(state.limit).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the limit grew.
    fn forgive(&mut self, now: Instant) -> bool {
        let long_ago = |stepped: Instant| now.saturating_duration_since(stepped) >= FORGIVEN_AFTER;
        let grows = self.limit < FIRST_LIMIT && self.stepped.is_some_and(long_ago);
        if grows {
            let more = self.limit.div_euclid(STEP).max(1);
            self.limit = self.limit.saturating_add(more).min(FIRST_LIMIT);
            self.stepped = Some(now);
        }
        grows
    }

    fn learn(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) > GOOD_TIME {
            // One step for all who were in when it was too many.
            if self.shrank.is_none_or(|shrank| since >= shrank) {
                let fewer = self.limit.div_euclid(STEP).max(1);
                self.limit = self.limit.saturating_sub(fewer).max(LEAST_LIMIT);
                self.shrank = Some(now);
                self.stepped = Some(now);
                self.good = 0;
            }
        } else if self.inside.used().saturating_mul(2) >= self.limit {
            self.good = self.good.saturating_add(1);
            if self.good >= self.limit {
                self.limit = self.limit.saturating_add(1).min(MOST_LIMIT);
                self.good = 0;
            }
        }
    }
}

/// A request that came in. It leaves when this is dropped.
#[derive(Debug)]
pub struct Entered {
    admission: Arc<Admission>,
    whose: Whose,
    since: Instant,
}

impl Entered {
    /// Its body is read and judged. What it took says how many may come in.
    pub fn judged(self, now: Instant) {
        let mut state = self.admission.lock();
        state.learn(self.since, now);
        self.admission.show(&state);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.inside.take_back(self.whose, (1, 1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    fn one() -> Whose {
        Whose::of(Some("one"))
    }

    /// Fills the door, then lets everybody be judged after so long; says how many came in.
    fn wave(admission: &Arc<Admission>, now: &mut Instant, took: Duration) -> usize {
        let inside: Vec<_> = std::iter::from_fn(|| admission.enter(one(), *now)).collect();
        let count = inside.len();
        *now += took;
        for entered in inside {
            entered.judged(*now);
        }
        count
    }

    #[test]
    fn the_door_closes_at_its_limit_and_opens_when_one_leaves() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        let mut inside: Vec<_> = std::iter::from_fn(|| admission.enter(one(), now)).collect();
        assert_eq!(inside.len(), FIRST_LIMIT);
        assert!(admission.enter(one(), now).is_none());
        drop(inside.pop());
        assert!(admission.enter(one(), now).is_some(), "one has left");
    }

    #[test]
    fn one_client_that_fills_the_door_leaves_it_open_to_another() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        let other = Whose::of(Some("other"));
        drop(admission.enter(other, now));
        let inside: Vec<_> = std::iter::from_fn(|| admission.enter(one(), now)).collect();
        assert_eq!(inside.len(), FIRST_LIMIT / 8 * 7);
        let others: Vec<_> = std::iter::from_fn(|| admission.enter(other, now)).collect();
        assert!(others.len() >= FIRST_LIMIT / 16, "{}", others.len());
        drop((inside, others));
        assert_eq!(admission.inside(), 0);
    }

    #[test]
    fn a_slow_wave_is_one_step_down_and_good_ones_lead_up_again() {
        let (admission, mut now) = (Admission::new(&Metrics::new()), Instant::now());
        let (slow, quick) = (GOOD_TIME * 2, GOOD_TIME / 2);
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
        assert_eq!(wave(&admission, &mut now, slow), LEAST_LIMIT);
    }

    #[test]
    fn a_door_that_is_hardly_used_learns_nothing_from_quick_ones() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        for _ in 0..FIRST_LIMIT * 3 {
            admission.enter(one(), now).unwrap().judged(now);
        }
        assert_eq!(admission.lock().limit, FIRST_LIMIT);
    }

    #[test]
    fn a_limit_that_shrank_comes_back_with_time_alone() {
        let (admission, mut now) = (Admission::new(&Metrics::new()), Instant::now());
        for _ in 0..100 {
            wave(&admission, &mut now, GOOD_TIME * 2);
        }
        assert_eq!(admission.lock().limit, LEAST_LIMIT);
        for _ in 0..60 {
            now += FORGIVEN_AFTER;
            drop(admission.enter(one(), now));
        }
        assert_eq!(admission.lock().limit, FIRST_LIMIT, "and no further");
    }

    #[test]
    fn a_request_that_leaves_unjudged_teaches_nothing() {
        let (admission, now) = (Admission::new(&Metrics::new()), Instant::now());
        drop(admission.enter(one(), now));
        let state = admission.lock();
        assert_eq!((state.limit, state.inside.used()), (FIRST_LIMIT, 0));
    }
}
