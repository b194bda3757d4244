//! Memory of a gate's Envoy, from `/proc`.

use super::Stack;

impl Stack {
    /// Resident memory of Envoy, KiB.
    pub fn envoy_kib(&self) -> u64 {
        self.envoy_status("VmRSS:")
    }

    /// The most resident memory that Envoy ever had, KiB.
    pub fn envoy_peak_kib(&self) -> u64 {
        self.envoy_status("VmHWM:")
    }

    /// A size in the `/proc/PID/status` of Envoy, KiB.
    fn envoy_status(&self, field: &str) -> u64 {
        let statuses = self.processes().into_iter().filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            line("Name:")?.trim().starts_with("envoy").then_some(())?;
            let kib = line(field)?.trim().strip_suffix(" kB")?;
            kib.trim().parse().ok()
        });
        statuses.max().unwrap()
    }
}
