//! Memory for bodies that a filter buffers itself because the proxy's buffer is too small. Memory
//! is reserved before a body grows and released at the verdict.
//!
//! Each worker has a few MiB for small bodies. Larger bodies, and small bodies when that memory is
//! used up, share the policy's `buffered_bytes` among all workers of the proxy. One client gets at
//! most half of either. Reservations of `buffered_bytes` are counted in shared data and expire like
//! concurrency permits, so a crashed filter keeps a reservation no longer than its longest stream.

use std::cell::Cell;
use std::rc::Rc;

use tensorgate_policy::{Denial, HeaderMode, Reason};

use crate::body::ListenerBounds;
use crate::host::{Level, Proxy, SharedStore};
use crate::permits::{
    Permit, acquire_amount, make_count, max_stream_ns, release as release_permits,
};
use crate::quota::{KEY_PREFIX, SlotFault};
use crate::root::GateRoot;

/// Maximum size of a small body, in bytes: the size of one read from a connection.
const SMALL_BYTES: usize = 64 << 10;
/// Memory for all small bodies of one worker, in bytes.
const SMALL_BODIES_BYTES: usize = 4 << 20;
/// The part of it that one client may use, in bytes.
const CLIENT_SMALL_BYTES: usize = SMALL_BODIES_BYTES / 2;
/// Divisor for the part of `buffered_bytes` that one client may use.
const CLIENT_SHARE: u64 = 2;
/// Number of per-client counters. Shared data cannot create a counter safely under load, so clients
/// are hashed into a fixed number of counters that exist from the start.
const CLIENT_COUNTS: usize = 64;

/// The memory of one worker for small bodies.
#[derive(Clone, Debug)]
pub(crate) struct SmallBodies(Rc<SmallUsage>);

/// Reserved bytes.
#[derive(Debug)]
struct SmallUsage {
    all: Cell<usize>,
    clients: [Cell<usize>; CLIENT_COUNTS],
}

/// Memory for one small body, released on drop.
#[derive(Debug)]
struct SmallReservation {
    usage: Rc<SmallUsage>,
    /// Number of the client's counter.
    client: usize,
    bytes: usize,
}

impl Default for SmallBodies {
    fn default() -> Self {
        Self(Rc::new(SmallUsage {
            all: Cell::default(),
            clients: [const { Cell::new(0) }; CLIENT_COUNTS],
        }))
    }
}

impl SmallBodies {
    /// An empty reservation of a client.
    fn reservation(&self, client: Option<&str>) -> SmallReservation {
        SmallReservation {
            usage: Rc::clone(&self.0),
            client: client_number(client),
            bytes: 0,
        }
    }
}

impl SmallReservation {
    /// Changes the reservation to `bytes`. If there is not enough memory for that, the old
    /// reservation stays.
    fn try_reserve(&mut self, bytes: usize) -> bool {
        let Some(client) = self.usage.clients.get(self.client) else {
            return false;
        };
        let with = |used: &Cell<usize>| used.get().saturating_sub(self.bytes).saturating_add(bytes);
        let (all, of_client) = (with(&self.usage.all), with(client));
        if all > SMALL_BODIES_BYTES || of_client > CLIENT_SMALL_BYTES {
            return false;
        }
        self.usage.all.set(all);
        client.set(of_client);
        self.bytes = bytes;
        true
    }
}

impl Drop for SmallReservation {
    fn drop(&mut self) {
        // Less is always granted.
        self.try_reserve(0);
    }
}

/// Memory that one stream has reserved.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory {
    small: Option<SmallReservation>,
    shared: Vec<Permit>,
    reserved: usize,
}

impl BodyMemory {
    /// Raises the reservation of one stream to `bytes` in total. Bodies rarely grow by a few bytes,
    /// so the reservation grows in powers of two, up to `most`.
    ///
    /// # Errors
    /// `overloaded`: no memory is left, or the store failed.
    pub(crate) fn reserve(
        &mut self,
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        client: Option<&str>,
        bytes: usize,
        most: usize,
    ) -> Result<(), Denial> {
        if bytes <= self.reserved {
            return Ok(());
        }
        if bytes <= SMALL_BYTES && self.shared.is_empty() {
            let small = &mut self.small;
            let small = small.get_or_insert_with(|| root.small_bodies.reservation(client));
            if small.try_reserve(bytes) {
                self.reserved = bytes;
                return Ok(());
            }
        }
        let goal = bytes.max(SMALL_BYTES).checked_next_power_of_two();
        let goal = goal.unwrap_or(bytes).min(most).max(bytes);
        // A small reservation is replaced as a whole.
        let before = if self.small.is_some() {
            0
        } else {
            self.reserved
        };
        self.take_shared(root, proxy, client, goal.saturating_sub(before))?;
        self.small = None;
        self.reserved = goal;
        Ok(())
    }

