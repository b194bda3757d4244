//! A client that sends from a network that it has not used before: a stolen credential, or a move.

use tensorgate_policy::raw::WatchRule;

use super::known::Known;
use super::{CLIENT_IDLE, CLIENTS, Rule};
use crate::watch::alert::{Evidence, Finding, Subject};
use crate::watch::observation::Observation;
use crate::watch::table::{Slot, Table, hash};
use crate::watch::time::Time;

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = super::known::BYTES;

/// The rule `new-source`.
#[derive(Debug)]
pub(super) struct NewSource {
    clients: Table<Known>,
}

impl Default for NewSource {
    fn default() -> Self {
        Self {
            clients: Table::new(CLIENTS, CLIENT_IDLE),
        }
    }
}

impl Rule for NewSource {
    fn id(&self) -> WatchRule {
        WatchRule::NewSource
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let network = seen.source_network()?;
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let is_new = state.observe(hash(&network), now);
        // Clients that share state have different sources.
        if !is_new || is_shared {
            return None;
        }
        Some(Finding {
            subject: Subject::Client(name.clone()),
            since: now,
            evidence: Evidence {
                observed: 1.0,
                usual: 0.0,
                unit: "new networks",
            },
            what: format!("sends from {network}, a network that it has not used before"),
            advice: "If the client has not moved, its credential is stolen: revoke it. \
                     `tensorgate audit query --client NAME` lists the sources.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }
}
