//! `model scan`: scans files and folders, prints each result, and fails if one is not safe.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::clock::day_in;
use tensorgate_cli_common::ui::Ui;

use super::inputs::exclusions;
use super::report::{Totals, ignored_models, ignored_text, json_line, text};
use super::scan_options::ScanOptions;
use crate::progress_line::ProgressLine;
use crate::scan::draft::{DAYS, Draft};
use crate::scan::ignored::Ignored;
use crate::scan::outcome::ScanOutcome;
use crate::scan::run::run;
use crate::scan::sarif::Sarif;
use crate::scan::walk::root;
use crate::text::shown;

/// Say of each file whether it is data alone, or could run code when a model is loaded.
///
/// The content decides, whatever the name. Nothing is imported, unpickled or run.
#[derive(Args)]
#[command(
    after_help = "Verdicts: safe, unknown (a format, or a part of one, that is not followed), malformed (two readers may understand it differently), EXECUTABLE.\n\
Executable files are high (what their format needs) or critical (what attacks look like).\n\
Exit codes: 0 all files are safe or excepted, 1 one is not, 2 invalid usage or input.\n\nExample: tensorgate model scan models/ --exceptions exceptions.yaml"
)]
pub struct Scan {
    /// Files and folders. Links are not followed.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Write the findings as SARIF 2.1.0 into this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Leave out this path, relative to each scanned folder, with everything below it, beside git's
    /// own files at the top. The result lists what was left out. Repeatable.
    #[arg(long, value_name = "PATH")]
    ignore_path: Vec<String>,
    /// Write a draft of exceptions for the refused files into this new file. Each reason is empty:
    /// `--exceptions` refuses the list until you have written them.
    #[arg(long, value_name = "FILE")]
    write_exceptions: Option<PathBuf>,
    #[command(flatten)]
    options: ScanOptions,
}

impl Scan {
    /// Scans and prints.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let to_stdout = self.sarif.as_deref() == Some(Path::new("-"));
        if to_stdout && ui.json {
            return Err(Failure::Input(
                "--json and --sarif - both write to standard output: give --sarif a file".into(),
            ));
        }
        let mut settings = self.options.settings()?;
        settings.exclusions = Some(exclusions(self.ignore_path.iter().cloned())?);
        let mut draft = self.draft()?;
        settings.with_digests = draft.is_some();
        let mut roots = Vec::new();
        for path in &self.paths {
            roots.push(root(path).map_err(|error| {
                Failure::Input(format!("cannot read {}: {error}", shown(path)))
            })?);
        }
        let scanners = self.options.scanners(ui)?;
        let mut sarif = match &self.sarif {
            Some(file) => Some(begin_sarif(file, to_stdout)?),
            None => None,
        };
        let mut totals = Totals::default();
        let mut progress = ProgressLine::new();
        let mut last = PathBuf::new();
        // The last line of JSON has what was left out, which is known at the end.
        let mut pending: Option<ScanOutcome> = None;
        let mut written: io::Result<()> = Ok(());
        let mut is_open = true;
        let ran = run(roots, scanners, &settings, &mut |outcome| {
            if let Some(outcome) = outcome {
                totals.add(&outcome);
                progress.clear();
                if let Some(sarif) = &mut sarif {
                    written = sarif.add(&outcome);
                }
                if let Some(draft) = &mut draft {
                    draft.add(&outcome);
                }
                last.clone_from(&outcome.path);
                is_open = match (ui.json, to_stdout) {
                    (true, _) => (pending.replace(outcome))
                        .is_none_or(|earlier| json_line(ui, &earlier, &Ignored::default())),
                    (false, false) => ui.try_line(&text(ui, &outcome)),
                    (false, true) => true,
                };
            }
            progress.show_scanned(totals.files(), &last);
            is_open && written.is_ok()
        });
        drop(progress);
        let ignored = ran.map_err(Failure::Failed)?;
        let ended = written.and_then(|()| sarif.map_or(Ok(()), |sarif| sarif.end(&ignored)));
        ended.map_err(|error| Failure::Failed(format!("cannot write SARIF: {error}")))?;
        if let Some(outcome) = pending.filter(|_| is_open) {
            is_open = json_line(ui, &outcome, &ignored);
        }
        let prints_text = is_open && !ui.json && !to_stdout;
        if prints_text && !ignored.paths.is_empty() {
            ui.line(&ignored_text(&ignored));
        }
        for warning in ignored_models(&ignored) {
            ui.note(&format!("{}: {warning}", ui.paint("1;33", "warning")));
        }
        if prints_text && totals.files() > 0 {
            ui.line(&totals.line());
        }
        if totals.files() == 0 {
            return Err(Failure::Input("there are no files to scan".into()));
        }
        if let Some(draft) = draft.filter(|_| is_open) {
            self.write_draft(&draft, ui)?;
        }
        // Not everything was scanned if the output was closed.
        if totals.refused > 0 || !is_open {
            return Err(Failure::No);
        }
        Ok(())
    }

    /// An empty draft of exceptions, if there is to be one.
    fn draft(&self) -> Result<Option<Draft>, Failure> {
        let Some(file) = &self.write_exceptions else {
            return Ok(None);
        };
        // Something may be there that cannot be looked at. Writing it fails then.
        if file.symlink_metadata().is_ok() {
            return Err(Failure::Input(format!(
                "{} exists: give --write-exceptions a new file",
                shown(file)
            )));
        }
        Ok(Some(Draft::new(day_in(DAYS))))
    }

    fn write_draft(&self, draft: &Draft, ui: &Ui) -> Result<(), Failure> {
        let Some(file) = &self.write_exceptions else {
            return Ok(());
        };
        if draft.is_empty() {
            ui.note("no file is refused: no draft is written");
            return Ok(());
        }
        draft
            .write(file)
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", shown(file))))?;
        ui.note(&format!("{}: {}", shown(file), draft.summary()));
        Ok(())
    }
}

/// Begins the SARIF log in a file or on standard output.
fn begin_sarif(file: &Path, to_stdout: bool) -> Result<Sarif, Failure> {
    let opened: io::Result<Box<dyn Write>> = if to_stdout {
        Ok(Box::new(BufWriter::new(io::stdout())))
    } else {
        File::create(file).map(|file| Box::new(BufWriter::new(file)) as Box<dyn Write>)
    };
    opened
        .and_then(Sarif::begin)
        .map_err(|error| Failure::Input(format!("cannot write {}: {error}", shown(file))))
}
