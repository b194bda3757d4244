//! The endpoints of one backend, and their ranking for a request.
//!
//! The endpoint with the fewest requests in flight is selected. An endpoint that is ejected, for
//! all clients or for the requesting one, is selected last. Rejected requests count as in flight
//! for some time. Otherwise the endpoint that rejects fastest would look least loaded and receive
//! most requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tensorgate_policy::policy::OutlierDetection;
#[cfg(test)]
pub(super) use tests::rule;
use tokio::time::Instant;

use crate::backends::oip::Endpoint;
use crate::turns::ClientKey;

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

// Outlier detection: ejects an endpoint after consecutive failures, for all clients or for one. It
// also tracks the load that recent rejections represent.
//
// As in Envoy, consecutive failures eject an endpoint. A request may fail because of its own
// content, so failures are counted by client. Failures of one client eject the endpoint for that
// client only. An ejection for all needs failures of at least two clients, each with at most half
// of them. A connection failure belongs to no client, and all calls that failed with it count
// once.

/// The longest ejection, unless the configured base time is longer. The value is Envoy's default.
const MAX_EJECTION: Duration = Duration::from_secs(300);
/// The most clients with a failure count of their own at one endpoint. Failures of further clients
/// count on the shared count only.
const MAX_CLIENTS: usize = 1_024;

/// The weight of one request in flight in the ranking. It leaves room for fractions.
pub(super) const REQUEST_WEIGHT: u64 = 16;
/// The weight of past rejections halves in each of these intervals.
const HALF_LIFE_MS: u128 = 1_000;
/// The first rejection weighs as much as one request in flight, and each consecutive one twice as
/// much as the one before. This is the most doublings.
const MAX_DOUBLINGS: u32 = 12;
/// The largest weight of rejections: as many requests as any backend has in flight.
const MAX_REJECTION_WEIGHT: u64 = REQUEST_WEIGHT << 16;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureSource {
    /// A connection failed, with all requests on it.
    Connection,
    /// One client's request failed.
    Request(ClientKey),
}

/// The scope and the length of an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ejection {
    /// For all clients.
    AllClients(Duration),
    /// For the client whose requests failed.
    OneClient(Duration),
}

/// The outlier detection state of one endpoint.
#[derive(Debug, Default)]
pub(super) struct OutlierState {
    shared: FailureStreak,
    /// The share of each client in the failures of `shared`.
    failures_by_client: HashMap<ClientKey, u32>,
    /// The failures of clients since their last success.
    by_client: HashMap<ClientKey, FailureStreak>,
    pub(super) refused: RejectionLoad,
}

/// Consecutive failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FailureStreak {
    failures: u32,
    /// The time of the last failure.
    last: Option<Instant>,
    /// Consecutive ejections.
    ejections: u32,
    /// The end of the last ejection.
    until: Option<Instant>,
}

impl FailureStreak {
    fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn add(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
    }

    fn eject(&mut self, rule: OutlierDetection, now: Instant) -> Duration {
        self.failures = 0;
        self.ejections = self.ejections.saturating_add(1);
        let base = Duration::from_millis(rule.base_ejection_ms());
        let long = base
            .saturating_mul(self.ejections)
            .min(MAX_EJECTION.max(base));
        self.until = now.checked_add(long);
        long
    }
}

impl OutlierState {
    /// Whether the endpoint is ejected for a client.
    pub(super) fn is_ejected(&self, client_key: ClientKey, now: Instant) -> bool {
        let own = self.by_client.get(&client_key);
        self.shared.is_ejected(now) || own.is_some_and(|own| own.is_ejected(now))
    }

    /// Records a response to a client's request. It does not end an ejection, because the request
    /// may have been sent before it.
    pub(super) fn on_success(&mut self, client_key: ClientKey, now: Instant) {
        self.refused.consecutive = 0;
        if !self.shared.is_ejected(now) {
            self.shared = FailureStreak::default();
            self.failures_by_client.clear();
        }
        if self
            .by_client
            .get(&client_key)
            .is_some_and(|own| !own.is_ejected(now))
        {
            self.by_client.remove(&client_key);
        }
    }

