//! Verdicts, and the evidence for them.

use serde::Serialize;
use tensorgate_policy::values::safe_text::push_escaped;

/// The most findings of a report. Further ones change the verdict, but are not kept.
pub const MAX_FINDINGS: usize = 64;
/// The longest detail of a finding, bytes.
const MAX_DETAIL_BYTES: usize = 400;

/// What a file is. The order is that of severity: the verdict of a container is the greatest of its
/// parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it is, in bytes from the beginning of the file, or of the member that `detail` names.
    pub offset: u64,
    /// The rule, for scripts: `pickle-global`, `zip-duplicate-name`.
    pub rule: &'static str,
    /// What is there, and why it matters.
    pub detail: String,
    /// The verdict that it alone gives.
    #[serde(skip)]
    pub verdict: Verdict,
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
}

impl Report {
    /// A report without findings.
    pub const fn new(format: &'static str) -> Self {
        Self {
            format,
            verdict: Verdict::Safe,
            findings: Vec::new(),
        }
    }

    /// Adds evidence. Control characters of a hostile file are escaped, and long texts cut.
    pub fn add(&mut self, verdict: Verdict, offset: u64, rule: &'static str, detail: &str) {
        self.verdict = self.verdict.max(verdict);
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding {
                offset,
                rule,
                detail: bounded_ascii(detail),
                verdict,
            });
        }
    }

    /// Adds the findings of a part. `member` names the part in each detail.
    pub fn add_part(&mut self, member: &str, part: Self) {
        self.verdict = self.verdict.max(part.verdict);
        for finding in part.findings {
            let detail = format!("in {member}: {}", finding.detail);
            self.add(finding.verdict, finding.offset, finding.rule, &detail);
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

    #[test]
    fn the_worst_part_decides_and_evidence_is_bounded() {
        let mut report = Report::new("zip");
        assert_eq!(report.verdict, Verdict::Safe);
        let mut part = Report::new("pickle");
        part.add(Verdict::Executable, 3, "pickle-global", "os.system");
        report.add_part("archive/data.pkl", part);
        report.add(Verdict::Unknown, 9, "zip-member", "what is this");
        assert_eq!(report.verdict, Verdict::Executable);
        assert_eq!(report.findings[0].detail, "in archive/data.pkl: os.system");
        for _ in 0..2 * MAX_FINDINGS {
            report.add(Verdict::Malformed, 0, "x", "y");
        }
        assert_eq!(report.findings.len(), MAX_FINDINGS);
        assert!(report.is_final());
    }

    #[test]
    fn a_detail_cannot_steer_a_terminal() {
        let mut report = Report::new("x");
        report.add(Verdict::Unknown, 0, "x", "\u{1b}[2J\u{202e}\"a\"\n");
        assert_eq!(report.findings[0].detail, "\\u{1b}[2J\\u{202e}\"a\"\\n");
        report.add(Verdict::Unknown, 0, "x", &"a".repeat(1_000));
        assert!(report.findings[1].detail.len() < 410);
    }
}
