//! A denied request for a server's management: loading models, changing settings, shared memory.
//! No client of the gate has a reason to send one.

use tensorgate_policy::values::WatchRule;

use super::{ClientTable, Rule, SourceTable};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::Repeats;

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Repeats>();

/// The rule `management`.
#[derive(Debug, Default)]
pub(super) struct Management {
    clients: ClientTable<Repeats>,
    /// Of requests without a valid credential.
    sources: SourceTable<Repeats>,
    /// For requests whose source is unknown, too.
    repeats: Repeats,
}

impl Rule for Management {
    fn id(&self) -> WatchRule {
        WatchRule::Management
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let server = seen.management?;
        // A client with a valid credential matters more than its address, which others may share.
        let (repeats, subject) = match (&seen.client, seen.source_host()) {
            (Some(name), _) => {
                let Slot { state, is_shared } = self.clients.slot(name, now);
                (state, Subject::client(name, is_shared))
            }
            (None, Some(address)) => {
                let Slot { state, is_shared } = self.sources.slot(&address, now);
                (state, Subject::source(address, is_shared))
            }
            (None, None) => (&mut self.repeats, Subject::Gateway),
        };
        if !repeats.permit(now) {
            return None;
        }
        Some(Finding {
            subject,
            since: now,
            evidence: Evidence {
                observed: 1.0,
                usual: 0.0,
                unit: "requests",
            },
            what: format!("requested the management of {server}, and was rejected"),
            advice: "A tool that needs it must reach the server directly. Otherwise block the \
                     source, or revoke the credential of the client.",
        })
    }

    fn shared_uses(&self) -> u64 {
        let clients = self.clients.shared_uses();
        clients.saturating_add(self.sources.shared_uses())
    }
}
