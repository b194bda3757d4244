//! Memory for bodies that a filter buffers itself because the proxy's buffer is too small. Memory
//! is reserved before a body grows and released at the verdict.
//!
//! Each worker has a few MiB for small bodies. Larger bodies, and small bodies when that memory is
//! used up, share the policy's `buffered_bytes` among all workers of the proxy. Another policy of
//! the proxy has its own, so its clients leave this one's memory alone. One client gets at most
//! half of either. Reservations of `buffered_bytes` are counted in shared data and expire like
//! concurrency permits, so a crashed filter keeps a reservation no longer than its longest stream.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, HeaderMode, Reason};

use super::GateRoot;
use super::small_bodies::{CLIENT_COUNTS, SMALL_BYTES, SmallReservation, client_number};
use crate::host::{Level, ListenerBounds, Proxy, SharedStore};
use crate::store::permits::{
    Permit, acquire_amount, make_count, max_stream_ns, release as release_permits,
};
use crate::store::{KeyPrefix, SlotFault};

/// Divisor for the part of `buffered_bytes` that one client may use.
const CLIENT_SHARE: u64 = 2;
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
        let limits = root.policy().listen().limits();
        let total = u64::try_from(limits.buffered_bytes).unwrap_or(u64::MAX);
        let amount = u64::try_from(bytes).unwrap_or(u64::MAX);
        let max_stream_ns = max_stream_ns(limits, ListenerBounds::default());
        let now = proxy.now().map_err(crate::host::cannot_decide)?;
        let share = total.checked_div(CLIENT_SHARE).unwrap_or(total);
        let prefix = root.key_prefix();
        for (key, limit) in [
            (client_key(prefix, client), share),
            (total_key(prefix), total),
        ] {
            let taken = acquire_amount(proxy, key, amount, limit, now.monotonic_ns, max_stream_ns);
            match taken {
                Ok(Some(taken)) => self.shared.push(taken),
                Ok(None) => {
                    let cause = format!(
                        "no memory for {bytes} more bytes of bodies within limits.buffered_bytes"
                    );
                    let denial = Denial::new(Reason::Overloaded, cause);
                    return Err(denial.overloaded_by(OverloadCause::Memory));
                }
                Err(fault) => {
                    let cause = format!("the store of memory for bodies failed: {fault}");
                    let denial = Denial::new(Reason::Overloaded, cause);
                    return Err(denial.overloaded_by(OverloadCause::Store));
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
pub(super) fn make_memory(store: &mut dyn SharedStore, root: &GateRoot) -> Result<(), SlotFault> {
    if root.headers() == HeaderMode::Hold {
        return Ok(());
    }
    let prefix = root.key_prefix();
    make_count(store, &total_key(prefix))?;
    (0..CLIENT_COUNTS).try_for_each(|number| make_count(store, &count_key(prefix, number)))
}

fn total_key(prefix: &KeyPrefix) -> String {
    prefix.key("bodies")
}

fn count_key(prefix: &KeyPrefix, number: usize) -> String {
    format!("{}bodies/{number}", prefix.as_str())
}

/// Key of a client's counter.
fn client_key(prefix: &KeyPrefix, client: Option<&str>) -> String {
    count_key(prefix, client_number(client))
}
