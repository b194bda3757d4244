//! What a ported handler begins as: a project that builds, with one function that says what is not moved yet, and a case that expects it to.
//! The text that it comes from lies beside it and is a part of nothing.

use std::fmt::Write as _;

use super::{Becomes, Report};
use crate::handler::project::{Language, World};
use crate::handler::template;

/// Lines of the report in a source's head.
const MAX_TOLD: usize = 60;

/// What the text that it comes from is called.
const ORIGIN: &str = "ported-from.txt";

/// A name for the projects: the file's, as far as a name may have it.
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

/// Every file of one project.
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
    let place = match world {
        World::Preprocess => "Before the model",
        World::Postprocess => "After the model",
    };
    let mut head = format!(
        "{place}: what {} did in {}. The whole of that lies in {ORIGIN}.\n\n",
        report.framework.name(),
        plain(&report.file),
    );
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.becomes != Becomes::Kept)
        .take(MAX_TOLD)
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
            let (argument, given) = match world {
                World::Preprocess => ("input: Payload", "Payload, "),
                World::Postprocess => ("outputs: list[Tensor]", ""),
            };
            format!(
                "\"\"\"{head}\"\"\"\n\nfrom tensorgate import Fault, {given}Tensor\n\n\ndef {function}({argument}) -> list[Tensor]:\n    raise Fault(\"{function} is not moved yet: see the head of this file\")\n"
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
            let given = if world == World::Preprocess {
                "Payload, "
            } else {
                ""
            };
            format!(
                "{}\nuse tensorgate_handler::{{Error, {given}{kind}, Tensor, export_{function}}};\n\nstruct Handler;\n\nimpl {kind} for Handler {{\n    fn {function}({argument}) -> Result<Vec<Tensor>, Error> {{\n        Err(Error::fault(\n            \"{function} is not moved yet: see the head of this file\",\n        ))\n    }}\n}}\n\nexport_{function}!(Handler);\n",
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

/// A name of a stranger's, as it may stand in a comment or a text of any language.
fn plain(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    name.chars()
        .take(200)
        .map(|c| if fits(c) { c } else { '?' })
        .collect()
}
