//! Lockout entries under failures, over time and when the table is full.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

use super::*;

const RULE: Lockout = Lockout {
    failures: 3,
    window_s: 60,
    for_s: 300,
};

fn page() -> Page {
    Page::from_bytes(&Page::fresh()).unwrap()
}

const fn counted(first: bool, locks: bool) -> Failed {
    Failed::Counted { first, locks }
}

const A: Tag = Tag::new(7);
const B: Tag = Tag::new(8);

#[test]
fn the_last_failure_allowed_locks_for_its_time_and_no_longer() {
    let mut page = page();
    assert_eq!(page.fail(&RULE, A, 100), counted(true, false));
    assert_eq!(page.fail(&RULE, A, 130), counted(false, false));
    assert!(!page.locked(A, 130));
    assert_eq!(page.fail(&RULE, A, 159), counted(false, true));
    assert!(page.locked(A, 159) && page.locked(A, 458));
    assert!(!page.locked(B, 200), "another's is its own");
    // A failure during a lockout does not count and does not extend it.
    assert_eq!(page.fail(&RULE, A, 458), Failed::Locked);
    assert!(!page.locked(A, 459));
    assert_eq!(
        page.fail(&RULE, A, 459),
        counted(true, false),
        "and all is new"
    );
}

#[test]
fn failures_further_apart_than_the_window_never_lock() {
    let mut page = page();
    for at in 0..100 {
        assert_eq!(page.fail(&RULE, A, at * 60), counted(true, false));
    }
    // A clock that was read slightly earlier does not start a new window: two workers count
    // together.
    assert_eq!(page.fail(&RULE, A, 99 * 60 - 1), counted(false, false));
    assert_eq!(page.fail(&RULE, A, 99 * 60 - 1), counted(false, true));
}

#[test]
fn locked_entries_get_a_fixed_number_of_checks_per_second() {
    let mut page = page();
    assert_eq!(page.check(A, 1), Check::Open);
    for _ in 0..3 {
        page.fail(&RULE, A, 1);
    }
    for second in 1..4 {
        for _ in 0..CHECKS_PER_S {
            assert_eq!(page.check(A, second), Check::Spared);
        }
        for _ in 0..DECOYS_PER_S {
            assert_eq!(page.check(A, second), Check::Decoy);
        }
        for _ in 0..1_000 {
            assert_eq!(page.check(A, second), Check::Shut);
        }
        assert_eq!(page.check(B, second), Check::Open);
        // Two workers on both sides of a second boundary share the checks of one second.
        assert_eq!(page.check(A, second - 1), Check::Shut);
    }
    assert_eq!(page.check(A, 301), Check::Open);
}

#[test]
fn a_noted_mark_has_checks_of_its_own_in_each_second() {
    let mut page = page();
    assert!(!page.spend(A, 5, 2), "nothing was valid yet");
    page.note(A, 5);
    for second in 5..8 {
        let spent = (0..10).filter(|_| page.spend(A, second, 2)).count();
        assert_eq!(spent, 2, "{second}");
        assert!(!page.spend(B, second, 2));
        // Seen again in the same second, it has no more.
        page.note(A, second);
        assert!(!page.spend(A, second, 2));
        assert!(!page.spend(A, second - 1, 2), "an older clock");
    }
}

#[test]
fn a_stored_page_is_read_back_and_other_bytes_are_rejected() {
    let mut page = page();
    page.fail(&RULE, A, 5);
    page.note(B, u32::MAX);
    let stored = page.to_bytes();
    assert_eq!(stored.len(), PAGE_BYTES);
    assert_eq!(Page::from_bytes(&stored), Some(page));
    for length in [
        0,
        1,
        MARK_BYTES,
        PAGE_BYTES - 1,
        PAGE_BYTES + 1,
        PAGE_BYTES + MARK_BYTES,
    ] {
        assert_eq!(Page::from_bytes(&alloc::vec![0; length]), None, "{length}");
    }
}

#[test]
fn eviction_prefers_expired_entries_then_counting_ones_then_locked_ones() {
    let mut page = page();
    for _ in 0..3 {
        page.fail(&RULE, A, 1_000);
    }
    // One entry whose window ended long ago, and others that are active.
    page.fail(&RULE, B, 900);
    for (tag, at) in (100..).zip(1_000..).take(WAYS - 2) {
        page.fail(&RULE, Tag::new(tag), at);
    }
    assert!(page.knows(A) && page.knows(B));
    page.fail(&RULE, Tag::new(1), 1_030);
    assert!(page.knows(A) && !page.knows(B));
    page.fail(&RULE, Tag::new(2), 1_030);
    assert!(!page.knows(Tag::new(100)), "the oldest that counts");
    for tag in 0..10 * WAYS as u64 {
        page.fail(&RULE, Tag::new(1_000 + tag), 1_040);
    }
    assert!(page.locked(A, 1_040), "what is locked stays");
    // A page full of lockouts still accepts a new entry.
    for tag in 0..2 * WAYS as u64 {
        for _ in 0..3 {
            page.fail(&RULE, Tag::new(5_000 + tag), 1_050);
        }
    }
    assert!(page.locked(Tag::new(5_000 + 2 * WAYS as u64 - 1), 1_050));
}

#[test]
fn no_number_overflows() {
    let mut page = page();
    for _ in 0..3 {
        page.fail(&RULE, A, u32::MAX);
    }
    assert!(!page.locked(A, u32::MAX), "the last second that there is");
    let all = Page::from_bytes(&[0xff; PAGE_BYTES]).unwrap();
    for now in [0, 1, u32::MAX] {
        let mut page = all.clone();
        page.fail(&RULE, A, now);
        page.check(Tag::new(u64::MAX), now);
        page.note(B, now);
        assert!(page.knows(B));
    }
    assert_eq!(Tag::new(0), Tag::new(1), "no tag is that of a free place");
}
