//! The `handler new` verb: creates a project that builds and passes its tests immediately.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

use crate::project::{Language, World, fit_name};
use crate::{template, tools};

/// Create a project: a working handler, cases that it passes, and everything it depends on.
#[derive(Args)]
#[command(
    after_help = "The project needs only this program, and no network after `tensorgate handler setup` has run once.\n\nExample: tensorgate handler new --lang python scale && tensorgate handler build scale"
)]
pub struct New {
    /// Programming language.
    #[arg(long, value_enum)]
    lang: Language,
    /// When the handler runs: before or after the model.
    #[arg(long, value_enum, default_value_t)]
    world: World,
    /// Project folder (default: NAME in the current folder).
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Name of the handler: lower-case letters, digits and -
    name: String,
}

#[derive(Serialize)]
struct Made<'a> {
    folder: &'a str,
    files: Vec<&'a str>,
}

impl New {
    /// Writes the project into a new or empty folder.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        fit_name(&self.name).map_err(Failure::Input)?;
        if self.lang == Language::Rust && template::is_taken(&self.name) {
            return Err(Failure::Input(format!(
                "{:?} is the name of a crate that every Rust handler depends on; choose another",
                self.name
            )));
        }
        let folder = self.into.unwrap_or_else(|| PathBuf::from(&self.name));
        tools::expect_new_folder(&folder)?;
        let files = template::files(&self.name, self.lang, self.world);
        tools::write(&folder, &files)?;
        let shown = folder.display().to_string();
        if ui.json {
            ui.json_line(&Made {
                folder: &shown,
                files: files.iter().map(|(path, _)| path.as_str()).collect(),
            });
            return Ok(());
        }
        for (path, _) in &files {
            ui.line(&format!("{shown}/{path}"));
        }
        ui.note(&format!(
            "next: tensorgate handler build {shown} && tensorgate handler test {shown}"
        ));
        Ok(())
    }
}
