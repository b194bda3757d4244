//! The loaded policy versions: the newest, and older ones while requests that the gate admitted
//! under them may still arrive.
//!
//! A request is verified under the policy that its context names. If that policy is not loaded, the
//! newest one decides. What it denies is denied as `overloaded`, because the other may allow it.
//!
//! A client or credential that the newest policy no longer has is rejected at once, also under
//! older policies and already while that policy is being loaded. Narrower grants, limits or
//! contracts apply only to requests that the gate checks under the newest policy. This module keeps
//! policies and loads none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;
use tensorgate_base::memory_budget::Budget;
use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_judge::request::{
    AwaitedHead, Caller, DenialOrigin, DeniedRequest, Verifier, read_head,
};
use tensorgate_limits::SharedLimits;
use tensorgate_policy::{Denial, Policy, Reason};
use tensorgate_settings::admin::GatewayStatus;
use tensorgate_settings::bounds::Bounds;
use tensorgate_telemetry::labels::GenerationLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_verified_models::Followed;
use tensorgate_wire::context::{ContextFault, HEADER, Release};
use tensorgate_wire::readiness::MAX_AGE_S;
use tokio::sync::watch;
use tokio::time::Instant;

use super::gateways::Gateways;
use super::other_releases::OtherReleases;
use super::unknown_versions::{GRACE, UnknownVersions};
use crate::dispatch::Dispatcher;
use crate::pipeline::Pipeline;
use crate::policy_store::parts::{Parts, models_at};
use crate::policy_store::revocation::is_admitted;

/// The most older policies that are kept. They share handlers and backends, so each costs only its
/// rules and routes. Beyond it the oldest is dropped early, because a revocation must never wait.
pub const MAX_SUPERSEDED: usize = 32;

/// One policy version and all that serves it.
pub struct PolicyVersion {
    /// Verifies requests.
    pub judge: Arc<Verifier>,
    /// Executes requests.
    pub pipeline: Pipeline,
    /// The parts, shared with other versions where nothing changed.
    pub(crate) parts: Parts,
    /// The SHA-256 digest of the policy, which distinguishes two policies of the same version name.
    pub(crate) digest: [u8; 32],
    /// Its models whose files are verified, as long as this version is loaded.
    pub(crate) _artifacts: Followed,
}

impl PolicyVersion {
    /// The version's name.
    pub fn name(&self) -> &str {
        self.judge.policy_version()
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        self.judge.policy()
    }

    /// Adds the models that each backend serves under this policy, by the dispatcher's address.
    fn models<'g>(&'g self, by_backend: &mut BTreeMap<*const Dispatcher, ModelsByBackend<'g>>) {
        for (name, backend) in &self.parts.backends {
            let models = by_backend
                .entry(Arc::as_ptr(&backend.dispatcher))
                .or_insert_with(|| (&backend.dispatcher, BTreeSet::new()));
            models.1.extend(models_at(self.policy(), name));
        }
    }
}

type ModelsByBackend<'g> = (&'g Arc<Dispatcher>, BTreeSet<(String, String)>);

/// A version that only restricts another.
pub(super) struct Restriction {
    /// The other version.
    pub(super) of: String,
    pub(super) policy: Arc<Policy>,
}

/// The loaded policy versions.
pub struct PolicyVersions {
    state: RwLock<State>,
    /// Policies that are being loaded or wait for it.
    pub(super) pending: RwLock<Vec<Arc<Policy>>>,
    /// The last version that was to replace another and only restricts it.
    pub(super) tighter: RwLock<Option<Restriction>>,
    keys: ContextKeys,
    bounds: watch::Sender<Bounds>,
    /// Counts changes of the newest policy, and of those that are being loaded.
    pub(super) changes: watch::Sender<u64>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    report: Mutex<Report>,
    gateways: Gateways,
    /// Versions that gateways name and that are not loaded.
    unknown: UnknownVersions,
    other_releases: OtherReleases,
    /// Held while shared settings are updated. Two updates at once could leave the older values.
    settling: Mutex<()>,
}

struct State {
    newest: Arc<PolicyVersion>,
    /// The latest first.
    superseded: Vec<Superseded>,
}

struct Superseded {
    generation: Arc<PolicyVersion>,
    until: Instant,
}

/// The outcome of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadOutcome {
    /// It is the newest policy now.
    Loaded,
    /// It was the newest policy already.
    Unchanged,
    /// It would make ready models unready, and nothing changed.
    Unready,
    /// It has faults, and nothing changed.
    Refused,
}

impl LoadOutcome {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unchanged => "unchanged",
            Self::Unready => "unready",
            Self::Refused => "refused",
        }
    }
}

