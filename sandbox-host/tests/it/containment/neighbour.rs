//! An honest handler beside hostile ones.

use tensorgate_vectors::alone::is_alone;

use super::*;

/// The time limit of a hostile call. An honest call that had to wait for another handler's thread
/// would wait this long.
const ATTACK_MS: u64 = 4_000;
/// Calls that are timed.
const CALLS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_keeps_answering_during_every_attack() {
    let sandbox = sandbox();
    let budget = Budget {
        timeout_ms: ATTACK_MS,
        ..BUDGET
    };
    let mut hostile = Vec::new();
    for name in ["hostile_loop", "hostile_memory_bomb", "hostile_wrong_shape"] {
        hostile.push(load(&sandbox, name, &built(name), Role::Preprocess, budget, &[]).unwrap());
    }
    // Three that only burn CPU time, each on all threads that it may have.
    for name in ["spin-1", "spin-2", "spin-3"] {
        let spin = preprocess(SPIN);
        hostile.push(load(&sandbox, name, &spin, Role::Preprocess, budget, &[]).unwrap());
    }
    let neighbour = load(
        &sandbox,
        "neighbour",
        &built("digit_labels"),
        Role::Postprocess,
        Budget {
            timeout_ms: 20_000,
            ..BUDGET
        },
        &[],
    )
    .unwrap();

    label(&neighbour, 0).await;
    let quiet = timed(&neighbour).await;
    let attack = tokio::spawn(attack(hostile));
    let besieged = timed(&neighbour).await;
    assert!(
        !attack.is_finished(),
        "the attack outlasts the neighbour's calls"
    );
    attack.abort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:<12} {:>10} {:>10} {:>10}",
        "neighbour", "p50", "p99", "worst"
    );
    for (name, times) in [("quiet", &quiet), ("besieged", &besieged)] {
        let [p50, p99, worst] =
            [CALLS / 2, CALLS * 99 / 100, CALLS - 1].map(|place| ms(times[place]));
        println!("{name:<12} {p50:>7.2} ms {p99:>7.2} ms {worst:>7.2} ms");
    }
    // Its calls take well under a millisecond of work; the rest is how the kernel shares the cores.
    assert!(
        besieged[CALLS * 99 / 100] < Duration::from_millis(ATTACK_MS / 2),
        "the neighbour waits for another's deadline"
    );
}

/// Honest calls one after another, and how long each took, sorted.
async fn timed(neighbour: &LoadedHandler) -> Vec<Duration> {
    let mut times = Vec::new();
    for digit in (0..10).cycle().take(CALLS) {
        let started = Instant::now();
        label(neighbour, digit).await;
        times.push(started.elapsed());
    }
    times.sort();
    times
}

/// Keeps eight calls of every hostile handler in flight, for ever.
async fn attack(hostile: Vec<LoadedHandler>) {
    let mut calls = tokio::task::JoinSet::new();
    for guest in hostile {
        for number in 0..8 {
            let guest = guest.clone();
            calls.spawn(async move {
                loop {
                    let outcome = guest
                        .preprocess("attack", if number % 2 == 0 { tensors() } else { raw() })
                        .await;
                    assert!(
                        !matches!(outcome, Err(HandlerError::Rejected { .. })),
                        "{outcome:?}"
                    );
                }
            });
        }
    }
    while calls.join_next().await.is_some() {}
}

/// One honest call, whose answer must be right.
pub async fn label(neighbour: &LoadedHandler, digit: usize) {
    let scores: Vec<u8> = (0..10)
        .flat_map(|class| if class == digit { 0.75_f32 } else { 0.01 }.to_le_bytes())
        .collect();
    let probabilities = Tensor {
        name: "probabilities".into(),
        datatype: "FP32".into(),
        shape: vec![1, 10],
        parameters: vec![],
        data: Ok(scores.into()),
    };
    let called = neighbour
        .postprocess("neighbour", vec![probabilities])
        .await
        .unwrap();
    let label = called
        .tensors
        .iter()
        .find(|tensor| tensor.name == "label")
        .unwrap();
    assert_eq!(
        label.data.as_ref().unwrap().as_ref(),
        [1, 0, 0, 0, b'0' + u8::try_from(digit).unwrap()]
    );
}

/// The 19th field of a thread's stat; the first two are before the end of its name.
fn niceness(stat: &str) -> i32 {
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(16).unwrap().parse().unwrap()
}

/// Whether a thread that runs guests here has lowered its priority.
fn stepped_back() -> bool {
    let own = niceness(&std::fs::read_to_string("/proc/thread-self/stat").unwrap());
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    // As far as the kernel lowers a priority.
    stats.any(|stat| stat.contains("(guest-") && niceness(&stat) == (own + 10).min(19))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_running_guest_gets_a_lower_priority() {
    if !is_alone("containment::neighbour::a_long_running_guest_gets_a_lower_priority") {
        return;
    }
    let sandbox = sandbox();
    let minute = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    let spin = load(
        &sandbox,
        "spin",
        &preprocess(SPIN),
        Role::Preprocess,
        minute,
        &[],
    )
    .unwrap();
    let spinning = tokio::spawn(async move { spin.preprocess("request", tensors()).await });
    let patience = Instant::now() + Duration::from_secs(30);
    while !stepped_back() {
        assert!(Instant::now() < patience, "no thread steps back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    spinning.abort();
}
