//! Creates the project for a ported handler.
//!
//! The project builds. Its only function reports that nothing is ported yet, and its only case
//! expects that. The original source is included as a text file and is not built.

use std::fmt::Write as _;

use super::{Becomes, Report};
use crate::project::{Language, World};
use crate::template;

/// Maximum number of findings in the header comment.
const MAX_FINDINGS: usize = 60;

/// File name of the original source.
const ORIGIN: &str = "ported-from.txt";

/// A valid project name derived from a file name.
pub fn name_of(file: &str) -> String {
    let stem = file.split('.').next().unwrap_or_default();
    let mut name = String::new();
    for c in stem.chars().map(|c| c.to_ascii_lowercase()).take(40) {
        let fits = c.is_ascii_lowercase() || (c.is_ascii_digit() && !name.is_empty());
        if fits {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        "ported".to_owned()
    } else {
        name.to_owned()
    }
}

/// Every file of a project.
pub fn files(
    report: &Report,
    text: &str,
    name: &str,
    language: Language,
    world: World,
) -> Vec<(String, String)> {
    let source = template::source_file(language);
    let mut files: Vec<(String, String)> = template::files(name, language, world)
        .into_iter()
        .filter(|(path, _)| !path.starts_with("cases/") && path != source)
        .map(|(path, text)| match path.as_str() {
            "handler.yaml" => {
                let lines = text.lines().map(|line| {
                    let kept = if line.starts_with("config:") {
                        "config: {}"
                    } else {
                        line
                    };
                    format!("{kept}\n")
                });
                (path, lines.collect())
            }
            _ => (path, text),
        })
        .collect();
    files.push((source.to_owned(), stub(report, language, world)));
    files.push(("cases/not-moved.json".to_owned(), CASE.to_owned()));
    files.push((ORIGIN.to_owned(), text.to_owned()));
    files
}

const CASE: &str = r#"{
  "input": {"tensors": [{"name": "input", "datatype": "FP32", "shape": [1], "data": [0]}]},
  "expect": {"refused": "reported", "says": "not moved"}
}
"#;

fn stub(report: &Report, language: Language, world: World) -> String {
    let position = match world {
        World::Preprocess => "Before the model",
        World::Postprocess => "After the model",
    };
    let mut head = format!(
        "{position}: what {} did in {}. The full source is in {ORIGIN}.\n\n",
        report.framework.name(),
        plain(&report.file),
    );
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.becomes != Becomes::Kept)
        .take(MAX_FINDINGS)
    {
        let note = if finding.note.is_empty() { "" } else { ": " };
        let _ = writeln!(
            head,
            "- `{}` (line {}) {}{note}{}",
            plain(&finding.name),
            finding.lines.first().copied().unwrap_or(0),
            finding.becomes.heading(),
            finding.note,
        );
    }
    let function = world.name();
    match language {
        Language::Python => {
            let (argument, imported) = match world {
                World::Preprocess => ("input: Payload", "Payload, "),
                World::Postprocess => ("outputs: list[Tensor]", ""),
            };
            format!(
                "\"\"\"{head}\"\"\"\n\nfrom tensorgate import Fault, {imported}Tensor\n\n\ndef {function}({argument}) -> list[Tensor]:\n    raise Fault(\"{function} is not moved yet: see the head of this file\")\n"
            )
        }
        Language::Js => format!(
            "{}\nimport {{ Fault }} from \"./tensorgate.js\";\n\nexport function {function}() {{\n  throw new Fault(\"{function} is not moved yet: see the head of this file\");\n}}\n",
            commented(&head, "//"),
        ),
        Language::Rust => {
            let (kind, argument) = match world {
                World::Preprocess => ("Preprocess", "_input: Payload"),
                World::Postprocess => ("Postprocess", "_outputs: Vec<Tensor>"),
            };
            let imported = if world == World::Preprocess {
                "Payload, "
            } else {
                ""
            };
            format!(
                "{}\nuse tensorgate_handler::{{Error, {imported}{kind}, Tensor, export_{function}}};\n\nstruct Handler;\n\nimpl {kind} for Handler {{\n    fn {function}({argument}) -> Result<Vec<Tensor>, Error> {{\n        Err(Error::fault(\n            \"{function} is not moved yet: see the head of this file\",\n        ))\n    }}\n}}\n\nexport_{function}!(Handler);\n",
                commented(&head, "//!"),
            )
        }
    }
}

fn commented(text: &str, sign: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{}", format!("{sign} {line}").trim_end());
        all
    })
}

/// An untrusted name, made safe for comments and strings of every language.
fn plain(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    name.chars()
        .take(200)
        .map(|c| if fits(c) { c } else { '?' })
        .collect()
}
