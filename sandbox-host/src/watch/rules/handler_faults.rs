//! A client whose requests make handlers fail while those of others do not: an input that is built
//! to break a handler.

use tensorgate_policy::Reason;
use tensorgate_policy::raw::WatchRule;

use super::{CLIENT_IDLE, CLIENTS, Rule};
use crate::watch::alert::{Evidence, Finding, Subject};
use crate::watch::observation::Observation;
use crate::watch::table::{Slot, Table};
use crate::watch::time::Time;
use crate::watch::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// The fewest faults of a client in one window that make an alert.
const MIN_FAULTS: u32 = 10;
/// An abnormal share of faults is this many times that of the other clients.
const TIMES_OTHERS: f64 = 4.0;
/// The share that others count as having at least.
const MIN_SHARE: f64 = 0.005;

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::watch::table::key_bytes::<Client>();

/// The rule `handler-faults`.
#[derive(Debug)]
pub(super) struct HandlerFaults {
    clients: Table<Client>,
    all: Windows<Counts>,
}

#[derive(Debug, Default)]
struct Client {
    windows: Windows<Counts>,
    repeats: Repeats,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u32,
    faults: u32,
}

impl Counts {
    const fn add(&mut self, is_fault: bool) {
        self.requests = self.requests.saturating_add(1);
        self.faults = self.faults.saturating_add(is_fault as u32);
    }

    fn share(&self) -> f64 {
        f64::from(self.faults) / f64::from(self.requests.max(1))
    }
}

impl Default for HandlerFaults {
    fn default() -> Self {
        Self {
            clients: Table::new(CLIENTS, CLIENT_IDLE),
            all: Windows::default(),
        }
    }
}

impl Rule for HandlerFaults {
    fn id(&self) -> WatchRule {
        WatchRule::HandlerFaults
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let is_fault = seen.reason == Some(Reason::HandlerFault);
        self.all.advance(now, WINDOW_S);
        self.all.counts.add(is_fault);
        let Slot { state, is_shared } = self.clients.slot(name, now);
        state.windows.advance(now, WINDOW_S);
        let own = &mut state.windows.counts;
        own.add(is_fault);
        let others = Counts {
            requests: self.all.counts.requests.saturating_sub(own.requests),
            faults: self.all.counts.faults.saturating_sub(own.faults),
        };
        let is_abnormal = is_fault
            && own.faults >= MIN_FAULTS
            && own.share() > TIMES_OTHERS * others.share().max(MIN_SHARE);
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
            what: "makes handlers fail far more often than other clients".to_owned(),
            advice: "Capture its calls and replay them (`capture` in the policy). Reject inputs \
                     like these with a rule, or revoke its credential.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }
}
