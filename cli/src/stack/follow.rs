//! Watches a policy's files and puts changes in force.
//!
//! A change that cannot be applied completely is held, and so is one that would make ready models
//! unready. Its revocations and removals still take effect ([`crate::tighten`]), and the status
//! shows the files and the cause.

mod basis;
mod fault_text;

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_compiler::Version;
use tensorgate_policy_compiler::raw::ReloadHold;
use tensorgate_policy_load::load::{Loaded, revoked_section};
use tensorgate_settings::sources::SourceState;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

use super::front::Front;
use super::reload::{Processes, ReloadError, Reloaded};
use super::requests::{Answer, Request, Requests};
use super::site::How;
use super::status_file::StatusFile;
use super::terminal::Terminal;
use super::watch::{Change, Watch};
use crate::components;
use crate::tighten::tightened_contracts;
use basis::{Basis, Pending, urgent};
use fault_text::{reason, text};

/// Interval between retries of removals that a process rejected.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Interval between questions whether the models are ready for a held policy.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A policy, and a watch on its files.
pub struct Sources {
    /// The watch, started before the files were read.
    pub watch: Watch,
    /// The policy.
    pub loaded: Loaded,
}

/// Applies changes of the policy.
pub struct Following<'a, F> {
    front: &'a RefCell<&'a mut F>,
    status_file: &'a StatusFile<'a, F>,
    processes: Processes<'a>,
    watch: Watch,
    basis: Basis,
    /// Version of the last completely applied policy.
    complete_generation: String,
    /// The files of that version.
    files: Vec<PathBuf>,
    /// Why the last read files are not in force.
    why: Option<String>,
    /// Removals that were rejected.
    stuck: Option<Stuck>,
    /// A policy that would make ready models unready.
    unready: Option<Unready>,
    /// The version that an operator has accepted although it makes models unready.
    accepted: Option<String>,
    requests: Requests,
}

/// A policy that waits for its models.
struct Unready {
    generation: String,
    /// A line for each cause.
    causes: Vec<String>,
    ask_at: Instant,
}

struct Stuck {
    generation: String,
    why: String,
    retry_at: Instant,
}

/// Reason to continue.
enum Wake {
    Asked,
    Requested(Request),
    Changed(Change),
    Retry,
    /// It is time to ask whether the models are ready.
    Ask,
}

impl Unready {
    fn new(generation: String, causes: Vec<String>) -> Self {
        let now = Instant::now();
        Self {
            generation,
            causes,
            ask_at: now.checked_add(ASK_EVERY).unwrap_or(now),
        }
    }
}

