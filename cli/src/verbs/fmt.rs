//! The `fmt` verb: brings policies into the canonical layout. Comments, order and quotes stay. A
//! file whose meaning could change is left unchanged.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_host::config::at_most;

use crate::Failure;
use crate::load::{MAX_FILE_BYTES, read_at_most};
use crate::replace::{Mode, replace};
use crate::source::layout::layout;
use crate::ui::Ui;

/// Bring policies into the canonical layout, keeping comments.
#[derive(Args)]
#[command(
    after_help = "Without --check, files are rewritten; `-` reads standard input and writes standard output. With --check, exits 1 if a file would change.\n\nExample: tensorgate fmt --check gate.yaml"
)]
pub struct Fmt {
    /// Policy files.
    #[arg(value_name = "GATE_YAML", required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; list the files that would change.
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Formatted {
    file: String,
    changed: bool,
}

impl Fmt {
    /// Formats the files.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let mut differs = false;
        for file in &self.files {
            let standard = file.as_os_str() == "-";
            let text = read(file, standard)?;
            let formatted = layout(&text)
                .map_err(|fault| Failure::Input(format!("{}: {fault}", file.display())))?;
            let changed = formatted != text;
            differs |= changed;
            if standard && !self.check {
                ui.line(formatted.trim_end_matches('\n'));
                continue;
            }
            if changed && !self.check {
                replace(file, &formatted, Mode::Preserve).map_err(|error| {
                    Failure::Failed(format!("cannot write {}: {error}", file.display()))
                })?;
            }
            if ui.json {
                ui.json_line(&Formatted {
                    file: file.display().to_string(),
                    changed,
                });
            } else if changed {
                let done = if self.check {
                    "would change"
                } else {
                    "formatted"
                };
                ui.line(&format!("{}: {done}", file.display()));
            }
        }
        if self.check && differs {
            Err(Failure::No)
        } else {
            Ok(())
        }
    }
}

fn read(file: &Path, standard: bool) -> Result<String, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::Input(format!("cannot read {}: {why}", file.display()))
    };
    let read = if standard {
        at_most(std::io::stdin(), MAX_FILE_BYTES)
    } else {
        read_at_most(file, MAX_FILE_BYTES)
    };
    let bytes = read
        .map_err(|error| unreadable(&error))?
        .ok_or_else(|| unreadable(&"too large"))?;
    String::from_utf8(bytes).map_err(|_| unreadable(&"not UTF-8"))
}
