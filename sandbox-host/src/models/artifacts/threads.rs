//! The threads that look for changed files and verify them.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Baseline, Checker};
use super::confirmations::{Confirmation, Confirmations};
use super::lanes::{Candidate, Lanes, Turn};
use super::registry::{Entry, ModelArtifacts};
use super::reporter::{Reporter, show_all};
use super::status::{Observation, Status};
use crate::audit::Audit;
use crate::telemetry::metrics::Metrics;

/// The pause between two looks at the files. With the look itself it must stay below a second.
const PAUSE: Duration = Duration::from_millis(250);
/// The least and the most threads that verify. Another model has a thread while one is slow.
const CHECKERS: (usize, usize) = (2, 4);
/// There is one such thread for so many cores, within these bounds.
const CORES_PER_CHECKER: usize = 2;

/// The running threads. They end when this is dropped, after the file that they read.
#[derive(Debug)]
pub struct Threads(Arc<ModelArtifacts>);

/// What all threads use.
struct Work {
    artifacts: Arc<ModelArtifacts>,
    checker: Checker,
    reporter: Reporter,
    lanes: Mutex<Lanes>,
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
        let (least, most) = CHECKERS;
        let checkers = cores.div_euclid(CORES_PER_CHECKER).clamp(least, most);
        let work = Arc::new(Work {
            artifacts: Arc::clone(artifacts),
            checker,
            reporter: Reporter {
                audit: audit.clone(),
                metrics: Arc::clone(metrics),
            },
            lanes: Mutex::new(Lanes::new(checkers)),
        });
        let looking = Arc::clone(&work);
        let look = move || {
            while looking.artifacts.wait(PAUSE) {
                let confirmed = confirmations.take();
                looking.look_at_all(&confirmed);
                looking.checker.tend_scanner();
            }
        };
        thread::Builder::new()
            .name("model-looks".to_owned())
            .spawn(look)?;
        for _ in 0..checkers {
            let work = Arc::clone(&work);
            let check = move || {
                while work.artifacts.wait(PAUSE) {
                    while work.check_next() {}
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
                let confirmed = (digest.as_ref(), confirmation.by.as_str());
                self.reporter.confirm(artifacts, checker, entry, confirmed);
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
    fn check_next(&self) -> bool {
        let Some((turn, versions)) = self.take_turn() else {
            return false;
        };
        self.check(&versions);
        for entry in &versions {
            entry.set_being_checked(false);
        }
        self.lanes().end(&turn);
        true
    }

    /// Takes the next model whose turn it is. No file is read here, because all threads wait for
    /// this.
    fn take_turn(&self) -> Option<(Turn, Vec<Arc<Entry>>)> {
        let mut lanes = self.lanes();
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
        let (index, turn) = lanes.next(&candidates, &owners.collect())?;
        // The files of several versions are often the same.
        let artifact = waiting.get(index).map(|entry| &entry.artifact);
        let is_same = |entry: &&&Arc<Entry>| Some(&entry.artifact) == artifact;
        let versions: Vec<_> = waiting.iter().filter(is_same).copied().cloned().collect();
        for entry in &versions {
            entry.set_being_checked(true);
        }
        Some((turn, versions))
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
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
