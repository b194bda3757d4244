//! Which policies the host judges by: the newest, and older ones while requests that the gate let in under them may still come.
//!
//! A request is judged by the policy whose name stands in its verified context. One that names a policy which is not held is
//! refused as `overloaded`. An older policy never lets in whom the newest does not know: a client or a credential that is gone is gone
//! at once, whatever the gate has seen yet; and as soon as a policy without it is being loaded, however long that takes. What the newest merely narrowed (a grant, a rate, a contract) holds for requests that
//! the gate judges by it. This keeps policies; it loads none.

mod coming;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tensorgate_policy::{Denial, Policy, Protocol, Reason};
use tensorgate_wire::context::Key;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assemble::{Parts, models_at};
use crate::budget::Budget;
use crate::dispatch::Dispatcher;
use crate::limits::Limits;
use crate::metrics::{GenerationLabels, Metrics};
use crate::pipeline::Pipeline;
use crate::request::{Begun, Judge, Refused, Standing, arrive};
use crate::server::Bounds;
pub use coming::Announced;

/// Older policies that are held at once. Handlers and backends are shared, so that each costs its rules and routes alone. A
/// change beyond lets the oldest go before its time: a revocation must never wait for room.
pub const MAX_SUPERSEDED: usize = 32;

/// One policy and all that serves it.
pub struct Generation {
    /// Decides.
    pub judge: Arc<Judge>,
    /// Carries out.
    pub pipeline: Pipeline,
    /// What it was made of; shared with other generations where nothing changed.
    pub(crate) parts: Parts,
    /// SHA-256 of the policy: two policies of one name are told apart by it.
    pub(crate) digest: [u8; 32],
}

impl Generation {
    /// Its name.
    pub fn name(&self) -> &str {
        self.judge.generation()
    }

    /// Its policy.
    pub fn policy(&self) -> &Arc<Policy> {
        self.judge.policy()
    }

    /// Adds the models that each backend serves under this policy, by the dispatcher's address.
    fn models<'g>(&'g self, by_backend: &mut BTreeMap<*const Dispatcher, Served<'g>>) {
        for (name, backend) in &self.parts.backends {
            let models = by_backend
                .entry(Arc::as_ptr(&backend.dispatcher))
                .or_insert_with(|| (&backend.dispatcher, BTreeSet::new()));
            models.1.extend(models_at(self.policy(), name));
        }
    }
}

type Served<'g> = (&'g Arc<Dispatcher>, BTreeSet<(String, String)>);

/// The policies that are held.
pub struct Generations {
    held: RwLock<Held>,
    /// Those that are being loaded, or are to be.
    coming: RwLock<Vec<Arc<Policy>>>,
    key: Key,
    bounds: watch::Sender<Bounds>,
    /// Counts changes of the newest, and of those that are coming.
    changes: watch::Sender<u64>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    report: Mutex<Report>,
    /// Held while what all policies share is brought in line: two at once could leave the older's word standing.
    settling: Mutex<()>,
}

struct Held {
    newest: Arc<Generation>,
    /// The latest first.
    superseded: Vec<Superseded>,
}

struct Superseded {
    generation: Arc<Generation>,
    until: Instant,
}

/// What became of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is the newest now.
    Loaded,
    /// It was the newest already.
    Unchanged,
    /// It has faults; nothing changed.
    Refused,
}

impl Outcome {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// One look at a bundle, for the operator.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// What became of it.
    pub outcome: Outcome,
    /// The bundle's generation; nothing if it could not be read.
    pub generation: Option<String>,
    /// When, Unix seconds.
    pub at_unix_s: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Every fault of a refused one.
    pub faults: Vec<String>,
}

#[derive(Default)]
struct Report {
    attempts: u64,
    last: Option<Attempt>,
    last_refused: Option<Attempt>,
}

/// What `/generations` shows.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The newest policy.
    pub serving: String,
    /// Older ones that are still held.
    pub kept: Vec<Kept>,
    /// Bundles looked at since the start.
    pub attempts: u64,
    /// The last of them.
    pub last: Option<Attempt>,
    /// The last that was refused.
    pub last_refused: Option<Attempt>,
}

/// An older policy.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its name.
    pub generation: String,
    /// For how much longer it is held, seconds.
    pub for_s: u64,
}

