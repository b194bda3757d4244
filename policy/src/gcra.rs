//! The generic cell rate algorithm: one moment of state a bucket, exact under compare-and-swap, for amounts as for single requests.
//!
//! State is the *theoretical arrival time*: the monotonic moment at which the bucket is full again, and beside it the pace at which it was
//! filling. A reload that changes the pace changes what is owed into units and back: nobody gains by it, and nobody waits for a pace that is gone.
//! Nothing is rounded: a bucket is emptied to its last unit, in whatever pieces.
//!
//! What was reserved and not used is given back, as far as time has not given it back already. Had it never been charged, the bucket would have owed
//! that much less ever since, but no less than nothing: so as much comes back as the bucket has owed at the least at any time since the charge. A reservation is
//! known by the state that it left, and that least is known from two sides ([`State::returned_ns`], [`State::least_ns`]), neither of which is ever too high. Of
//! several at once, none gets what another one had, in whatever order they end.

/// A bucket's shape, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Nanoseconds for `per` units to come back, at least 1.
    pub interval_ns: u64,
    /// Units that come back together, at least 1.
    pub per: u64,
    /// Units that a full bucket holds.
    pub burst: u64,
}

/// A bucket's state, as it is stored. The default is a fresh bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When it is full again, ns; full already if that is past.
    pub full_ns: u64,
    /// And so many parts of a nanosecond, of which `per` are a whole.
    pub part: u64,
    /// The pace at which it was filling: [`Bucket::interval_ns`].
    pub interval_ns: u64,
    /// The pace at which it was filling: [`Bucket::per`].
    pub per: u64,
    /// How far it was set back by all that was given back, ns; wraps. What a charge left, less what was given back since, is owed still.
    pub returned_ns: u64,
    /// A number for the time since the bucket was last empty of debts, or since it owed many times more than it had; wraps.
    pub period: u64,
    /// What it has owed at the least in this period, and in this one and the one before together, ns.
    pub least_ns: [u64; 2],
}

/// Bytes of a stored state.
pub const STATE_BYTES: usize = 64;

/// How many times what a bucket has owed at the least it may come to owe within one period. Of what it owes now, an eighth at least is known to have been
/// owed since a charge of this period then; and a charge is forgotten here once the bucket owes 64 times as much as then.
const GROWTH: u64 = 8;

/// What a change of pace adds to [`State::returned_ns`]: more than any bucket owes, so that nothing is given back of what was spent before it.
const OTHER_PACE_NS: u64 = 1 << 60;

/// What a spend came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Allowed; the state to store.
    Allowed(State),
    /// Refused; state stays. The same spend passes after this many nanoseconds; `None` if it never can.
    Refused {
        /// Wait, ns.
        retry_after_ns: Option<u64>,
    },
}

impl State {
    /// Reads a stored state; `None` if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        match (numbers, rest) {
            ([full, part, interval, per, returned, period, least, before], []) => Some(Self {
                full_ns: u64::from_le_bytes(*full),
                part: u64::from_le_bytes(*part),
                interval_ns: u64::from_le_bytes(*interval),
                per: u64::from_le_bytes(*per),
                returned_ns: u64::from_le_bytes(*returned),
                period: u64::from_le_bytes(*period),
                least_ns: [least, before].map(|ns| u64::from_le_bytes(*ns)),
            }),
            _ => None,
        }
    }

    /// The state as it is stored.
    pub fn to_bytes(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        let [least, before] = self.least_ns;
        let numbers = [
            self.full_ns,
            self.part,
            self.interval_ns,
            self.per,
            self.returned_ns,
            self.period,
            least,
            before,
        ];
        for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// What it owes, whole nanoseconds.
    const fn owed_ns(&self, now_ns: u64) -> u64 {
        self.full_ns.saturating_sub(now_ns)
    }

    /// No more than what it has owed at any time since the charge that left it in `spent`, ns.
    fn least_since(&self, spent: &Self, now_ns: u64) -> u64 {
        let [least, before] = self.least_ns;
        let by_period = match self.period.wrapping_sub(spent.period) {
            0 => least,
            1 => before,
            _ => 0,
        };
        // It stood there, and has gone back by what was given back since, and by time.
        let set_back_ns = self.returned_ns.wrapping_sub(spent.returned_ns);
        let by_return = spent.owed_ns(now_ns).saturating_sub(set_back_ns);
        by_period.max(by_return).min(self.owed_ns(now_ns))
    }
}

impl Bucket {
    /// Spends `cost` units at `now_ns` from a bucket in `state`. Pure; the caller stores the new state.
    pub fn spend(&self, state: &State, now_ns: u64, cost: u64) -> Spend {
        const NEVER: Spend = Spend::Refused {
            retry_after_ns: None,
        };
        if cost > self.burst {
            return NEVER;
        }
        let owed = self.owed(state, now_ns).checked_add(self.ticks(cost));
        // Five centuries from the clock's start, or a state that is not ours: nothing passes.
        let Some((owed, next)) = owed.and_then(|owed| Some((owed, self.at(state, now_ns, owed)?)))
        else {
            return NEVER;
        };
        let room = self.ticks(self.burst);
        match owed.checked_sub(room) {
            None | Some(0) => Spend::Allowed(next),
            Some(over) => Spend::Refused {
                retry_after_ns: Some(self.whole_ns(over)),
            },
        }
    }

