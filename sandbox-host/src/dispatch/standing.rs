//! How a server did lately, for everybody and for single clients: whether it is left alone, and what its refusals weigh.
//!
//! Failures in a row eject a server, as Envoy has it. Whose they are matters: a request may fail for what is in it. Those of one client eject the server
//! for that client alone, whose requests go elsewhere from then on; for everybody it takes two clients at least, of whom none has more than half of the
//! row. A connection that broke is nobody's, and all that broke with it is one failure.

use std::collections::HashMap;
use std::time::Duration;

use tensorgate_policy::policy::OutlierDetection;
use tokio::time::Instant;

use super::Whose;

/// The longest ejection, unless the first is longer already: as Envoy has it.
const MAX_EJECTION: Duration = Duration::from_secs(300);
/// Clients whose failures at one server are known at once. Of those beyond, everybody's row knows.
const MAX_CLIENTS: usize = 1_024;

/// What one call in flight counts in a rank: parts of it are told.
pub(super) const CALL: u64 = 16;
/// What was refused counts half as much after each of these.
const HALF_LIFE_MS: u128 = 1_000;
/// A refusal counts as a call in flight, and as twice as many as the one before if nothing was answered between; so often at most.
const MAX_DOUBLINGS: u32 = 12;
/// The most that refusals count: as many calls as any backend has in flight.
const MAX_REFUSED: u64 = CALL << 16;

/// Whose failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A connection broke, with whatever went over it.
    Connection,
    /// One client's request failed.
    Request(Whose),
}

/// For whom a server is left alone from now on, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ejection {
    /// For everybody.
    All(Duration),
    /// For the client whose requests failed there.
    One(Duration),
}

/// One server's.
#[derive(Debug, Default)]
pub(super) struct Standing {
    all: Row,
    /// What each client has of the row that `all` is.
    shares: HashMap<Whose, u32>,
    /// Of clients whose requests failed since one of theirs was answered.
    own: HashMap<Whose, Row>,
    pub(super) refused: Refused,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    failures: u32,
    /// The last of them.
    last: Option<Instant>,
    /// Ejections with no success between them.
    ejections: u32,
    /// When the last one is over.
    until: Option<Instant>,
}

impl Row {
    fn is_out(&self, now: Instant) -> bool {
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

impl Standing {
    /// Whether it is left alone by a client.
    pub(super) fn is_out(&self, whose: Whose, now: Instant) -> bool {
        let own = self.own.get(&whose);
        self.all.is_out(now) || own.is_some_and(|own| own.is_out(now))
    }

    /// A client's request was answered. An answer to what was sent before an ejection does not end it.
    pub(super) fn succeeded(&mut self, whose: Whose, now: Instant) {
        self.refused.row = 0;
        if !self.all.is_out(now) {
            self.all = Row::default();
            self.shares.clear();
        }
        if self.own.get(&whose).is_some_and(|own| !own.is_out(now)) {
            self.own.remove(&whose);
        }
    }

    /// One more failure, of a call that began at `began`; whom it ejects the server for, where it may.
    pub(super) fn failed(
        &mut self,
        rule: OutlierDetection,
        fault: Fault,
        may_eject: bool,
        (began, now): (Instant, Instant),
    ) -> Option<Ejection> {
        self.refused.add(began, now);
        if self.all.is_out(now) {
            return None;
        }
        self.failed_for_all(rule, fault, began, now);
        let most = rule.consecutive_failures();
        let agreed = fault == Fault::Connection || self.shares.len() > 1;
        if may_eject && agreed && self.all.failures >= most {
            self.shares.clear();
            return Some(Ejection::All(self.all.eject(rule, now)));
        }
        let Fault::Request(whose) = fault else {
            return None;
        };
        let own = self.row_of(whose, now)?;
        if own.is_out(now) {
            return None;
        }
        own.add(now);
        (may_eject && own.failures >= most).then(|| Ejection::One(own.eject(rule, now)))
    }

    fn failed_for_all(
        &mut self,
        rule: OutlierDetection,
        fault: Fault,
        began: Instant,
        now: Instant,
    ) {
        match fault {
            Fault::Connection => {
                if self.all.last.is_none_or(|last| began >= last) {
                    self.all.add(now);
                }
            }
            Fault::Request(whose) => {
                if self.shares.len() >= MAX_CLIENTS && !self.shares.contains_key(&whose) {
                    return;
                }
                let share = self.shares.entry(whose).or_default();
                if *share < rule.consecutive_failures().div_ceil(2) {
                    *share = share.saturating_add(1);
                    self.all.add(now);
                }
            }
        }
    }

    /// A client's own row, if there is room for one.
    fn row_of(&mut self, whose: Whose, now: Instant) -> Option<&mut Row> {
        if self.own.len() >= MAX_CLIENTS && !self.own.contains_key(&whose) {
            self.own.retain(|_, row| row.is_out(now));
            if self.own.len() >= MAX_CLIENTS {
                return None;
            }
        }
        Some(self.own.entry(whose).or_default())
    }
}

/// What a server refused lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// What it counted when it last refused, and when that was.
    last: Option<(u64, Instant)>,
    /// Refusals with no answer between them, each of a call that began after the one before.
    row: u32,
}

impl Refused {
    /// What it counts by now.
    pub(super) fn weight(self, now: Instant) -> u64 {
        let Some((weight, since)) = self.last else {
            return 0;
        };
        let elapsed_ms = now.saturating_duration_since(since).as_millis();
        let halvings = u32::try_from(elapsed_ms.div_euclid(HALF_LIFE_MS)).unwrap_or(u32::MAX);
        weight.checked_shr(halvings).unwrap_or(0)
    }