/// An attempt to load a bundle, for the operator.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// The outcome.
    pub outcome: LoadOutcome,
    /// The bundle's version. `None` if the bundle could not be read.
    pub generation: Option<String>,
    /// The time in Unix seconds.
    pub at_unix_s: u64,
    /// The duration in milliseconds.
    pub took_ms: u64,
    /// Every fault of a rejected bundle, or why it is held.
    pub faults: Vec<String>,
}

#[derive(Default)]
struct Report {
    attempts: u64,
    last: Option<Attempt>,
    last_refused: Option<Attempt>,
}

/// The response of `/generations`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The newest policy.
    pub serving: String,
    /// Older policies that are kept.
    pub kept: Vec<Kept>,
    /// The number of bundles since the start.
    pub attempts: u64,
    /// The last attempt.
    pub last: Option<Attempt>,
    /// The last rejected attempt.
    pub last_refused: Option<Attempt>,
    /// The gateways that sent requests, with the policy version of each.
    pub gateways: Vec<GatewayStatus>,
}

/// An older policy.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// The version's name.
    pub generation: String,
    /// How much longer it is kept, in seconds.
    pub for_s: u64,
}

impl PolicyVersions {
    /// Starts with one policy.
    pub fn new(
        first: Arc<PolicyVersion>,
        keys: ContextKeys,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (bounds, _) = watch::channel(Bounds::from_limits(first.policy().listen().limits()));
        let generations = Self {
            state: RwLock::new(State {
                newest: first,
                superseded: Vec::new(),
            }),
            pending: RwLock::default(),
            tighter: RwLock::default(),
            keys,
            bounds,
            changes: watch::Sender::new(0),
            budget,
            metrics,
            report: Mutex::default(),
            gateways: Gateways::new(),
            unknown: UnknownVersions::default(),
            other_releases: OtherReleases::default(),
            settling: Mutex::default(),
        };
        generations.update_shared();
        generations
    }

    /// The newest version.
    pub fn newest(&self) -> Arc<PolicyVersion> {
        Arc::clone(&self.read().newest)
    }

    /// A version by its name, if it is loaded.
    pub fn find(&self, name: &str) -> Option<Arc<PolicyVersion>> {
        let held = self.read();
        if held.newest.name() == name {
            return Some(Arc::clone(&held.newest));
        }
        held.superseded
            .iter()
            .find(|old| old.generation.name() == name)
            .map(|old| Arc::clone(&old.generation))
    }

    /// All versions, the newest first.
    pub fn all(&self) -> Vec<Arc<PolicyVersion>> {
        let held = self.read();
        std::iter::once(&held.newest)
            .chain(held.superseded.iter().map(|old| &old.generation))
            .map(Arc::clone)
            .collect()
    }

    /// The shared limits of each version, the newest first.
    pub(crate) fn limits(&self) -> Vec<Arc<SharedLimits>> {
        let all = self.all().into_iter();
        all.filter_map(|generation| generation.parts.limits.clone())
            .collect()
    }

    /// The limits on connections and heads, wide enough for every loaded policy.
    pub fn bounds(&self) -> watch::Receiver<Bounds> {
        self.bounds.subscribe()
    }

    /// A channel that signals each change of the newest policy, and of those that are being loaded.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Verifies a head under the policy that its context names, or under the newest if that one is
    /// not loaded. Nothing is charged yet, so a revoked client uses no limit.
    ///
    /// # Errors
    /// Returns the denial.
    pub fn verify_head<N: AsRef<[u8]>>(
        &self,
        fields: &[(N, N)],
        end_of_stream: bool,
        now_unix_s: u64,
    ) -> Result<(Arc<PolicyVersion>, Box<AwaitedHead>), Box<DeniedRequest>> {
        read_head(
            fields,
            end_of_stream,
            &self.keys,
            now_unix_s,
            |read, context| {
                let newest = self.newest();
                let signed = context.as_ref().map(|verified| &verified.context);
                let named = (signed.ok())
                    .filter(|context| context.generation != newest.name())
                    .and_then(|context| self.find(&context.generation));
                let generation = named.unwrap_or_else(|| Arc::clone(&newest));
                let is_unknown =
                    signed.is_ok_and(|context| context.generation != generation.name());
                let still = signed.map_or(Ok(()), |context| {
                    let client = context.client.as_deref();
                    let credential = context.credential.as_deref();
                    self.check_still_allowed(&generation, client, credential)?;
                    if is_unknown && !self.unknown.is_within_grace(&context.generation) {
                        return Err(format!(
                            "policy {} has not been here for {} minutes: does the gateway still get policies?",
                            context.generation,
                            GRACE.as_secs().div_euclid(60)
                        ));
                    }
                    // The gate has admitted the credential under a policy that is not here.
                    if !is_unknown || is_admitted(generation.policy(), client, credential) {
                        return Ok(());
                    }
                    let name = generation.name();
                    Err(format!(
                        "policy {name} does not have this client or its credential"
                    ))
                });
                let verified = generation.judge.verify_head(read, context, now_unix_s);
                let is_from_gate = !verified
                    .as_ref()
                    .is_err_and(|refused| refused.origin == DenialOrigin::UnknownSender);
                if is_from_gate && is_unknown {
                    self.metrics.other_generation.inc();
                }
                match (verified, still) {
                    (Ok(head), Err(cause)) => Err(revocation(&generation.judge, &head, cause)),
                    (verified, _) => verified.map(|head| (generation, head)),
                }
            },
        )
    }