    /// The same state at this bucket's pace, if it was filling at another: to be stored whatever a spend comes to, so that what is owed comes
    /// back at this pace from now on.
    pub fn rebased(&self, state: &State, now_ns: u64) -> Option<State> {
        let paces = (state.interval_ns, state.per) != (self.interval_ns, self.per);
        let owed = self.owed(state, now_ns);
        (paces && owed > 0)
            .then(|| self.at(state, now_ns, owed))
            .flatten()
    }

    /// Gives units back of an amount whose spending left the bucket in `spent`: as many as it still owes for them. `None`: none.
    ///
    /// What time has given back since is not given a second time: whoever got it could save up more than a full bucket holds.
    pub fn give_back(
        &self,
        state: &State,
        spent: &State,
        now_ns: u64,
        units: u64,
    ) -> Option<State> {
        let pace = (self.interval_ns, self.per);
        if [state, spent].map(|one| (one.interval_ns, one.per)) != [pace, pace] {
            return None;
        }
        let least_ns = state.least_since(spent, now_ns);
        let units_ns = divided(self.ticks(units), self.per).unwrap_or(u64::MAX);
        let back_ns = units_ns.min(least_ns);
        // Since that charge it has owed so much less now; before it, what it did.
        let rest_ns = least_ns.checked_sub(back_ns)?;
        Some(State {
            full_ns: state.full_ns.checked_sub(back_ns)?,
            returned_ns: state.returned_ns.wrapping_add(back_ns),
            least_ns: state.least_ns.map(|ns| ns.min(rest_ns)),
            ..*state
        })
        .filter(|_| back_ns > 0)
    }

    /// Spends units that are used already, whether the bucket has them or not: it is empty at the worst.
    pub fn take(&self, state: &State, now_ns: u64, units: u64) -> Option<State> {
        let owed = self.owed(state, now_ns);
        let more = owed.saturating_add(self.ticks(units));
        let full = self.ticks(self.burst);
        self.at(state, now_ns, more.min(full).max(owed))
    }

    /// What a bucket in `state` holds: units, and the nanoseconds until it is full.
    pub fn level(&self, state: &State, now_ns: u64) -> (u64, u64) {
        let owed = self.owed(state, now_ns);
        let room = self.ticks(self.burst).saturating_sub(owed);
        let units = divided(room, self.interval_ns).unwrap_or(0);
        (units.min(self.burst), self.whole_ns(owed))
    }

    /// The time in which so many units come back, in parts of a nanosecond of which `per` are a whole.
    fn ticks(&self, units: u64) -> u128 {
        u128::from(self.interval_ns).saturating_mul(u128::from(units))
    }

    /// What is owed at this pace. Under another pace the same units are, but no more than the bucket holds.
    fn owed(&self, state: &State, now_ns: u64) -> u128 {
        let owed_ns = state.full_ns.saturating_sub(now_ns);
        if state.full_ns < now_ns || (owed_ns, state.part) == (0, 0) {
            return 0;
        }
        let owed = u128::from(owed_ns)
            .saturating_mul(u128::from(state.per))
            .saturating_add(u128::from(state.part));
        if (state.interval_ns, state.per) == (self.interval_ns, self.per) {
            return owed;
        }
        let rounded = owed.saturating_add(u128::from(state.interval_ns.saturating_sub(1)));
        let units = divided(rounded, state.interval_ns).unwrap_or(self.burst);
        self.ticks(units.min(self.burst))
    }

    /// The state after `state` of a bucket that owes so much.
    fn at(&self, state: &State, now_ns: u64, owed: u128) -> Option<State> {
        let same = state.per == 0 || (state.interval_ns, state.per) == (self.interval_ns, self.per);
        let moved = if same { 0 } else { OTHER_PACE_NS };
        let ns = divided(owed, self.per)?;
        let [least, before] = state.least_ns.map(|ns| ns.min(state.owed_ns(now_ns)));
        let (periods, least_ns) = if !same {
            // Nothing of what was owed at another pace is known any more.
            (2, [ns, 0])
        } else if ns > least.saturating_mul(GROWTH) {
            (1, [ns, least])
        } else {
            (0, [least, before])
        };
        let whole = u128::from(ns).saturating_mul(u128::from(self.per));
        Some(State {
            full_ns: now_ns.checked_add(ns)?,
            part: u64::try_from(owed.checked_sub(whole)?).ok()?,
            interval_ns: self.interval_ns,
            per: self.per,
            returned_ns: state.returned_ns.wrapping_add(moved),
            period: state.period.wrapping_add(periods),
            least_ns,
        })
    }

    /// Whole nanoseconds, rounded up.
    fn whole_ns(&self, ticks: u128) -> u64 {
        let rounded = ticks.saturating_add(u128::from(self.per.saturating_sub(1)));
        divided(rounded, self.per).unwrap_or(u64::MAX)
    }
}

/// A quotient; `None` beyond 64 bits, or over nothing. A division of 128 bits is many times as dear as one of 64, and hardly ever needed.
fn divided(number: u128, by: u64) -> Option<u64> {
    if by == 1 {
        return u64::try_from(number).ok();
    }
    match u64::try_from(number) {
        Ok(number) => number.checked_div(by),
        Err(_) => u64::try_from(number.checked_div(u128::from(by))?).ok(),
    }
}

#[cfg(test)]
mod returned;
#[cfg(test)]
mod tests;