impl Generations {
    /// Holds one policy.
    pub fn new(
        first: Arc<Generation>,
        key: Key,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (bounds, _) = watch::channel(Bounds::of(first.policy().listen().limits()));
        let generations = Self {
            held: RwLock::new(Held {
                newest: first,
                superseded: Vec::new(),
            }),
            coming: RwLock::default(),
            key,
            bounds,
            changes: watch::Sender::new(0),
            budget,
            metrics,
            report: Mutex::default(),
            settling: Mutex::default(),
        };
        generations.align();
        generations
    }

    /// The newest.
    pub fn newest(&self) -> Arc<Generation> {
        Arc::clone(&self.read().newest)
    }

    /// One by its name, while it is held.
    pub fn find(&self, name: &str) -> Option<Arc<Generation>> {
        let held = self.read();
        if held.newest.name() == name {
            return Some(Arc::clone(&held.newest));
        }
        held.superseded
            .iter()
            .find(|old| old.generation.name() == name)
            .map(|old| Arc::clone(&old.generation))
    }

    /// All of them, the newest first.
    pub fn all(&self) -> Vec<Arc<Generation>> {
        let held = self.read();
        std::iter::once(&held.newest)
            .chain(held.superseded.iter().map(|old| &old.generation))
            .map(Arc::clone)
            .collect()
    }

    /// The limits that gateways share under each of them, the newest first.
    pub(crate) fn limits(&self) -> Vec<Arc<Limits>> {
        let all = self.all().into_iter();
        all.filter_map(|generation| generation.parts.limits.clone())
            .collect()
    }

    /// Bounds on connections and heads, wide enough for every policy that is held.
    pub fn bounds(&self) -> watch::Receiver<Bounds> {
        self.bounds.subscribe()
    }

    /// Tells whoever follows it of every change of the newest, and of those that are coming.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The key that the gate signs with.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Judges a head by the policy that its context names.
    ///
    /// # Errors
    /// The refusal, or that the policy of the context is not held.
    pub fn begin<N: AsRef<[u8]>>(
        &self,
        fields: &[(N, N)],
        end_of_stream: bool,
        now_unix_s: u64,
    ) -> Result<(Arc<Generation>, Begun), Box<Refused>> {
        arrive(
            fields,
            end_of_stream,
            &self.key,
            now_unix_s,
            |read, context| {
                let newest = self.newest();
                let named = context
                    .as_ref()
                    .ok()
                    .filter(|context| context.generation != newest.name())
                    .and_then(|context| self.find(&context.generation));
                // A name that is not held goes to the newest, which refuses it.
                let generation = named.unwrap_or_else(|| Arc::clone(&newest));
                let still = context.as_ref().map_or(Ok(()), |context| {
                    let (client, credential) = (&context.client, &context.credential);
                    self.still_lets_in(&generation, client.as_deref(), credential.as_deref())
                });
                let begun = generation.judge.begin(read, context, now_unix_s);
                match (begun, still) {
                    (Ok(begun), Err(cause)) => Err(Box::new(revocation(&begun, cause))),
                    (begun, _) => begun.map(|begun| (generation, begun)),
                }
            },
        )
    }

    /// Makes a policy the newest. The one that was is held for as long as a request that was let in under it may take to come.
    pub fn promote(&self, generation: Arc<Generation>) {
        {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&held.newest, &generation) {
                return;
            }
            held.superseded
                .retain(|old| old.generation.name() != generation.name());
            let old = std::mem::replace(&mut held.newest, generation);
            let now = Instant::now();
            let until = now
                .checked_add(Duration::from_secs(old.judge.max_age_s()))
                .unwrap_or(now);
            held.superseded.insert(
                0,
                Superseded {
                    generation: old,
                    until,
                },
            );
            held.superseded.truncate(MAX_SUPERSEDED);
        }
        self.align();
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Lets go of policies whose time is over. Requests that run under one keep what they use of it.
    pub fn sweep(&self) {
        let now = Instant::now();
        let over = |held: &Held| held.superseded.iter().any(|old| old.until <= now);
        if !over(&self.read()) {
            return;
        }
        self.held
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .superseded
            .retain(|old| old.until > now);
        self.align();
    }

    /// Brings everything that all policies share in line with those that are held.
    fn align(&self) {
        let _alone = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.all();
        let Some(newest) = all.first() else { return };
        let bounds = all
            .iter()
            .map(|generation| Bounds::of(generation.policy().listen().limits()))
            .reduce(Bounds::widest);
        if let Some(bounds) = bounds {
            self.bounds.send_if_modified(|now| {
                let changed = *now != bounds;
                *now = bounds;
                changed
            });
        }
        self.budget
            .set_total(newest.policy().listen().limits().buffered_bytes);
        let mut by_backend = BTreeMap::new();
        for generation in &all {
            generation.models(&mut by_backend);
        }
        for (dispatcher, models) in by_backend.into_values() {
            dispatcher.health().follow(models);
        }
        self.metrics.generation.clear();
        self.metrics
            .generation
            .get_or_create(&GenerationLabels {
                generation: newest.name().to_owned(),
            })
            .set(1);
        self.metrics
            .generations
            .set(i64::try_from(all.len()).unwrap_or(i64::MAX));
    }

