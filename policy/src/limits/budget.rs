//! A budget per calendar day (UTC): a number of units between two midnights, exact under
//! compare-and-swap.
//!
//! A calendar day matches billing, needs only two numbers of state and gives an exact reset time.
//! The state is the day and the units used. The limit is not part of the state, so a reload with
//! another limit neither forgets nor adds usage.

use tensorgate_values::time::DAY_S;

use super::StateBytes;

/// Bytes of a stored state.
pub const STATE_BYTES: usize = 16;

/// Usage of a day, as it is stored. The default is no usage on day 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DailyUsage {
    /// Days since the Unix epoch.
    pub day: u64,
    /// Units.
    pub units: u64,
}

/// Result of consuming units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumeResult {
    /// Allowed; the state to store.
    Allowed(DailyUsage),
    /// Rejected; the state is unchanged. The same request is allowed after this many seconds;
    /// `None` if never.
    Refused {
        /// Wait, s.
        retry_after_s: Option<u64>,
    },
}

impl DailyUsage {
    /// Decodes a stored state; `None` if the bytes are invalid.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.as_chunks::<8>() {
            ([day, units], []) => Some(Self {
                day: u64::from_le_bytes(*day),
                units: u64::from_le_bytes(*units),
            }),
            _ => None,
        }
    }

    /// Encodes the state for storage.
    pub fn to_bytes(&self) -> StateBytes {
        let numbers = [self.day, self.units].into_iter();
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// The state at a time. A clock that goes back over midnight stays in the later day, so no
    /// client gets a day twice. A state more than a day ahead came from a wrong clock and is
    /// ignored.
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

    /// Consumes `cost` units of a day's `limit`. Pure; the caller stores the new state.
    pub fn consume(&self, limit: u64, unix_s: u64, cost: u64) -> ConsumeResult {
        let now = self.at(unix_s);
        match now.units.checked_add(cost).filter(|units| *units <= limit) {
            Some(units) => ConsumeResult::Allowed(Self { units, ..now }),
            None => ConsumeResult::Refused {
                retry_after_s: (cost <= limit).then(|| now.left_s(unix_s)),
            },
        }
    }

    /// Refunds units of a charge that left the state `spent`. `None`: that day is over.
    pub fn refund(&self, spent: &Self, units: u64) -> Option<Self> {
        (self.day == spent.day).then(|| Self {
            units: self.units.saturating_sub(units),
            ..*self
        })
    }

    /// Consumes units that are used already, even beyond the limit.
    #[must_use]
    pub fn force_consume(&self, unix_s: u64, units: u64) -> Self {
        let now = self.at(unix_s);
        Self {
            units: now.units.saturating_add(units),
            ..now
        }
    }

    /// Remaining units of a day's `limit`, and the seconds until the next day.
    pub fn level(&self, limit: u64, unix_s: u64) -> (u64, u64) {
        let now = self.at(unix_s);
        (limit.saturating_sub(now.units), now.left_s(unix_s))
    }

    /// Seconds until the end of this day, at least 1.
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

    fn spent(units: u64) -> DailyUsage {
        DailyUsage { day: 20_000, units }
    }

    #[test]
    fn a_day_has_its_units_and_no_more() {
        let check = |units, cost, expected| {
            assert_eq!(
                spent(units).consume(100, NOON, cost),
                expected,
                "{units} {cost}"
            );
        };
        let wait = ConsumeResult::Refused {
            retry_after_s: Some(DAY_S / 2),
        };
        let never = ConsumeResult::Refused {
            retry_after_s: None,
        };
        check(0, 100, ConsumeResult::Allowed(spent(100)));
        check(99, 1, ConsumeResult::Allowed(spent(100)));
        check(99, 2, wait);
        check(100, 1, wait);
        check(100, 0, ConsumeResult::Allowed(spent(100)));
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
            spent(100).consume(100, midnight - 1, 1),
            ConsumeResult::Refused {
                retry_after_s: Some(1)
            }
        );
        assert_eq!(
            spent(100).consume(100, midnight, 1),
            ConsumeResult::Allowed(DailyUsage {
                day: 20_001,
                units: 1
            })
        );
        assert_eq!(spent(100).level(100, midnight), (100, DAY_S));
    }

    #[test]
    fn a_clock_going_back_over_midnight_grants_no_day_twice() {
        let late = DailyUsage {
            day: 20_001,
            units: 60,
        };
        // A minute before the midnight that was seen.
        let before = 20_001 * DAY_S - 60;
        assert_eq!(
            late.consume(100, before, 40),
            ConsumeResult::Allowed(DailyUsage {
                day: 20_001,
                units: 100
            })
        );
        assert_eq!(
            late.consume(100, before, 41),
            ConsumeResult::Refused {
                retry_after_s: Some(DAY_S + 60)
            }
        );
    }

    #[test]
    fn a_clock_that_was_days_ahead_blocks_no_client_once_corrected() {
        for day in [20_002, 40_000, u64::MAX] {
            let wrong = DailyUsage { day, units: 100 };
            assert_eq!(
                wrong.consume(100, NOON, 1),
                ConsumeResult::Allowed(spent(1)),
                "{day}"
            );
        }
    }

    #[test]
    fn refunds_apply_to_their_own_day_and_not_beyond_the_usage() {
        assert_eq!(spent(80).refund(&spent(50), 30), Some(spent(50)));
        assert_eq!(spent(20).refund(&spent(50), 30), Some(spent(0)));
        let next = DailyUsage {
            day: 20_001,
            units: 80,
        };
        assert_eq!(next.refund(&spent(50), 30), None);
        assert_eq!(spent(80).force_consume(NOON, 30), spent(110));
        assert_eq!(spent(110).level(100, NOON).0, 0);
        assert_eq!(spent(80).force_consume(NOON, u64::MAX), spent(u64::MAX));
        assert_eq!(
            spent(80).force_consume(NOON + 2 * DAY_S, 30),
            DailyUsage {
                day: 20_002,
                units: 30
            }
        );
    }

    #[test]
    fn a_changed_budget_keeps_the_days_usage() {
        assert_eq!(
            spent(80).consume(50, NOON, 1),
            ConsumeResult::Refused {
                retry_after_s: Some(DAY_S / 2)
            }
        );
        assert_eq!(
            spent(80).consume(90, NOON, 10),
            ConsumeResult::Allowed(spent(90))
        );
    }

    #[test]
    fn no_extreme_of_time_or_state_panics_or_gives_more_than_a_day_has() {
        const EXTREMES: [u64; 6] = [0, 1, 99, i64::MAX as u64, u64::MAX - 1, u64::MAX];
        for day in EXTREMES {
            for units in EXTREMES {
                for unix_s in EXTREMES {
                    for cost in EXTREMES {
                        let state = DailyUsage { day, units };
                        assert_eq!(DailyUsage::from_bytes(&state.to_bytes()), Some(state));
                        match state.consume(99, unix_s, cost) {
                            ConsumeResult::Allowed(next) => assert!(next.units <= 99),
                            ConsumeResult::Refused { retry_after_s } => {
                                assert_eq!(retry_after_s.is_none(), cost > 99);
                            }
                        }
                        assert!(state.level(99, unix_s).0 <= 99);
                    }
                }
            }
        }
        for bytes in [&[][..], &[0; 15], &[0; 17]] {
            assert_eq!(DailyUsage::from_bytes(bytes), None);
        }
    }
}