    /// Records a failure of a call that started at `started`. Returns the ejection that this
    /// caused, if `may_eject` allows one.
    pub(super) fn on_failure(
        &mut self,
        rule: OutlierDetection,
        fault: FailureSource,
        may_eject: bool,
        (began, now): (Instant, Instant),
    ) -> Option<Ejection> {
        self.refused.add(began, now);
        if self.shared.is_ejected(now) {
            return None;
        }
        self.count_shared(rule, fault, began, now);
        let most = rule.consecutive_failures();
        let agreed = fault == FailureSource::Connection || self.failures_by_client.len() > 1;
        if may_eject && agreed && self.shared.failures >= most {
            self.failures_by_client.clear();
            return Some(Ejection::AllClients(self.shared.eject(rule, now)));
        }
        let FailureSource::Request(client_key) = fault else {
            return None;
        };
        let own = self.client_streak(client_key, now)?;
        if own.is_ejected(now) {
            return None;
        }
        own.add(now);
        (may_eject && own.failures >= most).then(|| Ejection::OneClient(own.eject(rule, now)))
    }

    fn count_shared(
        &mut self,
        rule: OutlierDetection,
        fault: FailureSource,
        began: Instant,
        now: Instant,
    ) {
        match fault {
            FailureSource::Connection => {
                if self.shared.last.is_none_or(|last| began >= last) {
                    self.shared.add(now);
                }
            }
            FailureSource::Request(client_key) => {
                if self.failures_by_client.len() >= MAX_CLIENTS
                    && !self.failures_by_client.contains_key(&client_key)
                {
                    return;
                }
                let share = self.failures_by_client.entry(client_key).or_default();
                if *share < rule.consecutive_failures().div_ceil(2) {
                    *share = share.saturating_add(1);
                    self.shared.add(now);
                }
            }
        }
    }

    /// The failure count of a client, if there is room for one.
    fn client_streak(&mut self, client_key: ClientKey, now: Instant) -> Option<&mut FailureStreak> {
        if self.by_client.len() >= MAX_CLIENTS && !self.by_client.contains_key(&client_key) {
            self.by_client.retain(|_, row| row.is_ejected(now));
            if self.by_client.len() >= MAX_CLIENTS {
                return None;
            }
        }
        Some(self.by_client.entry(client_key).or_default())
    }
}

/// The load that recent rejections represent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RejectionLoad {
    /// The weight after the last rejection, and the time of that rejection.
    last_weight: Option<(u64, Instant)>,
    /// Consecutive rejections, each of a call that started after the previous one.
    consecutive: u32,
}

impl RejectionLoad {
    /// The current weight.
    pub(super) fn weight(self, now: Instant) -> u64 {
        let Some((weight, since)) = self.last_weight else {
            return 0;
        };
        let elapsed_ms = now.saturating_duration_since(since).as_millis();
        let halvings = u32::try_from(elapsed_ms.div_euclid(HALF_LIFE_MS)).unwrap_or(u32::MAX);
        weight.checked_shr(halvings).unwrap_or(0)
    }

