//! A budget of a calendar day: so many units between one midnight, UTC, and the next, exact under compare-and-swap.
//!
//! A day of the calendar and not a rolling one: it is what a bill counts, two numbers are all its state, and it says to the second
//! when there is more. State is the day and what was spent of it; how much a day has is not in it, so that a reload that changes that neither
//! forgets what was spent nor adds to it.

/// Seconds of a day. Unix time has no leap seconds.
pub const DAY_S: u64 = 86_400;

/// Bytes of a stored state.
pub const STATE_BYTES: usize = 16;

/// What was spent, as it is stored. The default is nothing, on the first day of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Days since the Unix epoch.
    pub day: u64,
    /// Units.
    pub units: u64,
}

/// What a spend came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Allowed; the state to store.
    Allowed(Spent),
    /// Refused; state stays. The same spend passes after this many seconds; `None` if it never can.
    Refused {
        /// Wait, s.
        retry_after_s: Option<u64>,
    },
}

impl Spent {
    /// Reads a stored state; `None` if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.as_chunks::<8>() {
            ([day, units], []) => Some(Self {
                day: u64::from_le_bytes(*day),
                units: u64::from_le_bytes(*units),
            }),
            _ => None,
        }
    }

    /// The state as it is stored.
    pub fn to_bytes(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        for (slot, number) in bytes.chunks_exact_mut(8).zip([self.day, self.units]) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The same at a time. A clock that went back over midnight goes on in the day that it had reached, so that nobody has a day
    /// twice. One that had run ahead by more than a day was wrong: nobody waits until it is right.
    fn at(&self, unix_s: u64) -> Self {
        let today = unix_s.checked_div(DAY_S).unwrap_or(0);
        let reached = [today, today.saturating_add(1)];
        if reached.contains(&self.day) {
            *self
        } else {
            Self {
                day: today,
                units: 0,
            }
        }
    }

    /// Spends `cost` units of a day's `limit`. Pure; the caller stores the new state.
    pub fn spend(&self, limit: u64, unix_s: u64, cost: u64) -> Spend {
        let now = self.at(unix_s);
        match now.units.checked_add(cost).filter(|units| *units <= limit) {
            Some(units) => Spend::Allowed(Self { units, ..now }),
            None => Spend::Refused {
                retry_after_s: (cost <= limit).then(|| now.left_s(unix_s)),
            },
        }
    }

    /// Gives units back of an amount whose spending left the day in `spent`. `None`: that day is over.
    pub fn give_back(&self, spent: &Self, units: u64) -> Option<Self> {
        (self.day == spent.day).then(|| Self {
            units: self.units.saturating_sub(units),
            ..*self
        })
    }

    /// Spends units that are used already, whether the day has them or not.
    #[must_use]
    pub fn take(&self, unix_s: u64, units: u64) -> Self {
        let now = self.at(unix_s);
        Self {
            units: now.units.saturating_add(units),
            ..now
        }
    }

    /// What is left of a day's `limit`: units, and the seconds until the next day.
    pub fn level(&self, limit: u64, unix_s: u64) -> (u64, u64) {
        let now = self.at(unix_s);
        (limit.saturating_sub(now.units), now.left_s(unix_s))
    }

    /// Seconds until this day is over, at least 1.
    fn left_s(&self, unix_s: u64) -> u64 {
        let end_s = self.day.saturating_add(1).saturating_mul(DAY_S);
        end_s.saturating_sub(unix_s).max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;

    const NOON: u64 = 20_000 * DAY_S + DAY_S / 2;

    fn spent(units: u64) -> Spent {
        Spent { day: 20_000, units }
    }

    #[test]
    fn a_day_has_its_units_and_no_more() {
        let check = |units, cost, expected| {
            assert_eq!(
                spent(units).spend(100, NOON, cost),
                expected,
                "{units} {cost}"
            );
        };
        let wait = Spend::Refused {
            retry_after_s: Some(DAY_S / 2),
        };
        let never = Spend::Refused {
            retry_after_s: None,
        };
        check(0, 100, Spend::Allowed(spent(100)));
        check(99, 1, Spend::Allowed(spent(100)));
        check(99, 2, wait);
        check(100, 1, wait);
        check(100, 0, Spend::Allowed(spent(100)));
        check(0, 101, never);
        check(0, u64::MAX, never);
        check(u64::MAX, 1, wait);
        assert_eq!(spent(30).level(100, NOON), (70, DAY_S / 2));
        assert_eq!(spent(130).level(100, NOON), (0, DAY_S / 2));
    }

    #[test]
    fn the_next_day_begins_at_midnight_utc_and_not_a_second_before() {
        let midnight = 20_001 * DAY_S;
        assert_eq!(
            spent(100).spend(100, midnight - 1, 1),
            Spend::Refused {
                retry_after_s: Some(1)
            }
        );
        assert_eq!(
            spent(100).spend(100, midnight, 1),
            Spend::Allowed(Spent {
                day: 20_001,
                units: 1
            })
        );
        assert_eq!(spent(100).level(100, midnight), (100, DAY_S));
    }

    #[test]
    fn a_clock_that_goes_back_over_midnight_gives_no_day_twice() {
        let late = Spent {
            day: 20_001,
            units: 60,
        };
        // A minute before the midnight that it has seen.
        let before = 20_001 * DAY_S - 60;
        assert_eq!(
            late.spend(100, before, 40),
            Spend::Allowed(Spent {
                day: 20_001,
                units: 100
            })
        );
        assert_eq!(
            late.spend(100, before, 41),
            Spend::Refused {
                retry_after_s: Some(DAY_S + 60)
            }
        );
    }

    #[test]
    fn a_clock_that_was_wrong_by_days_keeps_nobody_out_once_it_is_right() {
        for day in [20_002, 40_000, u64::MAX] {
            let wrong = Spent { day, units: 100 };
            assert_eq!(wrong.spend(100, NOON, 1), Spend::Allowed(spent(1)), "{day}");
        }
    }

    #[test]
    fn what_was_not_used_comes_back_on_its_own_day_and_no_more_than_was_spent() {
        assert_eq!(spent(80).give_back(&spent(50), 30), Some(spent(50)));
        assert_eq!(spent(20).give_back(&spent(50), 30), Some(spent(0)));
        let next = Spent {
            day: 20_001,
            units: 80,
        };
        assert_eq!(next.give_back(&spent(50), 30), None);
        assert_eq!(spent(80).take(NOON, 30), spent(110));
        assert_eq!(spent(110).level(100, NOON).0, 0);
        assert_eq!(spent(80).take(NOON, u64::MAX), spent(u64::MAX));
        assert_eq!(
            spent(80).take(NOON + 2 * DAY_S, 30),
            Spent {
                day: 20_002,
                units: 30
            }
        );
    }

    #[test]
    fn a_smaller_or_larger_day_keeps_what_was_spent() {
        assert_eq!(
            spent(80).spend(50, NOON, 1),
            Spend::Refused {
                retry_after_s: Some(DAY_S / 2)
            }
        );
        assert_eq!(spent(80).spend(90, NOON, 10), Spend::Allowed(spent(90)));
    }

    #[test]
    fn no_extreme_of_time_or_state_panics_or_gives_more_than_a_day_has() {
        const EXTREMES: [u64; 6] = [0, 1, 99, i64::MAX as u64, u64::MAX - 1, u64::MAX];
        for day in EXTREMES {
            for units in EXTREMES {
                for unix_s in EXTREMES {
                    for cost in EXTREMES {
                        let state = Spent { day, units };
                        assert_eq!(Spent::from_bytes(&state.to_bytes()), Some(state));
                        match state.spend(99, unix_s, cost) {
                            Spend::Allowed(next) => assert!(next.units <= 99),
                            Spend::Refused { retry_after_s } => {
                                assert_eq!(retry_after_s.is_none(), cost > 99);
                            }
                        }
                        assert!(state.level(99, unix_s).0 <= 99);
                    }
                }
            }
        }
        for bytes in [&[][..], &[0; 15], &[0; 17]] {
            assert_eq!(Spent::from_bytes(bytes), None);
        }
    }
}
