//! Process statistics from `/proc`: CPU time of the threads and resident memory.

use std::path::PathBuf;

use crate::outcome::{Outcome, failure};

/// Nanoseconds of CPU time that all threads of a process have used, from
/// `/proc/PID/task/*/schedstat`. The scheduler counts this time itself, so there is no sampling
/// error. Threads that have exited are missing: use it for processes whose threads stay.
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
        return failure(format!("the kernel reports no CPU time for process {pid}"));
    }
    Ok(sum)
}

/// A process and all its descendants.
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

/// A field of `/proc/PID/status` in MiB.
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

/// Peak resident memory, MiB.
pub fn peak_rss_mib(pid: u32) -> Outcome<f64> {
    status_mib(pid, "VmHWM")
}
