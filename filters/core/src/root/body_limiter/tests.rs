//! The limiter of bodies in progress, with times of the test's choice.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
use super::*;

const PHOTO: u64 = 150_528;
const MS: u64 = 1_000_000;
const RING_NS: u64 = SLOT_NS * SLOTS as u64;

/// Ticks for three windows, each tick late by `late_ns`. Two bodies of client 63 are in progress,
/// and one of them delivers `bytes` between two ticks. Returns the time.
fn run(limiter: &BodyLimiter, from_ns: u64, late_ns: u64, bytes: u64) -> u64 {
    let mut now_ns = from_ns;
    while now_ns < from_ns + 3 * WINDOW_NS {
        let (mut probe, _other) = (one_at(limiter, now_ns), one_at(limiter, now_ns));
        limiter.needs_tick(now_ns);
        probe.receive(bytes);
        now_ns += PERIOD_NS + late_ns;
        limiter.on_tick(now_ns);
    }
    now_ns
}

/// A large body of client 63.
fn one_at(limiter: &BodyLimiter, now_ns: u64) -> BodyProgress {
    limiter.admit(63, Some(MAX_BODY_BYTES), now_ns).unwrap()
}

fn fill(limiter: &BodyLimiter, client: usize, now_ns: u64) -> Vec<BodyProgress> {
    let one = || limiter.admit(client, Some(PHOTO), now_ns).ok();
    core::iter::from_fn(one).take(10_000).collect()
}

#[test]
fn a_worker_in_time_refuses_nothing() {
    let limiter = BodyLimiter::default();
    let now_ns = run(&limiter, 0, 0, 1 << 20);
    assert_eq!(fill(&limiter, 1, now_ns).len(), 10_000);
}

#[test]
fn a_late_worker_takes_what_it_finishes_within_the_target() {
    let limiter = BodyLimiter::default();
    let now_ns = run(&limiter, 0, 20 * MS, 4 << 20);
    let admitted = fill(&limiter, 63, now_ns);
    let state = limiter.0.borrow();
    assert!(state.is_late);
    let each = PHOTO + HEAD_BYTES;
    let most = usize::try_from(state.limit() / each).unwrap();
    assert!(
        (most - 1..=most).contains(&admitted.len()),
        "{}",
        admitted.len()
    );
    drop(state);
    drop(admitted);
    assert_eq!(limiter.0.borrow().all, 0, "nothing is left");
}

#[test]
fn an_overdue_tick_limits_a_first_burst() {
    let limiter = BodyLimiter::default();
    let first = one_at(&limiter, 0);
    assert!(!limiter.needs_tick(0), "little is in progress");
    let second = one_at(&limiter, 0);
    assert!(limiter.needs_tick(0) && !limiter.needs_tick(0));
    let now_ns = PERIOD_NS + OVERDUE_NS;
    let burst = fill(&limiter, 1, now_ns - 1);
    assert_eq!(burst.len(), 10_000, "not yet late");
    assert!(limiter.admit(1, Some(PHOTO), now_ns).is_err());
    let lost_ns = PERIOD_NS + LOST_NS;
    assert!(
        limiter.admit(1, Some(PHOTO), lost_ns).is_ok(),
        "no tick comes"
    );
    let again = (one_at(&limiter, lost_ns), one_at(&limiter, lost_ns));
    assert!(limiter.needs_tick(lost_ns), "the tick is lost");
    drop((first, second, burst, again));
}

#[test]
fn a_flood_leaves_room_for_another_client() {
    let limiter = BodyLimiter::default();
    let now_ns = run(&limiter, 0, 20 * MS, 4 << 20);
    let flood = fill(&limiter, 1, now_ns);
    let other = fill(&limiter, 2, now_ns);
    assert!(!other.is_empty());
    let newcomer = limiter.admit(3, Some(PHOTO), now_ns);
    assert!(newcomer.is_ok(), "the reserve");
    let share = flood.len() * 8;
    let limit = limiter.0.borrow().limit() / (PHOTO + HEAD_BYTES);
    assert!(share <= usize::try_from(limit).unwrap() * 7 + 8, "{share}");
    drop((flood, other, newcomer));
}

#[test]
fn a_body_counts_while_it_arrives_and_is_released_once() {
    let limiter = BodyLimiter::default();
    let mut slow = fill(&limiter, 1, 0);
    assert!(limiter.0.borrow().all > 0);
    let fresh = limiter.admit(2, Some(PHOTO), RING_NS).unwrap();
    let counted = PHOTO + HEAD_BYTES;
    assert_eq!(limiter.0.borrow().all, counted, "only the new one");
    let mut again = slow.pop().unwrap();
    drop(slow);
    assert_eq!(limiter.0.borrow().all, counted, "no other's part is taken");
    again.receive(1);
    let slow = HEAD_BYTES + PACE;
    assert_eq!(
        limiter.0.borrow().all,
        counted + slow,
        "it goes on, at its pace"
    );
    drop(again);
    drop(fresh);
    assert_eq!(limiter.0.borrow().all, 0);
}

#[test]
fn slow_senders_lower_no_rate_although_the_worker_is_late() {
    for late_ns in [0, 20 * MS] {
        let limiter = BodyLimiter::default();
        let mut slow: Vec<_> = fill(&limiter, 1, 0).drain(..200).collect();
        let mut now_ns = 0;
        while now_ns < 20 * WINDOW_NS {
            slow.iter_mut().for_each(|body| body.receive(1));
            limiter.needs_tick(now_ns);
            now_ns += PERIOD_NS + late_ns;
            limiter.on_tick(now_ns);
        }
        assert!(limiter.0.borrow().rate >= FIRST_RATE, "{late_ns}");
        assert!(limiter.admit(2, Some(PHOTO), now_ns).is_ok());
    }
}

#[test]
fn a_body_at_the_pace_of_the_worker_counts_fully() {
    let limiter = BodyLimiter::default();
    let mut body = limiter.admit(1, Some(PHOTO), 0).unwrap();
    for at in 1..=4 {
        limiter.on_tick(at * SLOT_NS);
        body.receive(PHOTO / 4);
        let counted = limiter.0.borrow().all;
        assert_eq!(counted, PHOTO + HEAD_BYTES, "{at}");
    }
}

#[test]
fn a_pause_of_the_machine_is_no_lateness() {
    let limiter = BodyLimiter::default();
    let bodies = fill(&limiter, 1, 0);
    limiter.needs_tick(0);
    limiter.on_tick(10_000 * MS);
    assert!(!limiter.0.borrow().is_late);
    drop(bodies);
}

#[test]
fn lengths_and_clocks_at_their_bounds_change_nothing_else() {
    let limiter = BodyLimiter::default();
    let mut body = limiter.admit(usize::MAX, Some(u64::MAX), u64::MAX).unwrap();
    body.receive(u64::MAX);
    body.receive(u64::MAX);
    drop(limiter.admit(0, Some(0), 0));
    body.finish();
    let state = limiter.0.borrow();
    assert_eq!((state.all, state.clients), (0, [0; CLIENTS]));
    assert!(state.typical <= MAX_BODY_BYTES);
}
