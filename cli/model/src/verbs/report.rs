//! The results of a scan as text for people and as JSON for scripts, and their totals.

use std::path::PathBuf;

use serde::Serialize;
use tensorgate_artifact::scan::rules::remedy;
use tensorgate_artifact::scan::{Severity, Verdict};
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_values::FileException;

use crate::scan::ignored::Ignored;
use crate::scan::outcome::ScanOutcome;

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
    serde_json::to_string(&line).is_ok_and(|line| ui.try_line(&ascii(&line)))
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
        let path = printable(&it.path.to_string_lossy());
        let git = if it.is_git { " (git's own)" } else { "" };
        format!("{path}{git}")
    });
    format!("ignored: {}", paths.collect::<Vec<_>>().join(", "))
}

/// Warnings about models that a scan left out.
pub fn ignored_models(ignored: &Ignored) -> Vec<String> {
    let warning = |path: &PathBuf| {
        let path = printable(&path.to_string_lossy());
        format!("{path} is not scanned: do not load it")
    };
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
    let verdict = match report.verdict {
        Verdict::Safe => ui.paint("32", Verdict::Safe.name()),
        Verdict::Unknown => ui.paint("1;33", Verdict::Unknown.name()),
        Verdict::Malformed => ui.paint("1;31", "MALFORMED"),
        Verdict::Executable => ui.paint("1;31", "EXECUTABLE"),
    };
    let path = printable(&outcome.path.to_string_lossy());
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    safe: u64,
    unknown: u64,
    malformed: u64,
    executable: u64,
    /// Those of the executable files that are critical.
    critical: u64,
    excepted: u64,
    /// Files that are neither safe nor excepted.
    pub refused: u64,
}

impl Totals {
    /// Counts a file.
    pub fn add(&mut self, outcome: &ScanOutcome) {
        let count = match outcome.report.verdict {
            Verdict::Safe => &mut self.safe,
            Verdict::Unknown => &mut self.unknown,
            Verdict::Malformed => &mut self.malformed,
            Verdict::Executable => &mut self.executable,
        };
        *count = count.saturating_add(1);
        if outcome.report.severity == Some(Severity::Critical) {
            self.critical = self.critical.saturating_add(1);
        }
        if !outcome.is_accepted() {
            self.refused = self.refused.saturating_add(1);
        } else if outcome.report.verdict != Verdict::Safe {
            self.excepted = self.excepted.saturating_add(1);
        }
    }

    /// The number of files.
    pub fn files(&self) -> u64 {
        let counts = [self.safe, self.unknown, self.malformed, self.executable];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    /// The last line of the text.
    pub fn line(&self) -> String {
        let files = self.files();
        let mut line = format!("{files} file{}: ", if files == 1 { "" } else { "s" });
        let counts = [
            (self.safe, Verdict::Safe.name()),
            (self.unknown, Verdict::Unknown.name()),
            (self.malformed, Verdict::Malformed.name()),
            (self.executable, Verdict::Executable.name()),
            (self.excepted, "excepted"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, name)| {
                let critical = self.critical;
                if name == Verdict::Executable.name() && critical > 0 {
                    format!("{count} {name} ({critical} critical)")
                } else {
                    format!("{count} {name}")
                }
            })
            .collect();
        line.push_str(&counts.join(", "));
        line
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
