//! Scans many files in parallel, and gives the results in the order of the paths.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tensorgate_models::scan::process::Scanner;

use super::ignored::Ignored;
use super::outcome::ScanOutcome;
use super::settings::Settings;
use super::walk::{Entry, Root, walk};
use crate::progress_line::INTERVAL;

/// Results that wait for an earlier one, and files that wait for a scanner. Each may keep a folder
/// open.
const WINDOW: usize = 256;

/// A file to scan, and where its result goes.
type Job = (Entry, SyncSender<ScanOutcome>);

/// Scans everything below the roots, one file a scanner at a time, and returns what was left out.
/// `take` gets each result in the order of the paths, and `None` from time to time while it waits
/// for one. It returns whether to continue.
///
/// # Errors
/// A scanner's thread has ended before its time, so that results are missing.
pub fn run(
    roots: Vec<Root>,
    scanners: Vec<Scanner>,
    settings: &Settings,
    take: &mut dyn FnMut(Option<ScanOutcome>) -> bool,
) -> Result<Ignored, String> {
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
        let walker = scope.spawn(move || {
            walk(roots, settings.exclusions.as_ref(), &mut |entry| {
                let (send, result) = sync_channel(1);
                add_result.send(result).is_ok() && add_job.send((entry, send)).is_ok()
            })
        });
        for result in results {
            loop {
                let outcome = match result.recv_timeout(INTERVAL) {
                    Ok(outcome) => Some(outcome),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err("a thread that scans has ended".to_owned());
                    }
                };
                let is_done = outcome.is_some();
                if !take(outcome) {
                    return Ok(Ignored::default());
                }
                if is_done {
                    break;
                }
            }
        }
        (walker.join()).map_err(|_| "the thread that finds files has ended".to_owned())
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
        let outcome = ScanOutcome::of(entry, &mut scanner, settings);
        // The command has stopped if it takes no result.
        if send.send(outcome).is_err() {
            return;
        }
    }
}