    /// Records a rejection of a call that started at `started`.
    pub(super) fn add(&mut self, began: Instant, now: Instant) {
        // Requests that are rejected at the same moment count as one.
        if self.last_weight.is_none_or(|(_, last)| began >= last) {
            self.consecutive = self.consecutive.saturating_add(1);
        }
        let doublings = self.consecutive.saturating_sub(1).min(MAX_DOUBLINGS);
        let more = REQUEST_WEIGHT
            .checked_shl(doublings)
            .unwrap_or(MAX_REJECTION_WEIGHT);
        let weight = self
            .weight(now)
            .saturating_add(more)
            .min(MAX_REJECTION_WEIGHT);
        self.last_weight = Some((weight, now));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

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

#[cfg(test)]
mod outlier_detection_tests {
    use super::{rule, *};

    fn who(name: u32) -> ClientKey {
        ClientKey::from_name(Some(&name.to_string()))
    }

    /// Records failures one after the other, each of a later call. Returns what the last one
    /// caused.
    fn fail(state: &mut OutlierState, failures: u32, faults: &[FailureSource]) -> Option<Ejection> {
        let rule = rule(failures, 50);
        let now = Instant::now();
        let mut came = None;
        for fault in faults {
            assert_eq!(came, None, "only the last one ejects: {faults:?}");
            came = state.on_failure(rule, *fault, true, (now, now));
        }
        came
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_ejected_for_all_by_two_clients_or_by_its_connections_and_else_for_one() {
        let (a, b) = (
            FailureSource::Request(who(1)),
            FailureSource::Request(who(2)),
        );
        let lost = FailureSource::Connection;
        let all = Some(Ejection::AllClients(Duration::from_secs(10)));
        let one = Some(Ejection::OneClient(Duration::from_secs(10)));
        for (failures, faults, expected) in [
            (5, vec![a, a, a, a], None),
            (5, vec![a, a, a, a, a], one),
            (5, vec![a, a, a, b], None),
            (5, vec![a, a, a, b, b], all),
            (5, vec![a, a, a, a, b, b], all),
            (5, vec![b, a, b, a, a], all),
            (5, vec![lost, lost, lost, lost, lost], all),
            (5, vec![a, a, a, a, lost], None),
            (5, vec![a, lost, a, lost, a, lost], all),
            (4, vec![a, a, a, lost, lost], all),
            (2, vec![a, b], all),
            (2, vec![a, a], one),
            (1, vec![a], one),
            (1, vec![lost], all),
        ] {
            let found = fail(&mut OutlierState::default(), failures, &faults);
            assert_eq!(found, expected, "{failures}: {faults:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_client_ejected_is_there_for_all_others() {
        let mut standing = OutlierState::default();
        let a = FailureSource::Request(who(1));
        let one = |seconds| Some(Ejection::OneClient(Duration::from_secs(seconds)));
        assert_eq!(fail(&mut standing, 2, &[a, a]), one(10));
        let out = |standing: &OutlierState| {
            [1, 2].map(|who_| standing.is_ejected(who(who_), Instant::now()))
        };
        assert_eq!(out(&standing), [true, false]);
        // A success of another client says nothing about this client's requests.
        standing.on_success(who(2), Instant::now());
        assert_eq!(out(&standing), [true, false]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(out(&standing), [false, false]);
        assert_eq!(fail(&mut standing, 2, &[a, a]), one(20));
        tokio::time::advance(Duration::from_secs(20)).await;
        standing.on_success(who(1), Instant::now());
        assert_eq!(fail(&mut standing, 2, &[a, a]), one(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_with_one_connection_is_one_failure() {
        let mut standing = OutlierState::default();
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        for _ in 0..50 {
            let now = Instant::now();
            let ejected =
                standing.on_failure(rule(2, 50), FailureSource::Connection, true, (began, now));
            assert_eq!(ejected, None);
        }
        let ejected = fail(&mut standing, 2, &[FailureSource::Connection]);
        assert_eq!(ejected, Some(Ejection::AllClients(Duration::from_secs(10))));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_million_clients_a_bounded_number_is_known() {
        let mut standing = OutlierState::default();
        let now = Instant::now();
        for name in 0..5_000 {
            standing.on_failure(
                rule(1_000, 50),
                FailureSource::Request(who(name)),
                false,
                (now, now),
            );
        }
        assert!(
            standing.failures_by_client.len() <= MAX_CLIENTS
                && standing.by_client.len() <= MAX_CLIENTS
        );
    }
}
