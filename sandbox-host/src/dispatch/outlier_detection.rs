//! Outlier detection: ejects an endpoint after consecutive failures, for all clients or for one. It
//! also tracks the load that recent rejections represent.
//!
//! As in Envoy, consecutive failures eject an endpoint. A request may fail because of its own
//! content, so failures are counted by client. Failures of one client eject the endpoint for that
//! client only. An ejection for all needs failures of at least two clients, each with at most half
//! of them. A connection failure belongs to no client, and all calls that failed with it count
//! once.

use std::collections::HashMap;
use std::time::Duration;

use tensorgate_policy::policy::OutlierDetection;
use tokio::time::Instant;

use crate::dispatch::ClientKey;

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

    /// Whether the endpoint is ejected for all clients.
    pub(super) fn is_ejected_for_all(&self, now: Instant) -> bool {
        self.shared.is_ejected(now)
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
    use super::*;
    use crate::dispatch::pool::rule;

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
