//! Verdicts, and the evidence for them.

use serde::{Deserialize, Serialize};
use tensorgate_values::safe_text::push_escaped;

use super::rules::Rule;
use super::severity::Severity;

/// The most findings of a report. Further ones change the verdict, but are not kept.
pub const MAX_FINDINGS: usize = 64;
/// The most files beside one file that hold its tensors.
pub const MAX_DATA_FILES: usize = 1_300;
/// Bytes of all their names as a list of JSON.
pub const MAX_DATA_FILES_BYTES: usize = 40 << 10;
/// The longest detail of a finding, bytes.
const MAX_DETAIL_BYTES: usize = 400;

/// What a file is. The order is that of severity: the verdict of a container is the greatest of its
/// parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every byte is data of a known format.
    Safe,
    /// The format, or a part of it, is not one that this scanner follows.
    Unknown,
    /// The bytes break the rules of their format, so that two readers may understand them
    /// differently.
    Malformed,
    /// Loading the file can run code, or read what is not in it.
    Executable,
}

impl Verdict {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Executable => "executable",
        }
    }

    /// The least severity of a file with this verdict. A safe one has none.
    pub const fn least_severity(self) -> Option<Severity> {
        match self {
            Self::Safe => None,
            Self::Unknown => Some(Severity::Low),
            Self::Malformed => Some(Severity::Medium),
            Self::Executable => Some(Severity::High),
        }
    }
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it is, in bytes from the beginning of the file, or of the member that `detail` names.
    pub offset: u64,
    /// The rule that it breaks.
    pub rule: &'static Rule,
    /// What is there, and why it matters.
    pub detail: String,
    /// The verdict that it alone gives.
    #[serde(skip)]
    pub verdict: Verdict,
    /// How bad it is, for the order of findings.
    pub severity: Severity,
}

/// The result for one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The format, as `pickle` or `torch zip`; `unknown` if it has no name here.
    pub format: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// The evidence, in the order in which it was found, up to [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// The names of files in the same folder that hold tensors of this one. They are listed only if
    /// each finding is about one of them, up to [`MAX_DATA_FILES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_files: Vec<String>,
    severity: Option<Severity>,
}

impl Report {
    /// A report without findings.
    pub const fn new(format: &'static str) -> Self {
        Self {
            format,
            verdict: Verdict::Safe,
            findings: Vec::new(),
            data_files: Vec::new(),
            severity: None,
        }
    }

    /// The worst severity of all findings, those that were not kept included. `None` if the file is
    /// safe.
    pub const fn severity(&self) -> Option<Severity> {
        self.severity
    }

    /// Adds evidence. Control characters of a hostile file are escaped, and long texts cut. What is
    /// executable has the severity of its rule.
    pub fn add(&mut self, verdict: Verdict, offset: u64, rule: &'static Rule, detail: &str) {
        let severity = match verdict {
            Verdict::Executable => Some(rule.severity),
            verdict => verdict.least_severity(),
        };
        self.add_with(verdict, severity, offset, rule, detail);
    }

    /// Adds evidence that the file is executable, with another severity than that of its rule. No
    /// severity makes it anything else.
    pub fn add_executable(
        &mut self,
        severity: Severity,
        offset: u64,
        rule: &'static Rule,
        detail: &str,
    ) {
        let severity = severity.max(Severity::High);
        self.add_with(Verdict::Executable, Some(severity), offset, rule, detail);
    }

    fn add_with(
        &mut self,
        verdict: Verdict,
        severity: Option<Severity>,
        offset: u64,
        rule: &'static Rule,
        detail: &str,
    ) {
        self.verdict = self.verdict.max(verdict);
        self.severity = self.severity.max(severity);
        self.data_files.clear();
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding {
                offset,
                rule,
                detail: bounded_ascii(detail),
                verdict,
                severity: severity.unwrap_or(Severity::Low),
            });
        }
    }

    /// Adds the findings of a part. `member` names the part in each detail.
    pub fn add_part(&mut self, member: &str, part: Self) {
        self.verdict = self.verdict.max(part.verdict);
        self.severity = self.severity.max(part.severity);
        for finding in part.findings {
            let detail = format!("in {member}: {}", finding.detail);
            let severity = finding.verdict.least_severity().map(|_| finding.severity);
            self.add_with(
                finding.verdict,
                severity,
                finding.offset,
                finding.rule,
                &detail,
            );
        }
    }

    /// Whether no later evidence can change the verdict.
    pub fn is_final(&self) -> bool {
        self.verdict == Verdict::Executable && self.findings.len() >= MAX_FINDINGS
    }
}

