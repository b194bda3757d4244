//! Memory of a gate's Envoy, from `/proc`.

use super::Stack;

/// Resident memory of Envoy, KiB.
pub fn envoy_kib(stack: &Stack) -> u64 {
    envoy_status(stack, "VmRSS:")
}

/// The most resident memory that Envoy ever had, KiB.
pub fn envoy_peak_kib(stack: &Stack) -> u64 {
    envoy_status(stack, "VmHWM:")
}

/// A size in the `/proc/PID/status` of Envoy, KiB.
fn envoy_status(stack: &Stack, field: &str) -> u64 {
    let statuses = stack.processes().into_iter().filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        line("Name:")?.trim().starts_with("envoy").then_some(())?;
        let kib = line(field)?.trim().strip_suffix(" kB")?;
        kib.trim().parse().ok()
    });
    statuses.max().unwrap()
}
