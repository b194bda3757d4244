//! Tests of many requests at one backend, and of how the wait for a permit ends.
use serde_json::{Value, json};
use tensorgate_policy::Policy;

use super::super::tests::policy;
use super::*;

fn limiter(policy: &Policy) -> Arc<ConcurrencyLimiter> {
    let Some(rule) = policy.backends().get("b") else {
        unreachable!("the policy has it");
    };
    let labels = BackendLabels {
        backend: "b".to_owned(),
    };
    ConcurrencyLimiter::new(rule, &labels, &Metrics::new())
}

fn who(name: &str) -> ClientKey {
    ClientKey::from_name(Some(name))
}

/// The instant this many milliseconds from now.
fn within(ms: u64) -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_millis(ms)).unwrap_or(now)
}

/// The number of permits that a single client can acquire.
fn free(limiter: &Arc<ConcurrencyLimiter>) -> usize {
    let mut fair = lock(&limiter.queue_state);
    let now = Instant::now();
    let taken = std::iter::from_fn(|| fair.try_acquire(who("a"), now).then_some(()));
    let free = taken.count();
    (0..free).for_each(|_| drop(fair.release(who("a"), now)));
    free
}

/// The outcomes of a burst of requests.
#[derive(Debug, Default)]
struct Came {
    answered: u32,
    late: u32,
    shed: u32,
}

