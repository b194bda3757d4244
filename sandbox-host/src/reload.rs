//! Another policy while requests run: who asks for it, how its bundle is read, and what is told of it. A bundle with any fault changes
//! nothing.
//!
//! A bundle is replaced by renaming another over it: what a look reads is then whole, and a file that somebody is still writing in
//! place is never taken for one. SIGHUP reads whatever stands there; half a bundle is no JSON, and is refused.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tensorgate_policy::{Bundle, Severity};
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::assemble::{Loader, PolicyFault, models_at};
use crate::config::{self, Candidate, ConfigError};
use crate::generations::{Announced, Attempt, Generation, Outcome};
use crate::metrics::ReloadLabels;
use crate::serve::App;
use crate::wall;

/// Between two looks at whether the bundle's file was replaced.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at whether an older policy's time is over.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Puts policies in force.
pub struct Reloader {
    app: Arc<App>,
    loader: Arc<Loader>,
    /// One at a time.
    turn: Mutex<()>,
}

/// A bundle that was read, and is to be put in force.
struct Coming<'r> {
    /// Its name, where it has one.
    generation: Option<String>,
    candidate: Result<Candidate, ConfigError>,
    _announced: Option<Announced<'r>>,
}

/// The texts of faults.
pub fn texts(faults: &[PolicyFault]) -> Vec<String> {
    faults.iter().flat_map(text).collect()
}

/// A policy's own faults are told one by one; what merely weakens it is none.
fn text(fault: &PolicyFault) -> Vec<String> {
    match fault {
        PolicyFault::Config(ConfigError::Policy(faults)) => faults
            .iter()
            .filter(|fault| fault.severity == Severity::Error)
            .map(ToString::to_string)
            .collect(),
        other => vec![other.to_string()],
    }
}

impl Reloader {
    pub(crate) fn new(app: Arc<App>, loader: Arc<Loader>) -> Self {
        Self {
            app,
            loader,
            turn: Mutex::new(()),
        }
    }

    /// Puts a bundle in force, or tells every fault. What is in force stays so until the new one is complete.
    pub async fn reload(&self, bundle: Result<Bundle, ConfigError>) -> Attempt {
        self.load(self.announce(bundle)).await
    }

    /// Has bundles wait for their turn, as behind one that is being loaded, as long as what this gives lives.
    pub async fn hold(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A bundle that has come: whom it does not let in is out from now on, whatever takes long before it is in force.
    fn announce(&self, bundle: Result<Bundle, ConfigError>) -> Coming<'_> {
        let generation = bundle.as_ref().ok().map(|bundle| bundle.generation.clone());
        let candidate = bundle.and_then(|bundle| config::candidate(&bundle));
        let announced = candidate.as_ref().ok();
        let announced = announced.map(|candidate| self.app.generations.announce(&candidate.policy));
        Coming {
            generation,
            candidate,
            _announced: announced,
        }
    }

    async fn load(&self, coming: Coming<'_>) -> Attempt {
        let Coming {
            generation,
            candidate,
            _announced,
        } = coming;
        let _turn = self.turn.lock().await;
        let started = Instant::now();
        let put = match candidate {
            Ok(candidate) => self.put(&candidate).await,
            Err(error) => Err(vec![error.into()]),
        };
        let (outcome, faults) = match put {
            Ok(outcome) => (outcome, Vec::new()),
            Err(faults) => (Outcome::Refused, texts(&faults)),
        };
        let attempt = Attempt {
            outcome,
            generation,
            at_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            faults,
        };
        self.tell(&attempt);
        self.app.generations.note(attempt.clone());
        attempt
    }

    async fn put(&self, candidate: &Candidate) -> Result<Outcome, Vec<PolicyFault>> {
        let generations = &self.app.generations;
        let held = generations.all();
        let known = held
            .iter()
            .find(|generation| generation.name() == candidate.generation);
        let generation = match known {
            Some(known) if known.digest != candidate.digest => {
                return Err(vec![PolicyFault::Taken(candidate.generation.clone())]);
            }
            Some(known) => {
                // The files that it names may be others by now.
                self.loader.reread(known).await?;
                if known.name() == generations.newest().name() {
                    return Ok(Outcome::Unchanged);
                }
                // One that was superseded a moment ago comes back as it was.
                Arc::clone(known)
            }
            None => Arc::new(self.loader.load(candidate, &held).await?),
        };
        let (now, next) = (generations.newest(), generation.policy().audit());
        if !next.same_log(now.policy().audit()) {
            return Err(vec![PolicyFault::Audit]);
        }
        look_at_new_models(&generation).await;
        let name = generation.name().to_owned();
        generations.promote(generation);
        self.app.outcomes.policy(&name);
        Ok(Outcome::Loaded)
    }

