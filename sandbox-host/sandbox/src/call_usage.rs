//! What a call used of its fuel, its CPU time and its deadline, and what that says about a missed
//! deadline.

use std::time::Duration;

/// A deadline that passed although the call had a CPU for most of it.
const COMPUTED: &str = "raise `timeout_ms`, or look for a loop that does not end";

/// A deadline that passed while other work had the CPU. Fuel alone shows a loop then.
const BUSY: &str =
    "the machine was busy, and with more time a loop that does not end would use all its fuel";

/// What one run of a call used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallUsage {
    /// The fuel of all runs of the call.
    pub(super) fuel: u64,
    /// The fuel that the policy allows for all runs.
    pub(super) max_fuel: u64,
    /// The CPU time of this run. `None` if the kernel does not report it.
    pub(super) cpu: Option<Duration>,
    /// The wall-clock time of this run.
    pub(super) wall: Duration,
}

impl CallUsage {
    /// What follows the sentence about a missed deadline: whether the call computed or waited.
    pub(super) fn deadline_advice(&self) -> String {
        let percent = u128::from(self.fuel)
            .saturating_mul(100)
            .checked_div(u128::from(self.max_fuel))
            .unwrap_or(100);
        let Some(cpu) = self.cpu else {
            return format!("it used {percent} % of its fuel");
        };
        let is_busy = cpu.saturating_mul(2) < self.wall;
        let advice = if is_busy { BUSY } else { COMPUTED };
        format!(
            "it used {percent} % of its fuel within {} ms of CPU time, in {} ms: {advice}",
            cpu.as_millis(),
            self.wall.as_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_deadline_names_whether_the_call_had_a_cpu() {
        let usage = |fuel, cpu: Option<u64>| CallUsage {
            fuel,
            max_fuel: 1000,
            cpu: cpu.map(Duration::from_millis),
            wall: Duration::from_millis(50),
        };
        for (usage, expected) in [
            (
                usage(610, Some(10)),
                format!("it used 61 % of its fuel within 10 ms of CPU time, in 50 ms: {BUSY}"),
            ),
            (
                usage(999, Some(25)),
                format!("it used 99 % of its fuel within 25 ms of CPU time, in 50 ms: {COMPUTED}"),
            ),
            (usage(0, None), "it used 0 % of its fuel".to_owned()),
            (CallUsage::default(), "it used 100 % of its fuel".to_owned()),
        ] {
            assert_eq!(usage.deadline_advice(), expected);
        }
    }
}