/// A text of a file for a terminal, cut at a character. Letters beyond ASCII are escaped, too,
/// because some look like those of a known name.
fn bounded_ascii(text: &str) -> String {
    let mut bounded = String::new();
    for c in text.chars() {
        if bounded.len() >= MAX_DETAIL_BYTES {
            bounded.push('…');
            break;
        }
        if c.is_ascii() {
            push_escaped(&mut bounded, c);
        } else {
            bounded.extend(c.escape_default());
        }
    }
    bounded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::scan::rules;

    #[test]
    fn the_worst_part_decides_and_evidence_is_bounded() {
        let mut report = Report::new("zip");
        assert_eq!(report.verdict, Verdict::Safe);
        let mut part = Report::new("pickle");
        part.add(Verdict::Executable, 3, rules::PICKLE_GLOBAL, "os.system");
        report.add_part("archive/data.pkl", part);
        report.add(Verdict::Unknown, 9, rules::ZIP_CONTENT, "what is this");
        assert_eq!(report.verdict, Verdict::Executable);
        assert_eq!(report.findings[0].detail, "in archive/data.pkl: os.system");
        for _ in 0..2 * MAX_FINDINGS {
            report.add(Verdict::Malformed, 0, rules::UNSCANNED, "y");
        }
        assert_eq!(report.findings.len(), MAX_FINDINGS);
        assert!(report.is_final());
    }

    #[test]
    fn the_worst_severity_is_kept_also_of_parts_and_of_findings_that_are_not_kept() {
        let severities = |report: &Report| -> Vec<Severity> {
            report
                .findings
                .iter()
                .map(|finding| finding.severity)
                .collect()
        };
        let mut part = Report::new("pickle");
        assert_eq!(part.severity(), None);
        part.add(Verdict::Unknown, 0, rules::PICKLE_LIMIT, "x");
        part.add(Verdict::Malformed, 0, rules::PICKLE_MEMO, "x");
        part.add(Verdict::Executable, 0, rules::PICKLE_GLOBAL, "sklearn");
        part.add_executable(Severity::Critical, 0, rules::PICKLE_GLOBAL, "os.system");
        // No severity weakens a verdict.
        part.add_executable(Severity::Low, 0, rules::PICKLE_GLOBAL, "x");
        let expected = [
            Severity::Low,
            Severity::Medium,
            Severity::High,
            Severity::Critical,
            Severity::High,
        ];
        assert_eq!(severities(&part), expected);
        assert_eq!(part.verdict, Verdict::Executable);
        let mut full = Report::new("zip");
        for _ in 0..MAX_FINDINGS {
            full.add(Verdict::Unknown, 0, rules::ZIP_CONTENT, "x");
        }
        assert_eq!(full.severity(), Some(Severity::Low));
        full.add_part("a.pkl", part.clone());
        assert_eq!(full.severity(), Some(Severity::Critical));
        let mut outer = Report::new("zip");
        outer.add_part("a.pkl", part);
        assert_eq!(severities(&outer), expected);
    }

    #[test]
    fn a_detail_cannot_steer_a_terminal() {
        let mut report = Report::new("x");
        report.add(
            Verdict::Unknown,
            0,
            rules::UNSCANNED,
            "\u{1b}[2J\u{202e}\"a\"\n",
        );
        assert_eq!(report.findings[0].detail, "\\u{1b}[2J\\u{202e}\"a\"\\n");
        report.add(Verdict::Unknown, 0, rules::UNSCANNED, &"a".repeat(1_000));
        assert!(report.findings[1].detail.len() < 410);
    }
}
