//! Terminal output: colour, JSON, and faults with the source lines they refer to.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tensorgate_policy_text::Located;
use tensorgate_values::Severity;
use tensorgate_values::safe_text::is_hidden;
pub use tensorgate_values::safe_text::{printable, printable_lines};

use crate::failure::Failure;
use crate::load_error::{LoadError, Source};

/// Longest policy line in a snippet, characters.
const MAX_SNIPPET: usize = 160;
/// Shortest API key, characters. A shorter text is no secret.
const MIN_KEY_CHARS: usize = 20;
/// Characters of an API key that a snippet shows.
const SHOWN_KEY_CHARS: usize = 4;
/// Hex digits of a digest.
const DIGEST_CHARS: usize = 64;

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

/// The options of every verb.
#[derive(Args, Clone, Copy, Debug)]
pub struct Output {
    /// Print JSON on standard output, one value per line.
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub color: Color,
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
    pub fn new(output: Output) -> Self {
        let color = match output.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        let json = output.json;
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

    /// The exit code of a run, after its failure has been printed.
    pub fn exit_code(&self, outcome: Result<(), Failure>) -> ExitCode {
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => self.failure(&failure),
        }
    }

    /// Prints a failure; returns the exit code that it has.
    pub fn failure(&self, failure: &Failure) -> ExitCode {
        let code = match failure {
            Failure::No | Failure::Failed(_) => 1,
            Failure::Input(_) | Failure::Load(_) => 2,
        };
        match failure {
            Failure::No => {}
            Failure::Load(LoadError::Faults(source, faults)) => {
                self.faults(source, faults);
                if !self.json {
                    let error = self.paint("1;31", "error");
                    self.note(&format!("{error}: {}", totals(&source.file, faults)));
                }
            }
            Failure::Failed(_) | Failure::Input(_) | Failure::Load(_) => {
                let error = self.paint("1;31", "error");
                self.note(&format!(
                    "{error}: {}",
                    printable_lines(&failure.to_string())
                ));
            }
        }
        ExitCode::from(code)
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
        let shown: String = without_keys(line, fault.path.starts_with("revoked.keys"))
            .chars()
            .take(MAX_SNIPPET)
            .map(|c| if is_hidden(c) { ' ' } else { c })
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
            printable(&file.display().to_string()),
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

/// A policy line in which API keys are hidden: tensorgate's own anywhere, and any where a digest
/// belongs, which is everywhere if `only_digests`. Output of a command may end up in a public log.
fn without_keys(line: &str, only_digests: bool) -> String {
    let is_break =
        |c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}' | '[' | ']' | '"' | '\'');
    let mut shown = String::with_capacity(line.len());
    let mut needs_digest = only_digests;
    for part in line.split_inclusive(is_break) {
        let word = part.trim_end_matches(is_break);
        let chars = word.chars().count();
        let is_digest = chars == DIGEST_CHARS && word.bytes().all(|it| it.is_ascii_hexdigit());
        let is_key = word.starts_with("tg_") || (needs_digest && !is_digest);
        if is_key && chars >= MIN_KEY_CHARS {
            let hidden = chars.saturating_sub(SHOWN_KEY_CHARS);
            shown.extend(word.chars().take(SHOWN_KEY_CHARS));
            // As long as the key, so that the marks below the line stay in place.
            shown.extend(std::iter::repeat_n('*', hidden));
        } else {
            shown.push_str(word);
        }
        shown.push_str(part.get(word.len()..).unwrap_or_default());
        if !matches!(word, "" | ":") {
            needs_digest = only_digests || word.trim_end_matches(':') == "sha256";
        }
    }
    shown
}

/// How many faults and warnings a policy has. It is the last line of their list.
fn totals(file: &Path, faults: &[Located]) -> String {
    let counted = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let is_error = |fault: &&Located| fault.severity == Severity::Error;
    let errors = faults.iter().filter(is_error).count();
    let warnings = match faults.len().saturating_sub(errors) {
        0 => String::new(),
        count => format!(", {}", counted(count, "warning")),
    };
    let file = printable(&file.display().to_string());
    format!("{file} has {}{warnings}", counted(errors, "fault"))
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_policy_text::Span;

    use super::*;

    #[test]
    fn a_snippet_hides_a_key_where_a_digest_belongs() {
        let ui = Ui {
            json: false,
            color: false,
        };
        let (own, foreign) = ("tg_W7MhZk2xQ4pL9sVbN3cD", "sk-live:4f9aK2mQx7Lw0Zr8");
        let digest = "a".repeat(DIGEST_CHARS);
        for (path, line, shown) in [
            ("", format!("- {{sha256: {own}, x: 1}}"), "{sha256: tg_W***"),
            ("", format!("{own}: 1"), "tg_W***"),
            ("", format!("sha256: '{foreign}'"), "sha256: 'sk-l***"),
            ("", format!("{{\"sha256\":\"{foreign}\"}}"), ":\"sk-l***"),
            ("revoked.keys[0]", format!("- {foreign}"), "- sk-l***"),
            ("", format!("sha256: {digest}"), digest.as_str()),
            ("", "sha256: tg_short".to_owned(), "tg_short"),
            ("", format!("name: {foreign}"), foreign),
        ] {
            let fault = Located {
                severity: Severity::Error,
                span: Span::default(),
                path: path.into(),
                message: String::new(),
                fix: None,
            };
            let snippet = ui.snippet(Path::new("gate.yaml"), &line, &fault);
            assert!(snippet.contains(shown), "{line}: {snippet}");
        }
        let line = format!("sha256: {own}");
        let hidden = without_keys(&line, false);
        assert_eq!(hidden.chars().count(), line.chars().count());
    }

    #[test]
    fn a_snippet_cannot_control_a_terminal() {
        let ui = Ui {
            json: false,
            color: false,
        };
        let fault = Located {
            severity: Severity::Error,
            span: Span::default(),
            path: "a\u{1b}".into(),
            message: "b\u{2028}".into(),
            fix: Some("c\u{200b}".into()),
        };
        let file = Path::new("gate\u{1b}[2J.yaml");
        let snippet = ui.snippet(file, "x: \u{202e}y\u{e0041}", &fault);
        assert!(
            !snippet.replace('\n', "").contains(is_hidden),
            "{snippet:?}"
        );
    }

    #[test]
    fn a_list_of_faults_ends_with_their_number() {
        for (errors, warnings, expected) in [
            (1, 0, "gate.yaml has 1 fault"),
            (3, 0, "gate.yaml has 3 faults"),
            (2, 1, "gate.yaml has 2 faults, 1 warning"),
            (1, 2, "gate.yaml has 1 fault, 2 warnings"),
        ] {
            let severities = [(Severity::Error, errors), (Severity::Warning, warnings)];
            let faults = severities.map(|(severity, count)| {
                let fault = Located {
                    severity,
                    span: Span::default(),
                    path: String::new(),
                    message: String::new(),
                    fix: None,
                };
                vec![fault; count]
            });
            assert_eq!(totals(Path::new("gate.yaml"), &faults.concat()), expected);
        }
    }
}
