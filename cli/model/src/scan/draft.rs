//! A draft of exceptions for the files that a scan refuses. A person reviews it: each reason is
//! empty, and a list with an empty reason is refused as a whole.
//!
//! Findings of hostile files stand in comments alone, each in one line of ASCII. So do names, but
//! for the path of an entry, whose characters are escaped.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use tensorgate_artifact::scan::Severity;
use tensorgate_artifact::scan::rules::remedy;
use tensorgate_values::hex;

use super::exceptions::MAX_FILE_BYTES;
use super::outcome::ScanOutcome;

/// Days for which a drafted exception holds.
pub const DAYS: u64 = 90;
/// Room for an entry beside its comments and its path: a digest, a day and a few words, bytes.
const ENTRY_BYTES: u64 = 200;
/// The largest draft, bytes. There is room for the reasons in what is read.
const MAX_BYTES: u64 = MAX_FILE_BYTES / 2;

/// Why a file with a finding as in attacks is not drafted.
const CRITICAL: &str = "CRITICAL, as attacks are. Do not load it";
/// The beginning of a draft.
const HEADING: &str = "# A draft of exceptions, to review. An exception accepts a file that may run code.\n\
# Write a reason for each file that you know, and remove the others: the list is\n\
# refused as long as a reason is empty.\n";

/// The draft.
#[derive(Debug, Default)]
pub struct Draft {
    /// The last day of each exception, as `2027-01-31`.
    until: String,
    /// The comments of each entry, by the path, as YAML, and the digest of its file.
    entries: BTreeMap<(String, [u8; 32]), String>,
    /// Comments on files for which no exception is drafted.
    left_out: String,
    /// How many they are.
    left_out_files: usize,
    bytes: u64,
    /// Files for which there was no room.
    more: usize,
}

impl Draft {
    /// An empty draft.
    pub fn new(until: String) -> Self {
        Self {
            until,
            ..Self::default()
        }
    }

    /// Adds a file, unless it is accepted.
    pub fn add(&mut self, outcome: &ScanOutcome) {
        if outcome.is_accepted() {
            return;
        }
        let comments = comments(outcome);
        let path = outcome.location.to_str().map(quoted);
        let written = comments
            .len()
            .saturating_add(path.as_ref().map_or(0, String::len));
        let bytes = u64::try_from(written).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(bytes).saturating_add(ENTRY_BYTES);
        // Nothing is drafted after the first file without room, however short it is.
        if self.more > 0 || bytes > MAX_BYTES {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.bytes = bytes;
        match path.zip(outcome.sha256) {
            Some(_) if outcome.report.has_failed() => {
                self.leave_out(&comments, "it was not scanned");
            }
            Some(_) if outcome.report.severity == Some(Severity::Critical) => {
                self.leave_out(&comments, CRITICAL);
            }
            Some(file) => {
                self.entries.insert(file, comments);
            }
            None => self.leave_out(&comments, "no exception accepts it"),
        }
    }

    /// Adds comments on a file for which no exception is drafted.
    fn leave_out(&mut self, comments: &str, why: &str) {
        self.left_out.push_str(comments);
        self.left_out.push_str(&format!("# not drafted: {why}\n"));
        self.left_out_files = self.left_out_files.saturating_add(1);
    }

    /// Whether no file was refused.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.left_out_files == 0 && self.more == 0
    }

    /// What the draft has, for people.
    pub fn summary(&self) -> String {
        let entries = self.entries.len();
        let mut text = format!("exceptions to review: {entries}");
        if self.left_out_files > 0 {
            text.push_str(&format!(", in comments alone: {}", self.left_out_files));
        }
        if self.more > 0 {
            text.push_str(&format!(", without room: {}", self.more));
        }
        text
    }

    fn text(&self) -> String {
        let mut text = HEADING.to_owned();
        for ((path, sha256), comments) in &self.entries {
            let (sha256, until) = (hex(sha256), &self.until);
            text.push_str(&format!(
                "\n{comments}- sha256: \"{sha256}\"\n  path: {path}\n  reason: \"\"\n  until: {until}\n"
            ));
        }
        if self.entries.is_empty() {
            text.push_str("\n[]\n");
        }
        if self.left_out_files > 0 {
            text.push('\n');
            text.push_str(&self.left_out);
        }
        if self.more > 0 {
            text.push_str(&format!("\n# {} more files had no room\n", self.more));
        }
        text
    }

