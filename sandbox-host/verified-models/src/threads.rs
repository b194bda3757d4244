//! The threads that look for changed files and verify them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tensorgate_audit::Audit;
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_models::scan::supervisor::SCAN_WORKERS;
use tensorgate_telemetry::metrics::Metrics;

use crate::check::{Baseline, Checker};
use crate::check_turns::{Candidate, CheckTurns, Turn};
use crate::confirmations::{Confirmation, Confirmations};
use crate::lock::lock;
use crate::registry::{Entry, ModelArtifacts};
use crate::reporter::{Reporter, show_all};
use crate::status::{Cause, Status};

/// The pause between two looks at the files. With the look itself it must stay below a second.
const PAUSE: Duration = Duration::from_millis(250);
/// The threads that look. Each team whose file system does not answer holds up one of them.
const LOOKERS: usize = 4;
/// The least threads that verify. While one large model is slow, another has a thread, and so have
/// small ones.
const LEAST_CHECKERS: usize = 3;
/// The most threads that verify. Each can have a file scanned.
const MOST_CHECKERS: usize = SCAN_WORKERS;
/// There is one such thread for so many cores, within these bounds.
const CORES_PER_CHECKER: usize = 2;
/// Why files are not verified after a panic, which is a fault of this program.
const PANICKED: &str = "their check has panicked: this is a fault of the gate";

/// A look at files, or why it has failed.
type Looked = Result<Arc<Baseline>, String>;

/// The running threads. They end when this is dropped, after the file that they read.
#[derive(Debug)]
pub struct Threads(Arc<ModelArtifacts>);

/// What all threads use.
struct Work {
    artifacts: Arc<ModelArtifacts>,
    checker: Checker,
    reporter: Reporter,
    turns: Mutex<CheckTurns>,
    /// The owners whose files a thread looks at, or is to look at.
    looks: Mutex<BTreeSet<String>>,
}

/// The models of an owner, whose files a thread looks at. Dropping it, as a panic does too, lets
/// them be looked at again.
struct Look {
    work: Arc<Work>,
    owner: String,
    versions: Vec<Arc<Entry>>,
}

impl Drop for Look {
    fn drop(&mut self) {
        lock(&self.work.looks).remove(&self.owner);
    }
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
        lock(&self.work.turns).end(&self.turn);
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
            looks: Mutex::default(),
        });
        let (send, looks) = channel();
        let planning = Arc::clone(&work);
        let plan = move || {
            while planning.artifacts.wait(PAUSE) {
                planning.add_confirmations(confirmations.take());
                planning.plan_looks(&send);
            }
        };
        spawn("model-plans", plan)?;
        let looks = Arc::new(Mutex::new(looks));
        for _ in 0..LOOKERS {
            let looks = Arc::clone(&looks);
            spawn("model-looks", move || look_until_closed(&looks))?;
        }
        // Apart from the others, because the start of a process can take long.
        let tending = Arc::clone(&work);
        let tend = move || {
            while tending.artifacts.wait(PAUSE) {
                tending.checker.tend_scanner();
            }
        };
        spawn("model-scanners", tend)?;
        for _ in 0..checkers {
            let work = Arc::clone(&work);
            let check = move || {
                while work.artifacts.wait(PAUSE) {
                    while work.check_next(|versions| work.check(versions)) {}
                }
            };
            spawn("model-checks", check)?;
        }
        Ok(threads)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Takes looks until no one plans them any more.
fn look_until_closed(looks: &Mutex<Receiver<Look>>) {
    loop {
        let next = lock(looks).recv();
        let Ok(look) = next else {
            return;
        };
        // A panic must not end the thread. The files are not looked at, so they do not count.
        let looked = AssertUnwindSafe(|| look.work.look_at(&look.versions));
        if catch_unwind(looked).is_err() {
            tracing::error!(owner = look.owner, cause = PANICKED, "cannot look at files");
        }
    }
}

impl Work {
    /// Has each confirmation applied at the next look at its model.
    fn add_confirmations(&self, confirmed: Vec<Confirmation>) {
        if confirmed.is_empty() {
            return;
        }
        let entries = self.artifacts.entries();
        for confirmation in confirmed {
            let is_named = |it: &&Arc<Entry>| {
                it.model == confirmation.model && it.version == confirmation.version
            };
            for entry in entries.iter().filter(is_named) {
                entry.add_confirmation(confirmation.clone());
            }
        }
    }

