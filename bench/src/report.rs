//! The report of a run: tables of the measurements, and at the top each target with its result.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use crate::lab::Lab;
use crate::race::Result;
use crate::targets::{Bound, State, TARGETS, Target};

/// The findings of a run.
#[derive(Default)]
pub struct Report {
    sections: String,
    reached: BTreeMap<&'static str, f64>,
    absent: BTreeMap<&'static str, String>,
    /// Scenarios that failed.
    failed: Vec<&'static str>,
}

impl Report {
    /// Begins a section.
    pub fn section(&mut self, title: &str, text: &str) {
        self.push(&format!("\n## {title}\n\n{text}\n"));
    }

    /// A line of text.
    pub fn line(&mut self, text: &str) {
        self.push(&format!("\n{text}\n"));
    }

    /// A table of a race, relative to one of its contenders.
    pub fn race(&mut self, results: &[Result], against: usize) {
        let mut text = String::from(
            "\n| | CPU µs a request | requests/s a core | × | 95 % of × | added µs | beside it, CPU µs | p50 µs | p99 µs | RSS MiB |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
        let Some(base) = results.get(against) else {
            return;
        };
        for result in results {
            let beside = result
                .beside_us
                .map_or_else(String::new, |(name, us)| format!("{name} {us:.1}"));
            let (least, most) = result.interval_over(base);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.0} | {:.2} | {least:.2} to {most:.2} | {:+.1} | {beside} | {:.0} | {:.0} | {:.0} |",
                result.name,
                result.cpu(),
                1_000_000.0 / result.cpu(),
                result.over(base),
                result.added_to(base),
                result.p50_us,
                result.p99_us,
                result.rss_mib
            );
        }
        self.push(&text);
    }

    /// A table of other figures.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let mut text = format!(
            "\n| {} |\n|{}\n",
            head.join(" | "),
            "---|".repeat(head.len())
        );
        for row in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        self.push(&text);
    }

    /// Records the figure of a target.
    pub fn reached(&mut self, target: &'static str, figure: f64) {
        self.reached.insert(target, figure);
    }

    /// Records a scenario that failed.
    pub fn fail(&mut self, scenario: &'static str, why: &str) {
        self.line(&format!("Ended here: {why}"));
        self.failed.push(scenario);
    }

    /// The names of the failed scenarios, if any.
    pub fn failed(&self) -> Option<String> {
        (!self.failed.is_empty()).then(|| self.failed.join(", "))
    }

    /// The names of the missed targets, if any.
    pub fn missed(&self) -> Option<String> {
        let missed = TARGETS.iter().filter(|target| {
            let figure = self.reached.get(target.id);
            figure.is_some_and(|figure| !target.bound.holds(*figure))
        });
        let names: Vec<_> = missed.map(|target| target.id).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Records why a target could not be measured in this run.
    pub fn absent(&mut self, target: &'static str, why: &str) {
        self.absent.insert(target, why.to_owned());
    }

    fn push(&mut self, text: &str) {
        print!("{text}");
        self.sections.push_str(text);
    }

    /// The whole document.
    pub fn document(&self, lab: &Lab) -> String {
        let mut text = String::from(
            "# Figures of one run\n\nWritten by `make bench`; README.md in this folder explains how each figure is measured and how to read it.\n\n",
        );
        text.push_str(&surroundings(lab));
        text.push_str(
            "\n## Targets\n\n| work | against | target | reached | |\n|---|---|---|---|---|\n",
        );
        let mut remarks: Vec<(&str, Vec<&str>)> = Vec::new();
        for target in TARGETS {
            let (reached, verdict) = self.judge(target);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {reached} | {verdict} |",
                target.work,
                target.against,
                target.bound.text()
            );
            if verdict == MISSED {
                let note = target.note.unwrap_or("Not profiled yet.");
                match remarks.iter_mut().find(|(known, _)| *known == note) {
                    Some((_, works)) => works.push(target.work),
                    None => remarks.push((note, vec![target.work])),
                }
            }
        }
        if !remarks.is_empty() {
            text.push_str("\n### Missed targets: where the time goes, and what would help\n\n");
        }
        for (note, mut works) in remarks {
            works.dedup();
            let _ = writeln!(text, "- **{}.** {note}", works.join("; "));
        }
        text.push_str(&self.sections);
        text
    }

    fn judge(&self, target: &Target) -> (String, &'static str) {
        match (self.reached.get(target.id), target.state) {
            (Some(figure), _) if figure.is_finite() => {
                let verdict = if target.bound.holds(*figure) {
                    "met"
                } else {
                    MISSED
                };
                (target.bound.figure(*figure), verdict)
            }
            (Some(_), _) => ("no figure".to_owned(), ""),
            (None, State::Later(why)) => (format!("not yet measured: {why}"), ""),
            (None, State::Now) => (
                self.absent
                    .get(target.id)
                    .map_or("not in this run", String::as_str)
                    .to_owned(),
                "",
            ),
        }
    }
}

/// The mark of a target that was missed.
const MISSED: &str = "**missed**";

/// Machine, date and commit.
fn surroundings(lab: &Lab) -> String {
    let said = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .output()
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let changed = if said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
        ""
    } else {
        " with changes"
    };
    format!(
        "- Machine: {model}, {} cores of a shared virtual machine, {} GiB of memory, Linux {}\n- Load average at the end: {}\n- Date: {}\n- Commit: {}{changed}\n- Envoy: {}\n",
        lab.cores.count(),
        kib >> 20,
        said("uname", &["-r"]),
        load.split_ascii_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" "),
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        lab.envoy_version(),
    )
}

impl Bound {
    fn text(self) -> String {
        match self {
            Self::AtMost(limit, unit) => format!("≤ {}{unit}", short(limit)),
            Self::AtLeast(limit, unit) => format!("≥ {}{unit}", short(limit)),
        }
    }

    fn figure(self, figure: f64) -> String {
        let (Self::AtMost(_, unit) | Self::AtLeast(_, unit)) = self;
        format!("{}{unit}", short(figure))
    }

    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit, _) => figure <= limit,
            Self::AtLeast(limit, _) => figure >= limit,
        }
    }
}

/// Formats a figure with its significant digits.
fn short(figure: f64) -> String {
    if figure.abs() >= 100.0 {
        format!("{figure:.0}")
    } else if figure.abs() >= 10.0 {
        format!("{figure:.1}").trim_end_matches(".0").to_owned()
    } else {
        let text = format!("{figure:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        for (figure, expected) in [
            (1.254, "1.25"),
            (2.0, "2"),
            (0.5, "0.5"),
            (40.0, "40"),
            (135.4, "135"),
            (12.34, "12.3"),
        ] {
            assert_eq!(short(figure), expected);
        }
    }

    #[test]
    fn a_bound_holds_up_to_its_limit() {
        assert!(Bound::AtMost(1.25, "×").holds(1.25));
        assert!(!Bound::AtMost(1.25, "×").holds(1.26));
        assert!(!Bound::AtLeast(40.0, " GB/s").holds(39.0));
    }

    #[test]
    fn every_target_has_an_identity_of_its_own() {
        let ids: std::collections::BTreeSet<_> = TARGETS.iter().map(|target| target.id).collect();
        assert_eq!(ids.len(), TARGETS.len());
    }
}
