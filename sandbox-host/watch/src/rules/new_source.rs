//! A client that sends from a network that it has not used before: a stolen credential, or a move.
//!
//! A client that keeps changing its network, such as a mobile one or a runner in a cloud, is judged
//! by the range around it: the /16, or the /32 of IPv6. If it keeps changing that, too, it has no
//! usual source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tensorgate_policy::values::WatchRule;

use super::known::{Known, Use};
use super::{ClientTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::{NETWORK_BITS, Observation};
use crate::saved::saved;
use crate::table::{Slot, hash};
use crate::time::Time;

/// The bits of the range around a network of IPv4 and of IPv6: what one provider often has.
const RANGE_BITS: (u32, u32) = (16, 32);

/// The bytes of a client's state, with what it has on the heap.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize =
    crate::table::key_bytes::<Client>() + 2 * super::known::HEAP_BYTES;

/// The rule `new-source`.
#[derive(Debug, Default)]
pub(super) struct NewSource {
    clients: ClientTable<Client>,
}

#[derive(Debug, Default)]
struct Client {
    networks: Known,
    ranges: Known,
}

saved!(Client { networks, ranges });

impl Rule for NewSource {
    fn id(&self) -> WatchRule {
        WatchRule::NewSource
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let network = seen.source_network()?;
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let range = range(network);
        let by_range = state.ranges.observe(hash(&range), now);
        let what = match (state.networks.observe(hash(&network), now), by_range) {
            (Use::New, _) => shown(network, NETWORK_BITS),
            (Use::OneOfMany, Use::New) => shown(range, RANGE_BITS),
            _ => return None,
        };
        if is_shared {
            // Clients that share state have different sources.
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
            what: format!("sends from {what}, a network that it has not used before"),
            advice: "If the client has not moved, its credential is stolen: revoke it. \
                     `tensorgate audit query --client NAME` lists the sources.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.clients.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.clients = ClientTable::load(input)?;
        Some(())
    }
}

/// A network with its bits.
pub(super) fn shown(network: IpAddr, (bits_v4, bits_v6): (u32, u32)) -> String {
    let bits = if network.is_ipv4() { bits_v4 } else { bits_v6 };
    format!("{network}/{bits}")
}

/// The first address of the range around a network.
fn range(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V4(network) => {
            let [first, second, ..] = network.octets();
            Ipv4Addr::new(first, second, 0, 0).into()
        }
        IpAddr::V6(network) => {
            let [first, second, ..] = network.segments();
            Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0).into()
        }
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

    #[test]
    fn a_mobile_client_is_judged_by_its_carrier() {
        let mut rule = NewSource::default();
        let mut what = |source: [u8; 4], s| {
            let seen = Observation {
                client: Some("app".to_owned()),
                source: Some(source.into()),
                ..Observation::default()
            };
            rule.observe(&seen, Time::from_s(s)).map(|found| found.what)
        };
        for s in 0..=3_600 {
            assert_eq!(what([100, 64, 0, 1], s), None);
        }
        // Another network of the carrier in each hour.
        let mut alerts = |hours: std::ops::Range<u64>| {
            let alerts = hours.filter(|hour| {
                let third = u8::try_from(*hour).unwrap();
                what([100, 64, third, 1], hour.saturating_mul(3_601)).is_some()
            });
            alerts.count()
        };
        assert_eq!(alerts(2..100), 3);
        let stolen = what([203, 0, 113, 9], 400_000);
        let expected = "sends from 203.0.0.0/16, a network that it has not used before";
        assert_eq!(stolen.as_deref(), Some(expected));
    }
}
