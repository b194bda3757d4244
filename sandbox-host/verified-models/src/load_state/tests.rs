//! Tests of the decision table: which events make a version trusted, and which raise an alert.

use LoadEffect::{Alert, Loaded, LoadedOthers, None as Nothing};

use super::*;
use crate::status::Accepted;

fn identity(digest: u8) -> Identity {
    Identity {
        digest: [digest; 32],
        signer: Some("release".to_owned()),
        accepted: Accepted::default(),
    }
}

/// An event, without borrowed parts.
enum Step {
    Differ,
    Rejected,
    Untrusted,
    Verified(u8),
    /// The last load at each server: when it began, and when it was seen.
    Loads(&'static [Option<(u64, u64)>]),
    /// The digest, and the number of the wait.
    Confirmed(u8, u64),
    Added,
}
use Step::{Added, Confirmed, Differ, Loads, Rejected, Untrusted, Verified};

fn apply(state: &mut LoadState, step: &Step, now_ms: u64, is_bound: bool) -> LoadEffect {
    match step {
        Differ => {
            let event = LoadEvent::FilesDiffer { is_alerted: false };
            state.apply(event, now_ms, is_bound)
        }
        Rejected => {
            let event = LoadEvent::FilesDiffer { is_alerted: true };
            state.apply(event, now_ms, is_bound)
        }
        Untrusted => state.apply(LoadEvent::Untrusted, now_ms, is_bound),
        Verified(digest) => {
            let identity = identity(*digest);
            state.apply(LoadEvent::FilesVerified(&identity), now_ms, is_bound)
        }
        Loads(loads) => {
            let load = |(began_ms, seen_ms)| Load { began_ms, seen_ms };
            let loads: Vec<_> = loads.iter().map(|it| it.map(load)).collect();
            state.apply(LoadEvent::LoadsSeen(&loads), now_ms, is_bound)
        }
        Confirmed(digest, wait) => {
            let (digest, wait) = (&[*digest; 32], *wait);
            state.apply(LoadEvent::Confirmed { digest, wait }, now_ms, is_bound)
        }
        Added => state.apply(LoadEvent::ServerAdded, now_ms, is_bound),
    }
}

/// Applies the steps at 10, 20, 30 … milliseconds. Each has its effect, and whether the version is
/// trusted after it.
fn check(case: &str, is_bound: bool, steps: &[(Step, LoadEffect, bool)]) {
    let mut state = LoadState::new(7);
    for (number, (step, effect, is_trusted)) in (1_u64..).zip(steps) {
        let now_ms = number.saturating_mul(10);
        let found = apply(&mut state, step, now_ms, is_bound);
        assert_eq!(found, *effect, "{case}, step {number}");
        assert_eq!(state.is_trusted(), *is_trusted, "{case}, step {number}");
        let unready = state.unready("risk@1");
        assert_eq!(unready.is_none(), *is_trusted, "{case}, {number}");
    }
}

#[test]
fn only_a_load_of_verified_files_makes_a_changed_version_trusted() {
    check(
        "files that are put back need a load that began later, and raise an alert",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[None]), Nothing, false),
            (Loads(&[Some((31, 45))]), Loaded, true),
        ],
    );
    check(
        "a load that began before the files were verified is no such load",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[Some((30, 35))]), LoadedOthers, false),
            (Loads(&[Some((30, 35))]), Nothing, false),
            (Loads(&[Some((51, 55))]), Loaded, true),
        ],
    );
    check(
        "a load while the files differ is reported, and a later one is needed",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Loads(&[Some((5, 21))]), LoadedOthers, false),
            (Loads(&[Some((25, 26))]), Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[Some((25, 26))]), Nothing, false),
            (Loads(&[Some((55, 60))]), Loaded, true),
        ],
    );
    check(
        "each server needs a load",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[Some((31, 35)), None]), Nothing, false),
            (Loads(&[Some((31, 35)), Some((36, 40))]), Loaded, true),
        ],
    );
    check(
        "no server has loaded anything",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[]), Nothing, false),
        ],
    );
    check(
        "a later change takes back what was awaited",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            (Differ, Nothing, false),
            (Loads(&[Some((31, 35))]), Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[Some((31, 35))]), Nothing, false),
            (Loads(&[Some((61, 65))]), Loaded, true),
        ],
    );
}

#[test]
fn other_signed_files_and_rejected_ones_raise_no_further_alert() {
    check(
        "another signed version",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(2), Nothing, false),
            (Loads(&[Some((31, 35))]), Loaded, true),
        ],
    );
    check(
        "the rejection was the alert",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Rejected, Nothing, false),
            (Verified(1), Nothing, false),
            (Loads(&[Some((41, 45))]), Loaded, true),
        ],
    );
    check(
        "files that were rejected at the start need a load, too",
        false,
        &[
            (Rejected, Nothing, false),
            (Verified(1), Nothing, false),
            (Loads(&[Some((21, 25))]), Loaded, true),
        ],
    );
}

#[test]
fn the_reason_has_the_command_that_confirms_a_load() {
    let mut state = LoadState::new(7);
    apply(&mut state, &Differ, 10, false);
    apply(&mut state, &Verified(1), 20, false);
    let command = format!(
        "`tensorgate model confirm risk@1 --digest {} --wait 7`",
        hex(&[1; 32])
    );
    let unready = state.unready("risk@1").unwrap_or_default();
    assert!(unready.contains(&command), "{unready}");
}

#[test]
fn an_operator_confirms_only_the_verified_digest_in_this_wait() {
    check(
        "confirmed",
        false,
        &[
            (Confirmed(1, 7), Nothing, true),
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Confirmed(1, 7), Nothing, false),
            (Verified(1), Alert, false),
            (Confirmed(2, 7), Nothing, false),
            (Confirmed(1, 7), Loaded, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            // What an operator said before this wait.
            (Confirmed(1, 7), Nothing, false),
            (Confirmed(1, 8), Loaded, true),
        ],
    );
}

#[test]
fn a_server_that_is_added_after_a_change_needs_a_load() {
    check(
        "no change before",
        false,
        &[(Verified(1), Nothing, true), (Added, Nothing, true)],
    );
    check(
        "a change before",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, false),
            (Loads(&[Some((31, 45))]), Loaded, true),
            (Added, Nothing, false),
            (Loads(&[Some((51, 51)), None]), Nothing, false),
            (Loads(&[Some((51, 51)), Some((52, 53))]), Loaded, true),
        ],
    );
}

#[test]
fn a_signature_that_cannot_be_verified_is_no_change() {
    check(
        "a key that is not there yet",
        false,
        &[(Untrusted, Nothing, true), (Verified(1), Nothing, true)],
    );
    check(
        "it was the alert about a change",
        false,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Untrusted, Nothing, false),
            (Verified(1), Nothing, false),
        ],
    );
    let untrusted = Status::Rejected(Cause::Untrusted(String::new()));
    assert!(matches!(
        LoadEvent::of(&untrusted),
        Some(LoadEvent::Untrusted)
    ));
    for none in [
        Status::Rejected(Cause::Other(String::new())),
        Status::Checking { changed: None },
    ] {
        assert!(LoadEvent::of(&none).is_none());
    }
}

#[test]
fn a_server_that_checks_what_it_loads_needs_no_load() {
    check(
        "embedded",
        true,
        &[
            (Verified(1), Nothing, true),
            (Differ, Nothing, false),
            (Verified(1), Alert, true),
        ],
    );
}
