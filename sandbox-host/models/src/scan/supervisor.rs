//! The scanner processes of the host. The host gives up the right to start programs, so other
//! processes, the supervisors, start them for it. They never parse a file: they pass open files on,
//! and report back.
//!
//! One supervisor scans no files and starts the others: one for each file that is scanned at a
//! time. So a slow file delays no other. A supervisor that has ended is started again by another
//! one.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitCode};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use tensorgate_artifact::scan::rules::SCANNER_DIED;
use tensorgate_base::rfc3339::rfc3339;

use super::messages::{FileReport, Request, Response};
use super::process::{NotStarted, Process, Scanner, spawn, timeout};
use super::scan_input::{Index, ScanInput};
use super::worker::{Received, next_files, respond};

/// The first argument of the supervisor. No flag of a program has such a name.
const ARGUMENT: &str = "model-scanner-supervisor";
/// An argument: the OS sandbox of scanner processes must be complete.
const SANDBOXED: &str = "sandboxed";
/// An argument: another supervisor has started this one, which outlives it.
const INDEPENDENT: &str = "independent";
/// The time that the supervisor has beyond that of its scanner process.
const GRACE: Duration = Duration::from_secs(60);
/// Files that are scanned at a time: one for each thread that verifies models.
pub const SCAN_WORKERS: usize = 4;
/// Attempts at a file or a start. A supervisor parses nothing, so its end says nothing of the file.
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
    workers: [Mutex<ScanWorker>; SCAN_WORKERS],
    ends: Mutex<Ends>,
}

