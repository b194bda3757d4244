//! Mirrored requests for model versions in shadow (`shadow: true`). The response of such a version
//! is compared with the regular response, counted and recorded.
//!
//! A mirrored request never affects regular ones. It is sent after the response of its request is
//! decided, over existing connections and without a permit. Its outcome does not count for the
//! backend's circuit breaker, outlier detection or readiness. The number of mirrored requests and
//! their memory have limits of their own; beyond them a mirrored request is dropped and counted. No
//! client is charged for it or sees it.
//!
//! | outcome | meaning |
//! |---|---|
//! | `agree` | the response keeps the contract and is equal (floats: within the tolerance) |
//! | `differ` | the response keeps the contract and differs |
//! | `fail` | there was no response, or it breaks the contract |
//! | `dropped` | a limit was reached |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use tensorgate_audit::Audit;
use tensorgate_audit::record::{Copied, Event, MAX_DETAIL_BYTES};
use tensorgate_base::guard::{catch_panic, offload};
use tensorgate_base::memory_budget::{Budget, MemoryPermit};
use tensorgate_base::owned;
use tensorgate_judge::response_size;
use tensorgate_policy::contract::{agree, check_tensors};
use tensorgate_policy::policy::{Model, ModelId, ShadowVersion};
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_policy::{Policy, RequestHash, Tensor};
use tensorgate_telemetry::labels::MirrorLabels;
use tensorgate_telemetry::metrics::{Metrics, micros};
use tensorgate_wire::proto::ModelInferRequest;
use tokio::sync::Semaphore;

use crate::dispatch::Dispatcher;
use crate::dispatch::mirror::mirror;

/// The most mirrored requests in flight to one version. They hardly affect a server that also
/// serves clients.
pub const MAX_UNDER_WAY: usize = 4;
/// The memory of all mirrored requests and their responses in bytes, in addition to
/// `limits.buffered_bytes`.
pub const MAX_BYTES: usize = 64 << 20;

/// The resources for mirrored requests of a host. Policy versions share them, because a superseded
/// policy may still send some.
#[derive(Debug)]
pub(crate) struct MirrorSlots {
    budget: Arc<Budget>,
    /// Semaphores by model and version, of loaded policy versions.
    slots: Mutex<HashMap<(String, String), Weak<Semaphore>>>,
}

impl Default for MirrorSlots {
    fn default() -> Self {
        Self {
            budget: Budget::new(MAX_BYTES),
            slots: Mutex::default(),
        }
    }
}

impl MirrorSlots {
    /// The semaphore for a model version.
    fn slots(&self, model: &str, version: &str) -> Arc<Semaphore> {
        // No code panics while it holds this lock.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, known| known.strong_count() > 0);
        let key = (model.to_owned(), version.to_owned());
        if let Some(known) = slots.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let made = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        slots.insert(key, Arc::downgrade(&made));
        made
    }
}

/// The versions to which one model's requests are mirrored.
pub(crate) struct Mirrors {
    budget: Arc<Budget>,
    shadows: Vec<Arc<MirrorTarget>>,
}

/// One version in shadow.
struct MirrorTarget {
    rule: ShadowVersion,
    slots: Arc<Semaphore>,
    agree: Counter,
    differ: Counter,
    fail: Counter,
    dropped: Counter,
}

/// The outcome of a mirrored request.
enum MirrorOutcome {
    Agree,
    Differ(String),
    Fail(String),
}

/// A request to be mirrored, until its response is decided.
pub(crate) struct PendingMirror {
    to: Vec<Arc<MirrorTarget>>,
    memory_permit: MemoryPermit,
    /// The message that the backend received.
    message: OnceLock<ModelInferRequest>,
    claims: HeaderMap,
    answered: Vec<Tensor<'static>>,
    max_answer_bytes: usize,
}

impl Mirrors {
    /// The mirror targets of one model. `room` is shared by all models of all policies.
    pub(crate) fn for_model(model: &Model, room: &MirrorSlots, metrics: &Metrics) -> Self {
        let shadow = |rule: &ShadowVersion| {
            let counter = |outcome| {
                let labels = MirrorLabels {
                    model: model.name().to_owned(),
                    version: rule.version().to_owned(),
                    outcome,
                };
                metrics.mirrored_requests.get_or_create(&labels).clone()
            };
            Arc::new(MirrorTarget {
                rule: rule.clone(),
                slots: room.slots(model.name(), rule.version()),
                agree: counter("agree"),
                differ: counter("differ"),
                fail: counter("fail"),
                dropped: counter("dropped"),
            })
        };
        Self {
            budget: Arc::clone(&room.budget),
            shadows: model.routing().shadows().iter().map(shadow).collect(),
        }
    }

    /// Reserves memory for mirroring a request, if it is to be mirrored. Copies nothing yet.
    pub(crate) fn start(
        &self,
        request_id: &str,
        inputs: &[Tensor<'_>],
        claims: &HeaderMap,
        model: &Model,
    ) -> Option<PendingMirror> {
        if self.shadows.is_empty() {
            return None;
        }
        let draw = RequestHash::from_request_id(request_id);
        let to: Vec<_> = (self.shadows.iter())
            .filter(|shadow| shadow.rule.mirrors(draw))
            .cloned()
            .collect();
        if to.is_empty() {
            return None;
        }
        let max_answer_bytes = response_size::max_bytes(model.backend_outputs());
        // The inputs, the regular response, and the response of each version in shadow.
        let answers = max_answer_bytes.saturating_mul(to.len().saturating_add(1));
        let mut memory_permit = self.budget.permit();
        if !memory_permit.resize(owned::memory_bytes(inputs).saturating_add(answers)) {
            for shadow in &to {
                shadow.dropped.inc();
            }
            return None;
        }
        Some(PendingMirror {
            to,
            memory_permit,
            message: OnceLock::new(),
            claims: claims.clone(),
            answered: Vec::new(),
            max_answer_bytes,
        })
    }
}

impl PendingMirror {
    /// The cell for the message that the backend receives. It shares the tensors' bytes.
    pub(crate) const fn message(&self) -> &OnceLock<ModelInferRequest> {
        &self.message
    }

