//! The messages between the command and a scanner process. The command trusts none of them: a file
//! that broke its scanner writes what it wants.

use serde::{Deserialize, Serialize};
use tensorgate_artifact::scan::external_data::IndexKind;
use tensorgate_artifact::scan::finding::{MAX_DATA_FILES, MAX_DATA_FILES_BYTES, MAX_FINDINGS};
use tensorgate_artifact::scan::rules::{Rule, SCANNER_DIED, UNREADABLE};
use tensorgate_artifact::scan::{Report, Severity, Verdict};
use tensorgate_values::safe_text::printable;

/// The longest request, bytes: the name of a file, escaped, and the kinds of its indexes.
pub(crate) const MAX_REQUEST_BYTES: usize = 8 << 10;
/// The longest name of a file in a request, bytes. File systems allow 255, and each can become
/// three.
const MAX_NAME_BYTES: usize = 1 << 10;
/// Bytes of every finding with its longest detail, escaped.
const MAX_FINDINGS_BYTES: usize = 160 << 10;
/// The longest response, bytes: the findings, and the names of files with tensors.
pub const MAX_RESPONSE_BYTES: usize = MAX_FINDINGS_BYTES + MAX_DATA_FILES_BYTES;
/// The longest message that Linux takes for a socket with default settings, bytes.
const MAX_MESSAGE_BYTES: usize = 207 << 10;
const _: () = assert!(MAX_RESPONSE_BYTES <= MAX_MESSAGE_BYTES);
/// The longest name in a list of files with tensors, bytes.
const MAX_FILE_NAME_BYTES: usize = 255;
/// The longest name of a format or a rule, bytes.
const MAX_WORD_BYTES: usize = 64;
/// The longest detail of a finding, characters.
const MAX_DETAIL_CHARS: usize = 1_000;

/// The first message of a scanner process.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// What is missing from its OS sandbox.
    pub incomplete: Option<String>,
}

/// What a scanner process is asked, with the open file and those of its indexes behind it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRequest {
    /// The name of the file.
    pub name: String,
    /// What the other open files are.
    pub indexes: Vec<IndexKind>,
}

impl FileRequest {
    /// A request about a file of this name. Only the end of a long name matters.
    pub(super) fn new(name: &str, indexes: Vec<IndexKind>) -> Self {
        let cut = name.len().saturating_sub(MAX_NAME_BYTES);
        // A cut within a character is moved to the next one.
        let end = (cut..=name.len()).find_map(|at| name.get(at..));
        Self {
            name: end.unwrap_or_default().to_owned(),
            indexes,
        }
    }
}

/// What a supervisor is asked, with open files.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// To have the first file scanned.
    Scan {
        /// What the files are.
        file: FileRequest,
        /// The time for it, milliseconds.
        allowed_ms: u64,
    },
    /// To start another supervisor, whose socket the first file is.
    StartAnother,
}

/// The answer to one file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The file was scanned.
    Scanned(FileReport),
    /// The file could not be read.
    Unreadable(String),
    /// Another supervisor was started.
    Started,
    /// The operating system has not started another supervisor, for this cause.
    NotStarted(String),
}

/// What was found in one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileReport {
    /// The format.
    pub format: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The worst severity. `None` if the file is safe.
    pub severity: Option<Severity>,
    /// The evidence.
    pub findings: Vec<FileFinding>,
    /// Files in the same folder that hold its tensors. Each finding is about one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_files: Vec<String>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileFinding {
    /// Where it is, bytes.
    pub offset: u64,
    /// The rule.
    pub rule: String,
    /// What is there.
    pub detail: String,
    /// The verdict that it alone gives.
    pub verdict: Verdict,
    /// How bad it is.
    pub severity: Severity,
}

