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
    /// The CPU time of this run.
    pub(super) cpu: Duration,
    /// The wall-clock time of this run.
    pub(super) wall: Duration,
    /// The log lines of the call, with those that were dropped.
    pub(super) log_lines: u64,
}

impl CallUsage {
    /// What follows the sentence about a missed deadline: whether the call computed or waited.
    pub(super) fn deadline_advice(&self) -> String {
        let is_busy = self.cpu.saturating_mul(2) < self.wall;
        let advice = if is_busy { BUSY } else { COMPUTED };
        format!("{}: {advice}", self.figures())
    }

    /// The same for a call that had not stopped after `wall`, when its caller left. This is what it
    /// used until its last tick, or until its end.
    pub(super) fn overdue(&self, wall: Duration) -> String {
        let waited = wall.saturating_sub(self.wall).as_millis();
        let figures = self.figures();
        format!("{figures}, then it waited {waited} ms for a CPU or for the host")
    }

    fn figures(&self) -> String {
        let percent = (u128::from(self.fuel).saturating_mul(100))
            .checked_div(self.max_fuel.into())
            .unwrap_or_default();
        // The engine counts the fuel of a loop when the loop calls a function, or ends.
        format!(
            "it used at least {percent} % of its fuel within {} ms of CPU time and wrote {} log lines, in {} ms",
            self.cpu.min(self.wall).as_millis(),
            self.log_lines,
            self.wall.as_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_deadline_names_what_was_measured_of_the_call() {
        for (fuel, cpu, advice) in [(610, 10, BUSY), (999, 25, COMPUTED)] {
            let usage = CallUsage {
                fuel,
                max_fuel: 1000,
                cpu: Duration::from_millis(cpu),
                wall: Duration::from_millis(50),
                log_lines: 3_900,
            };
            let percent = fuel / 10;
            let figures = format!(
                "it used at least {percent} % of its fuel within {cpu} ms of CPU time and wrote 3900 log lines, in 50 ms"
            );
            assert_eq!(usage.deadline_advice(), format!("{figures}: {advice}"));
            assert_eq!(
                usage.overdue(Duration::from_millis(72)),
                format!("{figures}, then it waited 22 ms for a CPU or for the host")
            );
        }
        // A call that has only just started.
        let none = CallUsage::default().figures();
        assert!(
            none.starts_with("it used at least 0 % of its fuel"),
            "{none}"
        );
    }
}