    fn take_shared(
        &mut self,
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        client: Option<&str>,
        bytes: usize,
    ) -> Result<(), Denial> {
        let limits = root.policy.listen().limits();
        let total = u64::try_from(limits.buffered_bytes).unwrap_or(u64::MAX);
        let amount = u64::try_from(bytes).unwrap_or(u64::MAX);
        let max_stream_ns = max_stream_ns(limits, ListenerBounds::default());
        let now = proxy.now().map_err(crate::gate::cannot_decide)?;
        let share = total.checked_div(CLIENT_SHARE).unwrap_or(total);
        for (key, limit) in [(client_key(client), share), (total_key(), total)] {
            let taken = acquire_amount(proxy, key, amount, limit, now.monotonic_ns, max_stream_ns);
            match taken {
                Ok(Some(taken)) => self.shared.push(taken),
                Ok(None) => {
                    let cause = format!("no memory for {bytes} more bytes of bodies being judged");
                    return Err(Denial::new(Reason::Overloaded, cause));
                }
                Err(fault) => {
                    return Err(Denial::new(Reason::Overloaded, fault.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Releases all reservations of the stream. A reservation that cannot be released expires.
    pub(crate) fn release(&mut self, proxy: &mut dyn Proxy) {
        self.small = None;
        self.reserved = 0;
        let shared = core::mem::take(&mut self.shared);
        if shared.is_empty() {
            return;
        }
        // Without a clock no reservation counts as expired, and all are still released.
        let now_ns = proxy.now().map_or(0, |now| now.monotonic_ns);
        for fault in release_permits(proxy, &shared, now_ns) {
            proxy.log(Level::Error, &format!("memory for bodies: {fault}"));
        }
    }
}

/// Creates the counters for reservations unless they exist. A filter that leaves bodies in the
/// proxy's buffer needs none.
///
/// # Errors
/// The store failed or is full.
pub(crate) fn make_memory(store: &mut dyn SharedStore, root: &GateRoot) -> Result<(), SlotFault> {
    if root.headers == HeaderMode::Hold {
        return Ok(());
    }
    make_count(store, &total_key())?;
    (0..CLIENT_COUNTS).try_for_each(|number| make_count(store, &count_key(number)))
}

fn total_key() -> String {
    format!("{KEY_PREFIX}bodies")
}

fn count_key(number: usize) -> String {
    format!("{KEY_PREFIX}bodies/{number}")
}

/// Key of a client's counter.
fn client_key(client: Option<&str>) -> String {
    count_key(client_number(client))
}

/// Number of a client's counter. All workers compute the same FNV-1a hash of the client's name.
fn client_number(client: Option<&str>) -> usize {
    let bytes = client.unwrap_or_default().bytes();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let counts = u64::try_from(CLIENT_COUNTS).unwrap_or(u64::MAX);
    let number = hash.checked_rem(counts).unwrap_or_default();
    usize::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_client_gets_half_of_the_memory_for_small_bodies() {
        let memory = SmallBodies::default();
        let fill = |client| {
            let one = || {
                let mut one = memory.reservation(Some(client));
                one.try_reserve(SMALL_BYTES).then_some(one)
            };
            core::iter::from_fn(one).collect::<Vec<_>>()
        };
        let mut flood = fill("flood");
        assert_eq!(flood.len(), 32);
        let mut grows = flood.pop().unwrap();
        assert!(grows.try_reserve(1) && grows.try_reserve(SMALL_BYTES));
        assert!(!grows.try_reserve(SMALL_BYTES + 1));
        let neighbour = fill("neighbour");
        assert_eq!(neighbour.len(), 32, "the other half is there");
        assert!(fill("third").is_empty(), "both halves are used");
        drop((flood, grows));
        assert_eq!(fill("third").len(), 32);
        drop(neighbour);
        assert_eq!(memory.0.all.get(), 0);
    }
}
