//! The servers of one backend: which of them a request goes to, and which of them is left alone for a while. The one with the least in flight is chosen;
//! one that failed several times in a row is chosen last until its time is over. What a server refused counts as in flight there for a while longer:
//! whoever refuses fastest has the least to do, and would get the most.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tensorgate_policy::policy::OutlierDetection;
use tokio::time::Instant;

use crate::backends::oip::Endpoint;

/// The longest ejection, unless the first is longer already: as Envoy has it.
const MAX_EJECTION: Duration = Duration::from_secs(300);

/// What one call in flight counts in a rank: parts of it are told.
const CALL: u64 = 16;
/// What was refused counts half as much after each of these.
const HALF_LIFE_MS: u128 = 1_000;
/// A refusal counts as a call in flight, and as twice as many as the one before if nothing was answered between; so often at most.
const MAX_DOUBLINGS: u32 = 12;
/// The most that refusals count: as many calls as any backend has in flight.
const MAX_REFUSED: u64 = CALL << 16;

/// The servers.
#[derive(Debug)]
pub(super) struct Pool {
    members: Vec<Member>,
    turn: AtomicUsize,
    rule: OutlierDetection,
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<Endpoint>,
    /// Calls in flight.
    load: AtomicUsize,
    record: Mutex<Record>,
}

/// How a server did lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    /// Failures in a row.
    failures: u32,
    /// Ejections with no success between them.
    ejections: u32,
    /// When the last one is over.
    until: Option<Instant>,
    refused: Refused,
}

/// What a server refused lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refused {
    /// What it counted when it last refused, and when that was.
    last: Option<(u64, Instant)>,
    /// Refusals with no answer between them, each of a call that began after the one before.
    row: u32,
}

impl Refused {
    /// What it counts by now.
    fn weight(self, now: Instant) -> u64 {
        let Some((weight, since)) = self.last else {
            return 0;
        };
        let elapsed_ms = now.saturating_duration_since(since).as_millis();
        let halvings = u32::try_from(elapsed_ms.div_euclid(HALF_LIFE_MS)).unwrap_or(u32::MAX);
        weight.checked_shr(halvings).unwrap_or(0)
    }

    /// One more, of a call that began at `began`.
    fn add(&mut self, began: Instant, now: Instant) {
        // A crowd that is refused at one moment is one occasion.
        if self.last.is_none_or(|(_, last)| began >= last) {
            self.row = self.row.saturating_add(1);
        }
        let doublings = self.row.saturating_sub(1).min(MAX_DOUBLINGS);
        let more = CALL.checked_shl(doublings).unwrap_or(MAX_REFUSED);
        let weight = self.weight(now).saturating_add(more).min(MAX_REFUSED);
        self.last = Some((weight, now));
    }
}

impl Record {
    fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn succeeded(&mut self, now: Instant) {
        self.refused.row = 0;
        // An answer to what was sent before the ejection does not end it.
        if !self.is_out(now) {
            *self = Self {
                refused: self.refused,
                ..Self::default()
            };
        }
    }

    /// One more failure of a call that began at `began`; whether it ejects, if it may.
    fn failed(
        &mut self,
        rule: OutlierDetection,
        may_eject: bool,
        began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        self.refused.add(began, now);
        if self.is_out(now) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < rule.consecutive_failures() || !may_eject {
            return None;
        }
        self.failures = 0;
        self.ejections = self.ejections.saturating_add(1);
        let base = Duration::from_millis(rule.base_ejection_ms());
        let long = base
            .saturating_mul(self.ejections)
            .min(MAX_EJECTION.max(base));
        self.until = now.checked_add(long);
        Some(long)
    }
}

/// What a choice looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    tried: bool,
    out: bool,
    load: u64,
}

/// Places of the best first. Of equals the one whose turn it is comes first.
fn ranked(merits: &[Merit], turn: usize) -> Vec<usize> {
    let count = merits.len();
    let start = turn.checked_rem(count).unwrap_or(0);
    let mut places: Vec<_> = (start..count).chain(0..start).collect();
    // Stable: equals stay in their turn.
    places.sort_by_key(|place| merits.get(*place).copied());
    places
}

