//! Concurrency permits: how many fit, how they are released, and when they expire.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::{AcquireResult, DIVISIONS, InFlight, MAX_ENTRIES};

const SECOND: u64 = 1_000_000_000;
/// The longest stream of these tests.
const LONGEST: u64 = 60 * SECOND;

/// Acquires, or returns that there is no room.
fn take(state: &mut InFlight, now_ns: u64, amount: u64, limit: u64) -> Option<u64> {
    match state.acquire(now_ns, LONGEST, amount, limit) {
        AcquireResult::Acquired {
            state: next,
            expires_ns,
        } => {
            // The stored state is read back unchanged.
            *state = InFlight::from_bytes(&next.to_bytes()).unwrap();
            assert_eq!(*state, next);
            Some(expires_ns)
        }
        AcquireResult::Full => None,
        AcquireResult::NoEntry => panic!("one length of streams never runs out of entries"),
    }
}

#[test]
fn exactly_the_limit_fits() {
    for (limit, amounts, fit) in [
        (3, vec![1; 5], 3),
        (1, vec![1; 2], 1),
        (0, vec![1], 0),
        (100, vec![60, 41, 40, 1], 2),
        (100, vec![100, 0, 1], 2),
        (100, vec![101], 0),
        (u64::MAX, vec![u64::MAX, 1], 1),
        (u64::MAX, vec![u64::MAX - 1, 1, 1], 2),
    ] {
        let mut state = InFlight::default();
        let taken = amounts
            .iter()
            .filter(|amount| take(&mut state, SECOND, **amount, limit).is_some())
            .count();
        assert_eq!(taken, fit, "{limit}: {amounts:?}");
    }
}

#[test]
fn a_released_permit_frees_only_its_own_slot() {
    let mut state = InFlight::default();
    let first = take(&mut state, SECOND, 1, 2).unwrap();
    let second = take(&mut state, 30 * SECOND, 1, 2).unwrap();
    assert_ne!(first, second);
    assert_eq!(take(&mut state, 30 * SECOND, 1, 2), None);
    state = state.release(31 * SECOND, first, 1).unwrap();
    assert_eq!(state.total(31 * SECOND), 1);
    // A second release of the same permit does not free another permit.
    assert_eq!(state.release(31 * SECOND, first, 1), None);
    assert_eq!(state.release(31 * SECOND, 12345, 1), None);
    assert!(take(&mut state, 31 * SECOND, 1, 2).is_some());
    assert_eq!(take(&mut state, 31 * SECOND, 1, 2), None);
    // Releasing more than was acquired releases all of it, and no more.
    state = state.release(31 * SECOND, second, u64::MAX).unwrap();
    assert!(state.total(31 * SECOND) <= 1);
}

#[test]
fn an_unreleased_permit_expires_after_the_longest_stream() {
    for taken_ns in [0, 1, SECOND, 59 * SECOND + 7, 123_456_789_012_345] {
        let mut state = InFlight::default();
        let expires_ns = take(&mut state, taken_ns, 1, 1).unwrap();
        let (earliest, latest) = (
            taken_ns + LONGEST,
            taken_ns + LONGEST + LONGEST / DIVISIONS + 1,
        );
        assert!(
            (earliest..=latest).contains(&expires_ns),
            "{taken_ns}: {expires_ns}"
        );
        assert_eq!(take(&mut state, expires_ns - 1, 1, 1), None, "{taken_ns}");
        let held = state.clone();
        assert!(take(&mut state, expires_ns, 1, 1).is_some(), "{taken_ns}");
        // A late release does not free a later permit.
        assert_eq!(state.release(expires_ns, expires_ns, 1), None);
        assert_eq!(held.release(expires_ns, expires_ns, 1), None);
    }
}

