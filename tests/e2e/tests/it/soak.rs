//! A whole gate at saturation for `SOAK_SECONDS`, on a real Envoy, with handlers and a backend that
//! takes its time. Requests of every kind exceed the available slots, and the policy changes at
//! intervals.
//!
//! Each answer is one that the table of its kind lists ([`load`]), and nothing grows ([`watch`]):
//! no memory, no open files, no threads. No permit is lost. `make soak` runs it for a quarter of an
//! hour, the tests for a few seconds.

mod load;
mod tables;
mod watch;

use std::time::{Duration, Instant};

use load::Told;
use tables::{PLACES, TIGHT, kinds, policies};
use tensorgate_tests::backend::Mode;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Stack, ask, held};
use watch::{Bounds, Watched};

/// The duration in a test run.
const SHORT_S: u64 = 8;
/// Samples of what the processes hold: enough to fit a line through them.
const SAMPLES: u32 = 60;
/// Policies of one run. A quarter of an hour has one a minute.
const CHANGES: u32 = 15;
/// How long the backend takes for each answer. With it the slots run out first, and not this
/// machine's CPU time.
const BACKEND_TAKES: Duration = Duration::from_millis(15);
/// The least number of answered requests per second. Fewer would not be saturation.
const LEAST_ANSWERED_A_SECOND: u64 = 20;
/// Log lines that show a failure which no caller sees.
const SIGNS: [&str; 5] = [
    "panic",
    "Proxy-Wasm VM failed",
    "Function: proxy_on",
    "gate and host disagree",
    "audit lines dropped",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_at_saturation_gives_only_expected_outcomes_and_does_not_grow() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(SHORT_S, |seconds| seconds.parse().unwrap());
    let whole = Duration::from_secs(seconds);
    let [policy, other] = policies();
    let mut stack = Stack::start("soak", policy.clone()).await;
    stack.backend.set(Mode::Late(BACKEND_TAKES));
    assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
    let processes = stack.processes();
    let mut watched = Watched::new(&processes);

    let told = Told::new();
    let mut load = tokio::task::JoinSet::new();
    for kind in kinds() {
        kind.start(stack.gate, &told, &mut load);
    }
    let started = Instant::now();
    let mut changes = 0;
    let mut inferences = 0;
    println!("{}", watched.head());
    while started.elapsed() < whole {
        let next = whole * (watched.taken() + 1) / SAMPLES;
        tokio::time::sleep(next.saturating_sub(started.elapsed())).await;
        watched.take(started.elapsed());
        inferences += stack.backend.forget();
        if watched.taken().is_multiple_of(SAMPLES / 15) {
            println!("{}  {}", watched.line(), told.line());
        }
        if started.elapsed() >= whole * (changes + 1) / (CHANGES + 1) {
            let next = [&other, &policy][changes as usize % 2];
            stack.reload(next.clone()).await;
            changes += 1;
        }
    }
    load.abort_all();
    while load.join_next().await.is_some() {}

    println!("{}", told.table());
    println!(
        "{changes} policies, {inferences} inferences at the backend, in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    told.keeps_to_the_table();
    let answered = told.count("ok");
    assert!(answered > seconds * LEAST_ANSWERED_A_SECOND, "{answered}");
    assert!(told.count("overloaded") > 0, "it was never saturated");

    // Nothing is left when the load has ended.
    until_active(&stack, 0).await;
    stack.backend.set(Mode::Zeros);
    ask::until(
        stack.gate,
        "scorer",
        "ok",
        "it serves when the load is over",
    )
    .await;
    held::exact(stack.gate, TIGHT, PLACES, "after the load").await;
    assert_eq!(stack.processes(), processes, "no process was started anew");
    for log in ["envoy.log", "host.log"] {
        let log = stack.log(log);
        let sign = |line: &&str| SIGNS.iter().any(|sign| line.contains(sign));
        let line = log.lines().find(sign);
        assert!(line.is_none(), "{line:?}");
    }
    watched.settle().await;
    println!("{}", watched.verdict(&Bounds::DEFAULT));
    watched.judge(&Bounds::DEFAULT);
}