impl Pool {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>, rule: OutlierDetection) -> Self {
        let members = endpoints.into_iter().map(|endpoint| Member {
            endpoint,
            load: AtomicUsize::new(0),
            record: Mutex::default(),
        });
        Self {
            members: members.collect(),
            turn: AtomicUsize::new(0),
            rule,
        }
    }

    /// The turn of a request, which it keeps when it is sent again: a retry that took another one would have every request begin at the same server.
    pub(super) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The servers, the one to choose first; `tried` are the places of those that had their chance.
    pub(super) fn ranked(
        &self,
        turn: usize,
        tried: &[usize],
    ) -> impl Iterator<Item = (usize, &Arc<Endpoint>)> {
        let now = Instant::now();
        let merits: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(place, member)| {
                let record = member.record();
                let calls = member.load.load(Ordering::Relaxed);
                let calls = u64::try_from(calls).unwrap_or(u64::MAX);
                Merit {
                    tried: tried.contains(&place),
                    out: record.is_out(now),
                    load: calls
                        .saturating_mul(CALL)
                        .saturating_add(record.refused.weight(now)),
                }
            })
            .collect();
        ranked(&merits, turn)
            .into_iter()
            .filter_map(|place| Some((place, &self.members.get(place)?.endpoint)))
    }

    /// Counts a call to a server until what this gives is dropped.
    pub(super) fn enter(self: &Arc<Self>, place: usize) -> Load {
        if let Some(member) = self.members.get(place) {
            member.load.fetch_add(1, Ordering::Relaxed);
        }
        Load {
            pool: Arc::clone(self),
            place,
        }
    }

    /// A server answered.
    pub(super) fn succeeded(&self, place: usize) {
        if let Some(member) = self.members.get(place) {
            member.with(|record| record.succeeded(Instant::now()));
        }
    }

    /// A server answered that it does not want a call that began at `began`.
    pub(super) fn refused(&self, place: usize, began: Instant) {
        if let Some(member) = self.members.get(place) {
            member.with(|record| record.refused.add(began, Instant::now()));
        }
    }

    /// A server failed by itself at a call that began at `began`. Says for how long it is left alone from now on, if this was once too often.
    pub(super) fn failed(&self, place: usize, began: Instant) -> Option<Duration> {
        let now = Instant::now();
        let member = self.members.get(place)?;
        let out = self
            .members
            .iter()
            .filter(|member| member.record().is_out(now))
            .count();
        let percent = usize::try_from(self.rule.max_ejection_percent()).unwrap_or(0);
        let most = self.members.len().saturating_mul(percent) / 100;
        member.with(|record| record.failed(self.rule, out < most, began, now))
    }
}

impl Member {
    fn with<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        // A poisoned lock holds a record all the same.
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self) -> Record {
        self.with(|record| *record)
    }
}