#[test]
fn a_busy_counter_has_few_entries_for_any_limit() {
    let mut state = InFlight::default();
    let mut open = Vec::new();
    for step in 0..10_000_u64 {
        let now_ns = step * SECOND / 7;
        open.retain(|(expires_ns, given_back_at): &(u64, u64)| {
            if *given_back_at > now_ns {
                return true;
            }
            state = state.release(now_ns, *expires_ns, 3).unwrap();
            false
        });
        let expires_ns = take(&mut state, now_ns, 3, u64::MAX).unwrap();
        // Some are never released.
        if step % 5 != 0 {
            open.push((expires_ns, now_ns + (step % 59) * SECOND));
        }
        assert!(state.to_bytes().len() <= 16 * (usize::try_from(DIVISIONS).unwrap() + 2));
    }
    let end = 10_000 * SECOND / 7 + 2 * LONGEST;
    assert_eq!(state.total(end), 0);
}

#[test]
fn a_changed_stream_limit_keeps_the_permits_in_flight() {
    let mut state = InFlight::default();
    let mut taken = Vec::new();
    for max_stream_ns in [LONGEST, LONGEST / 3, 2 * LONGEST] {
        let AcquireResult::Acquired {
            state: next,
            expires_ns,
        } = state.acquire(SECOND, max_stream_ns, 1, 3)
        else {
            panic!("there is room")
        };
        state = next;
        taken.push(expires_ns);
    }
    assert_eq!(state.acquire(SECOND, LONGEST, 1, 3), AcquireResult::Full);
    for expires_ns in taken {
        state = state.release(2 * SECOND, expires_ns, 1).unwrap();
    }
    assert_eq!(state.total(2 * SECOND), 0);
}

#[test]
fn lengths_that_change_without_end_are_refused_not_forgotten() {
    let mut state = InFlight::default();
    let full =
        (0..100).find_map(
            |step| match state.acquire(SECOND, LONGEST + step * SECOND, 1, 100) {
                AcquireResult::Acquired { state: next, .. } => {
                    state = next;
                    None
                }
                refused => Some((step, refused)),
            },
        );
    let (step, refused) = full.unwrap();
    assert_eq!(refused, AcquireResult::NoEntry);
    assert!(usize::try_from(step).unwrap() >= MAX_ENTRIES);
    assert_eq!(state.total(SECOND), step);
}

#[test]
fn the_ends_of_the_clock_and_of_numbers_refuse_without_overflow() {
    let empty = InFlight::default();
    assert_eq!(empty.acquire(u64::MAX, LONGEST, 1, 1), AcquireResult::Full);
    assert_eq!(empty.acquire(0, u64::MAX, 1, 1), AcquireResult::Full);
    assert_eq!(
        empty.acquire(u64::MAX - LONGEST, LONGEST, 1, 1),
        AcquireResult::Full
    );
    assert!(matches!(
        empty.acquire(0, 0, 1, 1),
        AcquireResult::Acquired { .. }
    ));
    let mut bytes = u64::MAX.to_le_bytes().repeat(4);
    let two = InFlight::from_bytes(&bytes).unwrap();
    assert_eq!(two.total(0), u64::MAX);
    assert_eq!(two.acquire(0, LONGEST, 1, u64::MAX), AcquireResult::Full);
    bytes.push(0);
    assert_eq!(InFlight::from_bytes(&bytes), None);
}

#[test]
fn only_whole_entries_within_the_bound_are_a_state() {
    for (bytes, read) in [
        (0, true),
        (16, true),
        (16 * MAX_ENTRIES, true),
        (1, false),
        (8, false),
        (17, false),
        (16 * (MAX_ENTRIES + 1), false),
    ] {
        assert_eq!(
            InFlight::from_bytes(&vec![0; bytes]).is_some(),
            read,
            "{bytes}"
        );
    }
    let fresh = InFlight::default().to_bytes();
    assert_eq!(fresh.as_slice(), [0; 16]);
    assert_eq!(InFlight::from_bytes(&fresh).unwrap().total(0), 0);
}
