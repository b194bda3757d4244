//! Policy reloads at run time: watches the bundle, reads it, and reports the outcome. A bundle with
//! any fault changes nothing.
//!
//! A bundle is replaced by renaming another file over it. So the file that is read is complete, and
//! a file that is still being written in place is never read. SIGHUP reads the current file; half a
//! bundle is rejected.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tensorgate_base::files;
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_os_sandbox as os_sandbox;
use tensorgate_policy::Policy;
use tensorgate_settings::bundle::{self, BundleError, Candidate};
use tensorgate_settings::permitted::Permitted;
use tensorgate_settings::policy_resources::PolicyResources;
use tensorgate_telemetry::labels::ReloadLabels;
use tensorgate_watch::blocks::Responses;
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::policy_store::artifacts::{Artifacts, RejectionLimiter, rejections};
use crate::policy_store::assemble::{Loader, PolicyFault};
use crate::policy_store::parts::models_at;
use crate::policy_store::pending_policy::PendingPolicy;
use crate::policy_store::policy_versions::{Attempt, LoadOutcome, PolicyVersion};
use crate::policy_store::restriction::restrict;
use crate::policy_store::waiting_policy::LostModels;
use crate::service::App;

/// The interval of checks whether the bundle's file was replaced.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The interval of checks for expired policies.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Why a bundle was discarded.
const LATE: &str = "a later bundle revokes access that this one has";

/// Activates policies.
pub struct Reloader {
    app: Arc<App>,
    loader: Arc<Loader>,
    /// Serializes loading.
    turn: Mutex<()>,
    /// The number of bundles so far.
    come: AtomicU64,
    /// The number of the last bundle that only restricts the active policy. Locked while one is
    /// promoted: an earlier bundle would undo the restriction.
    tightened: std::sync::Mutex<u64>,
    /// Bounds the audit records about rejected bundles.
    rejections: RejectionLimiter,
    /// What the OS sandbox permits. `None` without it.
    permitted: Option<Arc<Permitted>>,
}

/// A bundle that was read and is to be activated.
struct AnnouncedBundle<'r> {
    /// Its number.
    number: u64,
    candidate: Result<Candidate, BundleError>,
    /// The loaded version that it restricts.
    tightens: Option<Arc<PolicyVersion>>,
    _announced: Option<PendingPolicy<'r>>,
}

/// Why a bundle was not activated.
enum Refusal {
    /// Its faults.
    Faults(Vec<PolicyFault>),
    /// It would make ready models unready: why.
    Unready(Vec<String>),
    /// A later bundle restricts what this one still allows.
    Late,
}

impl From<Vec<PolicyFault>> for Refusal {
    fn from(faults: Vec<PolicyFault>) -> Self {
        Self::Faults(faults)
    }
}

