//! `fmt`: a policy's canonical layout. Comments, order and quotes stay; a file that could come to say something else is left as it is.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tensorgate_host::config::at_most;

use crate::Failure;
use crate::load::{MAX_FILE_BYTES, read_at_most};
use crate::replace::{Mode, replace};
use crate::source::layout::layout;
use crate::ui::Ui;

/// Bring policies into canonical layout, comments and all.
#[derive(Args)]
#[command(
    after_help = "Without --check the files are rewritten; `-` reads standard input and writes standard output. Exits 1 with --check if a file would change.\n\nExample: tensorgate fmt --check gate.yaml"
)]
pub struct Fmt {
    /// The policies.
    #[arg(value_name = "GATE_YAML", required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; say which files would change.
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Told {
    file: String,
    changed: bool,
}

impl Fmt {
    /// Lays them out.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let mut differs = false;
        for file in &self.files {
            let standard = file.as_os_str() == "-";
            let text = read(file, standard)?;
            let laid = layout(&text)
                .map_err(|fault| Failure::Input(format!("{}: {fault}", file.display())))?;
            let changed = laid != text;
            differs |= changed;
            if standard && !self.check {
                ui.line(laid.trim_end_matches('\n'));
                continue;
            }
            if changed && !self.check {
                replace(file, &laid, Mode::Kept).map_err(|error| {
                    Failure::Failed(format!("cannot write {}: {error}", file.display()))
                })?;
            }
            if ui.json {
                ui.json_line(&Told {
                    file: file.display().to_string(),
                    changed,
                });
            } else if changed {
                let done = if self.check {
                    "would change"
                } else {
                    "laid out"
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
