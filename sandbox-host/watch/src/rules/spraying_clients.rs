//! Credentials of several clients from one source that had none of them before: an attacker who
//! uses stolen credentials.
//!
//! Sources have state here only by a verified credential, and each client may add a bounded number
//! of them. So no single stolen credential fills the table from many addresses.

use std::time::Duration;

use tensorgate_policy::values::WatchRule;

use super::{ClientTable, Rule, SOURCES, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::saved::{Saved, load_list, save_list};
use crate::table::{Slot, Table, hash};
use crate::time::{DAY_S, Time};
use crate::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// Clients new to a source in one window that make an alert.
const NEW_CLIENTS: u32 = 4;
/// The most clients of a source that are remembered. A source with more is a proxy.
const REMEMBERED: usize = 32;
/// After the first start each client is new to its source.
const LEARNING: Duration = Duration::from_secs(3_600);
/// A source that sent nothing for this time is forgotten if there is no room.
const IDLE_S: u64 = 86_400;
/// The most sources that a client adds in a day. It takes 32 clients to fill the table. A source
/// that is not added by one client is added by the next one that it uses.
const ADDED_SOURCES: u32 = 256;

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Windows<u32>>();

/// The rule `spraying-clients`.
#[derive(Debug, Default)]
pub(super) struct SprayingClients {
    sources: Table<Source, SOURCES, IDLE_S>,
    /// The number of sources that each client has added today.
    added: ClientTable<Windows<u32>>,
    first: Option<Time>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Source {
    clients: Vec<u64>,
    /// The number of new clients.
    windows: Windows<u32>,
    repeats: Repeats,
}

impl Saved for Source {
    fn save(&self, out: &mut Vec<u8>) {
        save_list(&self.clients, out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            clients: load_list(REMEMBERED, input)?,
            ..Self::default()
        })
    }
}

impl Rule for SprayingClients {
    fn id(&self) -> WatchRule {
        WatchRule::SprayingClients
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let client = hash(name);
        let address = seen.source_host()?;
        let first = *self.first.get_or_insert(now);
        if !self.sources.contains(&address) && !self.may_add(name, now) {
            return None;
        }
        let Slot { state, is_shared } = self.sources.slot(&address, now);
        state.windows.advance(now, WINDOW_S);
        if is_shared || state.clients.contains(&client) || state.clients.len() >= REMEMBERED {
            return None;
        }
        state.clients.push(client);
        let new = &mut state.windows.counts;
        *new = new.saturating_add(1);
        let least = self.thresholds.at_least.unwrap_or(NEW_CLIENTS);
        let is_judged = *new >= least && now.since(first) >= LEARNING;
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
        let sources = self.sources.shared_uses();
        sources.saturating_add(self.added.shared_uses())
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.first.save(out);
        self.sources.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.first = Saved::load(input)?;
        self.sources = Table::load(input)?;
        Some(())
    }
}

impl SprayingClients {
    /// Counts a source that a client adds. Returns whether it may.
    fn may_add(&mut self, client: &str, now: Time) -> bool {
        let added = self.added.slot(&client, now).state;
        added.advance(now, DAY_S);
        let may_add = added.counts < ADDED_SOURCES;
        added.counts = added.counts.saturating_add(u32::from(may_add));
        may_add
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn show(rule: &mut SprayingClients, client: &str, source: u32, s: u64) -> bool {
        let seen = Observation {
            client: Some(client.to_owned()),
            source: Some(IpAddr::V4(Ipv4Addr::from_bits(source))),
            ..Observation::default()
        };
        rule.observe(&seen, Time::from_s(s)).is_some()
    }

    #[test]
    fn one_credential_from_many_sources_does_not_hide_others() {
        let mut rule = SprayingClients::default();
        for source in 0..100_000 {
            assert!(!show(&mut rule, "stolen", source, 3_600));
        }
        assert_eq!(rule.shared_uses(), 0, "the table is not full");
        // It has spent its sources, and is counted where others have added one.
        let source = 200_000;
        let clients = ["stolen", "web", "mobile", "stolen", "search"];
        let alerts = clients.map(|client| show(&mut rule, client, source, 7_200));
        assert_eq!(alerts, [false, false, false, false, true]);
    }

    #[test]
    fn a_new_proxy_before_six_clients_is_one_alert() {
        let mut rule = SprayingClients::default();
        let names = ["web", "mobile", "search", "ads", "partner", "importer"];
        let mut alerts = 0_u32;
        for (s, source) in [(0, 1), (3_540, 1), (3_660, 2), (3_720, 2), (3_780, 2)] {
            for name in names {
                let is_found = show(&mut rule, name, source, s);
                alerts = alerts.saturating_add(u32::from(is_found));
            }
        }
        assert_eq!(alerts, 1);
    }

    #[test]
    fn a_restart_of_the_host_opens_no_hour_without_the_rule() {
        let mut before = SprayingClients::default();
        let known = ["web", "mobile", "search", "ads"];
        for s in [0, 3_600] {
            assert!(!known.iter().any(|client| show(&mut before, client, 1, s)));
        }
        let mut saved = Vec::new();
        Rule::save(&before, &mut saved);
        let mut rule = SprayingClients::default();
        let mut input = saved.as_slice();
        assert_eq!(Rule::load(&mut rule, &mut input), Some(()));
        assert!(input.is_empty());
        let at_known = known.map(|client| show(&mut rule, client, 1, 3_700));
        assert_eq!(at_known, [false; 4]);
        let at_new = known.map(|client| show(&mut rule, client, 2, 3_700));
        assert_eq!(at_new, [false, false, false, true]);
    }
}