/// The texts of faults.
pub fn texts(faults: &[PolicyFault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

impl Reloader {
    pub(crate) fn new(app: Arc<App>, loader: Arc<Loader>, permitted: Option<Permitted>) -> Self {
        Self {
            app,
            loader,
            turn: Mutex::new(()),
            come: AtomicU64::new(0),
            tightened: std::sync::Mutex::new(0),
            rejections: RejectionLimiter::default(),
            permitted: permitted.map(Arc::new),
        }
    }

    /// Activates a bundle, or returns every fault. The active policy stays active until the new one
    /// is complete.
    pub async fn reload(&self, candidate: Result<Candidate, BundleError>) -> Attempt {
        self.load(self.announce(candidate)).await
    }

    /// Makes bundles wait, as if one were being loaded, until the guard is dropped.
    pub async fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Registers a bundle. Clients that it does not admit are rejected from now on, however long it
    /// takes to load.
    fn announce(&self, candidate: Result<Candidate, BundleError>) -> AnnouncedBundle<'_> {
        let generations = &self.app.policy_versions;
        let number = self.come.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (mut tightens, mut announced) = (None, None);
        if let Ok(candidate) = &candidate {
            candidate.log_warnings();
            announced = Some(generations.announce(&candidate.policy));
            if let Some(of) = &candidate.target.tightens {
                *self.tightened() = number;
                tightens = generations.find(of);
                if *of != candidate.generation {
                    generations.tighten(of, &candidate.policy);
                }
            }
        }
        AnnouncedBundle {
            number,
            candidate,
            tightens,
            _announced: announced,
        }
    }

    fn tightened(&self) -> std::sync::MutexGuard<'_, u64> {
        self.tightened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, coming: AnnouncedBundle<'_>) -> Attempt {
        let AnnouncedBundle {
            number,
            candidate,
            tightens,
            _announced,
        } = coming;
        // A restriction has nothing to load and does not wait for other bundles.
        let _turn = match tightens {
            Some(_) => None,
            None => Some(self.turn.lock().await),
        };
        let started = Instant::now();
        let named = candidate.as_ref().ok();
        let named = named.map(|candidate| (candidate.generation.clone(), candidate.digest));
        let (generation, digest) = named.unzip();
        let put = match candidate {
            Ok(candidate) => self.put(&candidate, number, tightens.as_ref()).await,
            Err(error) => Err(Refusal::Faults(vec![error.into()])),
        };
        let late = matches!(put, Err(Refusal::Late));
        let (outcome, faults) = match put {
            Ok(outcome) => (outcome, Vec::new()),
            Err(Refusal::Faults(faults)) => {
                let texts = texts(&faults);
                let bundle = (generation.as_deref(), digest.as_ref());
                let records = rejections(bundle, &faults, &texts);
                let records = self.rejections.admit(records, started.into_std());
                self.app.outcomes.artifacts(records);
                (LoadOutcome::Refused, texts)
            }
            Err(Refusal::Unready(causes)) => (LoadOutcome::Unready, causes),
            Err(Refusal::Late) => (LoadOutcome::Refused, vec![LATE.to_owned()]),
        };
        let attempt = Attempt {
            outcome,
            generation,
            at_unix_s: now_unix_s(),
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            faults,
        };
        if late {
            // The writer of this bundle has discarded it and waits for the later one.
            let generation = attempt.generation.as_deref().unwrap_or_default();
            tracing::info!(generation, cause = LATE, "policy reload abandoned");
        } else {
            self.log_attempt(&attempt);
            self.app.policy_versions.record_attempt(attempt.clone());
        }
        attempt
    }

    async fn put(
        &self,
        candidate: &Candidate,
        number: u64,
        tightens: Option<&Arc<PolicyVersion>>,
    ) -> Result<LoadOutcome, Refusal> {
        let generations = &self.app.policy_versions;
        let waiting = match tightens {
            Some(_) => None,
            None => self.app.waiting_policy.take(),
        };
        let mut versions = generations.all();
        versions.extend(waiting.as_ref().map(|it| Arc::clone(&it.version)));
        let known = versions
            .iter()
            .find(|generation| generation.name() == candidate.generation);
        let loaded = match (known, tightens) {
            (Some(known), _) if known.digest != candidate.digest => {
                Err(vec![PolicyFault::Taken(candidate.generation.clone())])
            }
            (Some(known), Some(_)) => Ok(Arc::clone(known)),
            // Files that it names may have changed. A version that was superseded recently is
            // activated again.
            (Some(known), None) => {
                let reread = self.loader.reload_secrets(known).await;
                reread.map(|()| Arc::clone(known))
            }
            (None, Some(base)) => restrict(&self.loader, candidate, base).map(Arc::new),
            (None, None) => match self.check_permitted(&candidate.policy).await {
                Ok(()) => self.loader.load(candidate, &versions).await.map(Arc::new),
                Err(faults) => {
                    self.keep_revocations(candidate, number);
                    Err(faults)
                }
            },
        };
        let generation = loaded.map_err(|faults| self.refusal(faults, number))?;
        let (now, next) = (generations.newest(), generation.policy().audit());
        if !next.same_log(now.policy().audit()) {
            return Err(self.refusal(vec![PolicyFault::Audit], number));
        }
        let unchanged = generation.name() == now.name();
        if tightens.is_none() && !unchanged {
            probe_new_models(&generation).await;
            if let Some(tightened) = &candidate.target.hold {
                let waiting = waiting.filter(|it| it.version.digest == candidate.digest);
                let known = waiting.map(|it| it.lost).unwrap_or_default();
                let lost = self.lost_models(&generation, tightened, known).await;
                let lost = lost.map_err(|faults| self.refusal(faults, number))?;
                if !lost.is_empty() {
                    self.keep_revocations(candidate, number);
                    return Err(self.hold_back(generation, lost, number));
                }
            }
        }
        let name = generation.name().to_owned();
        {
            let tightened = self.tightened();
            if *tightened > number {
                return Err(Refusal::Late);
            }
            let before = Artifacts::of_version(&generations.newest());
            let changes = Artifacts::of_version(&generation).changes_since(&before);
            generations.promote(generation);
            self.app.outcomes.artifacts(changes);
            if candidate.target.tightens.is_none() {
                generations.loosen(&name);
            }
        }
        if unchanged {
            return Ok(LoadOutcome::Unchanged);
        }
        self.app.outcomes.policy(&name);
        let newest = generations.newest();
        self.app.tap.follow(newest.policy(), &name);
        let responses = Responses::from_policy(newest.policy());
        self.app.blocks.set_responses(responses);
        self.app.webhook.set_targets(newest.parts.webhooks.clone());
        Ok(LoadOutcome::Loaded)
    }

    /// The ready models that a version would make unready. `known` are those of an earlier attempt.
    async fn lost_models(
        &self,
        next: &Arc<PolicyVersion>,
        tightened: &[String],
        known: Arc<BTreeSet<(String, String)>>,
    ) -> Result<LostModels, Vec<PolicyFault>> {
        let (next, in_force) = (Arc::clone(next), self.app.policy_versions.newest());
        let tightened = tightened.to_vec();
        // On a separate thread, because many models take some time.
        let looking = tokio::task::spawn_blocking(move || {
            LostModels::find(&next, &in_force, &tightened, &known)
        });
        (looking.await).map_err(|error| vec![PolicyFault::Loading(error.to_string())])
    }

    /// Keeps a version that would make ready models unready. It is not reported as held if a later
    /// bundle restricts what it allows: its writer sends it again.
    fn hold_back(&self, version: Arc<PolicyVersion>, lost: LostModels, number: u64) -> Refusal {
        let causes = self.app.waiting_policy.hold(version, lost);
        if *self.tightened() > number {
            Refusal::Late
        } else {
            Refusal::Unready(causes)
        }
    }

    /// Checks that the OS sandbox permits what a policy names, and returns a fault for each
    /// resource that it does not.
    async fn check_permitted(&self, policy: &Arc<Policy>) -> Result<(), Vec<PolicyFault>> {
        let Some(permitted) = self.permitted.clone() else {
            return Ok(());
        };
        let policy = Arc::clone(policy);
        // Links are followed on a separate thread, so that requests do not wait.
        let checking =
            tokio::task::spawn_blocking(move || permitted.missing(&PolicyResources::of(&policy)));
        let missing =
            (checking.await).map_err(|error| vec![PolicyFault::Loading(error.to_string())])?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(missing.into_iter().map(PolicyFault::from).collect())
    }

    /// Keeps rejecting the clients that a policy removes, although it waits for a restart of this
    /// host or for its models. They are admitted again once a bundle is loaded that has them.
    fn keep_revocations(&self, candidate: &Candidate, number: u64) {
        let tightened = self.tightened();
        if *tightened <= number {
            let generations = &self.app.policy_versions;
            generations.tighten(generations.newest().name(), &candidate.policy);
        }
    }

    /// The outcome of a bundle with faults. They are not reported if it was discarded meanwhile.
    fn refusal(&self, faults: Vec<PolicyFault>, number: u64) -> Refusal {
        if *self.tightened() > number {
            Refusal::Late
        } else {
            Refusal::Faults(faults)
        }
    }

    fn log_attempt(&self, attempt: &Attempt) {
        let Attempt {
            outcome,
            generation,
            at_unix_s: _,
            took_ms,
            faults,
        } = attempt;
        self.app
            .metrics
            .reloads
            .get_or_create(&ReloadLabels {
                outcome: outcome.name(),
            })
            .inc();
        let generation = generation.as_deref().unwrap_or_default();
        let serving = self.app.policy_versions.newest();
        let serving = serving.name();
        if *outcome == LoadOutcome::Unready {
            for cause in faults {
                tracing::warn!(generation, serving, cause, "policy held");
            }
        } else if *outcome == LoadOutcome::Refused {
            for cause in faults.iter().map(|cause| os_sandbox::with_hint(cause)) {
                tracing::error!(generation, serving, cause, "policy rejected");
            }
        } else {
            let outcome = outcome.name();
            tracing::info!(generation, outcome, took_ms, "policy");
        }
    }
}

