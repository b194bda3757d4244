//! What is given back of what was reserved: all of it where the bucket owes it, and never so much that more passes than if it had been known before.
#![allow(clippy::panic, clippy::arithmetic_side_effects, reason = "tests")]

use alloc::vec::Vec;

use super::*;

const BUCKET: Bucket = Bucket {
    interval_ns: 10,
    per: 1,
    burst: 100,
};

fn spend(bucket: Bucket, state: &State, now_ns: u64, units: u64) -> Option<State> {
    match bucket.spend(state, now_ns, units) {
        Spend::Allowed(next) => Some(next),
        Spend::Refused { .. } => None,
    }
}

fn spent(state: &State, now_ns: u64, units: u64) -> State {
    spend(BUCKET, state, now_ns, units).unwrap_or_else(|| panic!("{units} at {now_ns}"))
}

fn left(state: &State, now_ns: u64) -> u64 {
    BUCKET.level(state, now_ns).0
}

#[test]
fn what_was_not_used_comes_back_at_once() {
    let reserved = spent(&State::default(), 1_000, 80);
    let settled = BUCKET.give_back(&reserved, &reserved, 1_000, 50);
    assert_eq!(settled.map(|state| left(&state, 1_000)), Some(70));
    // As if no more had been spent: another one's charge in between stays.
    let more = spent(&reserved, 1_000, 20);
    let settled = BUCKET.give_back(&more, &reserved, 1_000, 50);
    assert_eq!(settled.map(|state| left(&state, 1_000)), Some(50));
    assert_eq!(BUCKET.give_back(&reserved, &reserved, 1_000, 0), None);
}

#[test]
fn what_time_has_given_back_does_not_come_a_second_time() {
    let reserved = spent(&State::default(), 1_000, 80);
    // Half of it has come back: 40 units are owed, and no more than these can come.
    let settled = BUCKET.give_back(&reserved, &reserved, 1_400, 60);
    assert_eq!(settled.map(|state| left(&state, 1_400)), Some(100));
    // All of it has, and another one has spent what the bucket holds: that is not this one's to clear.
    let other = spent(&reserved, 1_800, 100);
    assert_eq!(BUCKET.give_back(&other, &reserved, 1_800, 60), None);
    // Two at once: what came back for the first is not owed for the second any more.
    let first = spent(&State::default(), 1_000, 50);
    let second = spent(&first, 1_000, 50);
    let settled = BUCKET.give_back(&second, &first, 1_000, 50);
    let settled = settled.unwrap_or_else(|| panic!("owed"));
    let other = spent(&settled, 1_500, 100);
    assert_eq!(BUCKET.give_back(&other, &second, 1_500, 50), None);
}

#[test]
fn nothing_comes_back_across_a_change_of_pace() {
    let reserved = spent(&State::default(), 1_000, 80);
    let faster = Bucket {
        interval_ns: 5,
        ..BUCKET
    };
    assert_eq!(faster.give_back(&reserved, &reserved, 1_000, 50), None);
    let there = spend(faster, &reserved, 1_000, 1).unwrap_or_else(|| panic!("room"));
    assert_eq!(BUCKET.give_back(&there, &reserved, 1_000, 50), None);
    assert_eq!(faster.give_back(&there, &reserved, 1_000, 50), None);
    let and_back = spent(&there, 1_000, 1);
    assert_eq!(BUCKET.give_back(&and_back, &reserved, 1_000, 50), None);
    let own = spent(&and_back, 1_000, 10);
    assert!(BUCKET.give_back(&own, &own, 1_000, 5).is_some());
}

#[test]
fn what_was_used_beyond_is_spent_and_owed_to_the_bucket_s_bottom_at_most() {
    let reserved = spent(&State::default(), 1_000, 80);
    let level = |units| {
        let state = BUCKET.take(&reserved, 1_000, units);
        state.map(|state| BUCKET.level(&state, 1_000))
    };
    assert_eq!(level(10), Some((10, 900)));
    assert_eq!(level(20), Some((0, 1_000)));
    assert_eq!(level(u64::MAX), Some((0, 1_000)));
}

#[test]
fn no_extreme_panics_or_owes_less_than_nothing() {
    const EXTREMES: [u64; 6] = [0, 1, 99, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    for full_ns in EXTREMES {
        for returned_ns in EXTREMES {
            for now_ns in EXTREMES {
                for units in EXTREMES {
                    let state = State {
                        full_ns,
                        returned_ns,
                        interval_ns: 10,
                        per: 1,
                        ..State::default()
                    };
                    let spent = State {
                        full_ns: full_ns / 2,
                        returned_ns: returned_ns / 2,
                        ..state
                    };
                    if let Some(settled) = BUCKET.give_back(&state, &spent, now_ns, units) {
                        assert!(settled.full_ns >= now_ns && settled.full_ns < full_ns);
                    }
                    let _ = BUCKET.take(&state, now_ns, units);
                }
            }
        }
    }
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A charge: when, how many units are charged as far as is known, how many are used, and the state that it left.
struct Charge {
    at_ns: u64,
    known: u64,
    used: u64,
    left: State,
}

/// What a bucket would owe that had been told of each charge what is known of it now, ns.
fn exact(bucket: Bucket, charges: &[Charge], now_ns: u64) -> u64 {
    let (mut owed, mut last) = (0_u64, 0);
    for charge in charges {
        let back = owed.saturating_sub(charge.at_ns - last);
        owed = back + charge.known * bucket.interval_ns;
        last = charge.at_ns;
    }
    owed.saturating_sub(now_ns - last)
}

#[test]
fn no_order_of_reservations_lets_more_pass_than_if_each_use_had_been_known() {
    let mut given = 0;
    for seed in 1..=400 {
        let mut numbers = Numbers(seed * 0x9e37_79b9_7f4a_7c15);
        let bucket = Bucket {
            burst: 50 + numbers.below(100),
            ..BUCKET
        };
        // Slow enough that it is never full, or not.
        let pause = [5, 60, 400][usize::try_from(seed % 3).unwrap_or(0)];
        let (mut state, mut now_ns) = (State::default(), 1_000);
        let (mut charges, mut open): (Vec<Charge>, Vec<usize>) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            now_ns += numbers.below(pause);
            if numbers.below(2) == 0 || open.is_empty() {
                let known = 1 + numbers.below(40);
                if let Some(left) = spend(bucket, &state, now_ns, known) {
                    state = left;
                    open.push(charges.len());
                    charges.push(Charge {
                        at_ns: now_ns,
                        known,
                        used: 1 + numbers.below(known),
                        left,
                    });
                }
            } else {
                let place = numbers.below(u64::try_from(open.len()).unwrap_or(1));
                let index = open.swap_remove(usize::try_from(place).unwrap_or(0));
                let Some(charge) = charges.get_mut(index) else {
                    panic!("no charge")
                };
                let unused = charge.known - charge.used;
                charge.known = charge.used;
                if let Some(settled) = bucket.give_back(&state, &charge.left, now_ns, unused) {
                    state = settled;
                    given += 1;
                }
            }
            let owed = state.full_ns.saturating_sub(now_ns);
            let least = exact(bucket, &charges, now_ns);
            assert!(owed >= least, "seed {seed}: {owed} and not {least}");
        }
    }
    assert!(given > 1_000, "{given}");
}
