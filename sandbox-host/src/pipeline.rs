//! From a checked request to an answer: preprocess, dispatch, postprocess, each party's output checked against the contract
//! before the next one sees it. Metadata comes from the contract, readiness from the prober's memory, statistics from what was counted here.

pub(crate) mod openai;

use std::collections::HashMap;
use std::sync::Arc;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Accepts, Model, ModelId};
use tensorgate_policy::release::release;
use tensorgate_policy::tensor::InferResponse;
use tensorgate_policy::{Denial, Policy, Protocol, Reason, Tensor};
use tensorgate_wire::encode::statistics::model_statistics;
use tensorgate_wire::encode::{self, Encoded, Unsayable};
use tokio::time::Instant;

use crate::backends::{Call, answer};
use crate::budget::Held;
use crate::capture::Capturer;
use crate::dispatch::{Dispatcher, Latest};
use crate::guard::offload;
use crate::metrics::{FaultLabels, HandlerLabels, Metrics, ModelLabels};
use crate::owned;
use crate::request::ModelRequest;
use crate::room::no_room;
use crate::sandbox::{Behalf, Called, HandlerError, Keep, LoadedHandler, Payload, Role};
use crate::shadow::{InShadow, Values};
use crate::timings::Timings;

/// A loaded handler and its name in the policy.
#[derive(Clone)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The component.
    pub handler: LoadedHandler,
}

impl Stage {
    /// The handler for one request; what it may have brought is in `held`.
    fn for_one(
        &self,
        latest: Latest,
        behalf: &Behalf,
        keep: Option<&Arc<dyn Keep>>,
        held: &mut Held,
    ) -> Result<LoadedHandler, Denial> {
        let brought_bytes = self.handler.most_brought_bytes();
        if !held.resize(held.bytes().saturating_add(brought_bytes)) {
            return Err(no_room("what a handler may ask for"));
        }
        let handler = self.handler.by(latest.at).on_behalf_of(behalf.clone());
        Ok(handler.kept_by(keep.cloned()))
    }
}

