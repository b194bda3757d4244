//! The state of the threads of a gate's processes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{START_LIMIT, Stack, ask, signal};

/// The prefix of the names of Envoy's worker threads.
const WORKER: &str = "wrk:";

/// Suspends a gate's sandbox host, as a machine without CPU time for it would.
pub async fn freeze_host(stack: &Stack) {
    let host = stack.host();
    signal("STOP", host).await;
    // A thread that runs on another core continues until the kernel stops it.
    let stopped = || {
        let mut threads = threads(host).into_iter();
        threads.all(|thread| state(&thread) == Some('T'))
    };
    ask::met("the host stands still", stopped).await;
}

/// Waits until so many requests are in a gate's proxy, and until its filters know of all that have
/// ended.
pub async fn until_active(stack: &Stack, wanted: usize) {
    const GAUGE: &str = "http.gate.downstream_rq_active:";
    let end = Instant::now() + START_LIMIT;
    loop {
        let stats = stack.envoy_stats(GAUGE.trim_end_matches(':')).await;
        let line = stats.lines().find(|line| line.starts_with(GAUGE));
        if line.is_some_and(|line| line.ends_with(&format!(": {wanted}"))) {
            break;
        }
        assert!(Instant::now() < end, "{wanted} requests: {stats}");
    }
    // Envoy counts a stream down before it notifies the filters, within one iteration of the
    // worker's event loop. When the worker sleeps, that iteration is over.
    for worker in workers(stack) {
        ask::met("the worker has done its turn", || {
            matches!(state(&worker), Some('S') | None)
        })
        .await;
    }
}

fn workers(stack: &Stack) -> Vec<PathBuf> {
    let all = stack.processes().into_iter().flat_map(threads);
    let worker = |thread: &PathBuf| {
        let name = std::fs::read_to_string(thread.join("comm"));
        name.is_ok_and(|name| name.starts_with(WORKER))
    };
    let workers: Vec<_> = all.filter(worker).collect();
    assert!(!workers.is_empty(), "Envoy has workers");
    workers
}

/// The folder of each thread of a process, under `/proc`.
fn threads(process: u32) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.map(|task| task.path()).collect()
}

/// The thread's state as in `proc_pid_stat(5)`: `S` sleeps, `T` is stopped, `R` runs or waits for a
/// core. `None` if the thread has ended.
fn state(thread: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(thread.join("stat")).ok()?;
    // The state follows the name, which is in parentheses and may contain anything.
    stat.rsplit(") ").next()?.chars().next()
}