    fn tell(&self, attempt: &Attempt) {
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
        if *outcome == Outcome::Refused {
            let serving = self.app.generations.newest();
            let serving = serving.name();
            for cause in faults.iter().map(|cause| wall::told_of(cause)) {
                tracing::error!(generation, serving, cause, "policy refused");
            }
        } else {
            let outcome = outcome.name();
            tracing::info!(generation, outcome, took_ms, "policy");
        }
    }
}

/// Has the probers ask for what they have not asked for yet, so that a reload makes no ready gate unready. Backends that do not
/// answer, however many, hold nothing up for longer than a probe.
async fn look_at_new_models(generation: &Generation) {
    let mut looks = JoinSet::new();
    for (name, backend) in &generation.parts.backends {
        let models: Vec<_> = models_at(generation.policy(), name).collect();
        if !models.is_empty() {
            let dispatcher = Arc::clone(&backend.dispatcher);
            looks.spawn(async move { dispatcher.health().look_at(models).await });
        }
    }
    while looks.join_next().await.is_some() {}
}

/// Lets older policies go when their time is over, for ever.
pub(crate) async fn sweep(app: Arc<App>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.generations.sweep();
    }
}

/// Follows a bundle's file for ever: reads it when another was renamed over it, and when `hangup` says so. It goes on to look while one is loaded, which
/// may take as long as handlers take to compile: the next one waits for its turn, but whom that no longer lets in is out.
pub async fn follow(reloader: Arc<Reloader>, path: PathBuf, hangup: Signal) {
    let mut ticks = interval(LOOK_EVERY);
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
                // Of several that wait the last one counts, as it would if they had been there at once.
                bundle = followed.next() => next = Some(reloader.announce(bundle)),
            }
        }
    }
}

/// A bundle's file, and when it is looked at.
struct Followed {
    path: PathBuf,
    hangup: Signal,
    ticks: Interval,
    /// Whether it is to be read, replaced or not.
    asked: bool,
    /// The file that was read last.
    seen: Option<File>,
}

impl Followed {
    /// The next bundle. Where this is dropped it is read the next time.
    async fn next(&mut self) -> Result<Bundle, ConfigError> {
        loop {
            tokio::select! {
                Some(()) = self.hangup.recv() => self.asked = true,
                _ = self.ticks.tick() => {}
            }
            let (path, asked) = (self.path.clone(), self.asked);
            let before = self.seen.as_ref().and_then(|seen| seen.try_clone().ok());
            let looked = tokio::task::spawn_blocking(move || look(&path, before, asked)).await;
            let Ok((now, bundle)) = looked else { continue };
            (self.seen, self.asked) = (now, false);
            if let Some(bundle) = bundle {
                return bundle;
            }
        }
    }
}

type Looked = (Option<File>, Option<Result<Bundle, ConfigError>>);

/// The file as it stands, and its bundle if it is another than the one before or was asked for. The file that was read stays open:
/// while it is, no other can have its number.
fn look(path: &Path, before: Option<File>, asked: bool) -> Looked {
    let same = |before: &File| {
        let (was, is) = (before.metadata(), std::fs::metadata(path));
        was.ok().zip(is.ok()).is_none_or(|(was, is)| {
            // A file that is gone for a moment is no other file.
            (was.dev(), was.ino()) == (is.dev(), is.ino())
        })
    };
    if !asked && before.as_ref().is_some_and(same) {
        return (before, None);
    }
    match config::open(path) {
        Ok(file) => {
            let bundle = config::read_bundle(path, &file);
            (Some(file), Some(bundle))
        }
        Err(error) => {
            let error = ConfigError::File {
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
    use super::*;

    #[test]
    fn a_bundle_is_read_when_another_is_renamed_over_it_and_never_while_it_is_written() {
        let folder = std::env::temp_dir().join(format!("tg-look-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("bundle.json");
        let replace = |generation: &str| {
            let new = folder.join("new");
            let text = format!(r#"{{"generation": "{generation}", "policy": {{}}}}"#);
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        let mut seen = None;
        let mut check = |asked: bool, expected: Option<Result<&str, &str>>, what: &str| {
            let (now, bundle) = look(&path, seen.take(), asked);
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
        std::fs::write(&path, "{\"generation\": \"c").unwrap();
        check(false, None, "written in place: perhaps not to its end");
        check(
            true,
            Some(Err("is not a bundle")),
            "asked: half of one is none",
        );
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
