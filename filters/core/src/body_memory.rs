//! Memory for bodies that a filter buffers itself because the proxy's buffer is too small. Memory
//! is reserved before a body grows and released at the verdict.
//!
//! Each worker has a few MiB for small bodies. Larger bodies, and small bodies when that memory is
//! used up, share the policy's `buffered_bytes` among all workers of the proxy. One client gets at
//! most half of `buffered_bytes`. These reservations are counted in shared data and expire like
//! concurrency permits, so a crashed filter keeps a reservation no longer than its longest stream.

use tensorgate_policy::{Denial, HeaderMode, Reason};

use crate::body::ListenerBounds;
use crate::gate::waiting::WaitPermit;
use crate::host::{Level, Proxy, SharedStore};
use crate::permits::{
    Permit, acquire_amount, make_count, max_stream_ns, release as release_permits,
};
use crate::quota::{KEY_PREFIX, SlotFault};
use crate::root::GateRoot;

/// Maximum size of a small body, in bytes: the size of one read from a connection.
const SMALL_BYTES: usize = 64 << 10;
/// Memory for all small bodies of one worker, in bytes.
pub(crate) const SMALL_BODIES_BYTES: usize = 4 << 20;
/// Divisor for the part of `buffered_bytes` that one client may use.
const CLIENT_SHARE: u64 = 2;
/// Number of per-client counters. Shared data cannot create a counter safely under load, so clients
/// are hashed into a fixed number of counters that exist from the start.
const CLIENT_COUNTS: u64 = 64;

/// Memory that one stream has reserved.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory {
    small: Option<WaitPermit>,
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
            if self.small.is_none() {
                self.small = root.small_bodies.try_acquire();
            }
            if self
                .small
                .as_mut()
                .is_some_and(|small| small.try_reserve(bytes))
            {
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

fn count_key(number: u64) -> String {
    format!("{KEY_PREFIX}bodies/{number}")
}

/// Key of a client's counter. All workers compute the same FNV-1a hash of the client's name.
fn client_key(client: Option<&str>) -> String {
    let bytes = client.unwrap_or_default().bytes();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    count_key(hash.checked_rem(CLIENT_COUNTS).unwrap_or_default())
}
