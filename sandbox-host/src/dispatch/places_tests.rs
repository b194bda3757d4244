//! Crowds at one backend, and how the wait for a place ends.
use super::super::tests::policy;
use super::*;
use serde_json::{Value, json};
use tensorgate_policy::Policy;

fn places(policy: &Policy) -> Arc<Places> {
    let Some(rule) = policy.backends().get("b") else {
        unreachable!("the policy has it");
    };
    let labels = BackendLabels {
        backend: "b".to_owned(),
    };
    Places::new(rule, &labels, &Metrics::new())
}

fn who(name: &str) -> Whose {
    Whose::of(Some(name))
}

/// A moment so many milliseconds from now.
fn within(ms: u64) -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_millis(ms)).unwrap_or(now)
}

/// Places that are free for a client that is alone.
fn free(places: &Arc<Places>) -> usize {
    let mut fair = lock(&places.fair);
    let now = Instant::now();
    let taken = std::iter::from_fn(|| fair.take(who("a"), now).then_some(()));
    let free = taken.count();
    (0..free).for_each(|_| drop(fair.give_back(who("a"), now)));
    free
}

/// What became of a crowd.
#[derive(Debug, Default)]
struct Came {
    answered: u32,
    late: u32,
    shed: u32,
}

/// A crowd of so many a second for ten seconds, at a backend of four places that answers in a tenth of a second; each has half a second.
async fn crowd(settings: &Value, a_second: u32) -> Came {
    let places = places(&policy(settings, &json!({})));
    let mut crowd = tokio::task::JoinSet::new();
    let gap = Duration::from_secs(1)
        .checked_div(a_second)
        .unwrap_or_default();
    for _ in 0..a_second.saturating_mul(10) {
        tokio::time::sleep(gap).await;
        let places = Arc::clone(&places);
        crowd.spawn(async move {
            let now = Instant::now();
            let deadline = now.checked_add(Duration::from_millis(500)).unwrap_or(now);
            let place = places.take(who("a"), deadline).await;
            let mut place = place.map_err(|denial| denial.reason)?;
            let answer = tokio::time::sleep(Duration::from_millis(100));
            let answered = tokio::time::timeout_at(deadline, answer).await;
            answered.map_err(|_| Reason::BackendTimeout)?;
            place.served();
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
    // Ten seconds of four places.
    let fits = 400;
    for (a_second, least) in [(36, 350), (80, fits * 9 / 10), (400, fits * 9 / 10)] {
        let came = crowd(&settings, a_second).await;
        assert!(came.answered >= least, "{a_second} a second: {came:?}");
        // Those who came before anybody was answered waited for what nobody knew.
        assert!(
            came.late * 10 <= came.answered,
            "{a_second} a second: who is let in is answered: {came:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_was_slow_gets_its_queue_back() {
    let policy = policy(&json!({"max_in_flight": 1, "queue": 8}), &json!({}));
    let places = places(&policy);
    let served = async |time: Duration| {
        let place = places.take(who("a"), within(100)).await;
        tokio::time::advance(time).await;
        place.into_iter().for_each(|mut place| place.served());
    };
    served(Duration::from_secs(10)).await;
    let second = places.take(who("a"), within(100)).await;
    assert!(second.is_ok(), "nobody is before it");
    let third = places.take(who("a"), within(100)).await;
    assert_eq!(
        third.err().map(|denial| denial.reason),
        Some(Reason::Overloaded)
    );
    drop(second);
    for _ in 0..100 {
        // Those that were cut off at once do not make it quick.
        drop(places.take(who("a"), within(100)).await);
    }
    let held = places.take(who("a"), within(100)).await;
    assert!(held.is_ok() && places.take(who("a"), within(100)).await.is_err());
    drop(held);
    for _ in 0..100 {
        served(Duration::from_millis(1)).await;
    }
    let held = places.take(who("a"), within(100)).await;
    let waits = places.take(who("a"), within(100));
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
    let places = places(&policy);
    let deadline = Instant::now();
    let mut held = Vec::new();
    while let Ok(place) = places.take(who("a"), deadline).await {
        held.push(place);
    }
    assert_eq!(held.len(), 10);
    tokio::time::advance(Duration::from_secs(1)).await;
    places.overloaded();
    assert_eq!(places.limit.get(), 8);
    held.pop();
    held.pop();
    assert!(
        places.take(who("a"), deadline).await.is_err(),
        "two had to go"
    );
    held.pop();
    let back = places.take(who("a"), deadline).await;
    assert!(back.is_ok() && places.take(who("a"), deadline).await.is_err());
    drop((held, back));
    assert_eq!(free(&places), 8);
    tokio::time::advance(Duration::from_secs(1)).await;
    places.overloaded();
    assert_eq!(free(&places), 7, "those that are free");
}

#[tokio::test(start_paused = true)]
async fn a_client_with_slow_requests_keeps_nobody_waiting_for_longer_than_one_of_them() {
    let settings = json!({"max_in_flight": 8, "queue": 16});
    let places = places(&policy(&settings, &json!({})));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let places = Arc::clone(&places);
        flood.spawn(async move {
            loop {
                match places.take(who("slow"), within(60_000)).await {
                    Ok(mut place) => {
                        tokio::time::sleep(Duration::from_secs(4)).await;
                        place.served();
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
        let place = places.take(who("quick"), within(5_000)).await;
        assert!(place.is_ok(), "{place:?}");
        waits.push(came.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
        place.into_iter().for_each(|mut place| place.served());
    }
    let first = waits.first().copied().unwrap_or_default();
    assert!(first <= Duration::from_secs(4), "{waits:?}");
    // From then on a place is left to whoever has none.
    assert!(waits.iter().skip(1).all(Duration::is_zero), "{waits:?}");
    assert_eq!(places.clients.get(), 1, "one client waits");
    assert!(places.gave_way.get() > 0 && places.shed.get() > places.gave_way.get());
    flood.shutdown().await;
    assert_eq!((places.clients.get(), places.queued.get()), (0, 0));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(free(&places), 8);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_in_the_moment_of_its_turn_takes_no_place_along() {
    let settings = json!({"max_in_flight": 1, "queue": 8});
    let places = places(&policy(&settings, &json!({})));
    let first = places.take(who("a"), within(1_000)).await;
    let mut second = Box::pin(places.take(who("b"), within(1_000)));
    let mut third = Box::pin(places.take(who("c"), within(1_000)));
    for waiting in [&mut second, &mut third] {
        let soon = tokio::time::timeout(Duration::from_millis(1), waiting).await;
        assert!(soon.is_err(), "it waits");
    }
    // It is told, and nobody looks.
    drop(first);
    drop(second);
    assert!(third.await.is_ok());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(free(&places), 1);
}

#[tokio::test(start_paused = true)]
async fn how_long_its_own_requests_take_is_each_clients_own() {
    let (secs, now) = (Duration::from_secs, Instant::now());
    let mut had = Had::default();
    let late = had.comes_late(who("a"), (9, 1), secs(0), now);
    assert!(!late, "nothing is known");
    had.given_back(who("a"), secs(10), true, now);
    // A wait of ten seconds at most, and ten at the backend.
    for (whose, before, limit, left, late) in [
        ("a", 1, 1, 22, true),
        ("a", 1, 1, 23, false),
        ("a", 1, 4, 13, true),
        ("a", 1, 4, 14, false),
        ("b", 9, 1, 0, false),
    ] {
        let found = had.comes_late(who(whose), (before, limit), secs(left), now);
        assert_eq!(found, late, "{whose} {before} {limit} {left}");
    }
    had.given_back(who("b"), Duration::from_millis(1), true, now);
    assert!(!had.comes_late(who("b"), (1, 4), secs(3), now));
    for name in 0..2 * MAX_CLIENTS {
        had.given_back(who(&name.to_string()), secs(1), true, now);
    }
    assert!(had.own.len() <= MAX_CLIENTS);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_was_slow_for_a_client_is_found_quick_though_another_keeps_it_busy() {
    let settings = json!({"max_in_flight": 1, "queue": 8});
    let places = places(&policy(&settings, &json!({})));
    // All that it ever saw of the backend took as long as it may wait.
    let slow = places.take(who("few"), within(5_000)).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    slow.into_iter().for_each(|mut place| place.served());
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let places = Arc::clone(&places);
        flood.spawn(async move {
            while let Ok(mut place) = places.take(who("many"), within(60_000)).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
                place.served();
            }
        });
    }
    let mut answered = Vec::new();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let place = places.take(who("few"), within(5_000)).await;
        answered.push(place.is_ok());
        place.into_iter().for_each(|mut place| place.served());
    }
    assert!(answered.starts_with(&[false; 50]), "{answered:?}");
    assert!(answered.ends_with(&[true; 50]), "{answered:?}");
    flood.shutdown().await;
}
