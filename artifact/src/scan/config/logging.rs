//! Configurations of Python's loggers. `logging.config` imports the classes that they name, calls
//! them, and evaluates arguments as Python.

use std::io;

use super::super::magic::read_at;
use super::super::{Input, Limits, Report, Verdict};
use crate::scan::rules;

/// Classes without an effect but text on a stream.
pub(super) const CLASSES: &[&str] = &[
    "logging.Formatter",
    "logging.NullHandler",
    "logging.StreamHandler",
];
/// Streams that a handler may have. Any other name with the scheme `ext` is imported.
pub(super) const STREAMS: &[&str] = &["ext://sys.stderr", "ext://sys.stdout"];
/// Keys above the classes.
pub(super) const SECTIONS: [&str; 3] = ["filters", "formatters", "handlers"];

/// Scans a configuration in sections, such as `logging.conf`. Its readers are not known, and one of
/// them is `logging.config`.
pub(in crate::scan) fn scan_sections(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("text");
    let most = u64::try_from(limits.header_bytes).unwrap_or(u64::MAX);
    let bytes = read_at(input, 0, most)?;
    // The caller has checked that it is UTF-8.
    let text = String::from_utf8_lossy(&bytes);
    let is_section = |line: &str| {
        let line = line.trim_start_matches('\u{feff}').trim();
        line.starts_with('[')
            && ["loggers]", "handlers]", "formatters]"]
                .iter()
                .any(|name| line.contains(name))
    };
    if text.split(['\n', '\r']).any(is_section) {
        let detail = "logging.config builds its classes and evaluates their arguments";
        report.add(Verdict::Executable, 0, rules::LOGGING_CONFIG, detail);
    } else {
        let detail = "a configuration in sections, whose reader is not known";
        report.add(Verdict::Unknown, 0, rules::UNSCANNED, detail);
    }
    Ok(report)
}
