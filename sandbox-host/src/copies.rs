//! Copies of answered requests, for versions that answer nobody (`shadow: true`): what such a version says is compared with what was
//! answered, counted and noted.
//!
//! A copy takes nothing from anybody. It is sent once its request's answer is decided, over the connections that there are and with no place in the backend's
//! queue; nothing that becomes of it counts for the backend's breaker, its outliers or its readiness. How many are under way and how many
//! bytes they hold is bounded here, apart from the host's own bounds: what finds no room is dropped and counted. No client is charged for it, and
//! nothing of it reaches one.
//!
//! | outcome | what became of a copy |
//! |---|---|
//! | `agree` | its answer kept the contract and was the same, floats within the version's tolerance |
//! | `differ` | it kept the contract and was another |
//! | `fail` | there was none, or it broke the contract |
//! | `dropped` | there was no room for it |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use tensorgate_policy::contract::{agree, check_tensors};
use tensorgate_policy::policy::{Model, ModelId, ShadowVersion};
use tensorgate_policy::{Draw, Policy, Tensor};
use tensorgate_wire::proto::ModelInferRequest;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::audit::record::{Copied, Event, MAX_DETAIL_BYTES, clean};
use crate::backends::answer;
use crate::budget::{Budget, Held};
use crate::dispatch::Dispatcher;
use crate::guard::{caught, offload};
use crate::metrics::{CopyLabels, Metrics, micros};
use crate::owned;

/// Copies to one version that are under way at once: few enough that a server which serves clients too hardly feels them.
pub const MAX_UNDER_WAY: usize = 4;
/// Bytes of all copies, their answers included: beside `limits.buffered_bytes`.
pub const MAX_BYTES: usize = 64 << 20;

/// What all copies of a host may take. Generations share it: a policy that was superseded sends copies of its last requests still.
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<Budget>,
    /// Places by model and version, of generations that live.
    places: Mutex<HashMap<(String, String), Weak<Semaphore>>>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            budget: Budget::new(MAX_BYTES),
            places: Mutex::default(),
        }
    }
}

impl Room {
    /// Places for copies to a version.
    fn places(&self, model: &str, version: &str) -> Arc<Semaphore> {
        // Nothing panics while it holds the table.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, known| known.strong_count() > 0);
        let key = (model.to_owned(), version.to_owned());
        if let Some(known) = places.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let made = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        places.insert(key, Arc::downgrade(&made));
        made
    }
}

/// What one model's copies go to, and what they may take.
pub(crate) struct Copies {
    budget: Arc<Budget>,
    shadows: Vec<Arc<Shadow>>,
}

/// One version that gets copies.
struct Shadow {
    rule: ShadowVersion,
    places: Arc<Semaphore>,
    agree: Counter,
    differ: Counter,
    fail: Counter,
    dropped: Counter,
}

/// What became of a copy.
enum Outcome {
    Agree,
    Differ(String),
    Fail(String),
}

/// A request of which copies are to be sent, until it is answered.
pub(crate) struct Kept {
    to: Vec<Arc<Shadow>>,
    held: Held,
    /// What the backend got.
    message: OnceLock<ModelInferRequest>,
    claims: HeaderMap,
    answered: Vec<Tensor<'static>>,
    max_answer_bytes: usize,
}

