//! A client that sends from a network that it has not used before: a stolen credential, or a move.

use tensorgate_policy::raw::WatchRule;

use super::known::Known;
use super::{ClientTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::{NETWORK_BITS, Observation};
use crate::table::{Slot, hash};
use crate::time::Time;

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = super::known::BYTES;

/// The rule `new-source`.
#[derive(Debug, Default)]
pub(super) struct NewSource {
    clients: ClientTable<Known>,
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
        let bits = if network.is_ipv4() {
            NETWORK_BITS.0
        } else {
            NETWORK_BITS.1
        };
        Some(Finding {
            subject: Subject::Client(name.clone()),
            since: now,
            evidence: Evidence {
                observed: 1.0,
                usual: 0.0,
                unit: "new networks",
            },
            what: format!("sends from {network}/{bits}, a network that it has not used before"),
            advice: "If the client has not moved, its credential is stolen: revoke it. \
                     `tensorgate audit query --client NAME` lists the sources.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_new_network_is_named_with_its_bits() {
        let mut rule = NewSource::default();
        let mut what = |source: &str, s| {
            let seen = Observation {
                client: Some("web".to_owned()),
                source: Some(source.parse().unwrap()),
                ..Observation::default()
            };
            rule.observe(&seen, Time::from_s(s)).map(|found| found.what)
        };
        for s in 0..=3_600 {
            assert_eq!(what("10.0.0.1", s), None);
        }
        for (source, s, network) in [
            ("192.0.2.7", 3_601, "192.0.2.0/24"),
            ("2001:db8:1:2::7", 7_201, "2001:db8:1::/48"),
        ] {
            let expected = format!("sends from {network}, a network that it has not used before");
            assert_eq!(what(source, s), Some(expected));
        }
    }
}
