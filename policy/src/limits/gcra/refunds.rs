//! Tests of refunds: all that the bucket owes, and never more than if the usage had been known
//! before.
#![allow(
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

use alloc::vec::Vec;

use super::*;

const BUCKET: Bucket = Bucket {
    interval_ns: 10,
    per: 1,
    burst: 100,
};

fn spend(bucket: Bucket, state: &State, now_ns: u64, units: u64) -> Option<State> {
    match bucket.reserve(state, now_ns, units) {
        ConsumeResult::Allowed(next) => Some(next),
        ConsumeResult::Refused { .. } => None,
    }
}

fn spent(state: &State, now_ns: u64, units: u64) -> State {
    spend(BUCKET, state, now_ns, units).unwrap_or_else(|| panic!("{units} at {now_ns}"))
}

fn left(state: &State, now_ns: u64) -> u64 {
    BUCKET.level(state, now_ns).0
}

#[test]
fn unused_units_are_refunded_at_once() {
    let reserved = spent(&State::default(), 1_000, 80);
    let settled = BUCKET.refund(&reserved, &reserved, 1_000, 50);
    assert_eq!(settled.map(|state| left(&state, 1_000)), Some(70));
    // As if less had been charged: another charge in between stays.
    let more = spent(&reserved, 1_000, 20);
    let settled = BUCKET.refund(&more, &reserved, 1_000, 50);
    assert_eq!(settled.map(|state| left(&state, 1_000)), Some(50));
    assert_eq!(BUCKET.refund(&reserved, &reserved, 1_000, 0), None);
}

#[test]
fn refilled_units_are_not_refunded_again() {
    let reserved = spent(&State::default(), 1_000, 80);
    // Half has refilled: 40 units are owed, so at most these are refunded.
    let settled = BUCKET.refund(&reserved, &reserved, 1_400, 60);
    assert_eq!(settled.map(|state| left(&state, 1_400)), Some(100));
    // All has refilled, and another charge has emptied the bucket: that debt is not refunded.
    let other = spent(&reserved, 1_800, 100);
    assert_eq!(BUCKET.refund(&other, &reserved, 1_800, 60), None);
    // Two reservations: the refund of the first is no longer owed for the second.
    let first = spent(&State::default(), 1_000, 50);
    let second = spent(&first, 1_000, 50);
    let settled = BUCKET.refund(&second, &first, 1_000, 50);
    let settled = settled.unwrap_or_else(|| panic!("owed"));
    let other = spent(&settled, 1_500, 100);
    assert_eq!(BUCKET.refund(&other, &second, 1_500, 50), None);
}

#[test]
fn refunds_are_not_rounded() {
    let bucket = Bucket {
        interval_ns: 1_000_000_000,
        per: 7,
        burst: 196,
    };
    let spent = |state: &State| spend(bucket, state, 1_000, 98).unwrap_or_else(|| panic!("room"));
    let first = spent(&State::default());
    let second = spent(&first);
    let settled = bucket.refund(&second, &first, 1_000, 88);
    let settled = settled.and_then(|state| bucket.refund(&state, &second, 1_000, 10));
    assert_eq!(settled.map(|state| bucket.level(&state, 1_000).0), Some(98));
    assert!(settled.is_some_and(|state| spend(bucket, &state, 1_000, 98).is_some()));
}

#[test]
fn a_changed_rate_refunds_nothing() {
    let reserved = spent(&State::default(), 1_000, 80);
    let faster = Bucket {
        interval_ns: 5,
        ..BUCKET
    };
    assert_eq!(faster.refund(&reserved, &reserved, 1_000, 50), None);
    let there = spend(faster, &reserved, 1_000, 1).unwrap_or_else(|| panic!("room"));
    assert_eq!(BUCKET.refund(&there, &reserved, 1_000, 50), None);
    assert_eq!(faster.refund(&there, &reserved, 1_000, 50), None);
    let and_back = spent(&there, 1_000, 1);
    assert_eq!(BUCKET.refund(&and_back, &reserved, 1_000, 50), None);
    let own = spent(&and_back, 1_000, 10);
    assert!(BUCKET.refund(&own, &own, 1_000, 5).is_some());
}

#[test]
fn usage_beyond_a_reservation_is_charged_down_to_an_empty_bucket() {
    let reserved = spent(&State::default(), 1_000, 80);
    let level = |units| {
        let state = BUCKET.force_consume(&reserved, 1_000, units);
        state.map(|state| BUCKET.level(&state, 1_000))
    };
    assert_eq!(level(10), Some((10, 900)));
    assert_eq!(level(20), Some((0, 1_000)));
    assert_eq!(level(u64::MAX), Some((0, 1_000)));
}