    /// Verifies that a gate with a key of this host has just signed a readiness probe.
    ///
    /// # Errors
    /// Returns why not.
    pub fn verify_probe<N: AsRef<[u8]>>(
        &self,
        fields: &[(N, N)],
        now_unix_s: u64,
    ) -> Result<(), Denial> {
        read_head(fields, true, &self.keys, now_unix_s, |_, context| {
            let context = context.map_err(|refused| refused.denial)?;
            let issued_unix_s = context.context.issued_unix_s;
            if now_unix_s.saturating_sub(issued_unix_s) > MAX_AGE_S {
                let cause = ContextFault::Age.to_string();
                return Err(Denial::new(Reason::Unauthenticated, cause));
            }
            Ok(())
        })
    }

    /// Makes a version the newest. The previous one is kept as long as a request that was admitted
    /// under it may still arrive.
    pub fn promote(&self, generation: Arc<PolicyVersion>) {
        {
            let mut held = self.state.write().unwrap_or_else(PoisonError::into_inner);
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
            let kept = held.superseded.len().min(MAX_SUPERSEDED);
            for dropped in held.superseded.drain(kept..) {
                self.unknown.dropped(dropped.generation.name());
            }
        }
        self.update_shared();
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Drops versions whose time is over. Requests that run under one keep the parts that they use.
    pub fn sweep(&self) {
        let now = Instant::now();
        let over = |held: &State| held.superseded.iter().any(|old| old.until <= now);
        if !over(&self.read()) {
            return;
        }
        {
            let mut held = self.state.write().unwrap_or_else(PoisonError::into_inner);
            held.superseded.retain(|old| {
                let kept = old.until > now;
                if !kept {
                    self.unknown.dropped(old.generation.name());
                }
                kept
            });
        }
        self.update_shared();
    }

    /// Updates everything that the loaded policies share.
    fn update_shared(&self) {
        let _alone = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.all();
        let Some(newest) = all.first() else { return };
        let bounds = all
            .iter()
            .map(|generation| Bounds::from_limits(generation.policy().listen().limits()))
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
        let has = |name: &str| {
            let mut policies = all.iter().map(|version| version.policy());
            policies.any(|policy| policy.handlers().contains_key(name))
        };
        self.metrics.handlers.retain(has);
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

    /// Records the outcome of a bundle.
    pub fn record_attempt(&self, attempt: Attempt) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.attempts = report.attempts.saturating_add(1);
        if attempt.outcome == LoadOutcome::Refused {
            report.last_refused = Some(attempt.clone());
        }
        report.last = Some(attempt);
    }

    /// Remembers the version of a gateway's request, if its context is valid.
    pub(crate) fn saw_gateway(&self, gateway: &str, caller: &Caller) {
        if !caller.policy_version.is_empty() {
            self.gateways.saw(gateway, &caller.policy_version);
        }
    }

    /// Notes a rejected request of a gateway of another release. Returns what tells that gateway
    /// which release this host is. `None` if no key verifies the context.
    pub(crate) fn reject_release(&self, headers: &HeaderMap, gateway: &str) -> Option<String> {
        let value = headers.get(HEADER)?.to_str().ok()?;
        let (release, key) = self.keys.release_of(value)?;
        self.other_releases.rejected(&release, gateway);
        Some(Release::signed_by_host(&key))
    }

    /// The other releases whose requests were rejected not long ago, one line each.
    pub fn other_releases(&self) -> Vec<String> {
        self.other_releases.warnings()
    }

    /// The gateways that sent requests, by name.
    pub fn gateways(&self) -> Vec<GatewayStatus> {
        self.gateways.status(|name| self.find(name).is_some())
    }

    /// The status for the operator.
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
            gateways: self.gateways(),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn revocation(judge: &Verifier, head: &AwaitedHead, cause: String) -> Box<DeniedRequest> {
    let denial = Denial::new(Reason::Unauthenticated, cause);
    let caller = head.caller().clone();
    judge.denied(denial, head.protocol(), caller, DenialOrigin::Revoked)
}

#[cfg(test)]
mod tests;
