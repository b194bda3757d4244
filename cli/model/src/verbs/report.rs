//! The results of a scan as text for people and as JSON for scripts, and their totals.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tensorgate_artifact::scan::rules::remedy;
use tensorgate_artifact::scan::{Severity, Verdict};
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_values::FileException;

use crate::scan::ignored::Ignored;
use crate::scan::outcome::ScanOutcome;
use crate::text::{file_count, shown};

/// The JSON of one file. Scripts rely on its shape.
#[derive(Serialize)]
struct FileLine<'a> {
    path: String,
    format: &'a str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    findings: Vec<FindingLine<'a>>,
    /// Why the file is accepted although it is not safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    excepted: Option<&'a str>,
    /// The last day of an exception that accepts nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    exception_expired: Option<&'a str>,
    /// In the last line, the paths that the scan left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
    /// Those of them with the name of a format of models, up to a number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored_models: Vec<String>,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    offset: u64,
    rule: &'a str,
    detail: &'a str,
    severity: Severity,
    /// How to get a file without such findings.
    remedy: &'static str,
}

/// The result of a file as a line of JSON, with what the scan left out. Returns `false` if the
/// output is closed.
pub fn json_line(ui: &Ui, outcome: &ScanOutcome, ignored: &Ignored) -> bool {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let expired = outcome.expired_exception.as_ref();
    let findings = outcome.report.findings.iter().map(|finding| FindingLine {
        offset: finding.offset,
        rule: &finding.rule,
        detail: &finding.detail,
        severity: finding.severity,
        remedy: remedy(&finding.rule),
    });
    let line = FileLine {
        path: outcome.path.to_string_lossy().into_owned(),
        format: &outcome.report.format,
        verdict: outcome.report.verdict.name(),
        severity: outcome.report.severity,
        findings: findings.collect(),
        excepted: outcome.exception.as_ref().map(FileException::reason),
        exception_expired: expired.map(FileException::until),
        ignored: ignored.paths.iter().map(|it| text(&it.path)).collect(),
        ignored_models: ignored.models.iter().map(text).collect(),
    };
    print_json(ui, &line)
}

/// Prints a line of JSON. Returns `false` if the output is closed.
pub fn print_json(ui: &Ui, line: &impl Serialize) -> bool {
    serde_json::to_string(line).is_ok_and(|line| ui.try_line(&ascii(&line)))
}

/// A line of JSON in ASCII. JSON itself escapes only some of the characters that control a
/// terminal, and a name of a file can have all of them.
pub fn ascii(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars() {
        if matches!(c, ' '..='~') {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

/// What a scan left out, as a line of text.
pub fn ignored_text(ignored: &Ignored) -> String {
    let paths = ignored.paths.iter().map(|it| {
        let path = shown(&it.path);
        let git = if it.is_git { " (git's own)" } else { "" };
        format!("{path}{git}")
    });
    format!("ignored: {}", paths.collect::<Vec<_>>().join(", "))
}

/// Warnings about models that a scan left out.
pub fn ignored_models(ignored: &Ignored) -> Vec<String> {
    let warning = |path: &PathBuf| format!("{} is not scanned: do not load it", shown(path));
    let mut warnings: Vec<_> = ignored.models.iter().map(warning).collect();
    if ignored.more_models > 0 {
        let more = ignored.more_models;
        warnings.push(format!("{more} more such files are not scanned"));
    }
    warnings
}

/// The result of a file as text: a line, one for each finding, and how to get a safe file.
pub fn text(ui: &Ui, outcome: &ScanOutcome) -> String {
    let report = &outcome.report;
    let name = report.verdict.name();
    let verdict = match report.verdict {
        Verdict::Safe => ui.paint("32", name),
        Verdict::Unknown => ui.paint("1;33", name),
        Verdict::Malformed | Verdict::Executable => ui.paint("1;31", &name.to_uppercase()),
    };
    let path = shown(&outcome.path);
    let mut text = format!("{path}: {verdict} ({})", report.format);
    // Other verdicts have one severity each.
    if let (Verdict::Executable, Some(severity)) = (report.verdict, report.severity) {
        text.push_str(&format!(", {}", severity.name()));
    }
    for finding in &report.findings {
        text.push_str(&format!(
            "\n  at {}: {}: {}",
            finding.offset, finding.rule, finding.detail
        ));
    }
    // The worst finding comes first.
    if let Some(finding) = report.findings.first().filter(|_| !outcome.is_accepted()) {
        text.push_str(&format!("\n  fix: {}", remedy(&finding.rule)));
    }
    for (state, exception) in [
        ("excepted until", &outcome.exception),
        ("exception expired after", &outcome.expired_exception),
    ] {
        if let Some(exception) = exception {
            let (until, reason) = (exception.until(), printable(exception.reason()));
            text.push_str(&format!("\n  {state} {until}: {reason}"));
        }
    }
    text
}

/// How many files have which verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    by_verdict: BTreeMap<Verdict, usize>,
    /// Those of the executable files that are critical.
    critical: usize,
    excepted: usize,
    /// Files that are neither safe nor excepted.
    pub refused: usize,
}

impl Totals {
    /// Counts a file.
    pub fn add(&mut self, outcome: &ScanOutcome) {
        let verdict = outcome.report.verdict;
        let count = self.by_verdict.entry(verdict).or_default();
        *count = count.saturating_add(1);
        if outcome.report.severity == Some(Severity::Critical) {
            self.critical = self.critical.saturating_add(1);
        }
        if !outcome.is_accepted() {
            self.refused = self.refused.saturating_add(1);
        } else if verdict != Verdict::Safe {
            self.excepted = self.excepted.saturating_add(1);
        }
    }

    /// The number of files.
    pub fn files(&self) -> usize {
        self.by_verdict.values().sum()
    }

    /// The last line of the text.
    pub fn line(&self) -> String {
        let mut counts = Vec::new();
        for (verdict, count) in &self.by_verdict {
            let mut text = format!("{count} {}", verdict.name());
            if *verdict == Verdict::Executable && self.critical > 0 {
                text.push_str(&format!(" ({} critical)", self.critical));
            }
            counts.push(text);
        }
        if self.excepted > 0 {
            counts.push(format!("{} excepted", self.excepted));
        }
        format!("{}: {}", file_count(self.files()), counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_controls_no_terminal() {
        let escaped = ascii("{\"a\":\"x\u{9b}\u{7f}\u{202e}\u{1f600}\"}");
        assert_eq!(escaped, r#"{"a":"x\u009b\u007f\u202e\ud83d\ude00"}"#);
    }
}
