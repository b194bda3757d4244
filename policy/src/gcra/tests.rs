//! Buckets: what they hold, when they refill, and that no extreme of state, time or cost lets more through.
#![allow(clippy::panic, clippy::arithmetic_side_effects, reason = "tests")]

use super::*;

const BUCKET: Bucket = Bucket {
    interval_ns: 100,
    burst: 3,
};

fn refused(retry_after_ns: u64) -> Spend {
    Spend::Refused {
        retry_after_ns: Some(retry_after_ns),
    }
}

#[test]
fn a_fresh_bucket_holds_its_burst_and_no_more() {
    let mut state = 0;
    for _ in 0..3 {
        let Spend::Allowed { state: next } = BUCKET.spend(state, 1_000, 1) else {
            panic!("within the burst")
        };
        state = next;
    }
    assert_eq!(BUCKET.spend(state, 1_000, 1), refused(100));
    assert_eq!(BUCKET.spend(state, 1_099, 1), refused(1));
    assert_eq!(
        BUCKET.spend(state, 1_100, 1),
        Spend::Allowed { state: 1_400 }
    );
}

#[test]
fn a_cost_above_the_burst_never_passes() {
    assert_eq!(
        BUCKET.spend(0, u64::MAX, 4),
        Spend::Refused {
            retry_after_ns: None
        }
    );
    assert_eq!(
        BUCKET.spend(0, 0, u64::MAX),
        Spend::Refused {
            retry_after_ns: None
        }
    );
}

#[test]
fn a_cost_is_spent_whole_or_not_at_all() {
    assert_eq!(BUCKET.spend(0, 1_000, 3), Spend::Allowed { state: 1_300 });
    assert_eq!(BUCKET.spend(1_100, 1_000, 3), refused(100));
    assert_eq!(
        BUCKET.spend(1_100, 1_000, 2),
        Spend::Allowed { state: 1_300 }
    );
    assert_eq!(
        BUCKET.spend(1_300, 1_000, 0),
        Spend::Allowed { state: 1_300 }
    );
}

#[test]
fn an_idle_bucket_holds_no_more_than_its_burst() {
    // An hour later as after a moment: three pass, the fourth does not.
    assert_eq!(
        BUCKET.spend(1_300, 3_600_000_000_000, 3),
        Spend::Allowed {
            state: 3_600_000_000_300
        }
    );
    assert_eq!(
        BUCKET.spend(3_600_000_000_300, 3_600_000_000_000, 1),
        refused(100)
    );
}

#[test]
fn a_clock_that_goes_back_gives_nothing_away() {
    let Spend::Allowed { state } = BUCKET.spend(0, 10_000, 3) else {
        panic!("a full bucket")
    };
    for now in [9_999, 5_000, 0] {
        assert!(
            matches!(BUCKET.spend(state, now, 1), Spend::Refused { retry_after_ns: Some(wait) } if wait >= 100),
            "{now}"
        );
    }
}

/// Numbers where arithmetic goes wrong.
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

/// What a spend should be, in integers that cannot overflow.
fn exact(bucket: Bucket, state: u64, now: u64, cost: u64) -> Option<u128> {
    let (interval, burst) = (u128::from(bucket.interval_ns), u128::from(bucket.burst));
    let next = u128::from(state.max(now)) + interval * u128::from(cost);
    (cost <= bucket.burst && next <= u128::from(now) + interval * burst).then_some(next)
}

#[test]
fn no_extreme_lets_more_through_than_exact_arithmetic_would() {
    let mut allowed = 0;
    for interval_ns in EXTREMES.into_iter().filter(|interval| *interval > 0) {
        for burst in EXTREMES.into_iter().filter(|burst| *burst > 0) {
            let bucket = Bucket { interval_ns, burst };
            for state in EXTREMES {
                for now in EXTREMES {
                    for cost in EXTREMES {
                        let shown = (bucket, state, now, cost);
                        match (
                            bucket.spend(state, now, cost),
                            exact(bucket, state, now, cost),
                        ) {
                            (Spend::Allowed { state: next }, exact) => {
                                assert_eq!(Some(u128::from(next)), exact, "{shown:?}");
                                allowed += 1;
                            }
                            (
                                Spend::Refused {
                                    retry_after_ns: Some(wait),
                                },
                                _,
                            ) => {
                                // Waiting as told is enough, and a nanosecond less is not.
                                if let Some(later) = now.checked_add(wait) {
                                    assert!(
                                        matches!(
                                            bucket.spend(state, later, cost),
                                            Spend::Allowed { .. }
                                        ),
                                        "{shown:?}"
                                    );
                                    assert!(
                                        matches!(
                                            bucket.spend(state, later - 1, cost),
                                            Spend::Refused { .. }
                                        ),
                                        "{shown:?}"
                                    );
                                }
                            }
                            (
                                Spend::Refused {
                                    retry_after_ns: None,
                                },
                                exact,
                            ) => {
                                // Never only where it can never be, or where 64 bits end.
                                let never = cost > burst || interval_ns.checked_mul(cost).is_none();
                                let end_of_time = exact.is_none_or(|next| next > u64::MAX.into())
                                    && interval_ns
                                        .saturating_mul(cost)
                                        .checked_add(state.max(now))
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
