//! GCRA buckets: their capacity and refill. No extreme state, time or cost allows more.
#![allow(clippy::panic, clippy::arithmetic_side_effects, reason = "tests")]

use super::*;

const BUCKET: Bucket = Bucket {
    interval_ns: 100,
    per: 1,
    burst: 3,
};

/// A state at this test's rate.
fn at(full_ns: u64) -> State {
    State {
        full_ns,
        part: 0,
        interval_ns: BUCKET.interval_ns,
        per: BUCKET.per,
        ..State::default()
    }
}

fn refused(retry_after_ns: u64) -> ConsumeResult {
    ConsumeResult::Refused {
        retry_after_ns: Some(retry_after_ns),
    }
}

/// When a bucket is full again after this consumption.
fn full_at(spend: &ConsumeResult) -> Option<u64> {
    match spend {
        ConsumeResult::Allowed(state) => Some(state.full_ns),
        ConsumeResult::Refused { .. } => None,
    }
}

#[test]
fn a_new_bucket_has_exactly_its_burst() {
    let mut state = State::default();
    for left in (0..3).rev() {
        let ConsumeResult::Allowed(next) = BUCKET.consume(&state, 1_000, 1) else {
            panic!("within the burst")
        };
        state = next;
        assert_eq!(BUCKET.level(&state, 1_000), (left, 300 - 100 * left));
    }
    assert_eq!(BUCKET.consume(&state, 1_000, 1), refused(100));
    assert_eq!(BUCKET.consume(&state, 1_099, 1), refused(1));
    assert_eq!(BUCKET.level(&state, 1_099), (0, 201));
    assert_eq!(BUCKET.level(&state, 1_100), (1, 200));
    assert_eq!(full_at(&BUCKET.consume(&state, 1_100, 1)), Some(1_400));
    assert_eq!(BUCKET.level(&state, 9_999), (3, 0));
}

#[test]
fn a_cost_above_the_burst_never_passes() {
    assert_eq!(
        BUCKET.consume(&State::default(), u64::MAX, 4),
        ConsumeResult::Refused {
            retry_after_ns: None
        }
    );
    assert_eq!(
        BUCKET.consume(&State::default(), 0, u64::MAX),
        ConsumeResult::Refused {
            retry_after_ns: None
        }
    );
}

#[test]
fn a_cost_is_charged_whole_or_not_at_all() {
    assert_eq!(
        full_at(&BUCKET.consume(&State::default(), 1_000, 3)),
        Some(1_300)
    );
    assert_eq!(BUCKET.consume(&at(1_100), 1_000, 3), refused(100));
    assert_eq!(full_at(&BUCKET.consume(&at(1_100), 1_000, 2)), Some(1_300));
    assert_eq!(full_at(&BUCKET.consume(&at(1_300), 1_000, 0)), Some(1_300));
}

#[test]
fn an_idle_bucket_refills_to_its_burst_only() {
    // The same after an hour as after a moment: three are allowed, the fourth is not.
    assert_eq!(
        full_at(&BUCKET.consume(&at(1_300), 3_600_000_000_000, 3)),
        Some(3_600_000_000_300)
    );
    assert_eq!(
        BUCKET.consume(&at(3_600_000_000_300), 3_600_000_000_000, 1),
        refused(100)
    );
}

#[test]
fn a_clock_that_goes_back_grants_nothing() {
    let ConsumeResult::Allowed(state) = BUCKET.consume(&State::default(), 10_000, 3) else {
        panic!("a full bucket")
    };
    for now in [9_999, 5_000, 0] {
        assert!(
            matches!(BUCKET.consume(&state, now, 1), ConsumeResult::Refused { retry_after_ns: Some(wait) } if wait >= 100),
            "{now}"
        );
    }
}

/// Numbers at which arithmetic may overflow or round.
const EXTREMES: [u64; 10] = [
    0,
    1,
    2,
    99,
    1 << 31,
    1 << 32,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    u64::MAX - 1,
    u64::MAX,
];

/// The expected result of a consume, in integers that cannot overflow.
fn exact(bucket: Bucket, state: u64, now: u64, cost: u64) -> Option<u128> {
    let (interval, burst) = (u128::from(bucket.interval_ns), u128::from(bucket.burst));
    let next = u128::from(state.max(now)) + interval * u128::from(cost);
    (cost <= bucket.burst && next <= u128::from(now) + interval * burst).then_some(next)
}

