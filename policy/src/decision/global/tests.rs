//! The numbers of the shared counter: exact, below 2^53, with the same verdicts as local buckets.
//! Impossible values from the counter are rejected.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::collections::BTreeMap;
use alloc::vec;

use tensorgate_values::Scope;
use tensorgate_values::time::{Now, SECOND_NS};

use super::*;
use crate::limits::gcra::Bucket;
use crate::policy::{Holder, Rate, Unit};

/// A day in this century, at noon.
const NOON_US: u64 = (20_000 * DAY_S + DAY_S / 2) * SECOND_US;
/// A double represents every whole number below this one.
const EXACT: u64 = 1 << 53;

/// The stored state of a counter. For a bucket: its rate and the time when it is full again. For
/// a day: the amount consumed.
#[derive(Clone, Copy)]
enum Stored {
    Bucket { pace: (u64, u64), full: Span },
    Day { day: u64, units: u64 },
}

/// The counter script of Redis, in Rust: additions and comparisons of whole numbers below 2^53.
#[derive(Default)]
struct Counter(BTreeMap<usize, Stored>);

impl Counter {
    /// All or none are charged. Returns the state found and whether the charge is allowed.
    fn consume(&mut self, terms: &[Terms], now_us: u64) -> (Vec<Found>, bool) {
        let mut passes = true;
        let (mut found, mut next) = (Vec::new(), Vec::new());
        for (key, terms) in terms.iter().enumerate() {
            match (*terms, self.0.get(&key)) {
                (
                    Terms::Bucket {
                        interval,
                        per,
                        cost,
                        room,
                    },
                    stored,
                ) => {
                    let mut owed = Span::default();
                    if let Some(Stored::Bucket { pace, full }) = stored
                        && full.us >= now_us
                    {
                        assert_eq!(*pace, (interval, per));
                        owed = Span {
                            us: full.us - now_us,
                            part: full.part,
                        };
                    }
                    owed = owed.min(room);
                    let mut after = Span {
                        us: owed.us + cost.us,
                        part: owed.part + cost.part,
                    };
                    if after.part >= per {
                        after = Span {
                            us: after.us + 1,
                            part: after.part - per,
                        };
                    }
                    for number in [now_us + after.us, owed.part + cost.part, interval, per] {
                        assert!(number < EXACT, "{terms:?}");
                    }
                    passes &= after <= room;
                    found.push(Found::Debt(owed));
                    let full = Span {
                        us: now_us + after.us,
                        ..after
                    };
                    let pace = (interval, per);
                    next.push(Stored::Bucket { pace, full });
                }
                (Terms::Day { cost, limit }, stored) => {
                    let today = now_us / SECOND_US / DAY_S;
                    let (day, units) = match stored {
                        Some(Stored::Day { day, units }) if [today, today + 1].contains(day) => {
                            (*day, *units)
                        }
                        _ => (today, 0),
                    };
                    assert!(units + cost < EXACT);
                    passes &= units + cost <= limit;
                    found.push(Found::Spent { day, units });
                    let units = units + cost;
                    next.push(Stored::Day { day, units });
                }
            }
        }
        if passes {
            self.0.extend(next.into_iter().enumerate());
        }
        (found, passes)
    }
}

fn bucket(interval_ns: u64, per: u64, burst: u64) -> Allowance {
    allowance(Limit::Window(Rate {
        quota: burst,
        window_s: 60,
        bucket: Bucket {
            interval_ns,
            per,
            burst,
        },
        scope: Scope::Global,
    }))
}

fn allowance(limit: Limit) -> Allowance {
    Allowance {
        unit: Unit::Bytes,
        limit,
        scope: Scope::Global,
        holder: Holder::Client,
    }
}

/// A pseudo-random sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn a_shared_counter_decides_as_local_buckets_do() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for allowance in [
        bucket(600_000_000, 1, 20),
        bucket(1, 1, 1_000_000),
        bucket(333_333_334, 1, 7),
        bucket(60 * SECOND_NS, 67_108_864, 67_108_864),
        bucket(
            2_678_400 * SECOND_NS,
            999_999_999_999_999,
            999_999_999_999_999,
        ),
        bucket(SECOND_NS, 999_983, 999_983),
        allowance(Limit::Day(100_000)),
    ] {
        let mut counter = Counter::default();
        let mut own = allowance.fresh();
        let mut now_us = NOON_US;
        for _ in 0..2_000 {
            now_us += numbers.below(3 * SECOND_US);
            let most = allowance.most();
            let bound = match numbers.below(3) {
                0 => 1,
                1 => most.min(10),
                _ => most,
            };
            let amount = 1 + numbers.below(bound);
            let limit_charges = [LimitCharge { allowance, amount }];
            let terms = [Terms::of(&limit_charges[0]).unwrap()];
            let (found, passes) = counter.consume(&terms, now_us);
            let outcome = outcome(&limit_charges, &found, now_us).unwrap();
            assert_eq!(passes, matches!(outcome, ChargeOutcome::Charged(_)));
            let now = Now {
                unix_s: now_us / SECOND_US,
                monotonic_ns: now_us * MICRO_NS,
            };
            let drawn = allowance.consume(&own, now, amount).unwrap();
            let mut expected = match drawn.after {
                Some((level, state)) => {
                    own = state;
                    ChargeOutcome::Charged(vec![level])
                }
                None => ChargeOutcome::Exceeded(vec![drawn.before]),
            };
            // The end of a day is rounded to the second there, to the microsecond here.
            if let (
                Limit::Day(_),
                ChargeOutcome::Charged(levels) | ChargeOutcome::Exceeded(levels),
            ) = (allowance.limit, &mut expected)
            {
                let early_ns = now_us % SECOND_US * MICRO_NS;
                levels[0].full_after_ns -= early_ns;
                if let Wait::Ns(wait) = &mut levels[0].wait {
                    *wait -= early_ns;
                }
            }
            assert_eq!(outcome, expected, "{allowance:?} {amount} at {now_us}");
        }
    }
}