impl FileReport {
    /// A report on something that is not a file with a format, or that was not scanned.
    pub fn unscanned(rule: &Rule, detail: &str) -> Self {
        let mut report = Self {
            format: "unknown".into(),
            verdict: Verdict::Unknown,
            severity: None,
            findings: Vec::new(),
            data_files: Vec::new(),
        };
        report.add(Verdict::Unknown, rule, detail);
        report
    }

    /// Whether the scan failed, so that there is no verdict on the content.
    pub fn has_failed(&self) -> bool {
        let rules = [SCANNER_DIED.name, UNREADABLE.name];
        let mut findings = self.findings.iter();
        findings.any(|finding| rules.contains(&finding.rule.as_str()))
    }

    /// The first evidence that gives the verdict. `None` if it was not kept.
    pub fn decisive(&self) -> Option<&FileFinding> {
        let mut findings = self.findings.iter();
        findings.find(|finding| finding.verdict == self.verdict)
    }

    /// Adds evidence about the file as a whole.
    pub fn add(&mut self, verdict: Verdict, rule: &Rule, detail: &str) {
        self.add_at(0, verdict, rule, detail);
    }

    /// Adds evidence at an offset.
    pub(super) fn add_at(&mut self, offset: u64, verdict: Verdict, rule: &Rule, detail: &str) {
        let severity = verdict.least_severity();
        self.verdict = self.verdict.max(verdict);
        self.severity = self.severity.max(severity);
        self.findings.push(FileFinding {
            offset,
            rule: rule.name.into(),
            detail: excerpt(detail),
            verdict,
            severity: severity.unwrap_or(Severity::Low),
        });
    }

    /// The report of a scanner process, if it is one that a scanner writes. Severities are those
    /// that their verdicts can have.
    fn checked(mut self) -> Option<Self> {
        let are_words = is_word(&self.format) && self.findings.iter().all(|it| is_word(&it.rule));
        if !are_words || self.findings.len() > MAX_FINDINGS {
            return None;
        }
        let are_names = self.data_files.iter().all(|name| is_name_in_folder(name));
        if !are_names || self.data_files.len() > MAX_DATA_FILES {
            return None;
        }
        for finding in &mut self.findings {
            finding.detail = excerpt(&finding.detail);
            let severity = possible(finding.verdict, Some(finding.severity));
            finding.severity = severity.unwrap_or(Severity::Low);
            self.verdict = self.verdict.max(finding.verdict);
            self.severity = self.severity.max(severity);
        }
        self.severity = possible(self.verdict, self.severity);
        Some(self)
    }
}

impl From<Report> for FileReport {
    fn from(report: Report) -> Self {
        let severity = report.severity();
        let findings = report.findings.into_iter().map(|finding| FileFinding {
            offset: finding.offset,
            rule: finding.rule.name.into(),
            detail: finding.detail,
            verdict: finding.verdict,
            severity: finding.severity,
        });
        Self {
            format: report.format.into(),
            verdict: report.verdict,
            severity,
            findings: findings.collect(),
            data_files: report.data_files,
        }
    }
}

/// The report in a response. `None` if no scanner would have written it.
pub fn report(response: &[u8]) -> Option<FileReport> {
    match serde_json::from_slice(response).ok()? {
        Response::Scanned(report) => report.checked(),
        Response::Unreadable(cause) => Some(FileReport::unscanned(UNREADABLE, &cause)),
        Response::Started | Response::NotStarted(_) => None,
    }
}

/// The severity that something with this verdict can have: `severity`, or the least one.
fn possible(verdict: Verdict, severity: Option<Severity>) -> Option<Severity> {
    match (verdict, severity) {
        (Verdict::Executable, Some(Severity::Critical)) => severity,
        _ => verdict.least_severity(),
    }
}

/// Whether a text can be the name of a format or a rule.
fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.".contains(&byte);
    !text.is_empty() && text.len() <= MAX_WORD_BYTES && text.bytes().all(allowed)
}

