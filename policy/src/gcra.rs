//! The generic cell rate algorithm: one number of state a bucket, exact under compare-and-swap.
//!
//! State is the *theoretical arrival time*: the monotonic nanosecond at which the bucket is full again.
//! Zero is a fresh bucket.

/// A bucket's shape, validated: `quota` units a `window_ns`, of which at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Nanoseconds for one unit to come back: window over quota, rounded up, at least 1.
    pub interval_ns: u64,
    /// Units that a full bucket holds.
    pub burst: u64,
}

/// What a spend came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Allowed; the state to store.
    Allowed {
        /// New theoretical arrival time, ns.
        state: u64,
    },
    /// Refused; state stays. The same spend passes after this many nanoseconds; `None` if it never can.
    Refused {
        /// Wait, ns.
        retry_after_ns: Option<u64>,
    },
}

impl Bucket {
    /// Spends `cost` units at `now_ns` from a bucket in `state`. Pure; the caller stores the new state.
    pub fn spend(&self, state: u64, now_ns: u64, cost: u64) -> Spend {
        let Some(increment) = self.interval_ns.checked_mul(cost) else {
            return Spend::Refused {
                retry_after_ns: None,
            };
        };
        let tolerance = self.interval_ns.saturating_mul(self.burst);
        if increment > tolerance {
            return Spend::Refused {
                retry_after_ns: None,
            };
        }
        // Five centuries from the clock's start, or a state that is not ours: nothing passes.
        let Some(next) = state.max(now_ns).checked_add(increment) else {
            return Spend::Refused {
                retry_after_ns: None,
            };
        };
        let latest = now_ns.saturating_add(tolerance);
        if next > latest {
            Spend::Refused {
                retry_after_ns: Some(next.saturating_sub(latest)),
            }
        } else {
            Spend::Allowed { state: next }
        }
    }
}

#[cfg(test)]
mod tests;
