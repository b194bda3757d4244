//! Credentials of several clients from one source that had none of them before: an attacker who
//! uses stolen credentials.

use std::time::Duration;

use tensorgate_policy::raw::WatchRule;

use super::{Rule, SOURCES};
use crate::watch::alert::{Evidence, Finding, Subject};
use crate::watch::observation::Observation;
use crate::watch::table::{Slot, Table, hash};
use crate::watch::time::Time;
use crate::watch::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// Clients new to a source in one window that make an alert.
const NEW_CLIENTS: u32 = 4;
/// The most clients of a source that are remembered. A source with more is a proxy.
const REMEMBERED: usize = 32;
/// After a start each client is new to its source.
const LEARNING: Duration = Duration::from_secs(3_600);
/// A source that sent nothing for this time is forgotten if there is no room. Only a verified
/// credential makes a source.
const IDLE: Duration = Duration::from_secs(86_400);

/// The rule `spraying-clients`.
#[derive(Debug)]
pub(super) struct SprayingClients {
    sources: Table<Source>,
    first: Option<Time>,
}

#[derive(Debug, Default)]
struct Source {
    clients: Vec<u64>,
    /// The number of new clients.
    windows: Windows<u32>,
    repeats: Repeats,
}

impl Default for SprayingClients {
    fn default() -> Self {
        Self {
            sources: Table::new(SOURCES, IDLE),
            first: None,
        }
    }
}

impl Rule for SprayingClients {
    fn id(&self) -> WatchRule {
        WatchRule::SprayingClients
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let client = hash(seen.client.as_ref()?);
        let address = seen.source_host()?;
        let first = *self.first.get_or_insert(now);
        let Slot { state, is_shared } = self.sources.slot(&address, now);
        state.windows.advance(now, WINDOW_S);
        if is_shared || state.clients.contains(&client) || state.clients.len() >= REMEMBERED {
            return None;
        }
        state.clients.push(client);
        let new = &mut state.windows.counts;
        *new = new.saturating_add(1);
        let is_judged = *new >= NEW_CLIENTS && now.since(first) >= LEARNING;
        if !is_judged || !state.repeats.permit(now) {
            return None;
        }
        Some(Finding {
            subject: Subject::Source(address),
            since: Time::of_window(now.window(WINDOW_S), WINDOW_S),
            evidence: Evidence {
                observed: f64::from(*new),
                usual: 0.0,
                unit: "new clients in ten minutes",
            },
            what: "uses credentials of several clients that it did not have before".to_owned(),
            advice: "If it is not a new proxy or cluster of yours, the credentials are stolen: \
                     revoke them. `tensorgate audit query` lists the requests.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.sources.shared_uses()
    }
}