#[test]
fn extreme_values_allow_no_more_than_exact_arithmetic() {
    let mut allowed = 0;
    for interval_ns in EXTREMES.into_iter().filter(|interval| *interval > 0) {
        for burst in EXTREMES.into_iter().filter(|burst| *burst > 0) {
            let bucket = Bucket {
                interval_ns,
                per: 1,
                burst,
            };
            for full_ns in EXTREMES {
                let state = State {
                    full_ns,
                    part: 0,
                    interval_ns,
                    per: 1,
                    ..State::default()
                };
                for now in EXTREMES {
                    for cost in EXTREMES {
                        let shown = (bucket, state, now, cost);
                        match (
                            bucket.consume(&state, now, cost),
                            exact(bucket, full_ns, now, cost),
                        ) {
                            (ConsumeResult::Allowed(next), exact) => {
                                assert_eq!(Some(u128::from(next.full_ns)), exact, "{shown:?}");
                                allowed += 1;
                            }
                            (
                                ConsumeResult::Refused {
                                    retry_after_ns: Some(wait),
                                },
                                _,
                            ) => {
                                // Waiting for the reported time is enough, and one nanosecond less
                                // is not.
                                if let Some(later) = now.checked_add(wait) {
                                    assert!(
                                        matches!(
                                            bucket.consume(&state, later, cost),
                                            ConsumeResult::Allowed(_)
                                        ),
                                        "{shown:?}"
                                    );
                                    assert!(
                                        matches!(
                                            bucket.consume(&state, later - 1, cost),
                                            ConsumeResult::Refused { .. }
                                        ),
                                        "{shown:?}"
                                    );
                                }
                            }
                            (
                                ConsumeResult::Refused {
                                    retry_after_ns: None,
                                },
                                exact,
                            ) => {
                                // "Never" only where it is impossible, or beyond 64 bits.
                                let never = cost > burst || interval_ns.checked_mul(cost).is_none();
                                let end_of_time = exact.is_none_or(|next| next > u64::MAX.into())
                                    && interval_ns
                                        .saturating_mul(cost)
                                        .checked_add(full_ns.max(now))
                                        .is_none();
                                assert!(never || end_of_time, "{shown:?}");
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(allowed > 1_000, "{allowed}");
}

/// A million elements a minute.
const AMOUNTS: Bucket = Bucket {
    interval_ns: 60_000_000_000,
    per: 1_000_000,
    burst: 1_000_000,
};

#[test]
fn amounts_of_any_size_fill_a_bucket_to_the_last_unit() {
    for (interval_ns, units, cost) in [
        (60_000_000_000, 1_000_000, 1_000_000),
        (60_000_000_000, 1_000_000, 64),
        (60_000_000_000, 1_000_000, 3),
        // Rates with a fractional number of nanoseconds per unit.
        (60_000_000_000, 999_983, 1),
        (1_000_000_000, 700_000_001, 1_000_001),
        (1, 1_000_003, 7),
        (2_678_400_000_000_000, 244, 2),
    ] {
        let bucket = Bucket {
            interval_ns,
            per: units,
            burst: units,
        };
        let mut state = State::default();
        let mut spent = 0;
        while let ConsumeResult::Allowed(next) = bucket.consume(&state, 1_000, cost) {
            state = next;
            spent += cost;
        }
        assert_eq!(spent, units - units % cost, "in pieces of {cost}");
        assert_eq!(bucket.level(&state, 1_000).0, units - spent);
    }
}

#[test]
fn a_rate_above_one_unit_per_nanosecond_is_exact() {
    // Seven units per nanosecond. Rounding loses at most the units of one nanosecond.
    let bucket = Bucket {
        interval_ns: 1_000_000_000,
        per: 7_000_000_000,
        burst: 7_000_000_000,
    };
    let ConsumeResult::Allowed(state) = bucket.consume(&State::default(), 0, 7_000_000_000) else {
        panic!("a full bucket")
    };
    assert_eq!(state.full_ns, 1_000_000_000);
    assert_eq!(
        bucket.level(&state, 500_000_000),
        (3_500_000_000, 500_000_000)
    );
    assert_eq!(
        bucket.consume(&state, 0, 700),
        refused(100),
        "700 units are back after 100 ns"
    );
}

#[test]
fn amounts_beyond_64_bits_of_time_are_neither_free_nor_a_panic() {
    let bucket = Bucket {
        interval_ns: 2_678_400_000_000_000,
        per: 999_999_999_999_999,
        burst: 999_999_999_999_999,
    };
    let ConsumeResult::Allowed(state) = bucket.consume(&State::default(), 5, 999_999_999_999_999)
    else {
        panic!("a full bucket")
    };
    assert_eq!(state.full_ns, 2_678_400_000_000_005);
    assert_eq!(bucket.level(&state, 5), (0, 2_678_400_000_000_000));
    assert_eq!(
        bucket.consume(&state, 5, u64::MAX),
        ConsumeResult::Refused {
            retry_after_ns: None
        }
    );
}

#[test]
fn a_changed_rate_keeps_the_used_units() {
    let slower = Bucket {
        interval_ns: 3_600_000_000_000,
        ..AMOUNTS
    };
    let check = |from: Bucket, spent: u64, to: Bucket, left: u64| {
        let ConsumeResult::Allowed(state) = from.consume(&State::default(), 1_000, spent) else {
            panic!("within the bucket")
        };
        assert_eq!(to.level(&state, 1_000).0, left, "{spent} of {from:?}");
        assert!(
            matches!(
                to.consume(&state, 1_000, left + 1),
                ConsumeResult::Refused { .. }
            ),
            "{spent} of {from:?}: nothing is gained"
        );
    };
    for spent in [1, 600_000, 1_000_000] {
        check(AMOUNTS, spent, slower, 1_000_000 - spent);
        check(slower, spent, AMOUNTS, 1_000_000 - spent);
    }
    // The debt refills at the new rate from the time at which the new rate is first used, with or
    // without a consume.
    let ConsumeResult::Allowed(state) = slower.consume(&State::default(), 1_000, 1_000_000) else {
        panic!("a full bucket")
    };
    assert_eq!(slower.rebased(&state, 1_000), None);
    let rebased = AMOUNTS.rebased(&state, 1_000);
    assert_eq!(
        rebased.map(|state| AMOUNTS.level(&state, 1_000)),
        Some((0, 60_000_000_000))
    );
    assert_eq!(AMOUNTS.rebased(&State::default(), 1_000), None);
    // The debt exceeds the new capacity: the bucket is empty and refills as usual.
    let smaller = Bucket {
        per: 1_000,
        burst: 1_000,
        ..AMOUNTS
    };
    check(AMOUNTS, 600_000, smaller, 0);
    let larger = Bucket {
        per: 2_000_000,
        burst: 2_000_000,
        ..AMOUNTS
    };
    check(AMOUNTS, 600_000, larger, 1_400_000);
}

#[test]
fn a_state_is_read_back_and_other_bytes_are_rejected() {
    let state = State {
        full_ns: 1,
        part: 2,
        interval_ns: 3,
        per: 4,
        refunded_ns: 5,
        reservation: 6,
        ..State::default()
    };
    assert_eq!(State::from_bytes(&state.to_bytes()), Some(state));
    assert_eq!(state.to_bytes().len(), STATE_BYTES);
    let (mut reserved, mut longest) = (State::default(), 0);
    for units in 1..100 {
        let ConsumeResult::Allowed(next) = AMOUNTS.reserve(&reserved, 1_000, units) else {
            panic!("room")
        };
        reserved = next;
        let bytes = reserved.to_bytes();
        assert_eq!(State::from_bytes(&bytes), Some(reserved));
        longest = longest.max(bytes.len());
    }
    assert_eq!(longest, STATE_BYTES + MAX_STEPS * 2 * size_of::<u64>());
    let beyond = [&reserved.to_bytes()[..], &[0; 16]].concat();
    for bytes in [
        &[][..],
        &[0; 8],
        &[0; 32],
        &[0; 40],
        &[0; 47],
        &[0; 49],
        &[0; 56],
        &beyond,
    ] {
        assert_eq!(State::from_bytes(bytes), None, "{bytes:?}");
    }
    // Not a state of ours: a debt without a rate. The bucket counts as empty.
    let strange = State {
        full_ns: 2_000,
        ..State::default()
    };
    assert_eq!(BUCKET.level(&strange, 1_000), (0, 300));
}
