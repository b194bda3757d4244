//! Tests of permit order and preemption, step by step and over thousands of random steps.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::time::Duration;

use super::*;

fn who(name: u8) -> ClientKey {
    ClientKey::from_name(Some(&name.to_string()))
}

/// Queues a request under a name. Returns the name of the preempted request.
fn wait(fair: &mut FairQueue<u32>, client_key: u8, name: u32) -> Option<Option<u32>> {
    fair.enqueue(who(client_key), name)
        .map(|joined| joined.preempted)
}

fn back(fair: &mut FairQueue<u32>, client_key: u8) -> Vec<u32> {
    let granted = fair.release(who(client_key), Instant::now());
    granted.into_iter().map(|(_, name)| name).collect()
}

fn take(fair: &mut FairQueue<u32>, client_key: u8) -> bool {
    fair.try_acquire(who(client_key), Instant::now())
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_to_who_has_the_fewest_and_among_equals_in_turn() {
    let mut fair = FairQueue::new(4, 100);
    assert!((0..4).all(|_| take(&mut fair, 1)) && !take(&mut fair, 1));
    for name in 10..20 {
        assert_eq!(wait(&mut fair, 1, name), Some(None));
    }
    for (client_key, name) in [(2, 20), (2, 21), (2, 22), (3, 30), (3, 31)] {
        assert!(!take(&mut fair, client_key));
        assert_eq!(wait(&mut fair, client_key, name), Some(None));
    }
    // A client without a permit comes first. Then the client that waited longest for its turn.
    let order: Vec<_> = (0..3).flat_map(|_| back(&mut fair, 1)).collect();
    assert_eq!(order, [20, 30, 10]);
    assert_eq!(back(&mut fair, 2), [21]);
    assert_eq!(back(&mut fair, 3), [31]);
    assert_eq!(fair.clients_waiting(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_has_many_waiting_is_served_in_turn_with_who_has_as_many() {
    let mut fair = FairQueue::new(1, 100);
    assert!(take(&mut fair, 1));
    for (client_key, name) in [(1, 10), (1, 11), (1, 12), (2, 20), (2, 21), (3, 30)] {
        assert_eq!(wait(&mut fair, client_key, name), Some(None));
    }
    let mut has = 1;
    let order = (0..6).flat_map(|_| {
        let granted = back(&mut fair, has);
        has = u8::try_from(granted[0] / 10).unwrap();
        granted
    });
    assert_eq!(order.collect::<Vec<_>>(), [10, 20, 30, 11, 21, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_sending_is_queued_behind_waiting_clients() {
    let mut fair = FairQueue::new(1, 100);
    assert!(take(&mut fair, 1));
    assert_eq!(wait(&mut fair, 1, 1), Some(None));
    let mut has = 1;
    for round in 0..10_u8 {
        // In each round another client without permits arrives.
        assert_eq!(
            wait(&mut fair, 10 + round, 100 + u32::from(round)),
            Some(None)
        );
        let granted = back(&mut fair, has);
        if granted == [1] {
            return;
        }
        has = 10 + u8::try_from(granted[0] - 100).unwrap();
    }
    unreachable!("who waits from the beginning is never served");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_from_who_has_most_and_the_newest_first() {
    let mut fair = FairQueue::new(2, 3);
    assert!(take(&mut fair, 1) && take(&mut fair, 1));
    for name in 10..13 {
        assert_eq!(wait(&mut fair, 1, name), Some(None));
    }
    assert_eq!(wait(&mut fair, 1, 13), None, "its own queue is full");
    assert_eq!(wait(&mut fair, 2, 20), Some(Some(12)));
    assert_eq!(wait(&mut fair, 2, 21), Some(Some(11)));
    // Three and two requests: a preemption would only swap them.
    assert_eq!(wait(&mut fair, 2, 22), None);
    assert_eq!(wait(&mut fair, 3, 30), Some(Some(10)));
    assert_eq!(
        (back(&mut fair, 1), back(&mut fair, 1)),
        (vec![20], vec![30])
    );
    let mut none: FairQueue<u32> = FairQueue::new(1, 0);
    assert!(take(&mut none, 1) && none.enqueue(who(1), 1).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_has_every_place_and_who_is_not_leaves_some_for_a_minute() {
    let mut fair = FairQueue::new(16, 100);
    assert_eq!((0..20).filter(|_| take(&mut fair, 1)).count(), 16);
    assert!(!take(&mut fair, 2), "no client had asked yet");
    assert_eq!(wait(&mut fair, 2, 20), Some(None));
    (0..16).for_each(|_| drop(back(&mut fair, 1)));
    assert_eq!((0..20).filter(|_| take(&mut fair, 1)).count(), 13);
    // The reserved permits are available at once, although every other request hangs.
    assert!(take(&mut fair, 3) && take(&mut fair, 2));
    assert!(!take(&mut fair, 2) && !take(&mut fair, 3));
    for client_key in [2, 2, 3] {
        back(&mut fair, client_key);
    }
    assert!(take(&mut fair, 1));
    assert!(!take(&mut fair, 1), "they have gone, and may come again");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!((0..20).filter(|_| take(&mut fair, 1)).count(), 2);
    let mut one: FairQueue<u32> = FairQueue::new(1, 1);
    assert!(!one.recent_clients.has_others(who(1), Instant::now()));
    assert!(take(&mut one, 1));
    assert_eq!(wait(&mut one, 2, 20), Some(None));
    assert_eq!(back(&mut one, 1), [20], "of one place nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_clients_wait_is_predicted_by_its_share() {
    let mut fair = FairQueue::new(4, 100);
    assert!((0..4).all(|_| take(&mut fair, 1)));
    assert_eq!(fair.permits_ahead(who(1)), 1);
    for name in 0..20 {
        assert_eq!(wait(&mut fair, 1, name), Some(None));
    }
    assert_eq!(fair.permits_ahead(who(1)), 21, "its own queue");
    for (name, expected) in [(20, 1), (21, 2), (22, 4), (23, 6)] {
        assert_eq!(fair.permits_ahead(who(2)), expected, "{name}");
        assert_eq!(wait(&mut fair, 2, name), Some(None));
    }
}

#[tokio::test(start_paused = true)]
async fn every_slot_is_counted_across_arrivals_waits_cancellations_and_preemptions() {
    let mut fair = FairQueue::new(5, 7);
    let mut state = 1_u64;
    let mut dice = |sides: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let mut have: Vec<u8> = Vec::new();
    let mut wait: Vec<(u8, Ticket, u32)> = Vec::new();
    for name in 0..20_000_u32 {
        let client_key = u8::try_from(dice(4)).unwrap();
        let granted = match dice(5) {
            0 | 1 => {
                if fair.try_acquire(who(client_key), Instant::now()) {
                    have.push(client_key);
                } else if let Some(joined) = fair.enqueue(who(client_key), name) {
                    wait.push((client_key, joined.waits, name));
                    wait.retain(|(.., waits)| Some(*waits) != joined.preempted);
                }
                Vec::new()
            }
            2 if !wait.is_empty() => {
                let (_, waits, _) =
                    wait.swap_remove(usize::try_from(dice(wait.len() as u64)).unwrap());
                fair.remove(waits);
                fair.remove(waits);
                Vec::new()
            }
            3 if name % 50 == 0 => {
                fair.set_limit(usize::try_from(1 + dice(8)).unwrap(), Instant::now())
            }
            _ if !have.is_empty() => {
                let client_key =
                    have.swap_remove(usize::try_from(dice(have.len() as u64)).unwrap());
                fair.release(who(client_key), Instant::now())
            }
            _ => Vec::new(),
        };
        for (_, name) in granted {
            let place = wait.iter().position(|(.., waits)| *waits == name).unwrap();
            have.push(wait.swap_remove(place).0);
        }
        assert!(fair.turns.waiting() <= fair.max_waiting);
        assert_eq!(
            (have.len(), wait.len()),
            (fair.turns.taken(), fair.turns.waiting()),
            "{name}"
        );
    }
    for client_key in have {
        drop(fair.release(who(client_key), Instant::now()));
    }
    assert!(fair.turns.waiting() <= wait.len());
}
