//! The threads that look for changed files and verify them.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Baseline, Checker};
use super::confirmations::{Confirmation, Confirmations};
use super::endpoint_loads::Load;
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
            if !matches!(entry.status(), Status::Checking { .. }) {
                let baseline = entry.baseline();
                let change = match looked.take() {
                    Some((known, change)) if Arc::ptr_eq(&known, &baseline) => change,
                    _ => self.checker.change(&entry.artifact, &baseline),
                };
                looked = Some((baseline, change.clone()));
                if let Some(path) = change {
                    self.apply(entry, &Observation::Changed(path));
                }
            }
            self.apply_loads(entry, loads, confirmed);
        }
        self.artifacts.mark_looked();
    }

    fn apply_loads(&self, entry: &Entry, loads: &[Option<Load>], confirmed: &[Confirmation]) {
        let (artifacts, checker) = (&self.artifacts, &self.checker);
        self.reporter.see_loads(artifacts, checker, entry, loads);
        let of_entry = confirmed
            .iter()
            .filter(|it| it.model == entry.model && it.version == entry.version);
        for confirmation in of_entry {
            if let Some(digest) = confirmation.digest() {
                let confirmed = (&digest, confirmation.by.as_str());
                self.reporter.confirm(artifacts, checker, entry, confirmed);
            }
        }
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
        let mut waiting = self.artifacts.entries();
        let owners = waiting
            .iter()
            .map(|entry| owner(entry).to_owned())
            .collect();
        let now = Instant::now();
        waiting.retain(|entry| entry.is_due(now));
        let mut groups = by_artifact(waiting);
        let candidates = groups.iter().filter_map(|versions| {
            let first = versions.first()?;
            Some(Candidate {
                owner: owner(first),
                bytes: first.baseline().bytes(),
            })
        });
        let (index, turn) = lanes.next(&candidates.collect::<Vec<_>>(), &owners)?;
        if index >= groups.len() {
            return None;
        }
        let versions = groups.swap_remove(index);
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

/// Model versions by their files, because those of several versions are often the same.
fn by_artifact(entries: Vec<Arc<Entry>>) -> Vec<Vec<Arc<Entry>>> {
    let mut groups: Vec<Vec<Arc<Entry>>> = Vec::new();
    for entry in entries {
        let is_same = |first: &Arc<Entry>| first.artifact == entry.artifact;
        let known = groups
            .iter()
            .position(|versions| versions.first().is_some_and(is_same));
        match known.and_then(|at| groups.get_mut(at)) {
            Some(versions) => versions.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