#[test]
fn refunds_of_a_nearly_empty_bucket_work_in_any_order() {
    let bucket = Bucket {
        burst: 100_000,
        ..BUCKET
    };
    let amounts = [(500, 490), (4_500, 4_490), (40_000, 39_990)];
    for order in [
        [2, 1, 0],
        [0, 1, 2],
        [1, 2, 0],
        [1, 0, 2],
        [2, 0, 1],
        [0, 2, 1],
    ] {
        let (mut state, mut left) = (State::default(), Vec::new());
        for (known, _) in amounts {
            state = spend(bucket, &state, 1_000, known).unwrap_or_else(|| panic!("room"));
            left.push(state);
        }
        for index in order {
            let (_, unused) = amounts[index];
            let settled = bucket.refund(&state, &left[index], 1_000, unused);
            state = settled.unwrap_or_else(|| panic!("{index} of {order:?}"));
        }
        assert_eq!(bucket.level(&state, 1_000).0, 99_970, "{order:?}");
    }
}

#[test]
fn no_extreme_panics_or_owes_less_than_nothing() {
    const EXTREMES: [u64; 6] = [0, 1, 99, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    for full_ns in EXTREMES {
        for refunded_ns in EXTREMES {
            for now_ns in EXTREMES {
                for units in EXTREMES {
                    let state = State {
                        full_ns,
                        refunded_ns,
                        interval_ns: 10,
                        per: 1,
                        ..State::default()
                    };
                    let spent = State {
                        full_ns: full_ns / 2,
                        refunded_ns: refunded_ns / 2,
                        ..state
                    };
                    if let Some(settled) = BUCKET.refund(&state, &spent, now_ns, units) {
                        assert!(settled.full_ns >= now_ns && settled.full_ns < full_ns);
                    }
                    let _ = BUCKET.force_consume(&state, now_ns, units);
                }
            }
        }
    }
}

/// Deterministic pseudo-random numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A charge: its time, its charged units, its used units, and the resulting state.
struct Charge {
    at_ns: u64,
    known: u64,
    used: u64,
    left: State,
}

/// Debt of a bucket that had known the usage of each charge, in ns.
fn exact(bucket: Bucket, charges: &[Charge], now_ns: u64) -> u64 {
    let (mut debt, mut last) = (0_u64, 0);
    for charge in charges {
        let back = debt.saturating_sub(charge.at_ns - last);
        debt = back + charge.known * bucket.interval_ns;
        last = charge.at_ns;
    }
    debt.saturating_sub(now_ns - last)
}

/// Random reservations and settlements, at most `most` at once. Actual and ideal refunds.
fn at_random(seed: u64, most: usize) -> (u64, u64) {
    let mut numbers = Numbers(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
    let bucket = Bucket {
        burst: 50 + numbers.below(100) * (1 + numbers.below(20)),
        ..BUCKET
    };
    // Rates such that the bucket is never full, sometimes full, or refills as fast as it empties.
    let pause = match seed % 4 {
        0 => 5,
        1 => 60,
        2 => 200,
        _ => 400,
    };
    let (mut given, mut should) = (0, 0);
    let (mut state, mut now_ns) = (State::default(), 1_000);
    let (mut charges, mut open): (Vec<Charge>, Vec<usize>) = (Vec::new(), Vec::new());
    for _ in 0..80 {
        now_ns += numbers.below(pause);
        let debt = state.full_ns.saturating_sub(now_ns);
        if open.len() < most && (numbers.below(2) == 0 || open.is_empty()) {
            let known = 2 + numbers.below(if seed.is_multiple_of(3) { 40 } else { 400 });
            if let Some(left) = spend(bucket, &state, now_ns, known) {
                state = left;
                open.push(charges.len());
                charges.push(Charge {
                    at_ns: now_ns,
                    known,
                    used: 1 + numbers.below(known - 1),
                    left,
                });
            }
        } else if !open.is_empty() {
            let position = numbers.below(u64::try_from(open.len()).unwrap_or(1));
            let index = open.swap_remove(usize::try_from(position).unwrap_or(0));
            let Some(charge) = charges.get_mut(index) else {
                panic!("no charge")
            };
            let unused = charge.known - charge.used;
            charge.known = charge.used;
            if let Some(settled) = bucket.refund(&state, &charge.left, now_ns, unused) {
                state = settled;
            }
            let after = state.full_ns.saturating_sub(now_ns);
            given += debt - after;
            should += debt - exact(bucket, &charges, now_ns).min(debt);
        }
        let debt = state.full_ns.saturating_sub(now_ns);
        let least = exact(bucket, &charges, now_ns);
        assert!(debt >= least, "seed {seed}: {debt} and not {least}");
        if most <= MAX_STEPS {
            assert_eq!(debt, least, "seed {seed}: of so few nothing is lost");
        }
    }
    (given, should)
}

#[test]
fn reservations_in_any_order_allow_no_more_than_exact_charges() {
    for most in [1, 3, MAX_STEPS, 20, 80] {
        let sums = (1..=400).map(|seed| at_random(seed, most));
        let (given, should) = sums.fold((0, 0), |(given, should), (more, due)| {
            (given + more, should + due)
        });
        assert!(given > 100_000, "{most}: {given}");
        assert!(given >= should - should / 50, "{most}: {given} of {should}");
    }
}
