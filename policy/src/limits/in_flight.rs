//! Counters of concurrency permits, exact under compare-and-swap, with expiry.
//!
//! A permit counts until it is released or *expires*. It expires no earlier than the longest stream
//! could last, because a proxy ends every stream by then. A filter that crashes keeps its permits
//! no longer than that. Permits that expire at about the same time share an entry. The size of the
//! state therefore depends on stream durations, not on the number of permits.
//!
//! Pure: the caller reads the clock and stores the state.

use alloc::vec::Vec;

use smallvec::smallvec;

use super::StateBytes;

/// Granularity: permits expire late by at most this fraction of the longest stream.
const DIVISIONS: u64 = 8;

/// Maximum entries of a state. One stream duration uses at most `DIVISIONS` + 2; the rest is for
/// reloads that change the duration while older permits are in flight.
pub const MAX_ENTRIES: usize = 32;

/// Size of an entry: expiry and amount, each 8 little-endian bytes.
const ENTRY_BYTES: usize = 16;

/// Permits that expire at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    expires_ns: u64,
    amount: u64,
}

/// State of a counter, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    entries: Vec<Entry>,
}

/// Result of an acquisition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcquireResult {
    /// Acquired; the state to store, and the expiry that releases the permits.
    Acquired {
        /// New state.
        state: InFlight,
        /// Expiry, in ns; an argument of [`InFlight::release`].
        expires_ns: u64,
    },
    /// The limit is reached; the state is unchanged.
    Full,
    /// No entry is left for another expiry: only repeated reloads with different durations cause
    /// this.
    NoEntry,
}

impl InFlight {
    /// Decodes a stored state; `None` if the bytes are invalid.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() || entries.len() > MAX_ENTRIES {
            return None;
        }
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_le_bytes);
        let entries: Option<Vec<Entry>> = entries
            .iter()
            .map(|entry| {
                let (lapses, amount) = entry.split_at_checked(8)?;
                Some(Entry {
                    expires_ns: number(lapses).ok()?,
                    amount: number(amount).ok()?,
                })
            })
            .collect();
        entries.map(|entries| Self { entries })
    }

    /// Encodes the state; never empty, so it differs from a missing state.
    pub fn to_bytes(&self) -> StateBytes {
        if self.entries.is_empty() {
            return smallvec![0; ENTRY_BYTES];
        }
        self.entries
            .iter()
            .flat_map(|entry| [entry.expires_ns, entry.amount])
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// Amount in flight at `now_ns`.
    pub fn total(&self, now_ns: u64) -> u64 {
        self.entries
            .iter()
            .filter(|entry| entry.expires_ns > now_ns)
            .fold(0, |total, entry| total.saturating_add(entry.amount))
    }

    /// Acquires `amount` of `limit` at `now_ns`, for a stream that ends within `max_stream_ns`.
    pub fn acquire(
        &self,
        now_ns: u64,
        max_stream_ns: u64,
        amount: u64,
        limit: u64,
    ) -> AcquireResult {
        let total = self.total(now_ns).checked_add(amount);
        // Five centuries after the clock's start: everything is rejected.
        let Some((_, expires_ns)) = total
            .filter(|total| *total <= limit)
            .zip(expiry(now_ns, max_stream_ns))
        else {
            return AcquireResult::Full;
        };
        let mut state = self.live(now_ns);
        if let Some(entry) = state
            .entries
            .iter_mut()
            .find(|entry| entry.expires_ns == expires_ns)
        {
            // At most the total, which fits.
            entry.amount = entry.amount.saturating_add(amount);
        } else if state.entries.len() < MAX_ENTRIES {
            state.entries.push(Entry { expires_ns, amount });
        } else {
            return AcquireResult::NoEntry;
        }
        AcquireResult::Acquired { state, expires_ns }
    }

    /// Releases permits: the new state, or `None` if they have expired.
    pub fn release(&self, now_ns: u64, expires_ns: u64, amount: u64) -> Option<Self> {
        let mut state = self.live(now_ns);
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.expires_ns == expires_ns)?;
        entry.amount = entry.amount.saturating_sub(amount);
        state.entries.retain(|entry| entry.amount > 0);
        Some(state)
    }

    /// The state without expired entries.
    fn live(&self, now_ns: u64) -> Self {
        let live = |entry: &&Entry| entry.expires_ns > now_ns && entry.amount > 0;
        Self {
            entries: self.entries.iter().filter(live).copied().collect(),
        }
    }
}

/// The first time on the grid that is at least `max_stream_ns` away.
fn expiry(now_ns: u64, max_stream_ns: u64) -> Option<u64> {
    let step = max_stream_ns.div_ceil(DIVISIONS).max(1);
    now_ns
        .checked_add(max_stream_ns)?
        .checked_next_multiple_of(step)
}

#[cfg(test)]
mod tests;
