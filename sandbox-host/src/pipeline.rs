//! From a checked request to an answer: preprocess, dispatch, postprocess, each party's output checked against the contract
//! before the next one sees it. Metadata comes from the contract, readiness from the prober's memory, statistics from what was counted here.

mod chain;
pub(crate) mod decoupled;
mod ensemble;
pub(crate) mod openai;
mod repute;
mod route;
mod stage;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Accepts, Ensemble, GrantId, Model, ModelId};
use tensorgate_policy::release::release;
use tensorgate_policy::tensor::InferResponse;
use tensorgate_policy::{Denial, Policy, Protocol, Reason, Tensor};
use tensorgate_wire::encode::statistics::model_statistics;
use tensorgate_wire::encode::{self, Encoded, Unsayable};
use tokio::time::Instant;

use crate::audit::Audit;
use crate::backends::Call;
use crate::budget::Held;
use crate::capture::Capturer;
use crate::copies::Kept;
use crate::dispatch::{Dispatcher, Latest};
use crate::guard::offload;
use crate::metrics::{Metrics, ModelLabels};
use crate::owned;
use crate::request::ModelRequest;
use crate::room::no_room;
use crate::sandbox::{Behalf, Payload, Role};
use crate::shadow::{InShadow, Values};
use crate::timings::Timings;
use chain::Asked;
use ensemble::{Own, Together};
pub use route::{Links, ModelRoute, Target};
pub use stage::Stage;
use wanted::{Sent, Wanted};

/// Every model's route.
pub struct Pipeline {
    policy: Arc<Policy>,
    routes: HashMap<ModelId, ModelRoute>,
    metrics: Arc<Metrics>,
    capturer: Option<Arc<Capturer>>,
}

impl Pipeline {
    /// A pipeline over routes for the models of a policy.
    pub fn new(
        policy: Arc<Policy>,
        routes: HashMap<ModelId, ModelRoute>,
        metrics: Arc<Metrics>,
        capturer: Option<Arc<Capturer>>,
    ) -> Self {
        Self {
            policy,
            routes,
            metrics,
            capturer,
        }
    }

    fn route(&self, id: ModelId) -> Result<(&Model, &ModelRoute), Denial> {
        let model = self.policy.model(id);
        model
            .zip(self.routes.get(&id))
            .ok_or_else(|| Denial::new(Reason::BackendUnavailable, "the model has no route"))
    }

    /// Whether every backend answers, and every version of every model at it is ready.
    pub fn ready(&self) -> bool {
        self.routes.iter().all(|(id, route)| {
            let served = |model: &Model| {
                let versions = self.served(model, route);
                versions.iter().all(|(model, version, backend)| {
                    let health = backend.health();
                    health.reachable() && health.model_ready(model, version)
                })
            };
            self.policy.model(*id).is_some_and(served)
        })
    }

    /// What of the models is not ready, and why, a line each: for operators.
    pub fn unready(&self) -> Vec<String> {
        let lines = self.policy.models().iter().flat_map(|model| {
            let id = self.policy.model_id(model.name());
            let route = id.and_then(|id| self.routes.get(&id));
            route.into_iter().flat_map(|route| {
                let versions = self.served(model, route).into_iter();
                versions
                    .flat_map(|(model, version, backend)| backend.health().unready(model, version))
            })
        });
        lines.collect()
    }

    /// What clients of a grant get of a model.
    fn returns<'p>(&'p self, grant: GrantId, id: ModelId, model: &'p Model) -> &'p [TensorRule] {
        let grant = self.policy.grant(grant);
        grant.map_or_else(|| model.returns(), |grant| grant.returns(id, model))
    }