    /// Writes the draft into a new file.
    ///
    /// # Errors
    /// There is a file of this name, or it cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(file)?;
        file.write_all(self.text().as_bytes())
    }
}

/// What a reviewer needs to know of a file, as comments.
fn comments(outcome: &ScanOutcome) -> String {
    let report = &outcome.report;
    let path = line(&outcome.path.to_string_lossy());
    let severity = report.severity.map_or("", Severity::name);
    let mut text = format!("# {path}: {}, {severity}\n", report.verdict.name());
    if let Some(finding) = report.findings.first() {
        let (rule, detail) = (line(&finding.rule), line(&finding.detail));
        let fix = remedy(&finding.rule);
        text.push_str(&format!(
            "#   at {}: {rule}: {detail}\n#   fix: {fix}\n",
            finding.offset
        ));
    }
    text
}

/// A text as a part of one line, in ASCII. Readers of YAML know several characters that end a line.
fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' '..='~') {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
    }
    line
}

/// A text as a scalar of YAML in double quotes, in ASCII.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') {
            quoted.push(c);
        } else {
            quoted.push_str(&format!("\\U{:08X}", u32::from(c)));
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tensorgate_artifact::scan::Verdict;
    use tensorgate_artifact::scan::rules;
    use tensorgate_models::scan::messages::FileReport;

    use super::*;

    fn outcome(path: &str, report: FileReport, sha256: Option<u8>) -> ScanOutcome {
        ScanOutcome {
            path: PathBuf::from("models").join(path),
            location: PathBuf::from(path),
            report,
            sha256: sha256.map(|byte| [byte; 32]),
            exception: None,
            expired_exception: None,
        }
    }

    #[test]
    fn names_of_hostile_files_add_nothing_to_a_draft() {
        let mut draft = Draft::new("2027-01-31".to_owned());
        let report = FileReport::unscanned(rules::UNSCANNED, "a\n- sha256: b");
        let path = "a\"\r\n- sha256: \u{85}\u{2028}\u{2029}\u{1b}[2Jx";
        draft.add(&outcome(path, report.clone(), Some(0)));
        // The same content under another name is another file.
        draft.add(&outcome("copy", report, Some(0)));
        let text = draft.text();
        assert!(
            text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')),
            "{text:?}"
        );
        let entries: Vec<_> = (text.lines())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let sha256 = format!("- sha256: \"{}\"", "00".repeat(32));
        let expected = [
            sha256.as_str(),
            "  path: \"a\\U00000022\\U0000000D\\U0000000A- sha256: \\U00000085\\U00002028\\U00002029\\U0000001B[2Jx\"",
            "  reason: \"\"",
            "  until: 2027-01-31",
            sha256.as_str(),
            "  path: \"copy\"",
            "  reason: \"\"",
            "  until: 2027-01-31",
        ];
        assert_eq!(entries, expected, "{text}");
        assert!(text.contains("# models/copy: unknown, low\n"), "{text}");
    }

    #[test]
    fn attacks_and_files_without_a_digest_are_comments_alone() {
        let mut draft = Draft::new("2027-01-31".to_owned());
        assert!(draft.is_empty());
        let mut critical = FileReport::unscanned(rules::UNSCANNED, "x");
        critical.add(Verdict::Executable, rules::PICKLE_GLOBAL, "os.system");
        critical.severity = Some(Severity::Critical);
        draft.add(&outcome("a.pkl", critical, Some(0)));
        draft.add(&outcome(
            "link",
            FileReport::unscanned(rules::LINK, "x"),
            None,
        ));
        let unread = FileReport::unscanned(rules::UNREADABLE, "x");
        draft.add(&outcome("b", unread, Some(1)));
        let text = draft.text();
        assert_eq!(
            draft.summary(),
            "exceptions to review: 0, in comments alone: 3"
        );
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["[]"], "{text}");
        assert!(text.contains("# not drafted: CRITICAL"), "{text}");
    }
}
