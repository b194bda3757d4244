//! The threads that look for changed files and verify them.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Baseline, Checker};
use super::check_turns::{Candidate, CheckTurns, Turn};
use super::confirmations::{Confirmation, Confirmations};
use super::registry::{Entry, ModelArtifacts};
use super::reporter::{Reporter, show_all};
use super::status::{Cause, Observation, Status};
use crate::audit::Audit;
use crate::models::scan::supervisor::SCAN_WORKERS;
use crate::telemetry::metrics::Metrics;

/// The pause between two looks at the files. With the look itself it must stay below a second.
const PAUSE: Duration = Duration::from_millis(250);
/// The least threads that verify. Another model has a thread while one is slow.
const LEAST_CHECKERS: usize = 2;
/// The most threads that verify. Each can have a file scanned.
const MOST_CHECKERS: usize = SCAN_WORKERS;
/// There is one such thread for so many cores, within these bounds.
const CORES_PER_CHECKER: usize = 2;
/// Why files are not verified after a panic, which is a fault of this program.
const PANICKED: &str = "their check has panicked: this is a fault of the gate";

/// The running threads. They end when this is dropped, after the file that they read.
#[derive(Debug)]
pub struct Threads(Arc<ModelArtifacts>);

/// What all threads use.
struct Work {
    artifacts: Arc<ModelArtifacts>,
    checker: Checker,
    reporter: Reporter,
    turns: Mutex<CheckTurns>,
}

/// Model versions with the same files, which are being checked. Dropping it, as a panic does too,
/// lets them and their owner's other models be checked again.
struct Check<'w> {
    work: &'w Work,
    turn: Turn,
    versions: Vec<Arc<Entry>>,
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        for entry in &self.versions {
            entry.set_being_checked(false);
        }
        self.work.turns().end(&self.turn);
    }
}

