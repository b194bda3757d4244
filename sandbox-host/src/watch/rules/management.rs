//! A denied request for a server's management: loading models, changing settings, shared memory.
//! No client of the gate has a reason to send one.

use tensorgate_policy::raw::WatchRule;

use super::{Rule, SOURCE_IDLE, SOURCES};
use crate::watch::alert::{Evidence, Finding, Subject};
use crate::watch::observation::Observation;
use crate::watch::table::{Slot, Table};
use crate::watch::time::Time;
use crate::watch::window::Repeats;

/// The rule `management`.
#[derive(Debug)]
pub(super) struct Management {
    sources: Table<Repeats>,
    /// For requests whose source is unknown.
    repeats: Repeats,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            sources: Table::new(SOURCES, SOURCE_IDLE),
            repeats: Repeats::default(),
        }
    }
}

impl Rule for Management {
    fn id(&self) -> WatchRule {
        WatchRule::Management
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        if !seen.is_management {
            return None;
        }
        let address = seen.source_host();
        let (repeats, by_address) = match address {
            Some(address) => {
                let Slot { state, is_shared } = self.sources.slot(&address, now);
                (state, Subject::source(address, is_shared))
            }
            None => (&mut self.repeats, Subject::Gateway),
        };
        if !repeats.permit(now) {
            return None;
        }
        Some(Finding {
            // A client with a valid credential matters more than its address.
            subject: match &seen.client {
                Some(name) => Subject::Client(name.clone()),
                None => by_address,
            },
            since: now,
            evidence: Evidence {
                observed: 1.0,
                usual: 0.0,
                unit: "requests",
            },
            what: "requested the management of an inference server, and was rejected".to_owned(),
            advice: "A tool that needs it must reach the server directly. Otherwise block the \
                     source, or revoke the credential of the client.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.sources.shared_uses()
    }
}
