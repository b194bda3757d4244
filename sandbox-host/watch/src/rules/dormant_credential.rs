//! A credential that wakes from a network that its client has not used before: one that was
//! forgotten, and that someone has found.
//!
//! | the credential | its client | silence that makes an alert |
//! |---|---|---|
//! | was used before | | 14 days of the credential |
//! | was never used | has sent requests | 14 days of the client; else `new-credential` judges |
//! | was never used | has never sent one | 3 days since the gate knows the client |
//!
//! From a known network nothing is reported: a report of each month is no theft.

use std::time::Duration;

use tensorgate_policy::values::WatchRule;

use super::new_source::shown;
use super::{CLIENTS, ClientTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::{NETWORK_BITS, Observation};
use crate::saved::{Saved, load_list, save_list};
use crate::table::{Slot, hash, short};
use crate::time::{DAY_S, Time};

/// The silence of a credential or client that was used before.
const SILENCE: Duration = Duration::from_secs(14 * DAY_S);
/// The time since the gate knows a client until its first use is an alert. A new client in daily
/// use has sent requests by then.
const FIRST_USE: Duration = Duration::from_secs(3 * DAY_S);
/// A minute in seconds.
const MINUTE_S: u64 = 60;
/// The most networks that are remembered of a client. The one seen first is forgotten.
const NETWORKS: usize = 16;
/// The most credentials that are remembered of a client. The one not used for longest is forgotten.
const CREDENTIALS: usize = 8;

/// The bytes of a client's state, with what it has on the heap.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Client>()
    + NETWORKS * size_of::<u32>()
    + CREDENTIALS * size_of::<(u32, Minute)>();

/// The rule `dormant-credential`.
#[derive(Debug, Default)]
pub(super) struct DormantCredential {
    clients: ClientTable<Client>,
    first: Option<Time>,
}

#[derive(Debug, Default)]
struct Client {
    /// Since when the policy has it. `None` if the rule was not told.
    known: Option<Minute>,
    /// The hashes of its networks.
    networks: Vec<u32>,
    /// The hashes of its credentials, and the minutes in which they were last used.
    credentials: Vec<(u32, Minute)>,
}

impl Saved for Client {
    fn save(&self, out: &mut Vec<u8>) {
        self.known.save(out);
        save_list(&self.networks, out);
        save_list(&self.credentials, out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            known: Saved::load(input)?,
            networks: load_list(NETWORKS, input)?,
            credentials: load_list(CREDENTIALS, input)?,
        })
    }
}

