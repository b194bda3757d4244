//! Bounds how many TLS handshakes are in progress, in all and from one address. So peers that
//! connect and say nothing take neither the connections of a listener nor each other's handshakes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorgate_base::source_host::source_host;

/// The most handshakes of a listener. It is well below the number of connections of each service,
/// so open connections always have a place.
const MAX_HANDSHAKES: usize = 128;
/// The most handshakes from one address. All workers of a gateway connect from the same address.
const MAX_HANDSHAKES_PER_ADDRESS: usize = 32;

/// The handshakes in progress.
#[derive(Debug, Default)]
pub struct Handshakes(Mutex<HashMap<IpAddr, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct HandshakePermit {
    handshakes: Arc<Handshakes>,
    address: IpAddr,
}

impl Handshakes {
    /// Begins a handshake, or returns `None` if there are too many.
    pub fn begin(self: &Arc<Self>, address: IpAddr) -> Option<HandshakePermit> {
        let address = source_host(address);
        let mut by_address = self.lock();
        let all: usize = by_address.values().sum();
        let own = by_address.get(&address).copied().unwrap_or_default();
        if all >= MAX_HANDSHAKES || own >= MAX_HANDSHAKES_PER_ADDRESS {
            return None;
        }
        by_address.insert(address, own.saturating_add(1));
        Some(HandshakePermit {
            handshakes: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut by_address = self.handshakes.lock();
        let left = by_address.get(&self.address).copied().unwrap_or_default();
        match left.checked_sub(1) {
            Some(left) if left > 0 => {
                by_address.insert(self.address, left);
            }
            _ => {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_address_has_a_share_of_the_handshakes_and_gives_it_back() {
        let handshakes = Arc::new(Handshakes::default());
        let begin = |address: &str| handshakes.begin(address.parse().unwrap());
        let fill = |address: &str| {
            let permits = std::iter::from_fn(|| begin(address));
            permits.take(MAX_HANDSHAKES + 1).collect::<Vec<_>>()
        };
        let mut first = fill("192.0.2.1");
        assert_eq!(first.len(), MAX_HANDSHAKES_PER_ADDRESS);
        assert!(begin("::ffff:192.0.2.1").is_none(), "the same address");
        let mut others: Vec<_> = ["192.0.2.2", "192.0.2.3", "2001:db8::1"].map(fill).into();
        let all: usize = others.iter().map(Vec::len).sum();
        assert_eq!(all + first.len(), MAX_HANDSHAKES);
        assert!(begin("192.0.2.4").is_none(), "there are too many in all");
        drop(others.pop());
        assert!(begin("192.0.2.4").is_some());
        first.pop();
        assert!(begin("192.0.2.1").is_some());
        drop((first, others));
        let network = fill("2001:db8::1");
        assert!(begin("2001:db8::2").is_none(), "the same network");
        assert!(begin("2001:db8:0:1::1").is_some(), "another network");
        drop(network);
        assert!(handshakes.lock().is_empty());
    }
}
