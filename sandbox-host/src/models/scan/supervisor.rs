//! The scanner processes of the host. The host gives up the right to start programs, so other
//! processes, the supervisors, start them for it. They never parse a file: they pass open files on,
//! and report back.
//!
//! One supervisor scans no files and starts the others: one for each file that is scanned at a
//! time. So a slow file delays no other. A supervisor that has ended is started again by another
//! one.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitCode};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::messages::{FileReport, Response, SCANNER_DIED};
use super::process::{Process, START_ANOTHER, Scanner, spawn, timeout};
use super::worker::{next_file, respond};
use crate::rfc3339::rfc3339;

/// The first argument of the supervisor. No flag of a program has such a name.
const ARGUMENT: &str = "model-scanner-supervisor";
/// An argument: the OS sandbox of scanner processes must be complete.
const SANDBOXED: &str = "sandboxed";
/// An argument: another supervisor has started this one, which outlives it.
const INDEPENDENT: &str = "independent";
/// The time that the supervisor has beyond that of its scanner process.
const GRACE: Duration = Duration::from_secs(60);
/// Files that are scanned at a time: as many as threads that verify models.
const LANES: usize = 4;
/// Attempts at a file. A supervisor parses nothing, so its end says nothing of the file.
const ATTEMPTS: usize = 2;
/// How long the end of a supervisor is shown.
const SHOWN_FOR: Duration = Duration::from_secs(600);
/// Why nothing is scanned.
const ALL_ENDED: &str = "the scanner processes have ended: restart this program";

/// The connections to the supervisors.
#[derive(Debug)]
pub struct ScannerSupervisor {
    /// Starts others. `None` after it has ended.
    starter: Mutex<Option<Process>>,
    lanes: [Mutex<Lane>; LANES],
    ends: Mutex<Ends>,
}

/// A supervisor that scans files, one after another.
#[derive(Debug, Default)]
struct Lane {
    /// `None` before the first file and after its end.
    process: Option<Process>,
    /// Whether there was a process.
    is_used: bool,
}

/// The supervisors that have ended.
#[derive(Debug, Default)]
struct Ends {
    count: u64,
    last: Option<(Instant, SystemTime)>,
}

impl ScannerSupervisor {
    /// Starts the first supervisors from this program's own executable. With `sandboxed`, nothing
    /// is scanned if the kernel does not support the complete OS sandbox of scanner processes.
    ///
    /// # Errors
    /// The operating system cannot start them.
    pub fn start(sandboxed: bool) -> Result<Self, String> {
        let mut arguments = vec![ARGUMENT];
        arguments.extend(sandboxed.then_some(SANDBOXED));
        let starter = Process::spawn(&arguments)?;
        // Either one can start the other again.
        let first = Lane {
            process: Some(Process::spawn(&arguments)?),
            is_used: true,
        };
        let mut lanes: [Mutex<Lane>; LANES] = Default::default();
        if let Some(lane) = lanes.first_mut() {
            *lane = Mutex::new(first);
        }
        Ok(Self {
            starter: Mutex::new(Some(starter)),
            lanes,
            ends: Mutex::default(),
        })
    }

    /// Scans an open file of this name and length, at most for the time that is left. A file that
    /// ends its scanner process is unknown.
    pub fn scan(&self, file: &File, name: &str, bytes: u64, left: Duration) -> FileReport {
        let allowed = timeout(bytes).min(left);
        let request = format!("{}/{name}", allowed.as_millis());
        let allowed = allowed.saturating_add(GRACE);
        let mut lane = self.free_lane();
        let mut cause = String::new();
        for _ in 0..ATTEMPTS {
            let scanned = self
                .running(&mut lane)
                .and_then(|process| process.report(file, &request, allowed));
            match scanned {
                Ok(report) => return report,
                Err(failed) => {
                    // Without a process there is none to start again.
                    let has_ended = lane.process.take().is_some();
                    cause = failed;
                    if !has_ended {
                        break;
                    }
                    self.record_end(&cause);
                }
            }
        }
        FileReport::unscanned(SCANNER_DIED, &cause)
    }

    /// Starts supervisors again that have ended.
    pub fn tend(&self) {
        for lane in &self.lanes {
            if let Some(mut lane) = free(lane)
                && lane.is_used
            {
                // The cause of a failure is in the log, and the next look tries again.
                let _ = self.running(&mut lane);
            }
        }
        let _ = self.with_starter(|_| Ok(()));
    }

