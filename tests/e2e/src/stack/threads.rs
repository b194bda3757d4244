//! What the threads of a gate's processes are at.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{START_LIMIT, Stack, ask, signal};

/// What the name of each of Envoy's workers begins with.
const WORKER: &str = "wrk:";

impl Stack {
    /// Stops the sandbox host from running, as a machine without time for it would.
    pub async fn freeze_host(&self) {
        let host = self.host();
        signal("STOP", host).await;
        // A thread that runs on another core goes on until the kernel gets hold of it.
        let stopped = || {
            let mut threads = threads(host).into_iter();
            threads.all(|thread| state(&thread) == Some('T'))
        };
        ask::met("the host stands still", stopped).await;
    }

    /// Waits until so many requests are in the proxy, and until its filters have heard of those that are not any more.
    pub async fn active(&self, wanted: usize) {
        const GAUGE: &str = "http.gate.downstream_rq_active:";
        let end = Instant::now() + START_LIMIT;
        loop {
            let stats = self.envoy_stats(GAUGE.trim_end_matches(':')).await;
            let line = stats.lines().find(|line| line.starts_with(GAUGE));
            if line.is_some_and(|line| line.ends_with(&format!(": {wanted}"))) {
                break;
            }
            assert!(Instant::now() < end, "{wanted} requests: {stats}");
        }
        // Envoy counts a stream down before it tells the filters, in one turn of the worker's loop; when the worker sleeps the turn is over.
        for worker in self.workers() {
            ask::met("the worker has done its turn", || {
                matches!(state(&worker), Some('S') | None)
            })
            .await;
        }
    }

    fn workers(&self) -> Vec<PathBuf> {
        let all = self.processes().into_iter().flat_map(threads);
        let worker = |thread: &PathBuf| {
            let name = std::fs::read_to_string(thread.join("comm"));
            name.is_ok_and(|name| name.starts_with(WORKER))
        };
        let workers: Vec<_> = all.filter(worker).collect();
        assert!(!workers.is_empty(), "Envoy has workers");
        workers
    }
}

/// The folder of each thread of a process, under `/proc`.
fn threads(process: u32) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.map(|task| task.path()).collect()
}

/// As `proc_pid_stat(5)` has it: `S` sleeps, `T` is stopped, `R` runs or waits for a core. `None`: the thread is no more.
fn state(thread: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(thread.join("stat")).ok()?;
    // Behind the name, which is in parentheses and may hold anything.
    stat.rsplit(") ").next()?.chars().next()
}
