//! The scan of a model's copy before it becomes visible: each file must be accepted.

use std::path::{Path, PathBuf};

use tensorgate_artifact::model_signing::SINGLE_FILE;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_models::files::{SignedFile, find_signed};
use tensorgate_models::scan::code_kinds::{allowed_kind, is_listed};
use tensorgate_values::{CodeKind, ModelFormat, hex};

use super::report::{json_line, text};
use super::scan_options::ScanOptions;
use crate::progress_line::ProgressLine;
use crate::scan::ignored::Ignored;
use crate::scan::outcome::ScanOutcome;
use crate::scan::run::run;
use crate::scan::settings::Settings;
use crate::scan::walk::root;
use crate::text::shown;

/// Scans a copy, or the signed files of a model.
pub struct CopyScan<'a> {
    /// The folder of the copy, or of the model.
    pub copy: &'a Path,
    /// Its files, sorted by path. Others are passed over.
    pub signed: &'a [SignedFile],
    /// How files are read.
    pub options: &'a ScanOptions,
    /// Which files are accepted although they are not safe.
    pub settings: &'a Settings,
    /// The formats that files may have; all if there are none.
    pub formats: &'a [ModelFormat],
    /// The kinds of code that files may have. `None` where the verb has no option for them.
    pub allow: Option<&'a [CodeKind]>,
}

/// What a scan found.
#[derive(Debug, Default)]
struct Found {
    files: usize,
    refused: usize,
    /// Kinds of code that would accept some of the refused files.
    kinds: Vec<CodeKind>,
    /// The first last day of the exceptions that accepted files.
    until: Option<String>,
}

impl Found {
    /// Why the model is not accepted, and what to do.
    fn refusal(&self) -> String {
        let mut text = match self.refused {
            1 => "a file is refused: if you know it, accept its path and SHA-256 with --exceptions"
                .to_owned(),
            refused => format!(
                "{refused} files are refused: accept the paths and SHA-256 of those that you know with --exceptions"
            ),
        };
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        if !kinds.is_empty() {
            let kinds = kinds.join(",");
            text.push_str(&format!(
                "; --allow={kinds} accepts code of signers whom you trust"
            ));
        }
        text
    }
}

impl CopyScan<'_> {
    /// Scans all files below these paths, and prints those that are refused. Returns the last day,
    /// UTC, on which all are accepted, if exceptions accepted some.
    ///
    /// # Errors
    /// A file is refused, or was not scanned.
    pub fn run(&self, ui: &Ui, paths: &[PathBuf], files: usize) -> Result<Option<String>, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("cannot scan: {error}"));
        let roots = paths.iter().map(|path| root(path).map_err(failed));
        let roots = roots.map(|root| root.map(|root| root.of_model(self.copy)));
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        let scanners = self.options.scanners(ui)?;
        let mut found = Found::default();
        let mut progress = ProgressLine::new();
        let mut last = PathBuf::new();
        run(roots, scanners, self.settings, &mut |outcome| {
            if let Some(outcome) = outcome {
                progress.clear();
                last = self.add(ui, outcome, &mut found);
            }
            progress.show_scanned(found.files, &last);
            true
        })
        .map_err(Failure::Failed)?;
        drop(progress);
        if found.files != files {
            let text = format!("{} of {files} files were scanned", found.files);
            return Err(Failure::Failed(text));
        }
        if found.refused == 0 {
            return Ok(found.until);
        }
        Err(Failure::Failed(found.refusal()))
    }

    /// Counts the result for one file, and prints it if the file is refused. Returns its path in
    /// the model.
    fn add(&self, ui: &Ui, mut outcome: ScanOutcome, found: &mut Found) -> PathBuf {
        if let Ok(path) = outcome.path.strip_prefix(self.copy) {
            outcome.path = path.to_owned();
        }
        let Some(signed) = self.file(&outcome.path) else {
            return outcome.path;
        };
        found.files = found.files.saturating_add(1);
        if let Some(exception) = &outcome.exception {
            let ends = exception.until();
            let until = found.until.get_or_insert_with(|| ends.to_owned());
            if ends < until.as_str() {
                *until = ends.to_owned();
            }
            return outcome.path;
        }
        let report = &outcome.report;
        let name = outcome.path.file_name().and_then(|name| name.to_str());
        let kind_of = |kinds: &[CodeKind]| allowed_kind(name.unwrap_or_default(), report, kinds);
        let kind = self.allow.and_then(kind_of);
        let is_listed = self.formats.is_empty() || is_listed(report, self.formats, kind);
        if (outcome.is_accepted() || kind.is_some()) && is_listed {
            return outcome.path;
        }
        found.refused = found.refused.saturating_add(1);
        if kind.is_none()
            && self.allow.is_some()
            && let Some(needed) = kind_of(&CodeKind::ALL)
            && !found.kinds.contains(&needed)
        {
            found.kinds.push(needed);
        }
        if ui.json {
            json_line(ui, &outcome, &Ignored::default());
        } else {
            ui.note(&text(ui, &outcome));
        }
        if !is_listed {
            let path = shown(&outcome.path);
            ui.note(&format!(
                "{path}: the format {:?} is not among --formats",
                report.format
            ));
        }
        if let Some(sha256) = signed.sha256.filter(|_| !ui.json) {
            ui.note(&format!("  sha256: {}", hex(&sha256)));
        }
        outcome.path
    }

    /// The signed file at a path.
    fn file(&self, path: &Path) -> Option<&SignedFile> {
        if let [single] = self.signed
            && single.path == SINGLE_FILE
        {
            return Some(single);
        }
        find_signed(self.signed, path.to_str()?)
    }
}
