//! The `handler bench` verb: measures a project's cases and proposes limits for the policy.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy::hex;

use crate::case::{self, Expected};
use crate::case_log::CaseLog;
use crate::log_line::LogLine;
use crate::project::{Language, Project, World};
use crate::runner::Runner;

/// Uncounted calls before measuring, which touch memory for the first time.
const WARM_UP: usize = 5;
/// Maximum number of measured calls per case.
const MAX_CALLS: usize = 100_000;
/// Minimum number of measured calls per case, regardless of time.
const MIN_CALLS: usize = 5;
/// Proposed fuel and memory, relative to the maximum measured. Both are equal on every machine, but
/// inputs vary.
const HEADROOM: u64 = 2;
/// Proposed timeout, relative to the 99th percentile. Machines and their load vary.
const TIME_HEADROOM: u64 = 10;
/// Shortest timeout that is proposed, milliseconds.
const MIN_TIMEOUT_MS: u64 = 10;
const MIB: u64 = 1 << 20;

/// Measure a project's cases, and print limits for the policy.
#[derive(Args)]
#[command(
    after_help = "Each case that succeeds is called repeatedly, each time in a fresh instance. The log lines of its first call stand below it. Fuel and memory are equal on every machine; times are of this machine.\n\nExample: tensorgate handler bench scale"
)]
pub struct Bench {
    /// Project folder.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Total measuring time, seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    case: &'a str,
    calls: usize,
    p50_us: u64,
    p99_us: u64,
    fuel: u64,
    memory_bytes: u64,
    memory_grows: u32,
    memory_grown_bytes: u64,
    /// The log lines of the first call.
    log: Vec<LogLine>,
    /// The number of log lines of all calls, and of those that exceeded the quota.
    log_lines: usize,
    log_dropped: u64,
}

/// The maximum over all cases.
#[derive(Default)]
struct Needed {
    fuel: u64,
    memory_bytes: u64,
    p99_us: u64,
    grows: u32,
    grown_bytes: u64,
}

/// Limits for the policy.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Proposed {
    fuel: u64,
    memory_bytes: u64,
    timeout_ms: u64,
}

impl Bench {
    /// Measures the cases.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let project = Project::open(&self.project)?;
        let mut cases = case::all(&project)?;
        cases.retain(|case| matches!(case.expected, Expected::Tensors { .. }));
        let count = u32::try_from(cases.len()).unwrap_or(u32::MAX);
        let time = Duration::from_secs(self.seconds)
            .checked_div(count)
            .ok_or_else(|| Failure::Input("no case succeeds: nothing to measure".to_owned()))?;
        let component = project.built()?;
        let runner = Runner::load(&project, &component, ui)?;
        let mut needed = Needed::default();
        if !ui.json {
            ui.line("case                          calls   p50 ms   p99 ms         fuel     memory   grows");
        }
        for case in &cases {
            let (row, first_log) = measure(&runner, case, time)?;
            needed = Needed {
                fuel: needed.fuel.max(row.fuel),
                memory_bytes: needed.memory_bytes.max(row.memory_bytes),
                p99_us: needed.p99_us.max(row.p99_us),
                grows: needed.grows.max(row.memory_grows),
                grown_bytes: needed.grown_bytes.max(row.memory_grown_bytes),
            };
            if ui.json {
                ui.json_line(&row);
            } else {
                ui.line(&format!(
                    "{:<28} {:>6} {:>8} {:>8} {:>12} {:>10} {:>7}",
                    row.case,
                    row.calls,
                    millis(row.p50_us),
                    millis(row.p99_us),
                    row.fuel,
                    kib(row.memory_bytes),
                    row.memory_grows
                ));
                for line in first_log {
                    ui.line(&format!("     {line}"));
                }
                if row.log_lines > 0 || row.log_dropped > 0 {
                    ui.line(&format!(
                        "     {} log lines in all calls, {} more exceeded the quota",
                        row.log_lines, row.log_dropped
                    ));
                }
            }
        }
        let proposed = propose(&needed);
        let yaml = policy(&project, &hex(&Sha256::digest(&component)), &proposed)?;
        if ui.json {
            ui.json_line(
                &serde_json::json!({"policy": proposed, "yaml": yaml, "arena_bytes": needed.grown_bytes}),
            );
            return Ok(());
        }
        let rule = runner.rule();
        ui.line(&format!(
            "{:<28} {:>6} {:>8} {:>8} {:>12} {:>10}",
            "the limits of handler.yaml",
            "",
            "",
            rule.timeout_ms(),
            rule.fuel(),
            kib(u64::try_from(rule.memory_bytes()).unwrap_or(u64::MAX))
        ));
        ui.line("");
        if let Some(advice) = advice(&project, &needed) {
            ui.line(&advice);
            ui.line("");
        }
        ui.line(&yaml);
        Ok(())
    }
}