/// Waits until a time; forever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl<'a, F: Front> Following<'a, F> {
    /// Follows the sources of the version that the processes started with.
    pub fn new(
        sources: Sources,
        processes: Processes<'a>,
        root: &Path,
        (front, status_file): (&'a RefCell<&'a mut F>, &'a StatusFile<'a, F>),
    ) -> Self {
        let Sources { watch, loaded } = sources;
        let files = front.borrow().files(&loaded);
        let Loaded { version, named, .. } = loaded;
        Self {
            requests: Requests::of(processes.state()),
            front,
            status_file,
            processes,
            watch,
            complete_generation: version.generation.clone(),
            basis: Basis::new(root, version, named),
            files,
            why: None,
            stuck: None,
            unready: None,
            accepted: None,
        }
    }

    /// Follows the files. Never returns.
    pub async fn run(&mut self, mut hangup: Signal, terminal: Terminal) -> Infallible {
        self.show();
        loop {
            let retry = at(self.stuck.as_ref().map(|stuck| stuck.retry_at));
            let ask = at(self.unready.as_ref().map(|unready| unready.ask_at));
            let wake = tokio::select! {
                _ = hangup.recv() => if terminal.is_gone() { continue } else { Wake::Asked },
                change = self.watch.changed() => Wake::Changed(change),
                request = self.requests.next() => Wake::Requested(request),
                () = retry => Wake::Retry,
                () = ask => Wake::Ask,
            };
            match wake {
                Wake::Asked => self.read(true).await,
                Wake::Requested(request) => self.respond(request).await,
                Wake::Changed(Change::Settled) => self.read(false).await,
                Wake::Changed(Change::Fresh) => self.tighten(false).await,
                Wake::Retry => self.tighten(true).await,
                Wake::Ask => self.ask().await,
            }
            self.show();
        }
    }

    /// Reads the policy as on SIGHUP, and answers what became of it.
    async fn respond(&mut self, request: Request) {
        let Request { id, accept } = request;
        self.accepted = accept;
        self.read(true).await;
        let waiting = self.basis.waiting();
        let changed = waiting.as_ref().map(|_| "the files have changed meanwhile");
        let answer = Answer {
            id,
            in_force: self.basis.in_force.generation.clone(),
            why: self.why.clone().or(changed.map(str::to_owned)),
            waiting,
        };
        if let Err(failure) = self.requests.answer(answer) {
            self.front.borrow_mut().failed(&failure);
        }
    }

    /// Applies a held policy if its models are ready.
    async fn ask(&mut self) {
        let Some(Unready {
            generation, causes, ..
        }) = self.unready.take()
        else {
            return;
        };
        let ready = self.processes.is_ready_for(&generation, &causes).await;
        self.unready = Some(Unready::new(generation, causes));
        if ready {
            self.read(false).await;
        }
    }

    /// Reads the policy and applies it if it is valid. With `asked`, files are read even while they
    /// are being written.
    async fn read(&mut self, asked: bool) {
        let (loaded, section) = loop {
            self.watch.begin();
            let loaded = self.front.borrow().load();
            let front = self.front.borrow();
            let (named, section) = match &loaded {
                Ok(loaded) => (front.files(loaded), None),
                Err(_) => {
                    let section = revoked_section(front.policy());
                    let lists = section
                        .iter()
                        .flat_map(|section| self.basis.list_files(section));
                    (lists.collect(), section)
                }
            };
            // Repeats the read with all files watched, because new ones may have changed before.
            if self.watch.follow(self.files.iter().cloned().chain(named)) {
                break (loaded, section);
            }
        };
        if !self.watch.is_unchanged() && !asked {
            return;
        }
        match loaded {
            Ok(loaded) => self.put(loaded).await,
            Err(error) => {
                (self.basis.pending, self.unready) = (None, None);
                self.basis.note_section(section);
                self.why = Some(reason(&error));
                self.show();
                self.front
                    .borrow_mut()
                    .faulty(error, &self.basis.in_force.generation);
                self.tighten(asked).await;
            }
        }
    }

    /// Applies a complete policy.
    async fn put(&mut self, loaded: Loaded) {
        self.front.borrow_mut().loaded(&loaded);
        let files = self.front.borrow().files(&loaded);
        let differing = loaded.located(self.component_faults(&loaded.version.policy));
        let Loaded { version, named, .. } = loaded;
        self.basis.note_section(Some(named.revoked.clone()));
        let version = Rc::new(version);
        self.unready = None;
        if self.accepted.as_ref() != Some(&version.generation) {
            self.accepted = None;
        }
        let tightened = tightened_contracts(&self.basis.in_force, &version);
        let hold = version.raw.reload.unwrap_or_default().hold;
        let how = match (hold, &self.accepted) {
            (ReloadHold::On, None) => How::UnlessUnready(&tightened),
            (ReloadHold::Off, _) | (_, Some(_)) => How::Complete,
        };
        self.basis.pending = Some(Pending {
            version: Rc::clone(&version),
            named,
            files,
        });
        // The host would keep a component that it has loaded, and the change would go unnoticed
        // until the next start.
        if !differing.is_empty() {
            let file = self.front.borrow().policy().to_owned();
            let texts = differing.iter().map(|fault| text(&file, fault)).collect();
            return self.hold(ReloadError::Components(texts)).await;
        }
        let outcome = loop {
            let Self {
                processes,
                watch,
                basis,
                stuck,
                ..
            } = self;
            let stuck = stuck.as_ref().map(|stuck| stuck.generation.as_str());
            let (tightened, again) = tokio::select! {
                outcome = processes.put(&version, how) => break outcome,
                urgent = urgent(watch, basis, stuck) => urgent,
            };
            self.put_tightened(tightened).await;
            if again {
                self.watch.again();
                return;
            }
        };
        match outcome {
            Ok(reloaded) => {
                self.basis.in_force = version;
                self.accept(reloaded).await;
            }
            Err(error) => self.hold(error).await,
        }
    }

    /// Keeps the policy in force. Only the removals of the policy that was read take effect.
    async fn hold(&mut self, error: ReloadError) {
        self.why = Some(error.to_string());
        if let ReloadError::Unready { causes, .. } = &error {
            let waiting = self.basis.waiting();
            self.unready = waiting.map(|generation| Unready::new(generation, causes.clone()));
        }
        self.show();
        let serving = &self.basis.in_force.generation;
        self.front.borrow_mut().reloaded(Err(error), serving);
        self.tighten(false).await;
    }

    /// The components that are missing or differ from their digests, as the watch read them.
    fn component_faults(&self, policy: &Policy) -> Vec<Fault> {
        components::faults(policy, &self.basis.root, Severity::Error, |file| {
            self.watch.read_contents(file)
        })
    }

    /// Records that the complete policy is in force, and reports which models are not ready.
    async fn accept(&mut self, mut reloaded: Reloaded) {
        if let Some(Pending { named, files, .. }) = self.basis.pending.take() {
            self.basis.sections = vec![named.revoked];
            self.basis.keys = named.keys;
            self.files = files;
        }
        (self.why, self.stuck) = (None, None);
        (self.unready, self.accepted) = (None, None);
        self.watch.follow(self.files.iter().cloned());
        self.watch.accept();
        let generation = reloaded.generation.clone();
        let complete = std::mem::replace(&mut self.complete_generation, generation);
        // The removals alone were this version already.
        if reloaded.was == reloaded.generation {
            reloaded.was = complete;
        }
        self.show();
        let unready = self.processes.unready().await;
        let outcome = Ok((reloaded, unready));
        self.front
            .borrow_mut()
            .reloaded(outcome, &self.complete_generation);
    }

    /// Applies only the removals. With `again`, rejected ones are retried.
    async fn tighten(&mut self, again: bool) {
        match self.basis.tightened(&self.watch) {
            Ok(None) => self.stuck = None,
            Ok(Some(version)) => {
                let stuck = self.stuck.as_ref().map(|stuck| &stuck.generation);
                if again || stuck != Some(&version.generation) {
                    self.put_tightened(version).await;
                }
            }
            Err(faults) => {
                let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
                self.record_rejection(String::new(), texts.join("\n"));
            }
        }
    }

    async fn put_tightened(&mut self, version: Version) {
        match self.processes.put(&version, How::Tighter).await {
            Ok(reloaded) => {
                let generation = version.generation.clone();
                self.basis.in_force = Rc::new(version);
                self.stuck = None;
                self.show();
                self.front.borrow_mut().tightened(Ok(reloaded.clone()));
                // A policy that was rejected before may now be completely in force.
                let pending = self.basis.pending.as_ref();
                let is_all = |pending: &Pending| {
                    pending.version.generation == generation
                        && self.component_faults(&pending.version.policy).is_empty()
                };
                if self.why.is_some() && pending.is_some_and(is_all) {
                    self.accept(reloaded).await;
                }
            }
            Err(error) => self.record_rejection(version.generation, error.to_string()),
        }
    }

    fn record_rejection(&mut self, generation: String, why: String) {
        let now = Instant::now();
        let stuck = Stuck {
            generation,
            why,
            retry_at: now.checked_add(RETRY_EVERY).unwrap_or(now),
        };
        let before = self.stuck.replace(stuck);
        self.show();
        if let Some(stuck) = &self.stuck
            && before.is_none_or(|before| before.why != stuck.why)
        {
            self.front.borrow_mut().tightened(Err(&stuck.why));
        }
    }

    /// Updates the status. It runs before a change is reported, so that the status is never older.
    fn show(&self) {
        let in_force = &self.basis.in_force;
        let revocations = self.basis.revocations(&self.watch);
        let mut held = Vec::new();
        if let Some(why) = &self.why {
            let in_force: Vec<_> = revocations.same_in(&in_force.raw.revoked).collect();
            let files = self
                .watch
                .differing()
                .filter(|file| !in_force.contains(file));
            held.extend(files.map(|file| SourceState::new(file, why)));
            if held.is_empty() {
                held.push(SourceState::new(self.front.borrow().policy(), why));
            }
        }
        let why = "the file keeps changing: it is read once it stays the same for a while";
        held.extend(
            self.watch
                .unstable()
                .map(|file| SourceState::new(file, why)),
        );
        let lists = revocations
            .are_in(&in_force.raw.revoked)
            .then_some(revocations.read);
        let stuck = self.stuck.as_ref().map(|stuck| stuck.why.as_str());
        self.status_file
            .policy(&in_force.generation, lists.unwrap_or_default(), held, stuck);
    }
}
