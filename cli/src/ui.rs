//! Terminal output: colour, JSON, and faults with the source lines they refer to.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;
use tensorgate_policy::Severity;

use crate::load::Source;
use tensorgate_policy_text::Located;

/// Longest policy line in a snippet, characters.
const MAX_SNIPPET: usize = 160;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Output settings of one run.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Whether to print one JSON value per line on standard output, and no text for people.
    pub json: bool,
    color: bool,
}

#[derive(Serialize)]
struct FaultLine<'a> {
    file: String,
    line: usize,
    column: usize,
    severity: &'static str,
    path: &'a str,
    message: &'a str,
    fix: Option<&'a str>,
}

impl Ui {
    /// Determines the settings once.
    pub fn new(json: bool, color: Color) -> Self {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Self { json, color }
    }

    /// Text in an ANSI style (for example `1;31`), or plain where colours are off.
    pub fn paint(&self, style: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Prints one line on standard output. A closed pipe is not an error of the command.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Prints one line on standard output. Returns `false` if the output is closed, so that a verb
    /// without an end of its own can stop.
    pub fn try_line(&self, text: &str) -> bool {
        writeln!(std::io::stdout().lock(), "{text}").is_ok()
    }

    /// Prints one JSON value as a line.
    pub fn json_line(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.line(&text);
        }
    }

    /// Prints one line on standard error.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints faults: as JSON on standard output, or as text on standard error.
    pub fn faults<'a>(&self, source: &Source, faults: impl IntoIterator<Item = &'a Located>) {
        for fault in faults {
            if self.json {
                self.json_line(&FaultLine {
                    file: source.file.display().to_string(),
                    line: fault.span.line,
                    column: fault.span.column,
                    severity: severity(fault.severity),
                    path: &fault.path,
                    message: &fault.message,
                    fix: fault.fix.as_deref(),
                });
            } else {
                self.note(&self.snippet(&source.file, &source.text, fault));
            }
        }
    }

    /// A fault with its source line and a marker below it.
    fn snippet(&self, file: &Path, text: &str, fault: &Located) -> String {
        let style = if fault.severity == Severity::Error {
            "1;31"
        } else {
            "1;33"
        };
        let number = fault.span.line.to_string();
        let margin = " ".repeat(number.len());
        let line = text
            .lines()
            .nth(fault.span.line.saturating_sub(1))
            .unwrap_or_default();
        let shown: String = line
            .chars()
            .take(MAX_SNIPPET)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = fault.span.column.saturating_sub(1).min(MAX_SNIPPET);
        let room = shown.chars().count().saturating_sub(before).max(1);
        let marks = "^".repeat(fault.span.length.clamp(1, room));
        let mut out = format!(
            "{}: {}\n",
            self.paint(style, severity(fault.severity)),
            printable(&fault.message)
        );
        let position = format!(
            "{}:{}:{}",
            file.display(),
            fault.span.line,
            fault.span.column
        );
        out.push_str(&format!("{margin}--> {position}"));
        if !fault.path.is_empty() {
            out.push_str(&format!(" ({})", printable(&fault.path)));
        }
        out.push_str(&format!(
            "\n{margin} |\n{number} | {shown}\n{margin} | {}{}",
            " ".repeat(before),
            self.paint(style, &marks)
        ));
        if let Some(fix) = &fault.fix {
            out.push_str(&format!(
                "\n{margin} = {}: {}",
                self.paint("1;32", "fix"),
                printable(fix)
            ));
        }
        out
    }
}

/// Warnings of a policy that were printed before, so that a reload prints only new ones.
#[derive(Debug, Default)]
pub struct PrintedWarnings(BTreeSet<(String, String)>);

impl PrintedWarnings {
    /// The faults to print: all errors, and new warnings. A warning that a policy without errors
    /// does not have is forgotten. With errors, not every warning may be known.
    pub fn fresh<'a>(&mut self, faults: &'a [Located]) -> Vec<&'a Located> {
        let key = |fault: &Located| (fault.path.clone(), fault.message.clone());
        let is_warning = |fault: &&Located| fault.severity == Severity::Warning;
        let fresh = faults
            .iter()
            .filter(|fault| !is_warning(fault) || !self.0.contains(&key(fault)))
            .collect();
        if faults.iter().all(|fault| is_warning(&fault)) {
            self.0.clear();
        }
        self.0.extend(faults.iter().filter(is_warning).map(key));
        fresh
    }
}

/// Text with control characters replaced, so that a file cannot send escape sequences to a
/// terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// The same for text with several lines.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorgate_policy_text::Span;

    fn fault(severity: Severity, line: usize, message: &str) -> Located {
        Located {
            severity,
            span: Span {
                line,
                ..Span::default()
            },
            path: "grants[0]".into(),
            message: message.into(),
            fix: None,
        }
    }

    #[test]
    fn a_warning_is_printed_again_only_after_it_was_gone() {
        let warning = |line, message| fault(Severity::Warning, line, message);
        let error = || fault(Severity::Error, 1, "broken");
        let mut printed = PrintedWarnings::default();
        let mut check = |faults: &[Located], expected: &[&str]| {
            let fresh = printed.fresh(faults);
            let fresh: Vec<&str> = fresh.iter().map(|fault| fault.message.as_str()).collect();
            assert_eq!(fresh, expected, "{faults:?}");
        };
        check(&[warning(3, "no rate")], &["no rate"]);
        // Another line does not make it new.
        check(&[warning(4, "no rate")], &[]);
        check(&[warning(4, "no rate"), warning(5, "wide")], &["wide"]);
        check(&[error(), warning(4, "no rate")], &["broken"]);
        check(&[error(), warning(9, "new")], &["broken", "new"]);
        check(&[warning(4, "no rate"), warning(9, "new")], &[]);
        check(&[], &[]);
        check(&[warning(4, "no rate")], &["no rate"]);
    }
}