/// Where one model's requests go.
pub struct ModelRoute {
    /// Before dispatch.
    pub preprocess: Option<Stage>,
    /// The backend.
    pub backend: Arc<Dispatcher>,
    /// After dispatch.
    pub postprocess: Option<Stage>,
}

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
            let health = route.backend.health();
            let served = |model: &Model| {
                model
                    .versions()
                    .iter()
                    .all(|version| health.model_ready(model, version))
            };
            health.reachable() && self.policy.model(*id).is_some_and(served)
        })
    }

    /// What of the models is not ready, and why, a line each: for operators.
    pub fn unready(&self) -> Vec<String> {
        let lines = self.policy.models().iter().flat_map(|model| {
            let id = self.policy.model_id(model.name());
            let route = id.and_then(|id| self.routes.get(&id));
            route.into_iter().flat_map(|route| {
                let versions = model.versions().iter();
                versions.flat_map(|version| route.backend.health().unready(model, version))
            })
        });
        lines.collect()
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
        let outputs: Vec<_> = model.returns().iter().filter(published).cloned().collect();
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
        let ready = route.backend.health().model_ready(model, &request.version);
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
    /// lets pass goes to `shadow`.
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
    ) -> Result<Encoded, Denial> {
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
            outputs: wanted,
            form,
            payload,
            rates: _,
            shadowed: _,
            document: _,
            claims,
            reserved: _,
        } = request;
        let request_id = caller.request_id.as_str();
        let behalf = Behalf {
            client: caller.client.as_deref().unwrap_or_default().into(),
            request_id: request_id.into(),
            ledger: timings.reached.clone(),
        };
        let keep =
            (self.capturer.as_ref()).and_then(|capturer| capturer.of(model.name(), &behalf.client));
        let answer_bytes = answer::max_bytes(model.backend_outputs());

        let inputs = match (&route.preprocess, payload) {
            (None, Payload::Tensors(tensors)) => tensors,
            (None, Payload::Raw { .. }) => {
                return Err(Denial::new(
                    Reason::HandlerFault,
                    "a raw body, and no handler to read it",
                ));
            }
            (Some(stage), payload) => {
                let started = Instant::now();
                let handler = stage.for_one(latest, &behalf, keep.as_ref(), held)?;
                let called = handler.preprocess(request_id, payload).await;
                self.made(
                    stage,
                    Role::Preprocess,
                    started,
                    called,
                    model.backend_inputs(),
                    request_id,
                    timings,
                    shadow,
                )?
            }
        };
        // The answer's room is taken before it is asked for: a backend cannot fill the host.
        if !held.resize(owned::data_bytes(&inputs).saturating_add(answer_bytes)) {
            return Err(no_room("the answer"));
        }

        let started = Instant::now();
        let call = Call {
            contract: model,
            id: request_id,
            model: model.backend_model(),
            version: &version,
            parameters,
            inputs,
            outputs: model.backend_outputs(),
            claims: &claims,
        };
        let dispatched = route
            .backend
            .dispatch(call, latest, &mut timings.queue)
            .await;
        timings.dispatch = started.elapsed();
        let labels = ModelLabels {
            model: model.name().to_owned(),
        };
        self.metrics
            .dispatch_seconds
            .get_or_create(&labels)
            .observe(timings.dispatch.as_secs_f64());
        let mut outputs = dispatched?;
        let rules = model.backend_outputs();
        shadow.check(Values::Outputs, rules, &outputs, |denial| {
            broken(Reason::BackendFault, "the backend's answer", &denial)
        })?;

        if let Some(stage) = &route.postprocess {
            let started = Instant::now();
            let handler = stage.for_one(latest, &behalf, keep.as_ref(), held)?;
            let called = handler.postprocess(request_id, outputs).await;
            outputs = self.made(
                stage,
                Role::Postprocess,
                started,
                called,
                model.returns(),
                request_id,
                timings,
                shadow,
            )?;
        }
        let grant_id = grant
            .filter(|id| self.policy.grant(*id).is_some())
            .ok_or_else(under_no_grant)?;
        let outputs = select(model.returns(), &wanted, outputs);
        let mut response = InferResponse {
            model: model.name().to_owned(),
            version,
            id,
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
            release(model.returns(), grant, &mut response.outputs);
            Some(encode::infer_response(protocol, &response, &form))
        })
        .await
        .flatten()
        .unwrap_or(Err(Unsayable::Tensor))
        .map_err(|why| unsayable(why, protocol))
    }

    /// What a handler made, checked against the rules; counted, and its failures sorted.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call of one stage: each is a different fact about it"
    )]
    fn made(
        &self,
        stage: &Stage,
        role: Role,
        started: Instant,
        called: Result<Called, HandlerError>,
        rules: &[TensorRule],
        request_id: &str,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let took = started.elapsed();
        timings.handler = timings.handler.saturating_add(took);
        if role == Role::Postprocess {
            timings.postprocess = took;
        }
        let labels = HandlerLabels {
            handler: stage.name.clone(),
            role: role.export(),
        };
        self.metrics
            .handler_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let fault = |cause: &'static str| {
            self.metrics
                .handler_faults
                .get_or_create(&FaultLabels {
                    handler: stage.name.clone(),
                    cause,
                })
                .inc();
        };
        let called = match called {
            Ok(called) => called,
            Err(HandlerError::Rejected(text)) => {
                return Err(Denial::new(
                    Reason::HandlerRejected,
                    format!("handler {:?}: {text}", stage.name),
                ));
            }
            Err(HandlerError::Overloaded) => {
                return Err(Denial::new(
                    Reason::Overloaded,
                    format!("handler {:?}: {}", stage.name, HandlerError::Overloaded),
                ));
            }
            Err(HandlerError::Fault {
                cause,
                detail,
                fuel_used,
            }) => {
                timings.fuel = timings.fuel.saturating_add(fuel_used);
                fault(cause.name());
                return Err(Denial::new(
                    Reason::HandlerFault,
                    format!("handler {:?}: {cause}: {detail}", stage.name),
                ));
            }
        };
        timings.fuel = timings.fuel.saturating_add(called.fuel_used);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a histogram's observation is a float"
        )]
        self.metrics
            .fuel
            .get_or_create(&labels)
            .observe(called.fuel_used as f64);
        if called.log_lines_dropped > 0 {
            self.metrics
                .handler_log_lines_dropped
                .inc_by(called.log_lines_dropped);
            tracing::warn!(
                request_id,
                handler = stage.name,
                lines = called.log_lines_dropped,
                "handler log lines dropped"
            );
        }
        let who = format!("handler {:?}'s output", stage.name);
        let values = match role {
            Role::Preprocess => Values::Inputs,
            Role::Postprocess => Values::Outputs,
        };
        let own = |denial| broken(Reason::HandlerFault, &who, &denial);
        shadow
            .check(values, rules, &called.tensors, own)
            .inspect_err(|_| fault("contract"))?;
        Ok(called.tensors)
    }
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

/// An answer that cannot be written. That it was asked for by row is the caller's own word.
fn unsayable(why: Unsayable, protocol: Protocol) -> Denial {
    match why {
        Unsayable::Rows => Denial::with_field(
            Reason::Malformed,
            "instances",
            "the answer has no rows in common",
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