impl Rule for DormantCredential {
    fn id(&self) -> WatchRule {
        WatchRule::DormantCredential
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let credential = seen.credential.as_ref()?;
        let network = seen.source_network()?;
        let first = *self.first.get_or_insert(now);
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let known = state.known.map_or(first, time);
        let (silence, longest) = match state.last_use(short(hash(credential)), now) {
            Some(last) => (now.since(last), SILENCE),
            None => (now.since(known), FIRST_USE),
        };
        let is_new_network = state.add_network(short(hash(&network)));
        // Clients that share state have different networks.
        if silence < longest || !is_new_network || is_shared {
            return None;
        }
        let network = shown(network, NETWORK_BITS);
        Some(Finding {
            subject: Subject::Client(name.clone()),
            since: now,
            evidence: Evidence {
                observed: silence.div_duration_f64(Duration::from_secs(DAY_S)).floor(),
                usual: 0.0,
                unit: "days without a request",
            },
            what: format!(
                "uses {credential} after a long silence, from {network}, a network that it has \
                 not used before"
            ),
            advice: "If its team does not know of the use, the credential is stolen: revoke it. \
                     Remove credentials that are not used from the policy.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }

    fn set_clients(&mut self, names: &[String], now: Time) {
        self.first.get_or_insert(now);
        for name in names.iter().take(CLIENTS) {
            if !self.clients.contains(name) {
                let Slot { state, is_shared } = self.clients.slot(name, now);
                state.known = Some(minute(now)).filter(|_| !is_shared);
            }
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.first.save(out);
        self.clients.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.first = Saved::load(input)?;
        self.clients = ClientTable::load(input)?;
        Some(())
    }
}

impl Client {
    /// Notes a use of a credential. Returns its last use, or the client's last one if it has none.
    fn last_use(&mut self, credential: u32, now: Time) -> Option<Time> {
        let minute = minute(now);
        let of_client = self.credentials.iter().map(|(_, used)| *used).max();
        let known = (self.credentials.iter_mut()).find(|(known, _)| *known == credential);
        let last = match known {
            Some((_, used)) => Some(std::mem::replace(used, minute)),
            None => {
                self.make_room();
                self.credentials.push((credential, minute));
                of_client
            }
        };
        last.map(time)
    }

    /// Forgets the credential that was not used for longest, if there is no room for another.
    fn make_room(&mut self) {
        if self.credentials.len() >= CREDENTIALS {
            let uses = self.credentials.iter().enumerate();
            let oldest = uses.min_by_key(|(_, (_, used))| *used).map(|(at, _)| at);
            if let Some(at) = oldest {
                self.credentials.swap_remove(at);
            }
        }
    }

    /// Adds a network. Returns whether it is new.
    fn add_network(&mut self, network: u32) -> bool {
        let is_new = !self.networks.contains(&network);
        if is_new {
            if self.networks.len() >= NETWORKS {
                self.networks.remove(0);
            }
            self.networks.push(network);
        }
        is_new
    }
}

/// A time in minutes, which takes less memory.
type Minute = u32;

fn minute(time: Time) -> Minute {
    Minute::try_from(time.window(MINUTE_S)).unwrap_or(Minute::MAX)
}

fn time(minute: Minute) -> Time {
    Time::of_window(minute.into(), MINUTE_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each use is reported: the day, the client, its credential and its network.
    fn reported(uses: &[(u64, &str, &str, u8)]) -> Vec<bool> {
        let mut rule = DormantCredential::default();
        let show = |(day, client, credential, network): &(u64, &str, &str, u8)| {
            let seen = Observation {
                client: Some((*client).to_owned()),
                credential: Some((*credential).to_owned()),
                source: Some([10, 0, *network, 1].into()),
                ..Observation::default()
            };
            rule.observe(&seen, Time::of_window(*day, DAY_S)).is_some()
        };
        uses.iter().map(show).collect()
    }

    #[test]
    fn a_credential_that_wakes_from_a_new_network_is_reported_once() {
        let uses = [
            (1, "web", "a", 1),
            (1, "report", "r", 2),
            (2, "late", "l", 3),
            // A month later: from its own network, then from another.
            (31, "report", "r", 2),
            (61, "report", "r", 9),
            (61, "report", "r", 9),
        ];
        assert_eq!(reported(&uses), [false, false, false, false, true, false]);
    }

    #[test]
    fn the_first_use_of_a_client_is_reported_after_days_and_a_new_credential_by_another_rule() {
        let uses = [
            (1, "web", "a", 1),
            (5, "forgotten", "f", 9),
            (6, "forgotten", "f", 10),
            (6, "web", "b", 1),
            (6, "web", "c", 9),
            // Of two credentials one sleeps.
            (25, "web", "a", 9),
            (25, "web", "a", 7),
            (45, "web", "b", 8),
        ];
        let expected = [false, true, false, false, false, false, false, true];
        assert_eq!(reported(&uses), expected);
    }

    #[test]
    fn the_first_use_of_a_client_that_was_just_added_is_expected() {
        let mut rule = DormantCredential::default();
        let at = |day| Time::of_window(day, DAY_S);
        rule.set_clients(&["web".to_owned(), "unused".to_owned()], at(1));
        let names = ["web", "unused", "added", "late"].map(str::to_owned);
        rule.set_clients(&names, at(10));
        let mut first_use = |client: &str, day| {
            let seen = Observation {
                client: Some(client.to_owned()),
                credential: Some("key".to_owned()),
                source: Some([10, 0, 0, 1].into()),
                ..Observation::default()
            };
            rule.observe(&seen, at(day)).is_some()
        };
        let expected = [
            first_use("unused", 11),
            first_use("added", 11),
            first_use("late", 20),
        ];
        assert_eq!(expected, [true, false, true]);
    }
}