/// Probes models that were not probed yet, so that models of backends that are up are ready after a
/// start or reload. Backends that do not answer delay it by at most one probe timeout.
pub(crate) async fn probe_new_models(generation: &PolicyVersion) {
    let mut looks = JoinSet::new();
    for (name, backend) in &generation.parts.backends {
        let models: Vec<_> = models_at(generation.policy(), name).collect();
        if !models.is_empty() {
            let dispatcher = Arc::clone(&backend.dispatcher);
            looks.spawn(async move { dispatcher.health().probe_models(models).await });
        }
    }
    while looks.join_next().await.is_some() {}
}

/// Drops expired policies, and a held one about which no one asks, forever.
pub(crate) async fn sweep(app: Arc<App>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.policy_versions.sweep();
        app.waiting_policy.sweep();
    }
}

/// Watches a bundle's file forever. Reads it when another file was renamed over it, and after
/// `hangup`. It continues while a bundle is loaded, which may take as long as compiling handlers.
/// The next bundle waits, but clients that it does not admit are rejected at once.
pub async fn follow(reloader: Arc<Reloader>, path: PathBuf, hangup: Signal) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut followed = Followed {
        path,
        hangup,
        ticks,
        asked: false,
        seen: None,
    };
    let mut next = None;
    loop {
        let coming = match next.take() {
            Some(coming) => coming,
            None => reloader.announce(followed.next().await),
        };
        let loading = reloader.load(coming);
        tokio::pin!(loading);
        loop {
            tokio::select! {
                _ = &mut loading => break,
                bundle = followed.next() => {
                    let coming = reloader.announce(bundle);
                    // Of several waiting bundles only the last one counts.
                    next = if coming.tightens.is_some() {
                        reloader.load(coming).await;
                        None
                    } else {
                        Some(coming)
                    };
                }
            }
        }
    }
}

