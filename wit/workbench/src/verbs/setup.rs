//! The `handler setup` verb: installs the build tools of a language.

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

use crate::install::setup;
use crate::project::Language;

/// Install the build tools for handlers, pinned by hash, into the user's cache folder. No other
/// verb needs a network for building.
#[derive(Args)]
#[command(
    after_help = "Rust: the wasm target and the crates of a new project (rustup, cargo). Python: the runtime with numpy, which takes two minutes to compile (python3 with venv). JavaScript: componentize-qjs (node and npm).\nInstalled tools are kept.\n\nExample: tensorgate handler setup --lang python"
)]
pub struct Setup {
    /// The language (default: all of them).
    #[arg(long, value_enum)]
    lang: Option<Language>,
}

impl Setup {
    /// Installs the tools.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let languages = self
            .lang
            .map_or_else(|| Language::ALL.to_vec(), |lang| vec![lang]);
        for language in languages {
            setup(ui, language)?;
            if ui.json {
                ui.json_line(&serde_json::json!({"ready": language.name()}));
            } else {
                ui.line(&format!("{}: ready", language.name()));
            }
        }
        Ok(())
    }
}
