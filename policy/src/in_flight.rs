//! Counts of what is in flight, exact under compare-and-swap, that forget what nobody gives back.
//!
//! A place that is taken is counted until it is given back or until it *lapses*: no earlier than the longest stream after it was
//! taken, since a proxy ends every stream by then. So a filter that died with its places keeps them for that long and no longer.
//! Places that lapse at about the same time share an entry: the state's size depends on how long streams may last compared
//! with how finely that is told, never on how many there are.
//!
//! Pure: the caller reads the clock and stores the state.

use alloc::vec::Vec;

/// How finely the longest stream is divided: places lapse up to this fraction of it late.
const DIVISIONS: u64 = 8;

/// Most entries of a state. One length of streams makes `DIVISIONS` + 2 at most; the rest is for reloads that change the length while
/// places of the old one are in flight.
pub const MAX_ENTRIES: usize = 32;

/// Bytes of one entry: when it lapses and how much it counts, each 8 little-endian bytes.
const ENTRY_BYTES: usize = 16;

/// Places that lapse at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    lapses_ns: u64,
    amount: u64,
}

/// A count's state, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    entries: Vec<Entry>,
}

/// What taking places came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// Taken; the state to store, and the time that gives the places back.
    Taken {
        /// New state.
        state: InFlight,
        /// When they lapse, ns; [`InFlight::give_back`] asks for it.
        lapses_ns: u64,
    },
    /// There is no room; the state stays.
    Full,
    /// The state has no room for another time of lapsing: only reloads that change the longest stream again and again bring this about.
    NoEntry,
}

impl InFlight {
    /// Reads a stored state; `None` if it is not one.
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
                    lapses_ns: number(lapses).ok()?,
                    amount: number(amount).ok()?,
                })
            })
            .collect();
        entries.map(|entries| Self { entries })
    }

    /// The state as it is stored; never empty, so that it cannot be taken for no state at all.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.entries.is_empty() {
            return [0; ENTRY_BYTES].to_vec();
        }
        self.entries
            .iter()
            .flat_map(|entry| [entry.lapses_ns, entry.amount])
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// How much is in flight at `now_ns`.
    pub fn total(&self, now_ns: u64) -> u64 {
        self.entries
            .iter()
            .filter(|entry| entry.lapses_ns > now_ns)
            .fold(0, |total, entry| total.saturating_add(entry.amount))
    }

    /// Takes `amount` places of `limit` at `now_ns`, for a stream that ends within `longest_ns`.
    pub fn take(&self, now_ns: u64, longest_ns: u64, amount: u64, limit: u64) -> Take {
        let total = self.total(now_ns).checked_add(amount);
        // Five centuries from the clock's start: nothing passes.
        let Some((_, lapses_ns)) = total
            .filter(|total| *total <= limit)
            .zip(lapses(now_ns, longest_ns))
        else {
            return Take::Full;
        };
        let mut state = self.live(now_ns);
        if let Some(entry) = state
            .entries
            .iter_mut()
            .find(|entry| entry.lapses_ns == lapses_ns)
        {
            // Within the total, which fits.
            entry.amount = entry.amount.saturating_add(amount);
        } else if state.entries.len() < MAX_ENTRIES {
            state.entries.push(Entry { lapses_ns, amount });
        } else {
            return Take::NoEntry;
        }
        Take::Taken { state, lapses_ns }
    }

    /// Gives places back: the new state, or `None` if they lapsed and there is nothing to give back.
    pub fn give_back(&self, now_ns: u64, lapses_ns: u64, amount: u64) -> Option<Self> {
        let mut state = self.live(now_ns);
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.lapses_ns == lapses_ns)?;
        entry.amount = entry.amount.saturating_sub(amount);
        state.entries.retain(|entry| entry.amount > 0);
        Some(state)
    }

    /// The state without what has lapsed.
    fn live(&self, now_ns: u64) -> Self {
        let live = |entry: &&Entry| entry.lapses_ns > now_ns && entry.amount > 0;
        Self {
            entries: self.entries.iter().filter(live).copied().collect(),
        }
    }
}

/// The first time on the grid that is at least `longest_ns` away.
fn lapses(now_ns: u64, longest_ns: u64) -> Option<u64> {
    let step = longest_ns.div_ceil(DIVISIONS).max(1);
    now_ns
        .checked_add(longest_ns)?
        .checked_next_multiple_of(step)
}

#[cfg(test)]
mod tests;
