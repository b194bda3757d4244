//! The servers of one backend: which of them a request goes to, and which of them is left alone for a while. The one with the least in flight is chosen;
//! one that failed several times in a row, for everybody or for the client that asks, is chosen last until its time is over. What a server refused counts
//! as in flight there for a while longer: whoever refuses fastest has the least to do, and would get the most.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_policy::policy::OutlierDetection;
use tokio::time::Instant;

use super::Whose;
use super::standing::{CALL, Ejection, Fault, Standing};
use crate::backends::oip::Endpoint;

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
    standing: Mutex<Standing>,
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
            standing: Mutex::default(),
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

    /// How many servers there are.
    pub(super) const fn len(&self) -> usize {
        self.members.len()
    }

    /// The servers, the one to choose first for a client; `tried` are the places of those that had their chance.
    pub(super) fn ranked(
        &self,
        whose: Whose,
        turn: usize,
        tried: &[usize],
    ) -> impl Iterator<Item = (usize, &Arc<Endpoint>)> {
        let now = Instant::now();
        let merits: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(place, member)| {
                let (out, refused) =
                    member.with(|standing| (standing.is_out(whose, now), standing.refused));
                let calls = member.load.load(Ordering::Relaxed);
                let calls = u64::try_from(calls).unwrap_or(u64::MAX);
                Merit {
                    tried: tried.contains(&place),
                    out,
                    load: calls
                        .saturating_mul(CALL)
                        .saturating_add(refused.weight(now)),
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

    /// A server answered a client's request.
    pub(super) fn succeeded(&self, place: usize, whose: Whose) {
        if let Some(member) = self.members.get(place) {
            member.with(|standing| standing.succeeded(whose, Instant::now()));
        }
    }

    /// A server answered that it does not want a call that began at `began`.
    pub(super) fn refused(&self, place: usize, began: Instant) {
        if let Some(member) = self.members.get(place) {
            member.with(|standing| standing.refused.add(began, Instant::now()));
        }
    }

    /// A server failed by itself at a client's call that began at `began`. Says for whom it is left alone from now on, if this was once too often.
    pub(super) fn failed(
        &self,
        place: usize,
        (whose, fault): (Whose, Fault),
        began: Instant,
    ) -> Option<Ejection> {
        let now = Instant::now();
        let member = self.members.get(place)?;
        let out = self
            .members
            .iter()
            .filter(|member| member.with(|standing| standing.is_out(whose, now)))
            .count();
        let percent = usize::try_from(self.rule.max_ejection_percent()).unwrap_or(0);
        let most = self.members.len().saturating_mul(percent) / 100;
        member.with(|standing| standing.failed(self.rule, fault, out < most, (began, now)))
    }
}

impl Member {
    fn with<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        // A poisoned lock holds it all the same.
        change(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
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
pub(super) use tests::rule;

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    /// So many failures in a row, for ten seconds at first.
    pub(in crate::dispatch) fn rule(failures: u32, percent: u32) -> OutlierDetection {
        let outliers = json!({"consecutive_failures": failures, "base_ejection_s": 10, "max_ejection_percent": percent});
        let policy = policy(&json!({"outlier_detection": outliers}), &json!({}));
        let backend = policy.backends().get("b");
        backend
            .map(|backend| backend.outliers())
            .unwrap_or_else(|| unreachable!("the policy has it"))
    }

    /// Whose all requests are here.
    fn one() -> Whose {
        Whose::of(Some("one"))
    }

    fn pool(servers: u16, failures: u32, percent: u32) -> Arc<Pool> {
        let endpoints = (1..=servers)
            .filter_map(|port| Endpoint::new(&format!("http://127.0.0.1:{port}"), None).ok())
            .map(Arc::new);
        Arc::new(Pool::new(endpoints.collect(), rule(failures, percent)))
    }

    fn first(pool: &Pool, tried: &[usize]) -> Option<usize> {
        pool.ranked(one(), pool.turn(), tried)
            .next()
            .map(|(place, _)| place)
    }

    fn failed(pool: &Pool, place: usize) -> Option<Ejection> {
        pool.failed(place, (one(), Fault::Connection), Instant::now())
    }

    /// For everybody.
    fn out_for(seconds: u64) -> Option<Ejection> {
        Some(Ejection::All(Duration::from_secs(seconds)))
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
        pool.succeeded(0, one());
        assert_eq!(failed(&pool, 0), None, "not in a row");
        assert_eq!(failed(&pool, 0), out_for(10));
        pool.succeeded(0, one());
        for _ in 0..4 {
            assert_eq!(first(&pool, &[]), Some(1), "an old answer ends nothing");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!((failed(&pool, 0), failed(&pool, 0)), (None, out_for(20)));
        tokio::time::advance(Duration::from_secs(20)).await;
        pool.succeeded(0, one());
        assert_eq!((failed(&pool, 0), failed(&pool, 0)), (None, out_for(10)));
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
                pool.succeeded(1, one());
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

    #[tokio::test(start_paused = true)]
    async fn one_client_can_take_no_server_from_others_and_not_all_from_itself() {
        let pool = pool(3, 2, 67);
        let mine = Fault::Request(one());
        for place in 0..3 {
            let ejected = [(); 4].map(|()| pool.failed(place, (one(), mine), Instant::now()));
            let out = ejected.contains(&Some(Ejection::One(Duration::from_secs(10))));
            assert_eq!(out, place < 2, "{place}: {ejected:?}");
        }
        assert_eq!(first(&pool, &[]), Some(2), "the last one is left to it");
        let other = Whose::of(Some("other"));
        tokio::time::advance(Duration::from_secs(9)).await;
        let firsts = (0..3).filter_map(|turn| Some(pool.ranked(other, turn, &[]).next()?.0));
        assert_eq!(firsts.collect::<Vec<_>>(), [0, 1, 2]);
    }
}
