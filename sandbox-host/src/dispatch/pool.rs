//! The endpoints of one backend, and their ranking for a request.
//!
//! The endpoint with the fewest requests in flight is selected. An endpoint that is ejected, for
//! all clients or for the requesting one, is selected last. Rejected requests count as in flight
//! for some time. Otherwise the endpoint that rejects fastest would look least loaded and receive
//! most requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_base::client_key::ClientKey;
use tensorgate_policy::policy::OutlierDetection;
use tokio::time::Instant;

use super::outlier_detection::{Ejection, FailureSource, OutlierState, REQUEST_WEIGHT};
use crate::backends::oip::Endpoint;
#[cfg(test)]
pub(super) use tests::rule;

/// The endpoints of one backend.
#[derive(Debug)]
pub(super) struct EndpointPool {
    members: Vec<PoolMember>,
    sequence: AtomicUsize,
    rule: OutlierDetection,
}

#[derive(Debug)]
struct PoolMember {
    endpoint: Arc<Endpoint>,
    /// Requests in flight.
    load: AtomicUsize,
    outliers: Mutex<OutlierState>,
}

/// The sort key of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    tried: bool,
    ejected: bool,
    load: u64,
}

/// The indexes of the endpoints, best first. Among equals the round-robin order decides.
fn ranked(merits: &[Preference], turn: usize) -> Vec<usize> {
    let count = merits.len();
    let start = turn.checked_rem(count).unwrap_or(0);
    let mut places: Vec<_> = (start..count).chain(0..start).collect();
    // The sort is stable, so equal endpoints stay in round-robin order.
    places.sort_by_key(|endpoint_index| merits.get(*endpoint_index).copied());
    places
}

impl EndpointPool {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>, rule: OutlierDetection) -> Self {
        let members = endpoints.into_iter().map(|endpoint| PoolMember {
            endpoint,
            load: AtomicUsize::new(0),
            outliers: Mutex::default(),
        });
        Self {
            members: members.collect(),
            sequence: AtomicUsize::new(0),
            rule,
        }
    }

    /// The next number in the round-robin order. A request keeps its number for its retries.
    /// Otherwise each retry would advance the order, and every request would start at the same
    /// endpoint.
    pub(super) fn next_sequence(&self) -> usize {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of endpoints.
    pub(super) const fn len(&self) -> usize {
        self.members.len()
    }

    /// The endpoints in the order of preference for a client. `tried` has the indexes of endpoints
    /// that were already tried.
    pub(super) fn ranked(
        &self,
        client_key: ClientKey,
        turn: usize,
        tried: &[usize],
    ) -> impl Iterator<Item = (usize, &Arc<Endpoint>)> {
        let now = Instant::now();
        let merits: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(endpoint_index, member)| {
                let (out, refused) = member
                    .with(|standing| (standing.is_ejected(client_key, now), standing.refused));
                let calls = member.load.load(Ordering::Relaxed);
                let calls = u64::try_from(calls).unwrap_or(u64::MAX);
                Preference {
                    tried: tried.contains(&endpoint_index),
                    ejected: out,
                    load: calls
                        .saturating_mul(REQUEST_WEIGHT)
                        .saturating_add(refused.weight(now)),
                }
            })
            .collect();
        ranked(&merits, turn)
            .into_iter()
            .filter_map(|endpoint_index| {
                Some((endpoint_index, &self.members.get(endpoint_index)?.endpoint))
            })
    }

    /// The endpoints, each with whether it is ejected for all clients.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Endpoint, bool)> {
        let now = Instant::now();
        self.members.iter().map(move |member| {
            let is_ejected = member.with(|standing| standing.is_ejected_for_all(now));
            (&*member.endpoint, is_ejected)
        })
    }

    /// Counts a request at an endpoint until the returned guard is dropped.
    pub(super) fn start_request(self: &Arc<Self>, endpoint_index: usize) -> LoadGuard {
        if let Some(member) = self.members.get(endpoint_index) {
            member.load.fetch_add(1, Ordering::Relaxed);
        }
        LoadGuard {
            pool: Arc::clone(self),
            endpoint_index,
        }
    }

    /// Records that an endpoint answered a client's request.
    pub(super) fn on_success(&self, endpoint_index: usize, client_key: ClientKey) {
        if let Some(member) = self.members.get(endpoint_index) {
            member.with(|standing| standing.on_success(client_key, Instant::now()));
        }
    }

    /// Records that an endpoint rejected a call that started at `started`.
    pub(super) fn on_rejection(&self, endpoint_index: usize, began: Instant) {
        if let Some(member) = self.members.get(endpoint_index) {
            member.with(|standing| standing.refused.add(began, Instant::now()));
        }
    }

    /// Records that an endpoint failed on a client's call that started at `started`. Returns the
    /// ejection that this caused, if any.
    pub(super) fn on_failure(
        &self,
        endpoint_index: usize,
        (client_key, fault): (ClientKey, FailureSource),
        began: Instant,
    ) -> Option<Ejection> {
        let now = Instant::now();
        let member = self.members.get(endpoint_index)?;
        let out = self
            .members
            .iter()
            .filter(|member| member.with(|standing| standing.is_ejected(client_key, now)))
            .count();
        let percent = usize::try_from(self.rule.max_ejection_percent()).unwrap_or(0);
        let most = self.members.len().saturating_mul(percent) / 100;
        member.with(|standing| standing.on_failure(self.rule, fault, out < most, (began, now)))
    }
}