    /// One more, of a call that began at `began`.
    pub(super) fn add(&mut self, began: Instant, now: Instant) {
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

#[cfg(test)]
mod tests {
    use super::super::pool::rule;
    use super::*;

    fn who(name: u32) -> Whose {
        Whose::of(Some(&name.to_string()))
    }

    /// Failures in turn, each of a call that began after the one before; what the last one led to.
    fn fail(standing: &mut Standing, failures: u32, faults: &[Fault]) -> Option<Ejection> {
        let rule = rule(failures, 50);
        let now = Instant::now();
        let mut came = None;
        for fault in faults {
            assert_eq!(came, None, "only the last one ejects: {faults:?}");
            came = standing.failed(rule, *fault, true, (now, now));
        }
        came
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_ejected_for_all_by_two_clients_or_by_its_connections_and_else_for_one() {
        let (a, b) = (Fault::Request(who(1)), Fault::Request(who(2)));
        let lost = Fault::Connection;
        let all = Some(Ejection::All(Duration::from_secs(10)));
        let one = Some(Ejection::One(Duration::from_secs(10)));
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
            let found = fail(&mut Standing::default(), failures, &faults);
            assert_eq!(found, expected, "{failures}: {faults:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_client_ejected_is_there_for_all_others() {
        let mut standing = Standing::default();
        let a = Fault::Request(who(1));
        let one = |seconds| Some(Ejection::One(Duration::from_secs(seconds)));
        assert_eq!(fail(&mut standing, 2, &[a, a]), one(10));
        let out =
            |standing: &Standing| [1, 2].map(|who_| standing.is_out(who(who_), Instant::now()));
        assert_eq!(out(&standing), [true, false]);
        // What others are answered is no news of what it sends.
        standing.succeeded(who(2), Instant::now());
        assert_eq!(out(&standing), [true, false]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(out(&standing), [false, false]);
        assert_eq!(fail(&mut standing, 2, &[a, a]), one(20));
        tokio::time::advance(Duration::from_secs(20)).await;
        standing.succeeded(who(1), Instant::now());
        assert_eq!(fail(&mut standing, 2, &[a, a]), one(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_with_one_connection_is_one_failure() {
        let mut standing = Standing::default();
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        for _ in 0..50 {
            let now = Instant::now();
            let ejected = standing.failed(rule(2, 50), Fault::Connection, true, (began, now));
            assert_eq!(ejected, None);
        }
        let ejected = fail(&mut standing, 2, &[Fault::Connection]);
        assert_eq!(ejected, Some(Ejection::All(Duration::from_secs(10))));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_million_clients_a_bounded_number_is_known() {
        let mut standing = Standing::default();
        let now = Instant::now();
        for name in 0..5_000 {
            standing.failed(
                rule(1_000, 50),
                Fault::Request(who(name)),
                false,
                (now, now),
            );
        }
        assert!(standing.shares.len() <= MAX_CLIENTS && standing.own.len() <= MAX_CLIENTS);
    }
}
