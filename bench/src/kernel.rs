//! Statistics of processes: CPU time, descendants and memory.

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::outcome::{Outcome, failure};

/// Nanoseconds of CPU time that a process has used, by its CPU clock. Threads that have ended
/// count, because the host replaces a guest thread after a long call. The scheduler counts this
/// time itself, so there is no sampling error.
pub fn cpu_ns(pid: u32) -> Outcome<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    let used = clock_gettime(clock)?;
    let nanoseconds = u64::try_from(used.tv_nsec())?;
    let used_ns = u64::try_from(used.tv_sec())?
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds);
    if used_ns == 0 {
        return failure(format!("the kernel reports no CPU time for process {pid}"));
    }
    Ok(used_ns)
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
    field_mib(&text, field)
}

/// A field in KiB of a file of the kernel, in MiB.
fn field_mib(text: &str, field: &str) -> Outcome<f64> {
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

/// What the mappings of this process hold, MiB.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Pages that are present. One that is mapped in several places counts in each.
    pub rss: f64,
    /// The same, but such a page counts once.
    pub pss: f64,
    /// Pages that are no file's: memory that was written.
    pub written: f64,
}

impl Mapped {
    /// Of this process now.
    pub fn of_this_process() -> Outcome<Self> {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
        let mib = |field| field_mib(&text, field);
        Ok(Self {
            rss: mib("Rss")?,
            pss: mib("Pss")?,
            written: mib("Anonymous")?,
        })
    }
}