#[test]
fn several_limits_are_charged_all_or_none() {
    let (small, large) = (bucket(SECOND_NS, 1, 2), allowance(Limit::Day(10)));
    let limit_charges = |amount| {
        [small, large].map(|allowance| LimitCharge {
            allowance,
            amount: if allowance == small { 1 } else { amount },
        })
    };
    let mut counter = Counter::default();
    let mut spend = |amount| {
        let limit_charges = limit_charges(amount);
        let terms: Vec<_> = limit_charges
            .iter()
            .map(|limit_charge| Terms::of(limit_charge).unwrap())
            .collect();
        let (found, _) = counter.consume(&terms, NOON_US);
        outcome(&limit_charges, &found, NOON_US).unwrap()
    };
    let left = |outcome: &ChargeOutcome| match outcome {
        ChargeOutcome::Charged(levels) => (true, levels[0].left, levels[1].left),
        ChargeOutcome::Exceeded(levels) => (false, levels[0].left, levels[1].left),
        other => panic!("{other:?}"),
    };
    assert_eq!(left(&spend(6)), (true, 1, 4));
    assert_eq!(left(&spend(5)), (false, 1, 4));
    assert_eq!(left(&spend(4)), (true, 0, 0));
    assert_eq!(left(&spend(1)), (false, 0, 0));
}

#[test]
fn impossible_states_of_a_counter_are_rejected() {
    let limit_charge = |allowance| LimitCharge {
        allowance,
        amount: 1,
    };
    let (bucket, day) = (
        limit_charge(bucket(SECOND_NS, 1, 2)),
        limit_charge(allowance(Limit::Day(10))),
    );
    let owed = |us, part| Found::Debt(Span { us, part });
    let spent = |day, units| Found::Spent { day, units };
    for (limit_charges, found, believed) in [
        (&[bucket][..], &[owed(0, 0)][..], true),
        (&[bucket], &[owed(2_000_000, 0)], true),
        (&[bucket], &[owed(2_000_001, 0)], false),
        (&[bucket], &[owed(0, 1)], false),
        (&[bucket], &[spent(20_000, 0)], false),
        (&[bucket], &[], false),
        (&[bucket], &[owed(0, 0), owed(0, 0)], false),
        (&[day], &[spent(20_000, 0)], true),
        (&[day], &[spent(20_001, 10)], true),
        (&[day], &[spent(20_000, u64::MAX)], true),
        (&[day], &[spent(19_999, 0)], false),
        (&[day], &[spent(20_002, 0)], false),
        (&[day], &[owed(0, 0)], false),
        (&[bucket, day], &[owed(0, 0), spent(20_000, 0)], true),
    ] {
        let outcome = outcome(limit_charges, found, NOON_US);
        assert_eq!(outcome.is_some(), believed, "{found:?}");
    }
}

#[test]
fn an_impossible_cost_is_rejected_without_the_counter() {
    let limit_charge = |amount| LimitCharge {
        allowance: bucket(SECOND_NS, 1, 2),
        amount,
    };
    assert_eq!(never(&[limit_charge(2)]), None);
    let Some(ChargeOutcome::Exceeded(levels)) = never(&[limit_charge(1), limit_charge(3)]) else {
        panic!("it never passes")
    };
    assert_eq!(levels[0].wait, Wait::None);
    assert_eq!((levels[1].left, levels[1].wait), (2, Wait::Forever));
    assert_eq!(Terms::of(&limit_charge(3)), None);
}

#[test]
fn every_limit_that_a_policy_may_have_is_exact_in_doubles() {
    let longest = bucket(MAX_FILL_S * SECOND_NS, 1, 1);
    let end_of_century_us = 4_102_444_800 * SECOND_US;
    for allowance in [longest, bucket(1, 1, 1), bucket(999, 1, 1_000_000)] {
        let limit_charge = LimitCharge {
            allowance,
            amount: allowance.most(),
        };
        let Some(Terms::Bucket {
            interval,
            per,
            cost,
            room,
        }) = Terms::of(&limit_charge)
        else {
            panic!("a bucket")
        };
        assert_eq!(cost, room);
        assert!(end_of_century_us + 2 * room.us < EXACT);
        assert!(interval < EXACT && 2 * per < EXACT);
    }
}
