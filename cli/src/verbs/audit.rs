//! The `audit` verb: verifies and searches the log that the host writes. Logs of any size are read
//! line by line.

mod collected;
mod counts;
mod events;
mod late_outcomes;
pub mod log_argument;
mod query;
mod report;
pub mod request_id;
mod rows;
pub mod tail;
mod verify;

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use tensorgate_audit::files::{Paths, SEQ_DIGITS};
use tensorgate_audit::line::{Line, MAX_LINE_BYTES};
use tensorgate_audit::verify::{CopyForm, collected_line, files, next_line};
use tensorgate_base::rfc3339;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::{Failure, policy_file};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_load::load::audit_section;

use crate::duration;
use crate::stack::site::bundle;
use query::Query;
use verify::Verify;

/// Interval between looks at a log that is followed.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Verify or search an audit log.
#[derive(Args)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Verify(Verify),
    Query(Box<Query>),
}

impl Audit {
    /// Verifies or searches a log.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self.what {
            What::Verify(verify) => verify.run(ui),
            What::Query(query) => query.run(ui),
        }
    }
}

/// The audit log of a policy's gate, in the gate's state folder. Without a policy, it is the one
/// that the gate with a named folder was started with, or else the default policy.
pub fn log_of_policy(policy: Option<PathBuf>, state: &StateFolder) -> Result<PathBuf, Failure> {
    let folder = state.find_for(policy.as_deref())?;
    let of_gate = match policy {
        Some(_) => None,
        None => state.named().map(bundle).transpose()?.flatten(),
    };
    let path = match (of_gate, policy.or_else(policy_file::default)) {
        (Some(bundle), _) => bundle.policy.audit().path().to_owned(),
        (None, Some(policy)) => audit_section(&policy)?.path,
        (None, None) => raw::Audit::default().path,
    };
    let log = folder.join(path);
    let found = std::fs::metadata(&log).and_then(|found| {
        if found.is_file() {
            File::open(&log).map(|_| true)
        } else {
            Ok(false)
        }
    });
    readable(log, found)
}

/// The log, if a look at it has found a file. A log that cannot be read may exist.
fn readable(log: PathBuf, found: io::Result<bool>) -> Result<PathBuf, Failure> {
    let cannot = |error: &io::Error, fix: &str| {
        Failure::Input(format!("cannot read {}: {error}{fix}", log.display()))
    };
    match found {
        Ok(true) => Ok(log),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(cannot(&error, "; run this as the user that runs the gate"))
        }
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(cannot(&error, ""))
        }
        Ok(false) | Err(_) => Err(Failure::Input(format!(
            "there is no audit log at {}: name the gate's state folder with --state, or the log with --audit FILE (`audit verify FILE`)",
            log.display()
        ))),
    }
}

/// Calls `then` with every readable line of a log, or of collected lines, and its text, oldest
/// first.
pub(super) fn each_line(log: &Path, mut then: impl FnMut(Line, &str)) -> Result<(), Failure> {
    each_text_of(log, |text| {
        if let Ok(line) = serde_json::from_str(text) {
            then(line, text);
        }
    })
}

/// Calls `then` with every line of text of a log, or of collected lines, oldest first.
fn each_text_of(log: &Path, mut then: impl FnMut(&str)) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::Input(format!("{}: {error}", log.display()));
    if is_standard_input(log) {
        let mut input = io::stdin().lock();
        check_input(input.fill_buf().map_err(cannot)?)?;
        let of_log = |text: &str| {
            if let Some((_, text)) = collected_line(text) {
                then(text);
            }
        };
        return each_text(&mut input, of_log).map_err(cannot);
    }
    for file in files(&Paths::new(log)).map_err(cannot)? {
        let open = File::open(&file).map_err(cannot)?;
        let mut reader = BufReader::with_capacity(MAX_LINE_BYTES, open);
        check_form(&file, reader.fill_buf().map_err(cannot)?)?;
        each_text(&mut reader, &mut then).map_err(cannot)?;
    }
    Ok(())
}

/// Fails for a copy of a log without a readable line. No output would look like an empty log.
fn check_form(file: &Path, start: &[u8]) -> Result<(), Failure> {
    let form = CopyForm::of_start(start).filter(|form| form.is_unreadable());
    form.map_or(Ok(()), |form| {
        let (file, what, cure) = (file.display(), form.what(), form.cure());
        Err(Failure::Input(format!("{file} is {what}: {cure}")))
    })
}

/// As [`check_form`], for standard input. Lines of other programs may come before those of a log.
fn check_input(start: &[u8]) -> Result<(), Failure> {
    match CopyForm::of_start(start) {
        Some(CopyForm::OtherJson) => Ok(()),
        _ => check_form(Path::new("standard input"), start),
    }
}

/// Calls `then` with every line that is text.
fn each_text(reader: &mut impl BufRead, mut then: impl FnMut(&str)) -> io::Result<()> {
    let mut text = Vec::new();
    while next_line(reader, &mut text)?.is_some() {
        if let Ok(text) = std::str::from_utf8(&text) {
            then(text);
        }
    }
    Ok(())
}

/// The log that a file belongs to. A closed file's name is the log's name and a number.
pub(super) fn log_of(file: &Path) -> PathBuf {
    let closed = file
        .extension()
        .and_then(|it| it.to_str())
        .is_some_and(|it| it.len() == SEQ_DIGITS && it.bytes().all(|byte| byte.is_ascii_digit()));
    if closed {
        file.with_extension("")
    } else {
        file.to_owned()
    }
}

/// A time: RFC 3339, or a duration before now.
pub(super) fn instant(text: &str) -> Result<SystemTime, String> {
    rfc3339::parse(text).or_else(|| ago(text)).ok_or_else(|| {
        "expected a time such as 2026-11-20T08:00:00Z or 2026-11-20, or a duration before now such as 10m (s, m, h or d)".into()
    })
}

/// The time that is a duration before now.
fn ago(text: &str) -> Option<SystemTime> {
    SystemTime::now().checked_sub(duration::parse(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_is_not_called_missing() {
        let missing = "there is no audit log at /log";
        for (kind, expected) in [
            (ErrorKind::PermissionDenied, "run this as the user"),
            (ErrorKind::TimedOut, "cannot read /log"),
            (ErrorKind::NotFound, missing),
            (ErrorKind::NotADirectory, missing),
        ] {
            let failure = readable("/log".into(), Err(kind.into())).err();
            let text = failure.map(|it| it.to_string()).unwrap_or_default();
            assert!(text.contains(expected), "{kind}: {text}");
            assert_eq!(text.contains(missing), expected == missing, "{text}");
        }
        assert!(readable("/log".into(), Ok(true)).is_ok());
        assert!(readable("/log".into(), Ok(false)).is_err());
    }
}