impl Copies {
    /// Of one model. `room` is shared by all models of all policies.
    pub(crate) fn of(model: &Model, room: &Room, metrics: &Metrics) -> Self {
        let shadow = |rule: &ShadowVersion| {
            let counter = |outcome| {
                let labels = CopyLabels {
                    model: model.name().to_owned(),
                    version: rule.version().to_owned(),
                    outcome,
                };
                metrics.copies.get_or_create(&labels).clone()
            };
            Arc::new(Shadow {
                rule: rule.clone(),
                places: room.places(model.name(), rule.version()),
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

    /// Makes room for copies of a request, where some are to be sent and there is some. Nothing is copied yet.
    pub(crate) fn keep(
        &self,
        request_id: &str,
        inputs: &[Tensor<'_>],
        claims: &HeaderMap,
        model: &Model,
    ) -> Option<Kept> {
        if self.shadows.is_empty() {
            return None;
        }
        let draw = Draw::of(request_id);
        let to: Vec<_> = (self.shadows.iter())
            .filter(|shadow| shadow.rule.copies(draw))
            .cloned()
            .collect();
        if to.is_empty() {
            return None;
        }
        let max_answer_bytes = answer::max_bytes(model.backend_outputs());
        // What was asked, what was answered, and what each of the others answers.
        let answers = max_answer_bytes.saturating_mul(to.len().saturating_add(1));
        let mut held = self.budget.hold();
        if !held.resize(owned::data_bytes(inputs).saturating_add(answers)) {
            for shadow in &to {
                shadow.dropped.inc();
            }
            return None;
        }
        Some(Kept {
            to,
            held,
            message: OnceLock::new(),
            claims: claims.clone(),
            answered: Vec::new(),
            max_answer_bytes,
        })
    }
}

impl Kept {
    /// Where what the backend gets is put; it shares the tensors' bytes.
    pub(crate) const fn message(&self) -> &OnceLock<ModelInferRequest> {
        &self.message
    }

    /// The backend answered this, and it kept the contract.
    pub(crate) fn answered(&mut self, outputs: &[Tensor<'static>]) {
        self.answered = outputs.to_vec();
    }

    /// The request's answer is decided: sends the copies, and waits for none of them.
    pub(crate) fn send(
        self,
        policy: &Arc<Policy>,
        model: ModelId,
        backend: &Arc<Dispatcher>,
        audit: &Audit,
    ) {
        let Self {
            to,
            held,
            message,
            claims,
            answered,
            max_answer_bytes,
        } = self;
        let Some(message) = message.into_inner() else {
            return;
        };
        let request_id = message.id.clone();
        let shared = Arc::new((held, answered));
        for shadow in to {
            let Ok(place) = Arc::clone(&shadow.places).try_acquire_owned() else {
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
                let asked = backend.copy(of, message, &claims, max_answer_bytes);
                let outcome = match caught(asked).await {
                    Ok(Ok(tensors)) => compared((&policy, model), &shadow, &shared, tensors).await,
                    Ok(Err(error)) => Outcome::Fail(error.to_string()),
                    Err(panic) => Outcome::Fail(panic),
                };
                let took = started.elapsed();
                shadow.tell(of, &audit, (request_id, began, took), outcome);
                drop((place, shared));
            });
        }
    }
}

/// Holds a copy's answer against the contract, then against what was answered.
async fn compared(
    (policy, model): (&Arc<Policy>, ModelId),
    shadow: &Arc<Shadow>,
    shared: &Arc<(Held, Vec<Tensor<'static>>)>,
    tensors: Vec<Tensor<'static>>,
) -> Outcome {
    let bytes = owned::data_bytes(&tensors).saturating_mul(2);
    let (policy, shadow, shared) = (Arc::clone(policy), Arc::clone(shadow), Arc::clone(shared));
    let work = move || {
        let rules = policy.model(model).map_or(&[][..], Model::backend_outputs);
        if let Err(denial) = check_tensors(rules, &tensors, &mut Err) {
            let (reason, cause) = (denial.reason, denial.cause);
            return Outcome::Fail(format!("its answer breaks the contract: {reason}: {cause}"));
        }
        match agree(&shared.1, &tensors, shadow.rule.tolerance()) {
            Ok(()) => Outcome::Agree,
            Err(where_) => Outcome::Differ(where_),
        }
    };
    offload(bytes, work)
        .await
        .unwrap_or_else(|| Outcome::Fail("the comparison failed".to_owned()))
}

impl Shadow {
    fn tell(
        &self,
        model: &Model,
        audit: &Audit,
        (request_id, began, took): (String, SystemTime, Duration),
        outcome: Outcome,
    ) {
        let (name, counter, detail) = match outcome {
            Outcome::Agree => ("agree", &self.agree, None),
            Outcome::Differ(detail) => ("differ", &self.differ, Some(detail)),
            Outcome::Fail(detail) => ("fail", &self.fail, Some(detail)),
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
            detail: detail.map(|detail| clean(&detail, MAX_DETAIL_BYTES)),
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
        let room = Room::default();
        let (old, new) = (room.places("m", "2"), room.places("m", "2"));
        let held = old.try_acquire_many(4);
        assert!(held.is_ok());
        assert!(
            new.try_acquire().is_err(),
            "the older policy's copies have all"
        );
        assert!(room.places("m", "3").try_acquire().is_ok());
        assert!(room.places("n", "2").try_acquire().is_ok());
        drop((held, new));
        drop(old);
        assert_eq!(room.places("m", "2").available_permits(), MAX_UNDER_WAY);
    }
}
