//! The scanner processes of the host. The host gives up the right to start programs, so another
//! process starts them for it. That process is started before, and never parses a file: it passes
//! open files on, and reports back.

use std::ffi::OsString;
use std::fs::File;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::messages::{FileReport, Response, SCANNER_DIED};
use super::process::{Process, Scanner, timeout};
use super::worker::{next_file, respond};

/// The first argument of the supervisor. No flag of a program has such a name.
const ARGUMENT: &str = "model-scanner-supervisor";
/// The second argument: the OS sandbox of scanner processes must be complete.
const SANDBOXED: &str = "sandboxed";
/// The time that the supervisor has beyond that of its scanner process.
const GRACE: Duration = Duration::from_secs(60);

/// The connection to the supervisor. Files are scanned one after another.
#[derive(Debug)]
pub struct ScannerSupervisor {
    /// `None` after it failed. It is not started again, because the host may not do so.
    process: Mutex<Option<Process>>,
}

impl ScannerSupervisor {
    /// Starts the supervisor from this program's own executable. With `sandboxed`, nothing is
    /// scanned if the kernel does not support the complete OS sandbox of scanner processes.
    ///
    /// # Errors
    /// The operating system cannot start it.
    pub fn start(sandboxed: bool) -> Result<Self, String> {
        let mut arguments = vec![ARGUMENT];
        arguments.extend(sandboxed.then_some(SANDBOXED));
        let process = Process::spawn(&arguments)?;
        Ok(Self {
            process: Mutex::new(Some(process)),
        })
    }

    /// Scans an open file of this name and length. A file that ends its scanner process is unknown.
    pub fn scan(&self, file: &File, name: &str, bytes: u64) -> FileReport {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = timeout(bytes).saturating_add(GRACE);
        let scanned = match process.as_mut() {
            Some(process) => process.report(file, name, allowed),
            None => Err("the scanner processes have ended: restart this program".to_owned()),
        };
        scanned.unwrap_or_else(|cause| {
            *process = None;
            FileReport::unscanned(SCANNER_DIED, &cause)
        })
    }
}

/// Runs the supervisor, if the arguments ask for it.
pub fn scanner_supervisor(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.next()? == ARGUMENT).then(|| {
        let is_sandboxed = arguments.next().is_some_and(|next| next == SANDBOXED);
        match serve(is_sandboxed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    })
}

/// Has files scanned until the host closes the socket, which is this process's standard input.
fn serve(sandboxed: bool) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let socket = std::io::stdin();
    let mut scanner = Scanner::idle(sandboxed);
    while let Some((file, name)) = next_file(&socket)? {
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let report = scanner.scan(&file, &name, bytes);
        respond(&socket, &Response::Scanned(report))?;
    }
    Ok(())
}