/// Sends this many requests a second for ten seconds. The backend has four permits and answers in
/// 100 ms. Each request has 500 ms.
async fn crowd(settings: &Value, a_second: u32) -> Came {
    let limiter = limiter(&policy(settings, &json!({})));
    let mut crowd = tokio::task::JoinSet::new();
    let gap = Duration::from_secs(1)
        .checked_div(a_second)
        .unwrap_or_default();
    for _ in 0..a_second.saturating_mul(10) {
        tokio::time::sleep(gap).await;
        let limiter = Arc::clone(&limiter);
        crowd.spawn(async move {
            let now = Instant::now();
            let deadline = now.checked_add(Duration::from_millis(500)).unwrap_or(now);
            let permit = limiter.acquire(who("a"), deadline).await;
            let mut permit = permit.map_err(|denial| denial.reason)?;
            let answer = tokio::time::sleep(Duration::from_millis(100));
            let answered = tokio::time::timeout_at(deadline, answer).await;
            answered.map_err(|_| Reason::BackendTimeout)?;
            permit.mark_answered();
            Ok(())
        });
    }
    let mut came = Came::default();
    while let Some(one) = crowd.join_next().await {
        let count = match one {
            Ok(Ok(())) => &mut came.answered,
            Ok(Err(Reason::Overloaded)) => &mut came.shed,
            _ => &mut came.late,
        };
        *count = count.saturating_add(1);
    }
    came
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_twice_what_fits_is_shed_at_once_and_the_others_are_answered_in_time() {
    let settings = json!({"max_in_flight": 4, "queue": 128});
    // Ten seconds of four permits.
    let fits = 400;
    for (a_second, least) in [(36, 350), (80, fits * 9 / 10), (400, fits * 9 / 10)] {
        let came = crowd(&settings, a_second).await;
        assert!(came.answered >= least, "{a_second} a second: {came:?}");
        // Requests from before the first response waited, because no hold time was known.
        assert!(
            came.late * 10 <= came.answered,
            "{a_second} a second: who is let in is answered: {came:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_was_slow_gets_its_queue_back() {
    let policy = policy(&json!({"max_in_flight": 1, "queue": 8}), &json!({}));
    let limiter = limiter(&policy);
    let served = async |time: Duration| {
        let permit = limiter.acquire(who("a"), within(100)).await;
        tokio::time::advance(time).await;
        permit
            .into_iter()
            .for_each(|mut permit| permit.mark_answered());
    };
    served(Duration::from_secs(10)).await;
    let second = limiter.acquire(who("a"), within(100)).await;
    assert!(second.is_ok(), "no request is before it");
    let third = limiter.acquire(who("a"), within(100)).await;
    assert_eq!(
        third.err().map(|denial| denial.reason),
        Some(Reason::Overloaded)
    );
    drop(second);
    for _ in 0..100 {
        // Requests that end at once do not lower the average.
        drop(limiter.acquire(who("a"), within(100)).await);
    }
    let held = limiter.acquire(who("a"), within(100)).await;
    assert!(held.is_ok() && limiter.acquire(who("a"), within(100)).await.is_err());
    drop(held);
    for _ in 0..100 {
        served(Duration::from_millis(1)).await;
    }
    let held = limiter.acquire(who("a"), within(100)).await;
    let waits = limiter.acquire(who("a"), within(100));
    let freed = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(held);
    };
    assert!(tokio::join!(waits, freed).0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn places_that_are_to_go_do_so_as_they_come_free_and_come_back() {
    let settings = json!({"max_in_flight": 10, "adaptive_concurrency": {"min_in_flight": 1}});
    let policy = policy(&settings, &json!({}));
    let limiter = limiter(&policy);
    let deadline = Instant::now();
    let mut held = Vec::new();
    while let Ok(permit) = limiter.acquire(who("a"), deadline).await {
        held.push(permit);
    }
    assert_eq!(held.len(), 10);
    tokio::time::advance(Duration::from_secs(1)).await;
    limiter.on_overload();
    assert_eq!(limiter.limit.get(), 8);
    held.pop();
    held.pop();
    assert!(
        limiter.acquire(who("a"), deadline).await.is_err(),
        "two had to go"
    );
    held.pop();
    let back = limiter.acquire(who("a"), deadline).await;
    assert!(back.is_ok() && limiter.acquire(who("a"), deadline).await.is_err());
    drop((held, back));
    assert_eq!(free(&limiter), 8);
    tokio::time::advance(Duration::from_secs(1)).await;
    limiter.on_overload();
    assert_eq!(free(&limiter), 7, "those that are free");
}

#[tokio::test(start_paused = true)]
async fn a_client_with_slow_requests_delays_others_by_at_most_one_of_them() {
    let settings = json!({"max_in_flight": 8, "queue": 16});
    let limiter = limiter(&policy(&settings, &json!({})));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let limiter = Arc::clone(&limiter);
        flood.spawn(async move {
            loop {
                match limiter.acquire(who("slow"), within(60_000)).await {
                    Ok(mut permit) => {
                        tokio::time::sleep(Duration::from_secs(4)).await;
                        permit.mark_answered();
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        let came = Instant::now();
        let permit = limiter.acquire(who("quick"), within(5_000)).await;
        assert!(permit.is_ok(), "{permit:?}");
        waits.push(came.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
        permit
            .into_iter()
            .for_each(|mut permit| permit.mark_answered());
    }
    let first = waits.first().copied().unwrap_or_default();
    assert!(first <= Duration::from_secs(4), "{waits:?}");
    // From then on one permit is reserved for clients that have none.
    assert!(waits.iter().skip(1).all(Duration::is_zero), "{waits:?}");
    assert_eq!(limiter.clients.get(), 1, "one client waits");
    assert!(limiter.preempted.get() > 0 && limiter.rejected.get() > limiter.preempted.get());
    flood.shutdown().await;
    assert_eq!((limiter.clients.get(), limiter.queued.get()), (0, 0));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(free(&limiter), 8);
}

#[tokio::test(start_paused = true)]
async fn a_request_cancelled_at_its_turn_takes_no_slot() {
    let settings = json!({"max_in_flight": 1, "queue": 8});
    let limiter = limiter(&policy(&settings, &json!({})));
    let first = limiter.acquire(who("a"), within(1_000)).await;
    let mut second = Box::pin(limiter.acquire(who("b"), within(1_000)));
    let mut third = Box::pin(limiter.acquire(who("c"), within(1_000)));
    for waiting in [&mut second, &mut third] {
        let soon = tokio::time::timeout(Duration::from_millis(1), waiting).await;
        assert!(soon.is_err(), "it waits");
    }
    // The request is notified, but its task does not look any more.
    drop(first);
    drop(second);
    assert!(third.await.is_ok());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(free(&limiter), 1);
}

#[tokio::test(start_paused = true)]
async fn how_long_its_own_requests_take_is_each_clients_own() {
    let (secs, now) = (Duration::from_secs, Instant::now());
    let mut had = HoldTimes::default();
    let late = had.would_miss_deadline(who("a"), (9, 1), secs(0), now);
    assert!(!late, "nothing is known");
    had.record(who("a"), secs(10), true, now);
    // Ten seconds of waiting at most, and ten seconds at the backend.
    for (client_key, before, limit, left, late) in [
        ("a", 1, 1, 22, true),
        ("a", 1, 1, 23, false),
        ("a", 1, 4, 13, true),
        ("a", 1, 4, 14, false),
        ("b", 9, 1, 0, false),
    ] {
        let found = had.would_miss_deadline(who(client_key), (before, limit), secs(left), now);
        assert_eq!(found, late, "{client_key} {before} {limit} {left}");
    }
    had.record(who("b"), Duration::from_millis(1), true, now);
    assert!(!had.would_miss_deadline(who("b"), (1, 4), secs(3), now));
    for name in 0..2 * MAX_CLIENTS {
        had.record(who(&name.to_string()), secs(1), true, now);
    }
    assert!(had.by_client.len() <= MAX_CLIENTS);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_was_slow_for_a_client_is_found_quick_though_another_keeps_it_busy() {
    let settings = json!({"max_in_flight": 1, "queue": 8});
    let limiter = limiter(&policy(&settings, &json!({})));
    // All that this client saw of the backend took as long as its deadline.
    let slow = limiter.acquire(who("few"), within(5_000)).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    slow.into_iter()
        .for_each(|mut permit| permit.mark_answered());
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let limiter = Arc::clone(&limiter);
        flood.spawn(async move {
            while let Ok(mut permit) = limiter.acquire(who("many"), within(60_000)).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
                permit.mark_answered();
            }
        });
    }
    let mut answered = Vec::new();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let permit = limiter.acquire(who("few"), within(5_000)).await;
        answered.push(permit.is_ok());
        permit
            .into_iter()
            .for_each(|mut permit| permit.mark_answered());
    }
    assert!(answered.starts_with(&[false; 50]), "{answered:?}");
    assert!(answered.ends_with(&[true; 50]), "{answered:?}");
    flood.shutdown().await;
}