    /// Remembers what became of a bundle.
    pub fn note(&self, attempt: Attempt) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.attempts = report.attempts.saturating_add(1);
        if attempt.outcome == Outcome::Refused {
            report.last_refused = Some(attempt.clone());
        }
        report.last = Some(attempt);
    }

    /// For the operator.
    pub fn status(&self) -> Status {
        let (serving, kept) = {
            let held = self.read();
            let now = Instant::now();
            let kept = held.superseded.iter().map(|old| Kept {
                generation: old.generation.name().to_owned(),
                for_s: old.until.saturating_duration_since(now).as_secs(),
            });
            (held.newest.name().to_owned(), kept.collect())
        };
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            serving,
            kept,
            attempts: report.attempts,
            last: report.last.clone(),
            last_refused: report.last_refused.clone(),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        // Nothing that can panic runs under the lock.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn revocation(begun: &Begun, cause: String) -> Refused {
    let (caller, protocol) = match begun {
        Begun::Server {
            caller, protocol, ..
        } => (caller, *protocol),
        Begun::Model(admitted) => (admitted.caller(), admitted.protocol()),
        Begun::Stream(opened) => (opened.caller(), Protocol::OipGrpc),
    };
    Refused {
        denial: Denial::new(Reason::Unauthenticated, cause),
        protocol,
        caller: caller.clone(),
        standing: Standing::Revoked,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;
    use std::path::Path;

    use crate::assemble::Loader;
    use crate::config::{self, Folders};

    /// The generations of policies that differ in their stream's length, seconds.
    async fn hold(stream_s: &[u64]) -> (Generations, Vec<Arc<Generation>>) {
        let metrics = Arc::new(Metrics::new());
        let key = Key::from_hex(&"5a".repeat(32)).unwrap();
        let loader = Loader::new(
            Folders::below(Path::new("/")),
            BTreeMap::new(),
            key.clone(),
            Arc::clone(&metrics),
        );
        let loader = Arc::new(loader);
        let mut made = Vec::new();
        for (number, stream_s) in stream_s.iter().enumerate() {
            let mut bundle = tensorgate_policy::Bundle {
                generation: format!("g{number}"),
                policy: tensorgate_policy::raw::Policy::default(),
            };
            bundle.policy.version = Some(1);
            bundle.policy.listen.limits.stream_ms = stream_s * 1_000;
            let candidate = config::candidate(&bundle).unwrap();
            made.push(Arc::new(loader.load(&candidate, &made).await.unwrap()));
        }
        let generations = Generations::new(
            Arc::clone(made.first().unwrap()),
            key,
            Budget::new(1),
            metrics,
        );
        (generations, made)
    }

    fn names(generations: &Generations) -> Vec<String> {
        let all = generations.all();
        all.iter().map(|held| held.name().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_policy_goes_when_no_request_of_it_can_come_any_more() {
        let (generations, made) = hold(&[10, 20, 30]).await;
        let wait = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            generations.sweep();
            names(&generations)
        };
        generations.promote(Arc::clone(&made[1]));
        assert_eq!(wait(0).await, ["g1", "g0"]);
        // A context of g0 counts for 10 s of a stream and 5 s of the way.
        assert_eq!(wait(14).await, ["g1", "g0"]);
        generations.promote(Arc::clone(&made[2]));
        assert_eq!(wait(1).await, ["g2", "g1"]);
        generations.promote(Arc::clone(&made[1]));
        assert_eq!(wait(1).await, ["g1", "g2"], "what comes back is held once");
        assert_eq!(wait(34).await, ["g1"]);
        assert!(generations.find("g2").is_none() && generations.find("g1").is_some());
    }

    #[tokio::test]
    async fn a_change_beyond_the_bound_lets_the_oldest_go() {
        let (generations, made) = hold(&[60; MAX_SUPERSEDED + 3]).await;
        for next in made.iter().skip(1) {
            generations.promote(Arc::clone(next));
        }
        assert_eq!(generations.all().len(), MAX_SUPERSEDED + 1);
        assert!(generations.find("g1").is_none() && generations.find("g2").is_some());
    }
}