    /// What a model's requests lead to: each model version, and its backend.
    fn served<'p>(
        &'p self,
        model: &'p Model,
        route: &'p ModelRoute,
    ) -> Vec<(&'p Model, &'p str, &'p Dispatcher)> {
        match &route.target {
            Target::Backend(backend) => {
                let versions = model.versions().iter();
                versions
                    .map(|version| (model, version.as_str(), &**backend))
                    .collect()
            }
            Target::Ensemble(backends) => {
                let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
                let members = steps.iter().zip(backends);
                members
                    .filter_map(|(step, backend)| {
                        let member = self.policy.model(step.model())?;
                        Some((member, step.version(), &**backend))
                    })
                    .collect()
            }
        }
    }

    /// A model's signature, from its contract.
    ///
    /// # Errors
    /// The model has no route, or its answer cannot be said in the protocol.
    pub fn metadata(&self, request: &ModelRequest) -> Result<Vec<u8>, Denial> {
        let (model, _) = self.route(request.model)?;
        let inputs = match model.accepts() {
            Accepts::Tensors(contract) => contract.inputs(),
            Accepts::Raw { .. } | Accepts::OpenAi(_) => &[],
        };
        let grant = request.grant.and_then(|id| self.policy.grant(id));
        let published = |rule: &&TensorRule| grant.is_none_or(|grant| grant.publishes(rule.name()));
        let returns = request.grant.map_or_else(
            || model.returns(),
            |grant| self.returns(grant, request.model, model),
        );
        let outputs: Vec<_> = returns.iter().filter(published).cloned().collect();
        // Only the version that was asked for: others may not be granted.
        let versions = std::slice::from_ref(&request.version);
        Ok(encode::model_metadata(
            request.protocol,
            model.name(),
            versions,
            inputs,
            &outputs,
        ))
    }

    /// Whether a model can serve, and how to say so.
    ///
    /// # Errors
    /// The model has no route, or its answer cannot be said in the protocol.
    pub fn model_ready(&self, request: &ModelRequest) -> Result<(bool, Vec<u8>), Denial> {
        let (model, route) = self.route(request.model)?;
        let ready = match &route.target {
            Target::Backend(backend) => backend.health().model_ready(model, &request.version),
            Target::Ensemble(_) => {
                let members = self.served(model, route);
                members
                    .iter()
                    .all(|(member, version, backend)| backend.health().model_ready(member, version))
            }
        };
        Ok((
            ready,
            encode::model_ready(request.protocol, model.name(), &request.version, ready),
        ))
    }

    /// How often a version of a model was run for anybody, and how long that took.
    ///
    /// # Errors
    /// The model has no route.
    pub fn statistics(&self, request: &ModelRequest) -> Result<Vec<u8>, Denial> {
        let (model, _) = self.route(request.model)?;
        let counted = self.metrics.statistics.of(model.name(), &request.version);
        Ok(model_statistics(
            request.protocol,
            model.name(),
            &request.version,
            &counted,
        ))
    }

    /// One inference. `held` grows and shrinks with what is in memory; `latest` is when the client's patience ends; what only the grant's mode
    /// lets pass goes to `shadow`; what becomes of its copies is told to `audit`.
    ///
    /// # Errors
    /// A handler, the backend or what either gave back failed: which, is the reason.
    pub async fn infer(
        &self,
        request: ModelRequest,
        held: &mut Held,
        latest: Latest,
        timings: &mut Timings,
        shadow: &mut InShadow,
        audit: &Audit,
    ) -> Result<Encoded, Denial> {
        let (model, route) = self.route(request.model)?;
        let room = |inputs: &[Tensor<'_>]| match &route.target {
            Target::Backend(backend) => backend.dialect().room(model, inputs),
            Target::Ensemble(backends) => self.room(model, backends),
        };
        let (sent, wanted) = self
            .prepared(request, room, held, latest.at, timings, shadow)
            .await?;
        let mut copies = route
            .copies
            .keep(&wanted.request_id, &sent.inputs, &wanted.claims, model);
        let started = Instant::now();
        let outputs = match &route.target {
            Target::Backend(backend) => {
                let call = Call {
                    kept: copies.as_ref().map(Kept::message),
                    ..sent.call(model, &wanted)
                };
                let dispatched = backend.dispatch(call, latest, &mut timings.queue).await;
                self.waited(model, started, timings);
                let answered = dispatched?;
                let kept = keeps(model, &answered.outputs, shadow);
                let outputs = answered.judged(kept.as_ref().err());
                kept?;
                outputs
            }
            Target::Ensemble(backends) => {
                let request = Together {
                    model,
                    backends,
                    wanted: &wanted,
                    latest,
                    handled: !route.links(wanted.grant).preprocess.is_empty(),
                };
                let own = Own {
                    held: &mut *held,
                    timings: &mut *timings,
                    shadow: &mut *shadow,
                };
                let answered = self.together(request, sent, own).await;
                self.waited(model, started, timings);
                let outputs = answered?;
                keeps(model, &outputs, shadow)?;
                outputs
            }
        };
        if let Some(copies) = &mut copies {
            copies.answered(&outputs);
        }
        let encoded = self
            .answer(&wanted, outputs, held, latest.at, timings, shadow)
            .await?;
        if let (Some(copies), Target::Backend(backend)) = (copies, &route.target) {
            copies.send(&self.policy, wanted.model, backend, audit);
        }
        Ok(encoded)
    }

    /// What the backend gets, and what becomes of its answer. `room`: bytes that inputs and answers take at the backend, beside the inputs themselves.
    async fn prepared(
        &self,
        request: ModelRequest,
        room: impl Fn(&[Tensor<'_>]) -> usize,
        held: &mut Held,
        latest: Instant,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<(Sent, Wanted), Denial> {
        let (model, route) = self.route(request.model)?;
        let ModelRequest {
            caller,
            protocol,
            operation: _,
            model: model_id,
            grant,
            version,
            id,
            parameters,
            outputs,
            form,
            payload,
            rates: _,
            shadowed: _,
            document: _,
            claims,
            reserved: _,
        } = request;
        let request_id = caller.request_id;
        let client = caller.client.as_deref().unwrap_or_default();
        let grant = grant
            .filter(|id| self.policy.grant(*id).is_some())
            .ok_or_else(under_no_grant)?;
        let links = route.links(grant);
        let handled = !(links.preprocess.is_empty() && links.postprocess.is_empty());
        let capturer = self.capturer.as_ref().filter(|_| handled);
        let behalf = Behalf {
            client: client.into(),
            request_id: request_id.as_str().into(),
            ledger: timings.reached.clone(),
            keep: capturer.and_then(|capturer| capturer.of(model.name(), client)),
        };
        let mut asked = Asked {
            request_id: &request_id,
            behalf: &behalf,
            latest,
            held,
            timings,
            shadow,
        };
        let rules = model.backend_inputs();
        let inputs = self
            .chain(links, Role::Preprocess, payload, rules, &mut asked)
            .await?;
        // The answer's room is taken before it is asked for: a backend cannot fill the host.
        if !held.resize(owned::data_bytes(&inputs).saturating_add(room(&inputs))) {
            return Err(no_room("the answer"));
        }
        let sent = Sent { parameters, inputs };
        let wanted = Wanted {
            request_id,
            behalf,
            protocol,
            model: model_id,
            grant,
            version,
            id,
            outputs,
            form,
            claims,
        };
        Ok((sent, wanted))
    }

    /// The backend has answered, or failed to.
    fn waited(&self, model: &Model, started: Instant, timings: &mut Timings) {
        let took = started.elapsed();
        timings.dispatch = timings.dispatch.saturating_add(took);
        self.dispatched(model, took);
    }

    /// A model answered, or failed to, after so long.
    fn dispatched(&self, model: &Model, took: Duration) {
        let labels = ModelLabels {
            model: model.name().to_owned(),
        };
        self.metrics
            .dispatch_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// What the backend answered within the contract, handled, cut to what the caller may have and written.
    async fn answer(
        &self,
        wanted: &Wanted,
        outputs: Vec<Tensor<'static>>,
        held: &mut Held,
        latest: Instant,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<Encoded, Denial> {
        let (model, route) = self.route(wanted.model)?;
        let request_id = wanted.request_id.as_str();
        let mut asked = Asked {
            request_id,
            behalf: &wanted.behalf,
            latest,
            held: &mut *held,
            timings,
            shadow,
        };
        let returns = self.returns(wanted.grant, wanted.model, model);
        let links = route.links(wanted.grant);
        let made = Payload::Tensors(outputs);
        let outputs = self
            .chain(links, Role::Postprocess, made, returns, &mut asked)
            .await?;
        let (model_id, grant_id) = (wanted.model, wanted.grant);
        let outputs = select(returns, &wanted.outputs, outputs);
        let (protocol, form) = (wanted.protocol, wanted.form.clone());
        let mut response = InferResponse {
            model: model.name().to_owned(),
            version: wanted.version.clone(),
            id: wanted.id.clone(),
            outputs,
        };
        let data_bytes = owned::data_bytes(&response.outputs);
        let encoded_bytes = encode::most_bytes(protocol, &response, &form);
        // Tensors and their encoding are in memory together.
        let both_bytes = encoded_bytes.saturating_add(data_bytes);
        if !held.resize(both_bytes) {
            return Err(no_room("the encoded answer"));
        }
        let policy = Arc::clone(&self.policy);
        offload(data_bytes, move || {
            let (model, grant) = (policy.model(model_id)?, policy.grant(grant_id)?);
            let returns = grant.returns(model_id, model);
            release(returns, grant, &mut response.outputs);
            Some(encode::infer_response(protocol, &response, &form))
        })
        .await
        .flatten()
        .unwrap_or(Err(Unsayable::Tensor))
        .map_err(|why| unsayable(why, protocol))
    }
}

/// Whether a backend's answer keeps the contract.
fn keeps(model: &Model, outputs: &[Tensor<'static>], shadow: &mut InShadow) -> Result<(), Denial> {
    shadow.check(
        Values::Outputs,
        model.backend_outputs(),
        outputs,
        |denial| broken(Reason::BackendFault, "the backend's answer", &denial),
    )
}

/// What some party made breaks the contract. The reason becomes that party's own; the log keeps the whole cause.
fn broken(reason: Reason, who: &str, denial: &Denial) -> Denial {
    let Denial {
        reason: what,
        cause,
        ..
    } = denial;
    Denial::new(
        reason,
        format!("{who} breaks the contract: {what}: {cause}"),
    )
}

/// An answer that cannot be written. In which form it was asked for is the caller's own word: another one carries what the contract lets
/// its outputs hold, so that this is none of the backend's faults.
fn unsayable(why: Unsayable, protocol: Protocol) -> Denial {
    match why {
        Unsayable::Rows => Denial::with_field(
            Reason::Malformed,
            "instances",
            "the answer has no rows in common",
        ),
        Unsayable::Value => Denial::with_field(
            Reason::Malformed,
            match protocol {
                Protocol::OipRest => "binary_data_output",
                _ => "an answer in JSON",
            },
            "the answer has a value that JSON cannot say",
        ),
        Unsayable::Tensor => Denial::new(
            Reason::BackendFault,
            format!("the answer cannot be said in {}", protocol.name()),
        ),
    }
}

/// A request that was judged has a grant: whoever finds none has mixed up policies.
fn under_no_grant() -> Denial {
    Denial::new(Reason::Overloaded, "internal: an answer under no grant")
}

/// The outputs that were asked for, in the contract's order; all if none was named. Which of them the grant gives, [`release`] sees to.
fn select(
    rules: &[TensorRule],
    wanted: &[String],
    outputs: Vec<Tensor<'static>>,
) -> Vec<Tensor<'static>> {
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let place = |tensor: &Tensor<'_>| rules.iter().position(|rule| rule.name() == tensor.name);
    let mut selected: Vec<_> = outputs
        .into_iter()
        .filter(|tensor| asked(&tensor.name))
        .collect();
    selected.sort_by_key(|tensor| place(tensor));
    selected
}
