//! What the kernel says of a process: the time that its threads ran, and the memory that it holds.

use std::path::PathBuf;

use crate::outcome::{Outcome, failure};

/// Nanoseconds that all threads of a process have run on a core so far, from `/proc/PID/task/*/schedstat`: what the scheduler itself
/// counts, free of sampling. Threads that have ended are not in it, so it is for processes whose threads stay.
pub fn cpu_ns(pid: u32) -> Outcome<u64> {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let mut sum = 0_u64;
    for task in std::fs::read_dir(&tasks)? {
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let ran: u64 = text
            .split_ascii_whitespace()
            .next()
            .unwrap_or_default()
            .parse()?;
        sum = sum.saturating_add(ran);
    }
    if sum == 0 {
        return failure(format!("the kernel counts no time for process {pid}"));
    }
    Ok(sum)
}

/// Processes that a process has started, and theirs.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next = next.saturating_add(1);
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// A line of `/proc/PID/status` in MiB.
fn status_mib(pid: u32, field: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .unwrap_or_default()
        .parse()?;
    Ok(kib / 1024.0)
}

/// Resident memory now, MiB.
pub fn rss_mib(pid: u32) -> Outcome<f64> {
    status_mib(pid, "VmRSS")
}

/// The most that it ever was, MiB.
pub fn peak_rss_mib(pid: u32) -> Outcome<f64> {
    status_mib(pid, "VmHWM")
}
