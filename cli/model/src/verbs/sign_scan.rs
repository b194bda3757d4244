//! The scan of a model that is being signed. The signature is written only if it accepts each file,
//! and nothing has changed since the files were hashed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use tensorgate_artifact::model_signing::SINGLE_FILE;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_models::files::file_state::wait_for_next_tick;
use tensorgate_models::files::{FolderStates, SignedFile};

use super::copy_scan::CopyScan;
use super::inputs::ModelToHash;
use super::scan_options::ScanOptions;
use crate::text::shown;

/// Names at the top of a model that are scanned one by one, to pass over what is not signed.
const MAX_ROOTS: usize = 256;

/// Whether a model is scanned before it is signed.
#[derive(Args, Debug)]
pub struct SignScan {
    /// Scan each file, as `model scan` does, and sign only if all are safe or excepted.
    #[arg(long)]
    scan: bool,
    /// With --scan, accept files by path and digest: a list of {sha256, path, reason, until:
    /// YYYY-MM-DD} as YAML or JSON. A path is relative to the model.
    #[arg(long, value_name = "FILE", requires = "scan")]
    exceptions: Option<PathBuf>,
}

impl SignScan {
    /// Whether the model is scanned.
    pub const fn is_wanted(&self) -> bool {
        self.scan
    }

    /// The states of the model's files before they are hashed, if it is scanned.
    ///
    /// # Errors
    /// The model cannot be read.
    pub fn states(&self, model: &Path) -> Result<Option<FolderStates>, Failure> {
        if !self.scan {
            return Ok(None);
        }
        let states = states(model)?;
        // A change within one tick of the clock would not be noticed.
        wait_for_next_tick();
        Ok(Some(states))
    }

    /// Scans the files that were hashed since `before`.
    ///
    /// # Errors
    /// A file is refused, was not scanned, or has changed.
    pub fn run(
        &self,
        ui: &Ui,
        model: &ModelToHash,
        files: &[SignedFile],
        before: &FolderStates,
    ) -> Result<(), Failure> {
        let path = model.model.as_path();
        let is_single = matches!(files, [file] if file.path == SINGLE_FILE);
        let folder = if is_single {
            path.parent().unwrap_or(path)
        } else {
            path
        };
        let options = ScanOptions::of(self.exceptions.clone(), model.jobs);
        let settings = options.settings()?;
        let scan = CopyScan {
            copy: folder,
            signed: files,
            options: &options,
            settings: &settings,
            formats: &[],
            allow: None,
        };
        let roots = if is_single {
            vec![path.to_owned()]
        } else {
            roots(path, files)
        };
        scan.run(ui, &roots, files.len())?;
        match states(path)?.change_since(before) {
            None => Ok(()),
            Some(changed) => Err(Failure::Failed(format!(
                "{}: {:?} changed while the model was read: repeat this when nothing writes to it",
                shown(path),
                printable(&changed)
            ))),
        }
    }
}

/// The names at the top of a model that have signed files.
fn roots(model: &Path, files: &[SignedFile]) -> Vec<PathBuf> {
    let top = |file: &SignedFile| {
        let name = file.path.split('/').next().unwrap_or_default();
        model.join(name)
    };
    let roots: BTreeSet<PathBuf> = files.iter().map(top).collect();
    if roots.len() > MAX_ROOTS {
        return vec![model.to_owned()];
    }
    roots.into_iter().collect()
}

fn states(model: &Path) -> Result<FolderStates, Failure> {
    let unreadable = |why: String| Failure::Input(format!("{}: {why}", shown(model)));
    let text = model
        .to_str()
        .ok_or_else(|| unreadable("is not UTF-8: rename the model".to_owned()))?;
    FolderStates::look(Path::new(""), text).map_err(|fault| unreadable(fault.to_string()))
}
