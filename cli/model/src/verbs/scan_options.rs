//! The options of a scan that several verbs have: which files are accepted, and how they are read.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_models::scan::process::Scanner;
use tensorgate_values::FileExceptions;

use super::{MAX_JOBS, jobs};
use crate::scan::exceptions;
use crate::scan::settings::Settings;

/// Which files are accepted, and how they are read.
#[derive(Args, Debug, Default)]
pub struct ScanOptions {
    /// Accept files by path and digest: a list of {sha256, path, reason, until: YYYY-MM-DD} as YAML
    /// or JSON. A path is relative to the model.
    #[arg(long, value_name = "FILE")]
    pub exceptions: Option<PathBuf>,
    /// Files that are scanned at the same time [default: one a core].
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<NonZeroUsize>,
    /// Do not read larger files: they are unknown.
    #[arg(long, value_name = "BYTES")]
    pub max_bytes: Option<u64>,
    /// Whether the processes that read files need a complete OS sandbox.
    #[arg(long, value_enum, default_value_t)]
    isolation: Isolation,
}

/// What an incomplete OS sandbox means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Isolation {
    /// As complete as the kernel allows.
    #[default]
    Available,
    /// Nothing is scanned without it.
    Required,
}

impl ScanOptions {
    /// The defaults with these exceptions and so many files at the same time.
    pub fn of(exceptions: Option<PathBuf>, jobs: Option<NonZeroUsize>) -> Self {
        Self {
            exceptions,
            jobs,
            ..Self::default()
        }
    }

    /// Reads the exceptions.
    ///
    /// # Errors
    /// The file cannot be read, or an entry has a fault.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let exceptions = match &self.exceptions {
            Some(file) => exceptions::read(file)?,
            None => FileExceptions::default(),
        };
        Ok(Settings {
            exceptions,
            now_unix_s: now_unix_s(),
            max_bytes: self.max_bytes.unwrap_or(u64::MAX),
            with_digests: false,
            exclusions: None,
        })
    }

    /// Whether nothing is scanned without a complete OS sandbox.
    pub fn requires_isolation(&self) -> bool {
        self.isolation == Isolation::Required
    }

    /// The scanners, the first of which has shown that processes can be started.
    ///
    /// # Errors
    /// No process can be started, or its OS sandbox is incomplete and a complete one is required.
    pub fn scanners(&self, ui: &Ui) -> Result<Vec<Scanner>, Failure> {
        let required = self.requires_isolation();
        let (first, incomplete) = Scanner::start(required).map_err(Failure::Failed)?;
        if let Some(incomplete) = incomplete {
            ui.note(&format!(
                "{}: the OS sandbox of the scanner processes is incomplete: {incomplete}",
                ui.paint("1;33", "warning")
            ));
        }
        let jobs = match self.jobs {
            Some(jobs) => jobs.get(),
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let more = jobs.min(MAX_JOBS).saturating_sub(1);
        let more = std::iter::repeat_with(|| Scanner::idle(required)).take(more);
        Ok(std::iter::once(first).chain(more).collect())
    }
}