impl PoolMember {
    fn with<T>(&self, change: impl FnOnce(&mut OutlierState) -> T) -> T {
        // The state stays valid if another thread panicked.
        change(&mut self.outliers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A guard that counts one request in flight at an endpoint.
#[derive(Debug)]
pub struct LoadGuard {
    pool: Arc<EndpointPool>,
    endpoint_index: usize,
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        if let Some(member) = self.pool.members.get(self.endpoint_index) {
            member.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::tests::policy;
    use super::*;

    /// A rule with this many consecutive failures and a first ejection of ten seconds.
    pub(in crate::dispatch) fn rule(failures: u32, percent: u32) -> OutlierDetection {
        let outliers = json!({"consecutive_failures": failures, "base_ejection_s": 10, "max_ejection_percent": percent});
        let policy = policy(&json!({"outlier_detection": outliers}), &json!({}));
        let backend = policy.backends().get("b");
        backend
            .map(|backend| backend.outliers())
            .unwrap_or_else(|| unreachable!("the policy has it"))
    }

    /// The client of all requests in these tests.
    fn one() -> ClientKey {
        ClientKey::from_name(Some("one"))
    }

    fn pool(servers: u16, failures: u32, percent: u32) -> Arc<EndpointPool> {
        let endpoints = (1..=servers)
            .filter_map(|port| Endpoint::new(&format!("http://127.0.0.1:{port}"), None).ok())
            .map(Arc::new);
        Arc::new(EndpointPool::new(
            endpoints.collect(),
            rule(failures, percent),
        ))
    }

    fn first(pool: &EndpointPool, tried: &[usize]) -> Option<usize> {
        pool.ranked(one(), pool.next_sequence(), tried)
            .next()
            .map(|(endpoint_index, _)| endpoint_index)
    }

    fn failed(pool: &EndpointPool, endpoint_index: usize) -> Option<Ejection> {
        pool.on_failure(
            endpoint_index,
            (one(), FailureSource::Connection),
            Instant::now(),
        )
    }

    /// An ejection for all clients.
    fn out_for(seconds: u64) -> Option<Ejection> {
        Some(Ejection::AllClients(Duration::from_secs(seconds)))
    }

    #[test]
    fn the_best_is_not_tried_not_ejected_and_least_loaded() {
        let merit = |tried, out, load| Preference {
            tried,
            ejected: out,
            load,
        };
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
        let load = pool.start_request(0);
        assert_eq!(first(&pool, &[]), Some(1));
        assert_eq!(first(&pool, &[]), Some(1), "in any turn");
        assert_eq!(first(&pool, &[1]), Some(0), "one that was tried comes last");
        drop(load);
        assert_eq!(first(&pool, &[1]), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_in_a_row_is_left_alone_and_longer_each_time() {
        let pool = pool(2, 2, 50);
        assert_eq!(failed(&pool, 0), None);
        pool.on_success(0, one());
        assert_eq!(failed(&pool, 0), None, "not in a row");
        assert_eq!(failed(&pool, 0), out_for(10));
        pool.on_success(0, one());
        for _ in 0..4 {
            assert_eq!(first(&pool, &[]), Some(1), "an old answer ends nothing");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!((failed(&pool, 0), failed(&pool, 0)), (None, out_for(20)));
        tokio::time::advance(Duration::from_secs(20)).await;
        pool.on_success(0, one());
        assert_eq!((failed(&pool, 0), failed(&pool, 0)), (None, out_for(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_counts_as_in_flight_for_a_while() {
        let pool = pool(2, 1_000, 50);
        let refuse = || pool.on_rejection(0, Instant::now());
        refuse();
        for _ in 0..4 {
            assert_eq!(first(&pool, &[]), Some(1), "in any turn");
        }
        let busy = [pool.start_request(1), pool.start_request(1)];
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
        // A call to the working endpoint takes a second. A request comes every ten milliseconds.
        for _ in 0..3_000 {
            tokio::time::advance(Duration::from_millis(10)).await;
            if working.len() >= 100 {
                working.pop_front();
                pool.on_success(1, one());
            }
            if first(&pool, &[]) == Some(0) {
                pool.on_rejection(0, Instant::now());
                refused = refused.saturating_add(1);
            } else {
                working.push_back(pool.start_request(1));
            }
        }
        assert!(refused < 60, "{refused} of 3000");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_is_refused_at_once_counts_no_more_than_itself() {
        let pool = pool(2, 1_000, 50);
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        (0..50).for_each(|_| pool.on_rejection(0, began));
        let busy: Vec<_> = (0..51).map(|_| pool.start_request(1)).collect();
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
        let mine = FailureSource::Request(one());
        for endpoint_index in 0..3 {
            let ejected =
                [(); 4].map(|()| pool.on_failure(endpoint_index, (one(), mine), Instant::now()));
            let out = ejected.contains(&Some(Ejection::OneClient(Duration::from_secs(10))));
            assert_eq!(out, endpoint_index < 2, "{endpoint_index}: {ejected:?}");
        }
        assert_eq!(first(&pool, &[]), Some(2), "the last one is left to it");
        let other = ClientKey::from_name(Some("other"));
        tokio::time::advance(Duration::from_secs(9)).await;
        let firsts = (0..3).filter_map(|turn| Some(pool.ranked(other, turn, &[]).next()?.0));
        assert_eq!(firsts.collect::<Vec<_>>(), [0, 1, 2]);
    }
}