/// A supervisor that scans files, one after another.
#[derive(Debug, Default)]
struct ScanWorker {
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
    /// Why the last start of another one failed.
    start_failure: Option<String>,
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
        let first = ScanWorker {
            process: Some(Process::spawn(&arguments)?),
            is_used: true,
        };
        let mut workers: [Mutex<ScanWorker>; SCAN_WORKERS] = Default::default();
        if let Some(worker) = workers.first_mut() {
            *worker = Mutex::new(first);
        }
        Ok(Self {
            starter: Mutex::new(Some(starter)),
            workers,
            ends: Mutex::default(),
        })
    }

    /// Scans an open file, at most for the time that is left. A file that ends its scanner process
    /// is unknown.
    pub fn scan(&self, input: &ScanInput<'_>, left: Duration) -> FileReport {
        let allowed = timeout(input.bytes).min(left);
        let files = input.descriptors();
        let request = Request::Scan {
            file: input.request(),
            allowed_ms: u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX),
        };
        let request = match serde_json::to_vec(&request) {
            Ok(request) => request,
            Err(error) => return FileReport::unscanned(SCANNER_DIED, &error.to_string()),
        };
        let allowed = allowed.saturating_add(GRACE);
        let mut worker = self.free_worker();
        let mut cause = String::new();
        for _ in 0..ATTEMPTS {
            let scanned = self
                .running(&mut worker)
                .and_then(|process| process.report(&files, &request, allowed));
            match scanned {
                Ok(report) => return report,
                Err(failed) => {
                    // Without a process there is none to start again.
                    let has_ended = worker.process.take().is_some();
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
        for worker in &self.workers {
            if let Some(mut worker) = free(worker)
                && worker.is_used
            {
                // A failure is logged, and the next call tries again.
                let _ = self.running(&mut worker);
            }
        }
        let _ = self.running_starter(&mut lock(&self.starter));
    }

    /// What is wrong, for operators.
    pub fn warning(&self) -> Option<String> {
        let has_starter = match free(&self.starter) {
            Some(starter) => starter.as_ref().is_some_and(Process::is_running),
            None => true,
        };
        // A worker that is in use has a process.
        let runs = |worker: &Mutex<ScanWorker>| {
            free(worker)
                .is_none_or(|worker| worker.process.as_ref().is_some_and(Process::is_running))
        };
        if !has_starter && !self.workers.iter().any(runs) {
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

    /// A worker that no other thread uses, one with a process first.
    fn free_worker(&self) -> MutexGuard<'_, ScanWorker> {
        let mut idle = None;
        for worker in &self.workers {
            match free(worker) {
                Some(worker) if worker.process.is_some() => return worker,
                Some(worker) => idle = idle.or(Some(worker)),
                None => {}
            }
        }
        idle.unwrap_or_else(|| {
            let [first, ..] = &self.workers;
            lock(first)
        })
    }

    /// The running process of a worker, which is started if there is none.
    fn running<'w>(&self, worker: &'w mut ScanWorker) -> Result<&'w mut Process, String> {
        let ended = worker.process.take_if(|process| !process.is_running());
        if ended.is_some() {
            self.record_end("it was ended from outside");
        }
        let process = match worker.process.take() {
            Some(process) => process,
            None => self.start_another()?,
        };
        worker.is_used = true;
        Ok(worker.process.insert(process))
    }

    /// Starts another supervisor. One that answers goes on starting others, even if the operating
    /// system has refused this one.
    fn start_another(&self) -> Result<Process, String> {
        let mut starter = lock(&self.starter);
        let mut cause = String::new();
        for _ in 0..ATTEMPTS {
            let started = self.running_starter(&mut starter)?.start_another();
            match self.started(started) {
                Ok(process) => return Ok(process),
                Err(NotStarted::Refused(refused)) => return Err(refused),
                Err(NotStarted::Failed(failed)) => {
                    *starter = None;
                    self.record_end(&failed);
                    cause = failed;
                }
            }
        }
        Err(cause)
    }

    /// The running supervisor that starts others. One that has ended is started again by a worker
    /// that no thread uses.
    fn running_starter<'s>(
        &self,
        starter: &'s mut Option<Process>,
    ) -> Result<&'s mut Process, String> {
        if starter.take_if(|process| !process.is_running()).is_some() {
            self.record_end("it was ended from outside");
        }
        if let Some(process) = starter.take() {
            return Ok(starter.insert(process));
        }
        let mut cause = ALL_ENDED.to_owned();
        for worker in &self.workers {
            let Some(mut worker) = free(worker) else {
                continue;
            };
            let process = worker.process.as_ref().filter(|it| it.is_running());
            let Some(started) = process.map(Process::start_another) else {
                continue;
            };
            match self.started(started) {
                Ok(process) => return Ok(starter.insert(process)),
                Err(NotStarted::Refused(refused)) => cause = refused,
                Err(NotStarted::Failed(failed)) => {
                    worker.process = None;
                    self.record_end(&failed);
                    cause = failed;
                }
            }
        }
        Err(cause)
    }

    /// Records whether a supervisor was started. A cause that repeats is logged once.
    fn started(&self, started: Result<Process, NotStarted>) -> Result<Process, NotStarted> {
        let cause = match &started {
            Ok(_) => None,
            Err(NotStarted::Refused(cause) | NotStarted::Failed(cause)) => Some(cause.clone()),
        };
        let mut ends = lock(&self.ends);
        match &cause {
            None => tracing::info!("a scanner supervisor was started"),
            Some(cause) if ends.start_failure.as_ref() == Some(cause) => {}
            Some(cause) => tracing::error!(cause, "cannot start a scanner supervisor"),
        }
        ends.start_failure = cause;
        started
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
    while let Some(received) = next_files(&socket)? {
        // Those that have ended leave the list of processes.
        others.retain_mut(|other| matches!(other.try_wait(), Ok(None)));
        let Received {
            file,
            indexes,
            message,
        } = received;
        let response = match serde_json::from_str(&message) {
            Ok(Request::Scan {
                file: request,
                allowed_ms,
            }) => {
                let indexes = request.indexes.into_iter().zip(indexes);
                let indexes: Vec<_> = indexes.map(|(kind, file)| Index { kind, file }).collect();
                let input = ScanInput {
                    file: &file,
                    name: &request.name,
                    // The time is given.
                    bytes: 0,
                    indexes: &indexes,
                };
                let allowed = Duration::from_millis(allowed_ms);
                Response::Scanned(scanner.scan_within(&input, allowed))
            }
            Ok(Request::StartAnother) => {
                let mut arguments = vec![ARGUMENT, INDEPENDENT];
                arguments.extend(sandboxed.then_some(SANDBOXED));
                match spawn(&arguments, OwnedFd::from(file)) {
                    Ok(other) => {
                        others.push(other);
                        Response::Started
                    }
                    Err(cause) => Response::NotStarted(cause),
                }
            }
            Err(error) => Response::Unreadable(error.to_string()),
        };
        respond(&socket, &response)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rustix::net::{RecvFlags, SendFlags, recv, send};

    use super::*;

    #[test]
    fn a_supervisor_that_is_refused_a_process_goes_on_starting_others() {
        let (starter, its_socket) = Process::played().unwrap();
        let player = std::thread::spawn(move || {
            let refused = || Response::NotStarted("too many processes".to_owned());
            for response in [refused(), refused(), Response::Started] {
                let mut request = [0; 64];
                recv(&its_socket, request.as_mut_slice(), RecvFlags::empty()).unwrap();
                let response = serde_json::to_vec(&response).unwrap();
                send(&its_socket, &response, SendFlags::NOSIGNAL).unwrap();
            }
        });
        let supervisors = ScannerSupervisor {
            starter: Mutex::new(Some(starter)),
            workers: Default::default(),
            ends: Mutex::default(),
        };
        for _ in 0..2 {
            let cause = supervisors.start_another().unwrap_err();
            assert_eq!(cause, "too many processes");
        }
        supervisors.start_another().unwrap();
        assert_eq!(lock(&supervisors.ends).count, 0);
        player.join().unwrap();
        assert_eq!(supervisors.start_another().unwrap_err(), ALL_ENDED);
        assert_eq!(lock(&supervisors.ends).count, 1);
    }
}