    /// What is wrong, for operators.
    pub fn warning(&self) -> Option<String> {
        let has_starter = match free(&self.starter) {
            Some(starter) => starter.as_ref().is_some_and(Process::is_running),
            None => true,
        };
        // A lane that is in use has a process.
        let runs = |lane: &Mutex<Lane>| {
            free(lane).is_none_or(|lane| lane.process.as_ref().is_some_and(Process::is_running))
        };
        if !has_starter && !self.lanes.iter().any(runs) {
            return Some(format!("scans of model files: {ALL_ENDED}"));
        }
        let ends = lock(&self.ends);
        let (since, at) = ends.last?;
        (since.elapsed() < SHOWN_FOR).then(|| {
            let at = rfc3339(at);
            let count = ends.count;
            format!("scans of model files: a scanner supervisor ended at {at}, {count} in all; it is started again")
        })
    }

    /// A lane that no other thread uses, one with a process first.
    fn free_lane(&self) -> MutexGuard<'_, Lane> {
        let mut idle = None;
        for lane in &self.lanes {
            match free(lane) {
                Some(lane) if lane.process.is_some() => return lane,
                Some(lane) => idle = idle.or(Some(lane)),
                None => {}
            }
        }
        idle.unwrap_or_else(|| {
            let [first, ..] = &self.lanes;
            lock(first)
        })
    }

    /// The running process of a lane, which is started if there is none.
    fn running<'l>(&self, lane: &'l mut Lane) -> Result<&'l mut Process, String> {
        let ended = lane.process.take_if(|process| !process.is_running());
        if ended.is_some() {
            self.record_end("it was ended from outside");
        }
        let process = match lane.process.take() {
            Some(process) => process,
            None => self.with_starter(Process::start_another)?,
        };
        lane.is_used = true;
        Ok(lane.process.insert(process))
    }

    /// Uses the supervisor that starts others. One that has ended is started again by a lane that
    /// no thread uses.
    fn with_starter<T>(&self, task: impl Fn(&Process) -> Result<T, String>) -> Result<T, String> {
        let mut starter = lock(&self.starter);
        if let Some(running) = starter.as_ref().filter(|process| process.is_running()) {
            let done = task(running);
            if done.is_ok() {
                return done;
            }
        }
        if starter.take().is_some() {
            self.record_end("it started no other one");
        }
        for lane in &self.lanes {
            let Some(lane) = free(lane) else {
                continue;
            };
            let process = lane.process.as_ref().filter(|it| it.is_running());
            if let Some(Ok(started)) = process.map(Process::start_another) {
                return task(starter.insert(started));
            }
        }
        Err(ALL_ENDED.to_owned())
    }

    fn record_end(&self, cause: &str) {
        tracing::error!(cause, "a scanner supervisor has ended: it is started again");
        let mut ends = lock(&self.ends);
        ends.count = ends.count.saturating_add(1);
        ends.last = Some((Instant::now(), SystemTime::now()));
    }
}

/// Locks what no other thread uses.
fn free<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the supervisor, if the arguments ask for it.
pub fn scanner_supervisor(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.next()? == ARGUMENT).then(|| {
        let words: Vec<_> = arguments.collect();
        let has = |word: &str| words.iter().any(|found| found == word);
        match serve(has(SANDBOXED), has(INDEPENDENT)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    })
}

/// Has files scanned until the host closes the socket, which is this process's standard input.
fn serve(sandboxed: bool, independent: bool) -> Result<(), Errno> {
    if !independent {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    let socket = std::io::stdin();
    let mut scanner = Scanner::idle(sandboxed);
    let mut others: Vec<Child> = Vec::new();
    while let Some((file, request)) = next_file(&socket)? {
        // Those that have ended leave the list of processes.
        others.retain_mut(|other| matches!(other.try_wait(), Ok(None)));
        if request == START_ANOTHER {
            let mut arguments = vec![ARGUMENT, INDEPENDENT];
            arguments.extend(sandboxed.then_some(SANDBOXED));
            let response = match spawn(&arguments, OwnedFd::from(file)) {
                Ok(other) => {
                    others.push(other);
                    Response::Started
                }
                Err(cause) => Response::Unreadable(cause),
            };
            respond(&socket, &response)?;
            continue;
        }
        let (allowed_ms, name) = request.split_once('/').unwrap_or_default();
        let allowed = Duration::from_millis(allowed_ms.parse().unwrap_or(0));
        let report = scanner.scan_within(&file, name, allowed);
        respond(&socket, &Response::Scanned(report))?;
    }
    Ok(())
}
