//! Results as SARIF 2.1.0, the format of findings that code hosts read.
//!
//! Results are written as they come, so memory does not grow with them. The rules, which are known
//! at the end only, stand behind the results.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use tensorgate_artifact::scan::rules::remedy;
use tensorgate_artifact::scan::{Severity, Verdict};
use tensorgate_models::scan::messages::{FileFinding, FileReport};

use super::ignored::Ignored;
use super::outcome::ScanOutcome;

/// Rules that are described. A scanner process that was taken over could invent more.
const MAX_RULES: usize = 1_000;
/// The rule of a file that is not safe and has no finding.
const VERDICT_RULE: &str = "verdict";

/// A SARIF log that is being written.
pub struct Sarif {
    output: Box<dyn Write>,
    /// The worst severity of each rule.
    rules: BTreeMap<String, Severity>,
    is_first: bool,
}

impl Sarif {
    /// Begins a log.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn begin(mut output: Box<dyn Write>) -> io::Result<Self> {
        output.write_all(
            br#"{"$schema":"https://json.schemastore.org/sarif-2.1.0.json","version":"2.1.0","runs":[{"results":["#,
        )?;
        Ok(Self {
            output,
            rules: BTreeMap::new(),
            is_first: true,
        })
    }

    /// Adds the findings of a file.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn add(&mut self, outcome: &ScanOutcome) -> io::Result<()> {
        let FileReport {
            format,
            verdict,
            severity,
            findings,
            ..
        } = &outcome.report;
        if findings.is_empty() && *verdict != Verdict::Safe {
            let finding = FileFinding {
                offset: 0,
                rule: VERDICT_RULE.into(),
                detail: format!("{} ({format})", verdict.name()),
                verdict: *verdict,
                severity: severity.unwrap_or(Severity::Low),
            };
            return self.add_finding(outcome, &finding);
        }
        for finding in findings {
            self.add_finding(outcome, finding)?;
        }
        Ok(())
    }

    fn add_finding(&mut self, outcome: &ScanOutcome, finding: &FileFinding) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.output.write_all(b",")?;
        }
        if let Some(worst) = self.rules.get_mut(&finding.rule) {
            *worst = finding.severity.max(*worst);
        } else if self.rules.len() < MAX_RULES {
            self.rules.insert(finding.rule.clone(), finding.severity);
        }
        serde_json::to_writer(&mut self.output, &result(outcome, finding))?;
        Ok(())
    }

    /// Ends the log. What was left out is a notification.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn end(mut self, ignored: &Ignored) -> io::Result<()> {
        let rules = self.rules.iter().map(|(id, worst)| rule(id, *worst));
        let rules: Vec<_> = rules.collect();
        let driver = json!({
            "name": "tensorgate",
            "version": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        });
        self.output.write_all(br#"],"tool":{"driver":"#)?;
        serde_json::to_writer(&mut self.output, &driver)?;
        let paths = ignored.paths.iter().map(|it| note("note", &it.path));
        let models = ignored.models.iter().map(|it| note("warning", it));
        let invocation = json!({
            "executionSuccessful": true,
            "toolExecutionNotifications": paths.chain(models).collect::<Vec<_>>(),
        });
        self.output.write_all(br#"},"invocations":["#)?;
        serde_json::to_writer(&mut self.output, &invocation)?;
        self.output.write_all(b"]}]}\n")?;
        self.output.flush()
    }
}

/// A rule, with how to get a file without its findings. Code hosts order findings by the number.
fn rule(id: &str, worst: Severity) -> Value {
    let score = match worst {
        Severity::Low => "2.0",
        Severity::Medium => "5.5",
        Severity::High => "8.0",
        Severity::Critical => "9.5",
    };
    let help = json!({ "text": remedy(id) });
    json!({
        "id": id,
        "fullDescription": help,
        "help": help,
        "properties": { "tags": ["security"], "security-severity": score },
    })
}

/// That a path was not scanned.
fn note(level: &str, path: &Path) -> Value {
    json!({
        "level": level,
        "message": { "text": "ignored: not scanned" },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri(path) } },
        }],
    })
}

fn result(outcome: &ScanOutcome, finding: &FileFinding) -> Value {
    let level = match finding.verdict {
        Verdict::Executable | Verdict::Malformed => "error",
        Verdict::Unknown => "warning",
        Verdict::Safe => "note",
    };
    let accepted = outcome.exception.iter();
    let suppressions: Vec<_> = accepted
        .map(|it| json!({ "kind": "external", "justification": it.reason() }))
        .collect();
    // An offset beyond the largest number of the format is that of a hostile file.
    let offset = i64::try_from(finding.offset).unwrap_or(i64::MAX);
    json!({
        "ruleId": finding.rule,
        "level": level,
        "message": { "text": finding.detail },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&outcome.path) },
                "region": { "byteOffset": offset, "byteLength": 0 },
            },
        }],
        "properties": { "severity": finding.severity },
        "suppressions": suppressions,
    })
}

/// A path as a reference of RFC 3986: relative if it is.
fn uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_reference() {
        for (path, expected) in [
            ("models/a b.pt", "models/a%20b.pt"),
            ("/srv/ä.onnx", "file:///srv/%C3%A4.onnx"),
            ("c:d?e#f%", "c%3Ad%3Fe%23f%25"),
        ] {
            assert_eq!(uri(Path::new(path)), expected);
        }
    }
}
