//! A client whose requests make handlers fail while those of others do not: an input that is built
//! to break a handler. If the circuit breaker of a handler opens for the client, fewer are enough.

use tensorgate_policy::Reason;
use tensorgate_policy::values::WatchRule;

use super::share::Counts;
use super::{ClientTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::{Kind, Observation};
use crate::table::Slot;
use crate::time::Time;
use crate::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// The fewest faults of a client in one window that make an alert.
const MIN_FAULTS: u32 = 10;
/// An abnormal share of faults is this many times that of the other clients.
const TIMES_OTHERS: f64 = 4.0;
/// The share that others count as having at least.
const MIN_SHARE: f64 = 0.005;

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Client>();

/// The rule `handler-faults`.
#[derive(Debug, Default)]
pub(super) struct HandlerFaults {
    clients: ClientTable<Client>,
    all: Windows<Counts>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Client {
    windows: Windows<Counts>,
    repeats: Repeats,
}

impl Rule for HandlerFaults {
    fn id(&self) -> WatchRule {
        WatchRule::HandlerFaults
    }

    fn reads(&self, _: &Kind) -> bool {
        true
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        // The request of an ending was counted when it was observed.
        let requests = u32::from(seen.kind == Kind::Request);
        let is_fault = seen.reason == Some(Reason::HandlerFault);
        self.all.advance(now, WINDOW_S);
        self.all.counts.add(requests, is_fault.into());
        let Slot { state, is_shared } = self.clients.slot(name, now);
        state.windows.advance(now, WINDOW_S);
        let own = &mut state.windows.counts;
        own.add(requests, is_fault.into());
        let others = Counts {
            all: self.all.counts.all.saturating_sub(own.all),
            bad: self.all.counts.bad.saturating_sub(own.bad),
        };
        let opened = match &seen.kind {
            Kind::CircuitOpened(handler) => Some(handler),
            Kind::Request | Kind::Ending => None,
        };
        let fewest = self.thresholds.at_least.unwrap_or(MIN_FAULTS);
        let times = self.thresholds.times.unwrap_or(TIMES_OTHERS);
        let has_many = is_fault && own.bad >= fewest;
        let is_abnormal =
            (has_many || opened.is_some()) && own.share() > times * others.share().max(MIN_SHARE);
        if !is_abnormal || !state.repeats.permit(now) {
            return None;
        }
        Some(Finding {
            subject: Subject::client(name, is_shared),
            since: Time::of_window(now.window(WINDOW_S), WINDOW_S),
            evidence: Evidence {
                observed: own.share() * 100.0,
                usual: others.share() * 100.0,
                unit: "% of its requests",
            },
            what: opened.map_or_else(
                || "makes handlers fail far more often than other clients".to_owned(),
                |handler| format!("made the circuit breaker of handler {handler} open for it"),
            ),
            advice: "Capture its calls and replay them (`capture` in the policy). Reject inputs \
                     like these with a rule, or revoke its credential.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alert about a client whose circuit opens after this many requests of its own and of
    /// another client had faults.
    fn opened(own_faults: usize, faults_of_others: usize) -> Option<String> {
        let mut rule = HandlerFaults::default();
        let seen = |client: &str, reason| Observation {
            client: Some(client.to_owned()),
            reason,
            ..Observation::default()
        };
        let mut show = |seen: &Observation| rule.observe(seen, Time::from_s(1));
        for (client, faults) in [("web", own_faults), ("mobile", faults_of_others)] {
            for number in 0..100 {
                let reason = (number < faults).then_some(Reason::HandlerFault);
                assert_eq!(show(&seen(client, reason)), None);
            }
        }
        let circuit = Observation {
            kind: Kind::CircuitOpened("normalise".to_owned()),
            ..seen("web", None)
        };
        show(&circuit).map(|found| found.what)
    }

    #[test]
    fn a_circuit_that_opens_for_a_client_is_reported_unless_others_have_faults_too() {
        let what = "made the circuit breaker of handler normalise open for it";
        assert_eq!(opened(5, 0).as_deref(), Some(what));
        assert_eq!(opened(5, 5), None, "the handler is broken");
    }
}