/// The bundle's file and the events to read it.
struct Followed {
    path: PathBuf,
    hangup: Signal,
    ticks: Interval,
    /// Whether to read it even if it was not replaced.
    asked: bool,
    /// The file that was read last.
    seen: Option<File>,
}

impl Followed {
    /// The next bundle. It is not lost if this future is dropped.
    async fn next(&mut self) -> Result<Candidate, BundleError> {
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => self.asked = true,
                _ = self.ticks.tick() => {}
            }
            let (path, asked) = (self.path.clone(), self.asked);
            let before = self.seen.as_ref().and_then(|seen| seen.try_clone().ok());
            let looked =
                tokio::task::spawn_blocking(move || check_file(&path, before, asked)).await;
            let Ok((now, bundle)) = looked else { continue };
            (self.seen, self.asked) = (now, false);
            if let Some(bundle) = bundle {
                return bundle;
            }
        }
    }
}

type FileCheck = (Option<File>, Option<Result<Candidate, BundleError>>);

/// The current file, and its bundle if the file was replaced or `asked` is set. The previous file
/// stays open, so that no other file can get its inode number.
fn check_file(path: &Path, before: Option<File>, asked: bool) -> FileCheck {
    let same = |before: &File| {
        let (was, is) = (before.metadata(), std::fs::metadata(path));
        was.ok().zip(is.ok()).is_none_or(|(was, is)| {
            // A file that is missing for a moment was not replaced.
            (was.dev(), was.ino()) == (is.dev(), is.ino())
        })
    };
    if !asked && before.as_ref().is_some_and(same) {
        return (before, None);
    }
    match files::open(path) {
        Ok(file) => {
            let bundle = bundle::read_bundle(path, &file);
            (Some(file), Some(bundle))
        }
        Err(error) => {
            let error = BundleError::File {
                path: path.to_owned(),
                cause: error.to_string(),
            };
            (before, Some(Err(error)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_policy_compiler::{Version, raw};

    use super::*;

    #[test]
    fn a_bundle_is_read_when_another_is_renamed_over_it_and_never_while_it_is_written() {
        let folder = std::env::temp_dir().join(format!("tg-look-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("bundle.bin");
        let replace = |generation: &str| {
            let new = folder.join("new");
            let raw = raw::Policy {
                version: Some(1),
                ..raw::Policy::default()
            };
            let version = Version::new(raw).unwrap().named(generation);
            let compiled = version.for_host();
            std::fs::write(&new, compiled.to_bytes()).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        let mut seen = None;
        let mut check = |asked: bool, expected: Option<Result<&str, &str>>, what: &str| {
            let (now, bundle) = check_file(&path, seen.take(), asked);
            seen = now;
            match (bundle, expected) {
                (None, None) => {}
                (Some(Ok(bundle)), Some(Ok(generation))) => {
                    assert_eq!(bundle.generation, generation, "{what}");
                }
                (Some(Err(error)), Some(Err(text))) => {
                    assert!(error.to_string().contains(text), "{what}: {error}");
                }
                (found, expected) => {
                    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{what}");
                }
            }
        };
        replace("a");
        check(false, Some(Ok("a")), "the first look reads");
        check(false, None, "nothing changed");
        replace("b");
        check(false, Some(Ok("b")), "another file");
        std::fs::write(&path, "tgpolicy").unwrap();
        check(false, None, "written in place: perhaps not to its end");
        check(true, Some(Err("is damaged")), "asked: half of one is none");
        check(false, None, "a refused one is not tried again by itself");
        replace("d");
        check(true, Some(Ok("d")), "asked and another");
        check(false, None, "and it was seen");
        std::fs::remove_file(&path).unwrap();
        check(false, None, "gone for a moment");
        check(
            true,
            Some(Err("cannot read")),
            "asked for what is not there",
        );
        replace("e");
        check(false, Some(Ok("e")), "there again");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
