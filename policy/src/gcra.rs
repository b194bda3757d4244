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
            return Spend::Refused { retry_after_ns: None };
        };
        let tolerance = self.interval_ns.saturating_mul(self.burst);
        if increment > tolerance {
            return Spend::Refused { retry_after_ns: None };
        }
        let next = state.max(now_ns).saturating_add(increment);
        let latest = now_ns.saturating_add(tolerance);
        if next > latest {
            Spend::Refused { retry_after_ns: Some(next.saturating_sub(latest)) }
        } else {
            Spend::Allowed { state: next }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = Bucket { interval_ns: 100, burst: 3 };

    #[test]
    fn a_fresh_bucket_holds_its_burst_and_no_more() {
        let mut state = 0;
        for _ in 0..3 {
            let Spend::Allowed { state: next } = BUCKET.spend(state, 1_000, 1) else { panic!("within the burst") };
            state = next;
        }
        assert_eq!(BUCKET.spend(state, 1_000, 1), Spend::Refused { retry_after_ns: Some(100) });
        assert_eq!(BUCKET.spend(state, 1_100, 1), Spend::Allowed { state: 1_400 });
    }

    #[test]
    fn a_cost_above_the_burst_never_passes() {
        assert_eq!(BUCKET.spend(0, u64::MAX, 4), Spend::Refused { retry_after_ns: None });
        assert_eq!(BUCKET.spend(0, 0, u64::MAX), Spend::Refused { retry_after_ns: None });
    }
}