/// Whether a text can only lead to a file in the same folder on this system. The scanner's own
/// rule is stricter, and a scanner that was taken over does not keep it.
fn is_name_in_folder(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.len() <= MAX_FILE_NAME_BYTES
        && !text.contains(['/', '\0'])
}

/// The start of a text of a file, for a terminal.
fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(MAX_DETAIL_CHARS).collect();
    printable(&start)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_artifact::scan::external_data::MAX_INDEXES;
    use tensorgate_artifact::scan::rules::PICKLE_GLOBAL;

    use super::*;

    #[test]
    fn the_longest_request_fits_its_bound() {
        let long = "\u{1}".repeat(2_000);
        let request = FileRequest::new(&long, vec![IndexKind::TensorBundle; MAX_INDEXES]);
        assert_eq!(request.name.len(), MAX_NAME_BYTES);
        let request = Request::Scan {
            file: request,
            allowed_ms: u64::MAX,
        };
        assert!(serde_json::to_vec(&request).unwrap().len() <= MAX_REQUEST_BYTES);
        let cut_within = format!("{}a", "é".repeat(512));
        assert_eq!(FileRequest::new(&cut_within, Vec::new()).name.len(), 1_023);
    }

    #[test]
    fn a_response_is_taken_only_if_a_scanner_writes_such() {
        let mut report = Report::new("pickle");
        report.add(Verdict::Executable, 7, PICKLE_GLOBAL, "os.system");
        let own = FileReport::from(report);
        let sent = serde_json::to_vec(&Response::Scanned(own.clone())).unwrap();
        assert_eq!(super::report(&sent), Some(own));
        // A scanner that was taken over gives any severity.
        let finding = r#"{"offset":1,"rule":"a-b","detail":"x\u001b","verdict":"malformed","severity":"critical"}"#;
        let scanned = |format: &str, verdict: &str, findings: &str| {
            format!(
                r#"{{"scanned":{{"format":"{format}","verdict":"{verdict}","severity":null,"findings":[{findings}]}}}}"#
            )
        };
        // The verdict of a finding counts, and no control character is left.
        let kept = super::report(scanned("zip", "safe", finding).as_bytes()).unwrap();
        assert_eq!(kept.verdict, Verdict::Malformed);
        assert_eq!(kept.severity, Some(Severity::Medium));
        assert_eq!(kept.findings.first().unwrap().severity, Severity::Medium);
        assert_eq!(kept.findings.first().unwrap().detail, "x\u{fffd}");
        for (verdict, sent, kept) in [
            ("executable", "low", Severity::High),
            ("executable", "critical", Severity::Critical),
            ("unknown", "critical", Severity::Low),
        ] {
            let finding = format!(
                r#"{{"offset":1,"rule":"a","detail":"","verdict":"{verdict}","severity":"{sent}"}}"#
            );
            let report = super::report(scanned("zip", "safe", &finding).as_bytes()).unwrap();
            assert_eq!(report.severity, Some(kept), "{finding}");
            assert_eq!(report.findings.first().unwrap().severity, kept, "{finding}");
        }
        let own = Response::Scanned(FileReport {
            data_files: vec!["a".into()],
            ..FileReport::unscanned(UNREADABLE, "b")
        });
        let own = serde_json::to_string(&own).unwrap();
        assert!(super::report(own.as_bytes()).is_some(), "{own}");
        for name in ["../a", "..", "", "a\\u0000"] {
            let other = own.replace("[\"a\"]", &format!("[\"{name}\"]"));
            assert_eq!(super::report(other.as_bytes()), None, "{other}");
        }
        let many = vec![finding; MAX_FINDINGS.saturating_add(1)].join(",");
        for nonsense in [
            scanned("zip", "fine", ""),
            scanned("", "safe", ""),
            scanned("a\\u001b[2J", "safe", ""),
            scanned("zip", "safe", &many),
            "{}".into(),
            String::new(),
        ] {
            assert_eq!(super::report(nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
