//! Minimum debt of a bucket since each refundable charge, which limits the refund.
//!
//! A later charge has a minimum that is not below an earlier one's, so the minima form rising
//! steps, oldest first. Up to the maximum number of steps, all charges are exact. Beyond that,
//! neighbours share a step with the lower minimum, which is never too high. The neighbours with the
//! smallest ratio are merged, because that loses the least.

/// Maximum number of steps. With sixteen times as many concurrent charges, some thousandths of the
/// refunds are lost.
pub(super) const MAX_STEPS: usize = 8;

/// A step: all charges from this one to the next step's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Number of the first charge; wraps.
    charge: u32,
    /// Number of charges that may still be refunded.
    open: u32,
    /// Minimum debt since then, in ns.
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

/// All steps; empty by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinimumDebts {
    steps: [Step; MAX_STEPS],
    count: usize,
}

/// A refund.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    /// Number of the charge.
    pub(super) charge: u32,
    /// Current debt, in ns.
    pub(super) debt_ns: u64,
    /// Known minimum debt since the charge, in ns.
    pub(super) least_ns: u64,
    /// The refund, in ns.
    pub(super) back_ns: u64,
}

impl MinimumDebts {
    /// Creates steps from storage; of too many, the oldest are kept.
    pub(super) fn new(stored: impl Iterator<Item = Step>) -> Self {
        let mut minimums = Self::default();
        stored.for_each(|step| minimums.append(step));
        minimums
    }

    /// The steps, oldest first.
    pub(super) fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps.iter().take(self.count)
    }

    /// Appends a step if there is room. A step that does not rise is part of the previous one.
    fn append(&mut self, step: Step) {
        let last = self.count.checked_sub(1);
        let last = last.and_then(|last| self.steps.get_mut(last));
        match last {
            Some(last) if last.least_ns >= step.least_ns => {
                last.open = last.open.saturating_add(step.open);
            }
            // Without debt since then, there is no refund.
            None if step.least_ns == 0 => {}
            _ => {
                if let Some(slot) = self.steps.get_mut(self.count) {
                    *slot = step;
                    self.count = self.count.saturating_add(1);
                }
            }
        }
    }

    /// Number of charges from one to the `last`.
    const fn age(last: u32, charge: u32) -> u32 {
        last.wrapping_sub(charge)
    }

    /// A lower bound of the debt since a charge, in ns; `last` is the number of the last charge.
    pub(super) fn least_since(&self, last: u32, charge: u32) -> u64 {
        let age = Self::age(last, charge);
        let own = self
            .steps()
            .take_while(|step| Self::age(last, step.charge) >= age)
            .last();
        own.map_or(0, |step| step.least_ns)
    }

    /// After the debt has decreased to this, in ns.
    pub(super) fn capped(&self, debt_ns: u64) -> Self {
        Self::new(self.steps().map(|step| Step {
            least_ns: step.least_ns.min(debt_ns),
            ..*step
        }))
    }

    /// After a charge with this number and resulting debt, in ns.
    pub(super) fn charged(mut self, charge: u32, debt_ns: u64) -> Self {
        let new = Step {
            charge,
            open: 1,
            least_ns: debt_ns,
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
                // At the same height it is part of the previous step.
                let least_ns = if step == merged { 0 } else { step.least_ns };
                self.append(Step { least_ns, ..step });
            }
            return self;
        }
        self.append(new);
        self
    }

    /// After a refund. With a smaller charge, the debt would have been smaller ever since.
    pub(super) fn returned(&self, last: u32, returned: Return) -> Self {
        let Return {
            charge,
            debt_ns,
            least_ns,
            back_ns,
        } = returned;
        let rest_ns = least_ns.saturating_sub(back_ns);
        let age = Self::age(last, charge);
        let older = |step: &Step| Self::age(last, step.charge) >= age;
        let own = self.steps().take_while(|step| older(step)).last().copied();
        let steps = self.steps().map(|step| {
            let capped_ns = step.least_ns.min(debt_ns);
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
        // Steps without open charges get no refund.
        Self::new(steps.filter(|step| step.open > 0))
    }
}