/// A call in flight at a server.
#[derive(Debug)]
pub struct Load {
    pool: Arc<Pool>,
    place: usize,
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(member) = self.pool.members.get(self.place) {
            member.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::json;

    fn rule(failures: u32, percent: u32) -> OutlierDetection {
        let outliers = json!({"consecutive_failures": failures, "base_ejection_s": 10, "max_ejection_percent": percent});
        let policy = policy(&json!({"outlier_detection": outliers}), &json!({}));
        let backend = policy.backends().get("b");
        backend
            .map(|backend| backend.outliers())
            .unwrap_or_else(|| unreachable!("the policy has it"))
    }

    fn pool(servers: u16, failures: u32, percent: u32) -> Arc<Pool> {
        let endpoints = (1..=servers)
            .filter_map(|port| Endpoint::new(&format!("http://127.0.0.1:{port}"), None).ok())
            .map(Arc::new);
        Arc::new(Pool::new(endpoints.collect(), rule(failures, percent)))
    }

    fn first(pool: &Pool, tried: &[usize]) -> Option<usize> {
        pool.ranked(pool.turn(), tried)
            .next()
            .map(|(place, _)| place)
    }

    fn failed(pool: &Pool, place: usize) -> Option<Duration> {
        pool.failed(place, Instant::now())
    }

    #[test]
    fn the_best_is_not_tried_not_ejected_and_least_loaded() {
        let merit = |tried, out, load| Merit { tried, out, load };
        let merits = [
            merit(false, true, 0),
            merit(false, false, 2),
            merit(true, false, 0),
            merit(false, false, 1),
        ];
        assert_eq!(ranked(&merits, 0), [3, 1, 0, 2]);
        let equal = [merit(false, false, 0); 3];
        assert_eq!(ranked(&equal, 4), [1, 2, 0], "in turn");
        assert!(ranked(&[], 7).is_empty());
    }

    #[tokio::test]
    async fn load_is_counted_while_a_call_lasts() {
        let pool = pool(2, 5, 50);
        let load = pool.enter(0);
        assert_eq!(first(&pool, &[]), Some(1));
        assert_eq!(first(&pool, &[]), Some(1), "whoever's turn it is");
        assert_eq!(first(&pool, &[1]), Some(0), "one that was tried comes last");
        drop(load);
        assert_eq!(first(&pool, &[1]), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_in_a_row_is_left_alone_and_longer_each_time() {
        let pool = pool(2, 2, 50);
        assert_eq!(failed(&pool, 0), None);
        pool.succeeded(0);
        assert_eq!(failed(&pool, 0), None, "not in a row");
        assert_eq!(failed(&pool, 0), Some(Duration::from_secs(10)));
        pool.succeeded(0);
        for _ in 0..4 {
            assert_eq!(first(&pool, &[]), Some(1), "an old answer ends nothing");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(
            (failed(&pool, 0), failed(&pool, 0)),
            (None, Some(Duration::from_secs(20)))
        );
        tokio::time::advance(Duration::from_secs(20)).await;
        pool.succeeded(0);
        assert_eq!(
            (failed(&pool, 0), failed(&pool, 0)),
            (None, Some(Duration::from_secs(10)))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_counts_as_in_flight_for_a_while() {
        let pool = pool(2, 1_000, 50);
        let refuse = || pool.refused(0, Instant::now());
        refuse();
        for _ in 0..4 {
            assert_eq!(first(&pool, &[]), Some(1), "whoever's turn it is");
        }
        let busy = [pool.enter(1), pool.enter(1)];
        assert_eq!(first(&pool, &[]), Some(0), "the other has more to do");
        refuse();
        refuse();
        // One, two and four.
        assert_eq!(first(&pool, &[]), Some(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(first(&pool, &[]), Some(0), "a quarter is left");
        drop(busy);
        tokio::time::advance(Duration::from_secs(5)).await;
        let firsts = [first(&pool, &[]), first(&pool, &[])];
        assert!(firsts.contains(&Some(0)), "forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_at_once_gets_next_to_nothing_beside_one_that_works() {
        let pool = pool(2, 1_000, 50);
        let (mut refused, mut working) = (0_u32, std::collections::VecDeque::new());
        // Each call takes a second at the one that works; one comes every ten milliseconds.
        for _ in 0..3_000 {
            tokio::time::advance(Duration::from_millis(10)).await;
            if working.len() >= 100 {
                working.pop_front();
                pool.succeeded(1);
            }
            if first(&pool, &[]) == Some(0) {
                pool.refused(0, Instant::now());
                refused = refused.saturating_add(1);
            } else {
                working.push_back(pool.enter(1));
            }
        }
        assert!(refused < 60, "{refused} of 3000");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_is_refused_at_once_counts_no_more_than_itself() {
        let pool = pool(2, 1_000, 50);
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        (0..50).for_each(|_| pool.refused(0, began));
        let busy: Vec<_> = (0..51).map(|_| pool.enter(1)).collect();
        assert_eq!(first(&pool, &[]), Some(0));
        drop(busy);
    }

    #[tokio::test]
    async fn no_more_are_left_alone_than_may_be() {
        let pool = pool(2, 1, 50);
        assert!(failed(&pool, 0).is_some());
        assert_eq!(failed(&pool, 1), None, "it is the last");
        assert_eq!(first(&pool, &[]), Some(1));
        let alone = self::pool(1, 1, 50);
        assert_eq!(failed(&alone, 0), None);
    }
}
