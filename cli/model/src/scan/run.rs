//! Scans many files in parallel, and gives the results in the order of the paths.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tensorgate_models::scan::process::Scanner;

use super::exceptions::Exceptions;
use super::outcome::ScanOutcome;
use super::walk::{Entry, Root, walk};
use crate::progress_line::INTERVAL;

/// Results that wait for an earlier one, and files that wait for a scanner. Each may keep a folder
/// open.
const WINDOW: usize = 256;

/// What a run needs beside the paths.
#[derive(Debug)]
pub struct Settings {
    /// Files that are accepted.
    pub exceptions: Exceptions,
    /// The longest file that is read, bytes.
    pub max_bytes: u64,
}

/// A file to scan, and where its result goes.
type Job = (Entry, SyncSender<ScanOutcome>);

/// What happens during a run.
pub enum Progressed {
    /// The next result in the order of the paths.
    Done(ScanOutcome),
    /// Some time has passed.
    Waiting,
}

/// Scans everything below the roots, one file a scanner at a time. `take` gets each result, and
/// returns whether to go on.
///
/// # Errors
/// A scanner's thread has ended before its time, so that results are missing.
pub fn run(
    roots: Vec<Root>,
    scanners: Vec<Scanner>,
    settings: &Settings,
    take: &mut dyn FnMut(Progressed) -> bool,
) -> Result<(), String> {
    let (add_job, jobs) = sync_channel::<Job>(WINDOW);
    let (add_result, results) = sync_channel::<Receiver<ScanOutcome>>(WINDOW);
    // The scanners alone keep it, so that nothing waits for them once they are gone.
    let jobs = Arc::new(Mutex::new(jobs));
    thread::scope(|scope| {
        for scanner in scanners {
            let jobs = Arc::clone(&jobs);
            scope.spawn(move || scan_jobs(&jobs, scanner, settings));
        }
        drop(jobs);
        scope.spawn(move || {
            walk(roots, &mut |entry| {
                let (send, result) = sync_channel(1);
                add_result.send(result).is_ok() && add_job.send((entry, send)).is_ok()
            });
        });
        for result in results {
            loop {
                let progressed = match result.recv_timeout(INTERVAL) {
                    Ok(outcome) => Progressed::Done(outcome),
                    Err(RecvTimeoutError::Timeout) => Progressed::Waiting,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err("a thread that scans has ended".to_owned());
                    }
                };
                let is_done = matches!(progressed, Progressed::Done(_));
                if !take(progressed) {
                    return Ok(());
                }
                if is_done {
                    break;
                }
            }
        }
        Ok(())
    })
}

/// Scans files until there are no more.
fn scan_jobs(jobs: &Mutex<Receiver<Job>>, mut scanner: Scanner, settings: &Settings) {
    loop {
        // No code panics while it holds this lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((entry, send)) = job else {
            return;
        };
        let Settings {
            exceptions,
            max_bytes,
        } = settings;
        let outcome = ScanOutcome::of(entry, &mut scanner, exceptions, *max_bytes);
        // The command has stopped if it takes no result.
        if send.send(outcome).is_err() {
            return;
        }
    }
}