impl Threads {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system has no thread.
    pub fn start(
        artifacts: &Arc<ModelArtifacts>,
        checker: Checker,
        mut confirmations: Confirmations,
        audit: &Audit,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let threads = Self(Arc::clone(artifacts));
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let checkers = cores.div_euclid(CORES_PER_CHECKER);
        let checkers = checkers.clamp(LEAST_CHECKERS, MOST_CHECKERS);
        let work = Arc::new(Work {
            artifacts: Arc::clone(artifacts),
            checker,
            reporter: Reporter {
                audit: audit.clone(),
                metrics: Arc::clone(metrics),
            },
            turns: Mutex::new(CheckTurns::new(checkers)),
        });
        let looking = Arc::clone(&work);
        let look = move || {
            while looking.artifacts.wait(PAUSE) {
                let confirmed = confirmations.take();
                looking.look_at_all(&confirmed);
            }
        };
        thread::Builder::new()
            .name("model-looks".to_owned())
            .spawn(look)?;
        // Apart from the others, because the start of a process can take long.
        let tending = Arc::clone(&work);
        let tend = move || {
            while tending.artifacts.wait(PAUSE) {
                tending.checker.tend_scanner();
            }
        };
        thread::Builder::new()
            .name("model-scanners".to_owned())
            .spawn(tend)?;
        for _ in 0..checkers {
            let work = Arc::clone(&work);
            let check = move || {
                while work.artifacts.wait(PAUSE) {
                    while work.check_next(|versions| work.check(versions)) {}
                }
            };
            thread::Builder::new()
                .name("model-checks".to_owned())
                .spawn(check)?;
        }
        Ok(threads)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Work {
    /// Looks for files that changed since they were verified or rejected, and applies what was
    /// seen or confirmed of loads before.
    fn look_at_all(&self, confirmed: &[Confirmation]) {
        let removed = self.artifacts.sweep();
        for entry in &removed {
            self.reporter.forget(entry);
        }
        let entries = self.artifacts.entries();
        show_all(&removed, &entries, &self.reporter.metrics);
        // Before the looks: a load counts only if no file has changed until after it was seen.
        let loads: Vec<_> = entries
            .iter()
            .map(|entry| entry.servers().loads())
            .collect();
        // The last look, for the next version with the same files.
        let mut looked: Option<(Arc<Baseline>, Option<String>)> = None;
        for (entry, loads) in entries.iter().zip(&loads) {
            let mut is_unchanged = false;
            if !matches!(entry.status(), Status::Checking { .. }) {
                let baseline = entry.baseline();
                let change = match looked.take() {
                    Some((known, change)) if Arc::ptr_eq(&known, &baseline) => change,
                    _ => self.checker.change(&entry.artifact, &baseline),
                };
                is_unchanged = change.is_none();
                looked = Some((baseline, change.clone()));
                if let Some(path) = change {
                    self.apply(entry, &Observation::Changed(path));
                }
            }
            let (artifacts, checker) = (&self.artifacts, &self.checker);
            self.reporter.see_loads(artifacts, checker, entry, loads);
            let of_entry =
                |it: &&Confirmation| it.model == entry.model && it.version == entry.version;
            for confirmation in confirmed.iter().filter(of_entry) {
                // What was said before the files were verified is no confirmation.
                let digest = confirmation.digest().filter(|_| is_unchanged);
                let by = &confirmation.by;
                self.reporter
                    .confirm(artifacts, checker, entry, digest.as_ref(), by);
            }
        }
        self.artifacts.mark_looked();
    }

    fn apply(&self, entry: &Entry, observation: &Observation) {
        let (artifacts, checker) = (&self.artifacts, &self.checker);
        self.reporter.apply(artifacts, checker, entry, observation);
    }

    /// Verifies the files of the next model that waits for that, or whose check is repeated.
    /// Returns whether there was one.
    fn check_next(&self, check: impl FnOnce(&[Arc<Entry>])) -> bool {
        let Some(next) = self.take_turn() else {
            return false;
        };
        // A panic must not end the thread, which checks other models, too.
        if catch_unwind(AssertUnwindSafe(|| check(&next.versions))).is_err() {
            let failed = Observation::Failed(Cause::Other(PANICKED.to_owned()));
            for entry in &next.versions {
                self.apply(entry, &failed);
            }
        }
        true
    }

    /// Takes the next model whose turn it is. No file is read here, because all threads wait for
    /// this.
    fn take_turn(&self) -> Option<Check<'_>> {
        let mut turns = self.turns();
        let entries = self.artifacts.entries();
        let now = Instant::now();
        let due = entries.iter().filter(|entry| entry.is_due(now));
        let waiting: Vec<_> = due.collect();
        if waiting.is_empty() {
            return None;
        }
        let owners = entries.iter().map(|entry| owner(entry).to_owned());
        let candidates = waiting.iter().map(|entry| Candidate {
            owner: owner(entry),
            bytes: entry.baseline().bytes(),
        });
        let candidates: Vec<_> = candidates.collect();
        let (index, turn) = turns.next(&candidates, &owners.collect())?;
        // The files of several versions are often the same.
        let artifact = waiting.get(index).map(|entry| &entry.artifact);
        let is_same = |entry: &&&Arc<Entry>| Some(&entry.artifact) == artifact;
        let versions: Vec<_> = waiting.iter().filter(is_same).copied().cloned().collect();
        for entry in &versions {
            entry.set_being_checked(true);
        }
        Some(Check {
            work: self,
            turn,
            versions,
        })
    }

    fn turns(&self) -> MutexGuard<'_, CheckTurns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies the files of model versions, which are the same files.
    fn check(&self, versions: &[Arc<Entry>]) {
        let Some(first) = versions.first() else {
            return;
        };
        for entry in versions {
            // The check is compared with what it finds itself, so a change before it would be lost.
            let is_repeated = !matches!(entry.status(), Status::Checking { .. });
            let change = || self.checker.change(&entry.artifact, &entry.baseline());
            if let Some(path) = is_repeated.then(change).flatten() {
                self.apply(entry, &Observation::Changed(path));
            }
        }
        let (observation, checked) = self.checker.check(&first.artifact);
        let checked = Arc::new(checked);
        for entry in versions {
            let version = (entry.model.as_str(), entry.version.as_str());
            let observation = self.checker.of_version(version, &observation, &checked);
            // Set before the status, because the other thread compares with it from then on.
            entry.set_baseline(&checked);
            self.apply(entry, &observation);
        }
    }
}

/// Who has a model: the team before the slash in its name, or the model itself.
fn owner(entry: &Entry) -> &str {
    entry.model.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
