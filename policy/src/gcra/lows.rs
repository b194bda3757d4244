//! What a bucket has owed at the least since each charge of which something can still come back: that much can, and no more.
//!
//! A later charge has seen less, so that its least is never below an earlier one's: a few steps that rise, oldest first. As many charges as there are
//! steps are known exactly. Of more, neighbours share a step, of which the lower is never too high; those do whose leasts differ by the smallest factor,
//! since what comes back for the later of them fits into what is known of the earlier most likely.

/// Steps that are kept. With sixteen times as many charges at once, of any sizes, in any order and at any pace, some thousandths of what should come back
/// do not.
pub(super) const MAX_STEPS: usize = 8;

/// Bytes of a stored step.
pub(super) const STEP_BYTES: usize = 16;

/// One step: charges from this one on, up to the next step's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// The number of the first; wraps.
    charge: u32,
    /// Of how many of them something can still come back, as far as is known.
    open: u32,
    /// What the bucket has owed at the least since then, ns.
    least_ns: u64,
}

impl Step {
    pub(super) fn from_numbers([charges, least]: &[[u8; 8]; 2]) -> Self {
        let [c0, c1, c2, c3, o0, o1, o2, o3] = *charges;
        Self {
            charge: u32::from_le_bytes([c0, c1, c2, c3]),
            open: u32::from_le_bytes([o0, o1, o2, o3]),
            least_ns: u64::from_le_bytes(*least),
        }
    }

    pub(super) fn to_numbers(self) -> [u64; 2] {
        let charges = u64::from(self.open) << 32 | u64::from(self.charge);
        [charges, self.least_ns]
    }
}

/// All of them; the default has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lows {
    steps: [Step; MAX_STEPS],
    count: usize,
}

/// What of a charge comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    /// The charge's number.
    pub(super) charge: u32,
    /// What the bucket owes, ns.
    pub(super) owed_ns: u64,
    /// What it has owed at the least since the charge, as far as is known, ns.
    pub(super) least_ns: u64,
    /// What comes back of that, ns.
    pub(super) back_ns: u64,
}

impl Lows {
    /// As stored; of more than there can be, the oldest.
    pub(super) fn new(stored: impl Iterator<Item = Step>) -> Self {
        let mut lows = Self::default();
        stored.for_each(|step| lows.append(step));
        lows
    }

    /// The steps, oldest first.
    pub(super) fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps.iter().take(self.count)
    }

    /// Appends a step, where there is room and it is one: what does not rise above the step before belongs to that.
    fn append(&mut self, step: Step) {
        let last = self.count.checked_sub(1);
        let last = last.and_then(|last| self.steps.get_mut(last));
        match last {
            Some(last) if last.least_ns >= step.least_ns => {
                last.open = last.open.saturating_add(step.open);
            }
            // Of what owed nothing since, nothing comes back.
            None if step.least_ns == 0 => {}
            _ => {
                if let Some(slot) = self.steps.get_mut(self.count) {
                    *slot = step;
                    self.count = self.count.saturating_add(1);
                }
            }
        }
    }

    /// How many charges there have been since one, up to the one with the number `last`.
    const fn age(last: u32, charge: u32) -> u32 {
        last.wrapping_sub(charge)
    }

    /// No more than what was owed at any time since a charge, ns; `last` is the number of the last one.
    pub(super) fn least_since(&self, last: u32, charge: u32) -> u64 {
        let age = Self::age(last, charge);
        let own = self
            .steps()
            .take_while(|step| Self::age(last, step.charge) >= age)
            .last();
        own.map_or(0, |step| step.least_ns)
    }

    /// When the bucket has come to owe no more than that, ns.
    pub(super) fn capped(&self, owed_ns: u64) -> Self {
        Self::new(self.steps().map(|step| Step {
            least_ns: step.least_ns.min(owed_ns),
            ..*step
        }))
    }

    /// After a charge of this number that leaves the bucket owing that much, ns.
    pub(super) fn charged(mut self, charge: u32, owed_ns: u64) -> Self {
        let new = Step {
            charge,
            open: 1,
            least_ns: owed_ns,
        };
        if self.count == MAX_STEPS {
            let factor = |one: &Step, other: &Step| {
                u128::from(one.least_ns).saturating_mul(u128::from(other.least_ns))
            };
            let behind = self.steps().skip(1).chain(core::iter::once(&new));
            let pairs = self.steps().zip(behind);
            let nearest = pairs.min_by(|(a, b), (c, d)| factor(b, c).cmp(&factor(d, a)));
            let Some(merged) = nearest.map(|(_, later)| *later) else {
                return self;
            };
            let steps = self.steps;
            self = Self::default();
            for step in steps.into_iter().chain(core::iter::once(new)) {
                // At the height of the one before it, it is part of that.
                let least_ns = if step == merged { 0 } else { step.least_ns };
                self.append(Step { least_ns, ..step });
            }
            return self;
        }
        self.append(new);
        self
    }

    /// After something came back. Had the charge been less by that, the bucket would have owed so much less ever since, and before it what it did.
    pub(super) fn returned(&self, last: u32, returned: Return) -> Self {
        let Return {
            charge,
            owed_ns,
            least_ns,
            back_ns,
        } = returned;
        let rest_ns = least_ns.saturating_sub(back_ns);
        let age = Self::age(last, charge);
        let older = |step: &Step| Self::age(last, step.charge) >= age;
        let own = self.steps().take_while(|step| older(step)).last().copied();
        let steps = self.steps().map(|step| {
            let capped_ns = step.least_ns.min(owed_ns);
            let mut next = *step;
            next.least_ns = if !older(step) {
                capped_ns.max(least_ns).saturating_sub(back_ns)
            } else if step.charge == charge {
                rest_ns
            } else {
                capped_ns.min(rest_ns)
            };
            if own.is_some_and(|own| own == *step) {
                next.open = next.open.saturating_sub(1);
            }
            next
        });
        // Nothing can come back any more of the charges of a step that has none open.
        Self::new(steps.filter(|step| step.open > 0))
    }
}
