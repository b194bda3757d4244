//! The `handler port` verb: reports how a Python handler can be ported, and creates initial
//! projects.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable_lines};

use crate::port::{Becomes, Finding, Framework, Report, Source, files, name_of, report};
use crate::project::{Language, World, fit_name};
use crate::{template, tools};

/// Analyse a TorchServe, KServe or Triton handler in Python: what can be ported as it is, what has
/// a replacement, and what cannot be ported.
#[derive(Args)]
#[command(
    after_help = "The file is never run, imported or unpickled. With --into, projects for preprocess and postprocess are created in that folder; they build immediately, and fail every call until their function is written.\n\nExample: tensorgate handler port handler.py --into ported"
)]
pub struct Port {
    /// Python handler, or model archive (.mar) that contains one.
    file: PathBuf,
    /// Create projects in this folder.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Programming language of the projects.
    #[arg(long, value_enum, default_value = "python")]
    lang: Language,
    /// Name of the projects, before `-preprocess` and `-postprocess` (default: the file name).
    #[arg(long)]
    name: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    report: &'a Report,
    projects: Vec<String>,
}

impl Port {
    /// Analyses the handler, prints the report, and creates the requested projects.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let source = Source::read(&self.file)?;
        let text = source.text.clone();
        let report = report(source)?;
        let projects = self.make(&report, &text)?;
        if ui.json {
            ui.json_line(&Line {
                report: &report,
                projects,
            });
            return Ok(());
        }
        print(ui, &report);
        for project in &projects {
            ui.note(&format!(
                "created {project}; next: tensorgate handler build {project} && tensorgate handler test {project}"
            ));
        }
        Ok(())
    }

    fn make(&self, report: &Report, text: &str) -> Result<Vec<String>, Failure> {
        let Some(into) = &self.into else {
            return Ok(Vec::new());
        };
        let base = self.name.clone().unwrap_or_else(|| name_of(&report.file));
        let mut made = Vec::new();
        for world in worlds(report) {
            let name = format!("{base}-{}", world.name());
            fit_name(&name).map_err(Failure::Input)?;
            if self.lang == Language::Rust && template::is_taken(&name) {
                return Err(Failure::Input(format!(
                    "{name:?} is the name of a dependency; use --name"
                )));
            }
            let folder = into.join(&name);
            if folder.exists() {
                return Err(Failure::Input(format!(
                    "{} already exists",
                    folder.display()
                )));
            }
            made.push((folder, files(report, text, &name, self.lang, world)));
        }
        for (folder, files) in &made {
            tools::write(folder, files)?;
        }
        let folders = made.iter().map(|(folder, _)| folder.display().to_string());
        Ok(folders.collect())
    }
}

/// The worlds that the handler needs; both if that is unknown.
fn worlds(report: &Report) -> Vec<World> {
    let has = |name: &str| report.functions.contains_key(name);
    let both = vec![World::Preprocess, World::Postprocess];
    match report.framework {
        Framework::Triton | Framework::Unknown => both,
        _ => {
            let some: Vec<World> = both
                .iter()
                .copied()
                .filter(|world| has(world.name()))
                .collect();
            if some.is_empty() { both } else { some }
        }
    }
}

fn print(ui: &Ui, report: &Report) {
    let class = report
        .class
        .as_ref()
        .map(|class| format!(", class {class}"));
    ui.line(&shown(&format!(
        "{}: written for {}{}",
        report.file,
        report.framework.name(),
        class.unwrap_or_default()
    )));
    for (function, becomes) in &report.functions {
        ui.line(&shown(&format!("  {function}() becomes {becomes}")));
    }
    for becomes in [
        Becomes::Lost,
        Becomes::Elsewhere,
        Becomes::Replaced,
        Becomes::Kept,
        Becomes::Unknown,
    ] {
        let found: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|finding| finding.becomes == becomes)
            .collect();
        if found.is_empty() {
            continue;
        }
        let style = if becomes == Becomes::Lost {
            "1;31"
        } else {
            "1"
        };
        ui.line(&format!("\n{}", ui.paint(style, becomes.heading())));
        for (at, finding) in found.iter().enumerate() {
            let lines: Vec<String> = finding.lines.iter().map(ToString::to_string).collect();
            let within = match finding.functions.as_slice() {
                [] => String::new(),
                functions => format!(" in {}", functions.join(", ")),
            };
            ui.line(&shown(&format!(
                "  {} (line {}{within})",
                finding.name,
                lines.join(", ")
            )));
            // A note is printed once, after the last finding that it applies to.
            let next = found.get(at.saturating_add(1));
            let last = next.is_none_or(|next| next.note != finding.note);
            if last && !finding.note.is_empty() && becomes != Becomes::Kept {
                ui.line(&format!("      {}", finding.note));
            }
        }
    }
    if !report.beside.is_empty() {
        ui.line("\nother files in the archive, not analysed");
        for file in &report.beside {
            ui.line(&shown(&format!("  {file}")));
        }
    }
}

/// Untrusted text as a single line for the terminal.
fn shown(text: &str) -> String {
    printable_lines(text).replace('\n', " ")
}