    /// Has the files of all owners looked at whose last look has ended.
    fn plan_looks(self: &Arc<Self>, send: &Sender<Look>) {
        let removed = self.artifacts.sweep();
        for entry in &removed {
            self.reporter.forget(entry);
        }
        let entries = self.artifacts.entries();
        show_all(&removed, &entries, &self.reporter.metrics);
        let mut by_owner: BTreeMap<String, Vec<Arc<Entry>>> = BTreeMap::new();
        for entry in entries {
            let versions = by_owner.entry(owner(&entry).to_owned()).or_default();
            versions.push(entry);
        }
        for (owner, versions) in by_owner {
            if !lock(&self.looks).insert(owner.clone()) {
                continue;
            }
            let look = Look {
                work: Arc::clone(self),
                owner,
                versions,
            };
            if send.send(look).is_err() {
                return;
            }
        }
    }

    /// Looks for files that changed since they were verified or rejected, and applies what was
    /// seen or confirmed of loads before.
    fn look_at(&self, versions: &[Arc<Entry>]) {
        // Before the looks: a load counts only if no file has changed until after it was seen.
        let before: Vec<_> = versions
            .iter()
            .map(|entry| (entry.servers().loads(), entry.take_confirmations()))
            .collect();
        // What the last look was compared with, for the next version with the same files.
        let mut last: Option<(Arc<Baseline>, Looked)> = None;
        for (entry, (loads, confirmed)) in versions.iter().zip(&before) {
            // Before the look, because a check may end meanwhile that is about a later state.
            let (status, known) = (entry.status(), entry.baseline());
            let looked = match last.take() {
                Some((baseline, looked)) if Arc::ptr_eq(&baseline, &known) => looked,
                _ => self.checker.look(&entry.artifact).map(Arc::new),
            };
            let is_verified = self.compare(entry, &status, &known, &looked);
            entry.mark_looked(self.artifacts.now_ms(), looked.is_err());
            let (artifacts, checker) = (&self.artifacts, &self.checker);
            if looked.is_ok() {
                self.reporter.see_loads(artifacts, checker, entry, loads);
            }
            for confirmation in confirmed {
                // What was said before the files were verified is no confirmation.
                let reporter = &self.reporter;
                reporter.confirm(artifacts, checker, entry, confirmation, is_verified);
            }
            last = Some((known, looked));
        }
    }

    /// Applies a look at the files of a version, which had this status and these states before.
    /// Returns whether they are the verified ones.
    fn compare(&self, entry: &Entry, status: &Status, known: &Baseline, looked: &Looked) -> bool {
        // They are verified again, and no change is known.
        let again = Status::Checking { changed: None };
        let looked = match looked {
            Ok(looked) => looked,
            Err(cause) => {
                if status.is_verified() {
                    let (model, version) = entry.names();
                    tracing::warn!(model, version, cause, "cannot look at files of a model");
                    self.apply(entry, &again);
                }
                return false;
            }
        };
        entry.set_first_baseline(looked);
        if matches!(status, Status::Checking { .. }) {
            // The check compares them.
            return false;
        }
        let changed = looked.change_since(known);
        if changed.is_some() {
            self.apply(entry, &Status::Checking { changed });
            return false;
        }
        if let Status::Verified(identity) = status
            && identity.accepted.has_ended(now_unix_s())
        {
            let (model, version) = entry.names();
            tracing::warn!(
                model,
                version,
                "an exception for a file of a model has ended"
            );
            // The check says which. No file has changed, so no load is needed.
            self.apply(entry, &again);
            return false;
        }
        if entry.is_unreadable() && !status.is_verified() {
            // The check may have failed for the same reason.
            self.apply(entry, &again);
        }
        status.is_verified()
    }

    fn apply(&self, entry: &Entry, observation: &Status) {
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
            let failed = Status::Rejected(Cause::Other(PANICKED.to_owned()));
            for entry in &next.versions {
                self.apply(entry, &failed);
            }
        }
        true
    }

    /// Takes the next model whose turn it is. No file is read here, because all threads wait for
    /// this.
    fn take_turn(&self) -> Option<Check<'_>> {
        let mut turns = lock(&self.turns);
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

    /// Verifies the files of model versions, which are the same files.
    fn check(&self, versions: &[Arc<Entry>]) {
        let Some(first) = versions.first() else {
            return;
        };
        let (observation, checked) = self.checker.check(&first.artifact);
        let checked = Arc::new(checked);
        for entry in versions {
            // A change before the check, which the check itself cannot find.
            let is_told = matches!(entry.status(), Status::Checking { changed: Some(_) });
            let changed = checked.change_since(&entry.baseline());
            if changed.is_some() && !is_told {
                self.apply(entry, &Status::Checking { changed });
            }
            let observation = self
                .checker
                .of_version(entry.names(), &observation, &checked);
            // Set before the status, because the other threads compare with it from then on. What
            // cannot be read is compared with what it was when it can be read again.
            if checked.is_known() {
                entry.set_baseline(&checked);
            }
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
