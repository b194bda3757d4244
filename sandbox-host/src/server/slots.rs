//! The connections of a listener whose peers show no credential, such as the admin server's.
//!
//! A new connection always gets a slot. If there is none, a connection of the source with the most
//! is closed: the one whose last request is the longest ago. A few connections of this machine are
//! not counted, so that local probes are answered whatever others do.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensorgate_base::source_host::source_host;
use tokio::sync::oneshot;

/// Connections of this machine that no other source displaces: a probe, a scrape and a look at the
/// status at once.
const LOCAL_RESERVE: usize = 4;

/// The slots of a listener.
#[derive(Debug)]
pub struct Slots {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts connections and requests, to order them.
    events: u64,
    open: HashMap<u64, OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    source: IpAddr,
    /// The event that used it last.
    used: u64,
    /// Dropped to close the connection.
    _open: oneshot::Sender<()>,
}

/// The slot of a connection, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    permit: Arc<SlotPermit>,
    closed: oneshot::Receiver<()>,
}

/// The entry of a connection among the slots.
#[derive(Debug)]
pub struct SlotPermit {
    slots: Arc<Slots>,
    number: u64,
}

impl Slots {
    /// Creates slots for this number of connections.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            state: Mutex::default(),
        }
    }

    /// A slot for a new connection of this address. Another connection may lose its slot.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Slot {
        let (open, closed) = oneshot::channel();
        let mut state = self.lock();
        let number = state.next_event();
        let connection = OpenConnection {
            source: source(address),
            used: number,
            _open: open,
        };
        state.open.insert(number, connection);
        if state.open.len() > self.max
            && let Some(displaced) = state.displaced(number)
        {
            state.open.remove(&displaced);
        }
        Slot {
            permit: Arc::new(SlotPermit {
                slots: Arc::clone(self),
                number,
            }),
            closed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_event(&mut self) -> u64 {
        self.events = self.events.saturating_add(1);
        self.events
    }

    /// The connection that makes room for a new one.
    fn displaced(&self, new: u64) -> Option<u64> {
        let mut by_source: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.open.values() {
            let count = by_source.entry(connection.source).or_default();
            *count = count.saturating_add(1);
        }
        let others = self.open.iter().filter(|(number, _)| **number != new);
        let order = |connection: &OpenConnection| {
            let count = by_source.get(&connection.source).copied();
            let is_local = connection.source.is_loopback();
            let is_reserved = is_local && count.is_some_and(|count| count <= LOCAL_RESERVE);
            (is_reserved, Reverse(count), is_local, connection.used)
        };
        let displaced = others.min_by_key(|(_, connection)| order(connection));
        displaced.map(|(number, _)| *number)
    }
}

impl Slot {
    /// The entry, to record requests.
    pub fn permit(&self) -> Arc<SlotPermit> {
        Arc::clone(&self.permit)
    }

    /// Waits until another connection has the slot. It must not be called again after that.
    pub async fn lost(&mut self) {
        let _ = (&mut self.closed).await;
    }
}

impl SlotPermit {
    /// Records a request.
    pub fn touch(&self) {
        let mut state = self.slots.lock();
        let event = state.next_event();
        if let Some(connection) = state.open.get_mut(&self.number) {
            connection.used = event;
        }
    }
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        self.slots.lock().open.remove(&self.number);
    }
}

/// The source that counts. All loopback addresses are one machine.
fn source(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    if address.is_loopback() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        source_host(address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MAX: usize = 8;

    /// Which of these connections lost their slots.
    fn lost(slots: &mut [Slot]) -> Vec<usize> {
        let is_lost =
            |slot: &mut Slot| slot.closed.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        let numbered = slots.iter_mut().enumerate();
        numbered
            .filter_map(|(number, slot)| is_lost(slot).then_some(number))
            .collect()
    }

    #[test]
    fn a_new_connection_displaces_one_of_the_source_with_the_most() {
        // Addresses of the open connections in order, the new one, and which one is closed.
        let flood = ["192.0.2.1"; MAX];
        let local = ["127.0.0.1"; MAX];
        let mixed = |one: &'static str, other: &'static str| {
            let mut addresses = [one; MAX];
            addresses[1..5].fill(other);
            addresses
        };
        let each = [
            "127.0.0.1",
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "2001:db8:0:1::1",
            "2001:db8:0:2::1",
            "2001:db8:0:3::1",
            "2001:db8:0:4::1",
        ];
        let network = [
            "192.0.2.1",
            "127.0.0.1",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::3",
            "192.0.2.2",
            "192.0.2.3",
            "192.0.2.4",
        ];
        let two_local = [
            "127.0.0.1",
            "127.0.0.1",
            "192.0.2.1",
            "192.0.2.2",
            "192.0.2.3",
            "192.0.2.4",
            "192.0.2.5",
            "192.0.2.6",
        ];
        for (open, new, displaced) in [
            (two_local, "192.0.2.7", 2),
            (two_local, "127.0.0.1", 2),
            (flood, "192.0.2.1", 0),
            (flood, "192.0.2.2", 0),
            (flood, "127.0.0.1", 0),
            (local, "::1", 0),
            (local, "127.0.0.9", 0),
            (local, "192.0.2.1", 0),
            (mixed("192.0.2.1", "192.0.2.2"), "192.0.2.2", 1),
            (mixed("127.0.0.1", "192.0.2.1"), "192.0.2.2", 1),
            (mixed("127.0.0.1", "::ffff:192.0.2.1"), "::1", 0),
            (each, "192.0.2.9", 1),
            (each, "192.0.2.3", 3),
            (network, "127.0.0.1", 2),
        ] {
            let slots = Arc::new(Slots::new(MAX));
            let admit = |address: &str| slots.admit(address.parse().unwrap());
            let mut admitted: Vec<_> = open.iter().map(|address| admit(address)).collect();
            assert!(lost(&mut admitted).is_empty());
            admitted.push(admit(new));
            assert_eq!(lost(&mut admitted), [displaced], "{open:?} {new}");
            drop(admitted);
            assert!(slots.lock().open.is_empty(), "all slots are free again");
        }
    }

    #[test]
    fn a_connection_with_a_recent_request_is_kept() {
        let slots = Arc::new(Slots::new(MAX));
        let admit = || slots.admit(Ipv4Addr::LOCALHOST.into());
        let mut admitted: Vec<_> = (0..MAX).map(|_| admit()).collect();
        for number in [0, 1, 3] {
            admitted[number].permit().touch();
        }
        for _ in 0..3 {
            admitted.push(admit());
        }
        assert_eq!(lost(&mut admitted), [2, 4, 5]);
    }
}