/// Measures a case. The second value is the log of the first call as text.
fn measure<'c>(
    runner: &Runner<'_>,
    case: &'c case::Case,
    time: Duration,
) -> Result<(Row<'c>, Vec<String>), Failure> {
    let handler = runner.for_case(case)?;
    let mut row = Row {
        case: &case.name,
        calls: 0,
        p50_us: 0,
        p99_us: 0,
        fuel: 0,
        memory_bytes: 0,
        memory_grows: 0,
        memory_grown_bytes: 0,
        log: Vec::new(),
        log_lines: 0,
        log_dropped: 0,
    };
    let mut first_log = None;
    let mut times = Vec::new();
    let mut warm_up = WARM_UP;
    let started = Instant::now();
    while times.len() < MIN_CALLS || (started.elapsed() < time && times.len() < MAX_CALLS) {
        let called = runner.call(&handler, case).map_err(|error| {
            Failure::Failed(format!(
                "case {}: {error}; `tensorgate handler test` first",
                case.name
            ))
        })?;
        let log = CaseLog::take(&handler);
        row.log_lines = row.log_lines.saturating_add(log.lines.len());
        row.log_dropped = row.log_dropped.saturating_add(log.dropped);
        if first_log.is_none() {
            first_log = Some(log.text());
            row.log = log.lines;
        }
        if warm_up > 0 {
            warm_up = warm_up.saturating_sub(1);
            continue;
        }
        times.push(called.ran_us);
        row.fuel = row.fuel.max(called.fuel_used);
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        row.memory_bytes = row.memory_bytes.max(bytes(called.memory_peak_bytes));
        row.memory_grows = row.memory_grows.max(called.memory_grows);
        row.memory_grown_bytes = (row.memory_grown_bytes).max(bytes(called.memory_grown_bytes));
    }
    times.sort_unstable();
    row.calls = times.len();
    row.p50_us = percentile(&times, 50);
    row.p99_us = percentile(&times, 99);
    Ok((row, first_log.unwrap_or_default()))
}

/// Advice about memory that grows during calls. Other languages have no setting for it.
fn advice(project: &Project, needed: &Needed) -> Option<String> {
    if project.language != Language::Rust || needed.grows == 0 {
        return None;
    }
    let export = match project.world {
        World::Preprocess => "export_preprocess!",
        World::Postprocess => "export_postprocess!",
    };
    Some(format!(
        "Memory grows {} by {} in a call, and is released after it. To avoid that, let instances start with this memory: `{export}(…, arena: {} << 10)`, added to an existing value. All of it is cleared after every call, so choose what a typical call needs.",
        match needed.grows {
            1 => "once".to_owned(),
            times => format!("up to {times} times"),
        },
        kib(needed.grown_bytes),
        needed.grown_bytes.div_ceil(1024)
    ))
}

/// The smallest value that is not exceeded by this percentage of the sorted values.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    let found = sorted.get(rank.saturating_sub(1));
    found.copied().unwrap_or_default()
}

fn propose(needed: &Needed) -> Proposed {
    let memory = needed.memory_bytes.saturating_mul(HEADROOM);
    let timeout = needed.p99_us.saturating_mul(TIME_HEADROOM).div_ceil(1000);
    Proposed {
        fuel: round_up(needed.fuel.saturating_mul(HEADROOM)),
        memory_bytes: memory.div_ceil(MIB).saturating_mul(MIB),
        timeout_ms: round_up(timeout.max(MIN_TIMEOUT_MS)),
    }
}

/// Rounds up to two significant digits.
fn round_up(value: u64) -> u64 {
    let mut unit = 1_u64;
    while value.checked_div(unit).is_some_and(|digits| digits >= 100) {
        unit = unit.saturating_mul(10);
    }
    value.div_ceil(unit).saturating_mul(unit)
}

fn millis(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

/// The handler's entry for the policy.
fn policy(project: &Project, sha256: &str, proposed: &Proposed) -> Result<String, Failure> {
    let name = &project.name;
    let mut lines = format!(
        "handlers:\n  \"{name}\":\n    component: {name}.wasm\n    sha256: \"{sha256}\"\n    fuel: {}\n    memory_bytes: {}MiB\n    timeout_ms: {}",
        proposed.fuel,
        proposed.memory_bytes / MIB,
        proposed.timeout_ms
    );
    if !project.config.is_empty() {
        // JSON is valid YAML.
        let config = serde_json::to_string(&project.config)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        lines.push_str(&format!("\n    config: {config}"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_limits_have_headroom_and_are_round() {
        for (fuel, memory_bytes, p99_us, expected) in [
            (1, 1, 1, (2, MIB, 10)),
            (61_234, 1_200_000, 1_500, (130_000, 3 * MIB, 15)),
            (50, MIB, 12_345, (100, 2 * MIB, 130)),
            (u64::MAX, 0, 0, (u64::MAX, 0, 10)),
        ] {
            let needed = Needed {
                fuel,
                memory_bytes,
                p99_us,
                ..Needed::default()
            };
            let found = propose(&needed);
            assert_eq!((found.fuel, found.memory_bytes, found.timeout_ms), expected);
        }
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&values, 50), 100);
        assert_eq!(percentile(&values, 99), 198);
        assert_eq!(percentile(&[7], 99), 7);
        assert_eq!(percentile(&[], 99), 0);
    }
}