    /// Records the regular response, which keeps the contract.
    pub(crate) fn record_answer(&mut self, outputs: &[Tensor<'static>]) {
        self.answered = outputs.to_vec();
    }

    /// Sends the mirrored requests without waiting for them. The regular response is decided.
    pub(crate) fn send(
        self,
        policy: &Arc<Policy>,
        model: ModelId,
        backend: &Arc<Dispatcher>,
        audit: &Audit,
    ) {
        let Self {
            to,
            memory_permit,
            message,
            claims,
            answered,
            max_answer_bytes,
        } = self;
        let Some(message) = message.into_inner() else {
            return;
        };
        let request_id = message.id.clone();
        let shared = Arc::new((memory_permit, answered));
        for shadow in to {
            let Ok(place) = Arc::clone(&shadow.slots).try_acquire_owned() else {
                shadow.dropped.inc();
                continue;
            };
            let (policy, backend) = (Arc::clone(policy), Arc::clone(backend));
            let (audit, shared) = (audit.clone(), Arc::clone(&shared));
            let (claims, request_id) = (claims.clone(), request_id.clone());
            let message = ModelInferRequest {
                id: format!("{request_id}-shadow"),
                model_version: shadow.rule.version().to_owned(),
                ..message.clone()
            };
            tokio::spawn(async move {
                let (began, started) = (SystemTime::now(), Instant::now());
                let Some(of) = policy.model(model) else {
                    return;
                };
                let asked = mirror(&backend, of, message, &claims, max_answer_bytes);
                let outcome = match catch_panic(asked).await {
                    Ok(Ok(tensors)) => compare((&policy, model), &shadow, &shared, tensors).await,
                    Ok(Err(error)) => MirrorOutcome::Fail(error.to_string()),
                    Err(panic) => MirrorOutcome::Fail(panic),
                };
                let took = started.elapsed();
                shadow.log_outcome(of, &audit, (request_id, began, took), outcome);
                drop((place, shared));
            });
        }
    }
}

/// Compares a response with the contract and with the regular response.
async fn compare(
    (policy, model): (&Arc<Policy>, ModelId),
    shadow: &Arc<MirrorTarget>,
    shared: &Arc<(MemoryPermit, Vec<Tensor<'static>>)>,
    tensors: Vec<Tensor<'static>>,
) -> MirrorOutcome {
    let bytes = owned::data_bytes(&tensors).saturating_mul(2);
    let (policy, shadow, shared) = (Arc::clone(policy), Arc::clone(shadow), Arc::clone(shared));
    let work = move || {
        let rules = policy.model(model).map_or(&[][..], Model::backend_outputs);
        if let Err(denial) = check_tensors(rules, &tensors, &mut Err) {
            let (reason, cause) = (denial.reason, denial.cause);
            return MirrorOutcome::Fail(format!(
                "its answer breaks the contract: {reason}: {cause}"
            ));
        }
        match agree(&shared.1, &tensors, shadow.rule.tolerance()) {
            Ok(()) => MirrorOutcome::Agree,
            Err(where_) => MirrorOutcome::Differ(where_),
        }
    };
    offload(bytes, work)
        .await
        .unwrap_or_else(|| MirrorOutcome::Fail("the comparison failed".to_owned()))
}

impl MirrorTarget {
    fn log_outcome(
        &self,
        model: &Model,
        audit: &Audit,
        (request_id, began, took): (String, SystemTime, Duration),
        outcome: MirrorOutcome,
    ) {
        let (name, counter, detail) = match outcome {
            MirrorOutcome::Agree => ("agree", &self.agree, None),
            MirrorOutcome::Differ(detail) => ("differ", &self.differ, Some(detail)),
            MirrorOutcome::Fail(detail) => ("fail", &self.fail, Some(detail)),
        };
        counter.inc();
        let version = self.rule.version();
        if let Some(detail) = &detail {
            let (model, detail) = (model.name(), detail.as_str());
            tracing::info!(request_id, model, version, outcome = name, detail, "copy");
        }
        let copied = Copied {
            request_id,
            model: model.name().to_owned(),
            version: version.to_owned(),
            outcome: name.to_owned(),
            detail: detail.map(|detail| printable_prefix(&detail, MAX_DETAIL_BYTES)),
            total_us: micros(took),
        };
        audit.write(began, Event::Copy(copied));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_share_the_places_of_a_version() {
        let room = MirrorSlots::default();
        let (old, new) = (room.slots("m", "2"), room.slots("m", "2"));
        let memory_permit = old.try_acquire_many(4);
        assert!(memory_permit.is_ok());
        assert!(
            new.try_acquire().is_err(),
            "the older policy's copies have all"
        );
        assert!(room.slots("m", "3").try_acquire().is_ok());
        assert!(room.slots("n", "2").try_acquire().is_ok());
        drop((memory_permit, new));
        drop(old);
        assert_eq!(room.slots("m", "2").available_permits(), MAX_UNDER_WAY);
    }
}
