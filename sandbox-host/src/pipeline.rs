//! The pipeline of a checked request: preprocessing, dispatch, postprocessing. Each output is
//! checked against the contract before the next stage sees it. Metadata comes from the contract,
//! readiness from the health checks, statistics from the host's own counts.

mod attribution;
mod chain;
pub mod chunk_stream;
pub(crate) mod decoupled;
mod ensemble;
pub(crate) mod mirroring;
pub(crate) mod openai;
mod prepared;
pub mod record;
pub mod reply;
mod request_facts;
pub mod request_record;
mod route;
mod shadow;
mod stage;
pub mod stream_record;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tensorgate_audit::Audit;
use tensorgate_base::guard::offload;
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_base::owned;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_base::unix_time::now_unix_ms;
use tensorgate_judge::model_version::model_version;
use tensorgate_judge::request::ModelRequest;
use tensorgate_policy::contract::guardrail::text_characters;
use tensorgate_policy::contract::{NearBounds, TensorRule, near_bounds};
use tensorgate_policy::policy::{Accepts, Ensemble, GrantId, Model, ModelId};
use tensorgate_policy::release::{release, top_class};
use tensorgate_policy::tensor::{ASK_FOR_BINARY, InferResponse};
use tensorgate_policy::values::WatchRule;
use tensorgate_policy::{Denial, Policy, Protocol, Reason, Tensor};
use tensorgate_sandbox::capture::Capturer;
use tensorgate_sandbox::{CallContext, CallRequest};
use tensorgate_telemetry::labels::ModelLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_telemetry::timings::Timings;
use tensorgate_verified_models::Cause;
use tensorgate_wire::encode::statistics::model_statistics;
use tensorgate_wire::encode::{self, Encoded, Unencodable};
use tokio::time::Instant;

use crate::admission::body_memory::out_of_memory;
use crate::backends::Call;
use crate::dispatch::Deadline;
use crate::pipeline::mirroring::PendingMirror;
use chain::CallContents;
use ensemble::{EnsembleContext, EnsembleRun};
use prepared::{BackendInputs, ResponseContext};
use request_facts::request_facts;
pub use route::{HandlerChain, ModelRoute, Target};
use shadow::{InShadow, Values};
pub use stage::Stage;

/// The routes of all models.
pub struct Pipeline {
    policy: Arc<Policy>,
    routes: HashMap<ModelId, ModelRoute>,
    metrics: Arc<Metrics>,
    capturer: Option<Arc<Capturer>>,
}

impl Pipeline {
    /// Creates a pipeline with routes for the models of a policy.
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

    /// Every model version with the causes why it is not ready. It is ready if there are none.
    pub fn readiness(&self) -> impl Iterator<Item = (&Model, &str, Vec<String>)> {
        self.policy.models().iter().flat_map(move |model| {
            let id = self.policy.model_id(model.name());
            let route = id.and_then(|id| self.routes.get(&id));
            let versions = model.versions().iter();
            versions.filter_map(move |version| {
                Some((
                    model,
                    version.as_str(),
                    self.unready(model, version, route?),
                ))
            })
        })
    }

    /// Why a model version is not ready; `None` if the policy does not have it.
    pub(crate) fn unready_causes(&self, model: &str, version: &str) -> Option<Vec<String>> {
        let id = self.policy.model_id(model)?;
        let (model, route) = (self.policy.model(id)?, self.routes.get(&id)?);
        let version = model.versions().iter().find(|known| *known == version)?;
        Some(self.unready(model, version, route))
    }

    /// Why a model version is not ready. An ensemble needs every model of its steps.
    fn unready(&self, model: &Model, version: &str, route: &ModelRoute) -> Vec<String> {
        let backends = match &route.target {
            Target::Backend(backend) => return backend.unready(model, version),
            Target::Ensemble(backends) => backends,
            // It is loaded with the policy.
            Target::Handlers => return Vec::new(),
        };
        let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
        let members = steps.iter().zip(backends).filter_map(|(step, backend)| {
            let member = self.policy.model(step.model())?;
            let causes = backend.unready(member, step.version());
            let name = model_version(member, step.version());
            Some(
                causes
                    .into_iter()
                    .map(move |cause| format!("{name}: {cause}")),
            )
        });
        members.flatten().collect()
    }

    /// Why the files of a model version are rejected, if they are.
    pub(crate) fn rejection(&self, model: &Model, version: &str) -> Option<Cause> {
        let id = self.policy.model_id(model.name())?;
        match &self.routes.get(&id)?.target {
            Target::Backend(backend) => backend.rejection(model, version),
            Target::Ensemble(_) | Target::Handlers => None,
        }
    }

    /// The outputs of a model for clients of a grant.
    fn returns<'p>(&'p self, grant: GrantId, id: ModelId, model: &'p Model) -> &'p [TensorRule] {
        let grant = self.policy.grant(grant);
        grant.map_or_else(|| model.returns(), |grant| grant.returns(id, model))
    }

    /// The model's metadata, from its contract.
    ///
    /// # Errors
    /// Returns an error if the model has no route, or if the protocol cannot express the response.
    pub fn metadata(&self, request: &ModelRequest) -> Result<Vec<u8>, Denial> {
        let (model, inputs, outputs) = self.signature(request)?;
        // Only the requested version, because others may not be granted.
        let versions = std::slice::from_ref(&request.version);
        Ok(encode::model_metadata(
            request.protocol,
            model.name(),
            versions,
            inputs,
            &outputs,
        ))
    }

    /// The model's configuration in Triton's form, from its contract.
    ///
    /// # Errors
    /// Returns an error if the model has no route.
    pub fn config(&self, request: &ModelRequest) -> Result<Vec<u8>, Denial> {
        let (model, inputs, outputs) = self.signature(request)?;
        Ok(encode::model_config(
            request.protocol,
            model.name(),
            inputs,
            &outputs,
            model.decoupled().is_some(),
        ))
    }

    /// A model, with its inputs and the outputs that the caller may get.
    fn signature(
        &self,
        request: &ModelRequest,
    ) -> Result<(&Model, &[TensorRule], Vec<TensorRule>), Denial> {
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
        let outputs = returns.iter().filter(published).cloned().collect();
        Ok((model, inputs, outputs))
    }

    /// Whether a model is ready, with the response.
    ///
    /// # Errors
    /// Returns an error if the model has no route, or if the protocol cannot express the response.
    pub fn model_ready(&self, request: &ModelRequest) -> Result<(bool, Vec<u8>), Denial> {
        let (model, route) = self.route(request.model)?;
        let ready = self.unready(model, &request.version, route).is_empty();
        Ok((
            ready,
            encode::model_ready(request.protocol, model.name(), &request.version, ready),
        ))
    }

    /// The number of inferences of a model version for all clients, and their duration.
    ///
    /// # Errors
    /// Returns an error if the model has no route.
    pub fn statistics(&self, request: &ModelRequest) -> Result<Vec<u8>, Denial> {
        let (model, _) = self.route(request.model)?;
        let counted = self
            .metrics
            .statistics
            .for_model(model.name(), &request.version);
        Ok(model_statistics(
            request.protocol,
            model.name(),
            &request.version,
            &counted,
        ))
    }

    /// Runs one inference. `held` follows the memory in use. `request_deadline` is the deadline of
    /// the request. `shadow` collects denials that are not enforced. `audit` gets the outcomes of
    /// mirrored requests.
    ///
    /// # Errors
    /// Returns the denial if a handler or the backend failed, or if its output is invalid.
    pub async fn infer(
        &self,
        request: ModelRequest,
        memory_permit: &mut MemoryPermit,
        request_deadline: Deadline,
        timings: &mut Timings,
        shadow: &mut InShadow,
        audit: &Audit,
    ) -> Result<Encoded, Denial> {
        let (model, route) = self.route(request.model)?;
        let room = |inputs: &[Tensor<'_>]| match &route.target {
            Target::Backend(backend) => backend.dialect().request_memory(model, inputs),
            Target::Ensemble(backends) => ensemble::memory_bytes(&self.policy, model, backends),
            Target::Handlers => 0,
        };
        let (sent, wanted) = self
            .prepared(
                request,
                room,
                memory_permit,
                request_deadline.at,
                timings,
                shadow,
            )
            .await?;
        let mut copies =
            route
                .mirrors
                .start(&wanted.request_id, &sent.inputs, &wanted.claims, model);
        let started = Instant::now();
        let outputs = match &route.target {
            Target::Backend(backend) => {
                let call = Call {
                    sent_message: copies.as_ref().map(PendingMirror::message),
                    ..sent.call(model, &wanted)
                };
                let dispatched = backend
                    .dispatch(call, request_deadline, &mut timings.queue)
                    .await;
                self.count_queue_time(model, started, timings, dispatched.is_err());
                let answered = dispatched?;
                let kept = check_outputs(model, &answered.outputs, shadow);
                let outputs = answered.validated(kept.as_ref().err());
                kept?;
                outputs
            }
            Target::Ensemble(backends) => {
                let request = EnsembleRun {
                    model,
                    backends,
                    wanted: &wanted,
                    request_deadline,
                    handled: !route.chain(wanted.grant).preprocess.is_empty(),
                };
                let own = EnsembleContext {
                    memory_permit: &mut *memory_permit,
                    timings: &mut *timings,
                    shadow: &mut *shadow,
                };
                let answered = ensemble::run(self, request, sent, own).await;
                self.count_queue_time(model, started, timings, answered.is_err());
                let outputs = answered?;
                check_outputs(model, &outputs, shadow)?;
                outputs
            }
            Target::Handlers => sent.inputs,
        };
        if let Some(copies) = &mut copies {
            copies.record_answer(&outputs);
        }
        let encoded = self
            .answer(
                &wanted,
                outputs,
                memory_permit,
                request_deadline.at,
                timings,
                shadow,
            )
            .await?;
        if let (Some(copies), Target::Backend(backend)) = (copies, &route.target) {
            copies.send(&self.policy, wanted.model, backend, audit);
        }
        Ok(encoded)
    }

    /// Prepares the inputs for the backend, and what is needed for the response. `room` returns the
    /// memory of inputs and responses at the backend, in addition to the inputs.
    async fn prepared(
        &self,
        request: ModelRequest,
        room: impl Fn(&[Tensor<'_>]) -> usize,
        memory_permit: &mut MemoryPermit,
        request_deadline: Instant,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<(BackendInputs, ResponseContext), Denial> {
        let (model, route) = self.route(request.model)?;
        let ModelRequest {
            caller,
            protocol,
            operation,
            model: model_id,
            grant,
            version,
            id,
            parameters,
            outputs,
            form,
            payload,
            remaining_quota: _,
            shadowed: _,
            ignored: _,
            document: _,
            claims,
        } = request;
        let request_id = caller.request_id;
        let client = caller.client.as_deref().unwrap_or_default();
        let grant = grant
            .filter(|id| self.policy.grant(*id).is_some())
            .ok_or_else(no_grant)?;
        if self.policy.watch().runs(WatchRule::NearBounds) {
            timings.near_bounds = inputs_near_bounds(model, &payload);
        }
        let links = route.chain(grant);
        let handled = !(links.preprocess.is_empty() && links.postprocess.is_empty());
        let capturer = self.capturer.as_ref().filter(|_| handled);
        let time_unix_ms = now_unix_ms();
        let facts = links.reads_request().then(|| {
            let target = (model.name(), version.as_str(), operation);
            request_facts((client, time_unix_ms), target, &parameters, &payload)
        });
        let mut behalf = CallContext {
            client: client.into(),
            request_id: request_id.as_str().into(),
            request: CallRequest {
                facts: facts.unwrap_or_default().into(),
                carry: Bytes::new(),
            },
            egress_log: timings.reached.clone(),
            capture: capturer.and_then(|capturer| capturer.for_request(model.name(), client)),
            at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(time_unix_ms)),
            seed: None,
        };
        let mut asked = CallContents {
            request_id: &request_id,
            behalf: &mut behalf,
            request_deadline,
            analyzed_characters: analyzed_characters(model, &payload),
            memory_permit,
            timings,
            shadow,
        };
        let rules = model.backend_inputs();
        let metrics = &self.metrics;
        let inputs =
            chain::run(metrics, links, Role::Preprocess, payload, rules, &mut asked).await?;
        // Memory for the response is reserved before the request is sent, so a backend cannot fill
        // the host.
        if !memory_permit.resize(owned::memory_bytes(&inputs).saturating_add(room(&inputs))) {
            return Err(out_of_memory("the answer"));
        }
        let sent = BackendInputs { parameters, inputs };
        let wanted = ResponseContext {
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

    /// Records the time at the backend, successful or not.
    fn count_queue_time(
        &self,
        model: &Model,
        started: Instant,
        timings: &mut Timings,
        failed: bool,
    ) {
        let took = started.elapsed();
        timings.dispatch = timings.dispatch.saturating_add(took);
        timings.trace.add_backend(took, timings.queue, failed);
        self.count_dispatch(model, took);
    }

    /// Records the duration of a model's response, successful or not.
    fn count_dispatch(&self, model: &Model, took: Duration) {
        let labels = ModelLabels {
            model: model.name().to_owned(),
        };
        self.metrics
            .dispatch_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Postprocesses a valid response, selects the outputs that the caller may have, and encodes
    /// them.
    async fn answer(
        &self,
        wanted: &ResponseContext,
        outputs: Vec<Tensor<'static>>,
        memory_permit: &mut MemoryPermit,
        request_deadline: Instant,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<Encoded, Denial> {
        let (model, route) = self.route(wanted.model)?;
        let request_id = wanted.request_id.as_str();
        let mut behalf = wanted.behalf.clone();
        let mut asked = CallContents {
            request_id,
            behalf: &mut behalf,
            request_deadline,
            analyzed_characters: None,
            memory_permit: &mut *memory_permit,
            timings: &mut *timings,
            shadow,
        };
        let returns = self.returns(wanted.grant, wanted.model, model);
        let links = route.chain(wanted.grant);
        let made = Payload::Tensors(outputs);
        let metrics = &self.metrics;
        let outputs =
            chain::run(metrics, links, Role::Postprocess, made, returns, &mut asked).await?;
        if self.policy.watch().reads_classes() {
            timings.top_class = top_class(returns, &outputs);
        }
        let (model_id, grant_id) = (wanted.model, wanted.grant);
        let outputs = select(returns, &wanted.outputs, outputs);
        let (protocol, form) = (wanted.protocol, wanted.form.clone());
        let mut response = InferResponse {
            model: model.name().to_owned(),
            version: wanted.version.clone(),
            id: wanted.id.clone(),
            outputs,
        };
        let data_bytes = owned::memory_bytes(&response.outputs);
        let encoded_bytes = encode::most_bytes(protocol, &response, &form);
        // Tensors and their encoding are in memory at the same time.
        let both_bytes = encoded_bytes.saturating_add(data_bytes);
        if !memory_permit.resize(both_bytes) {
            return Err(out_of_memory("the encoded answer"));
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
        .unwrap_or(Err(Unencodable::Tensor))
        .map_err(|why| unencodable(why, protocol))
    }
}

/// How many of the caller's inputs have values near the bounds of their ranges.
fn inputs_near_bounds(model: &Model, payload: &Payload) -> Option<NearBounds> {
    match (model.accepts(), payload) {
        (Accepts::Tensors(contract), Payload::Tensors(inputs)) => {
            near_bounds(contract.inputs(), inputs)
        }
        _ => None,
    }
}

/// The characters of the text that a guardrail is to analyze.
fn analyzed_characters(model: &Model, payload: &Payload) -> Option<usize> {
    match payload {
        Payload::Tensors(inputs) if model.is_guardrail() => Some(text_characters(inputs)),
        Payload::Tensors(_) | Payload::Raw { .. } => None,
    }
}

/// Whether a backend's response keeps the contract.
fn check_outputs(
    model: &Model,
    outputs: &[Tensor<'static>],
    shadow: &mut InShadow,
) -> Result<(), Denial> {
    shadow.check(
        Values::Outputs,
        model.backend_outputs(),
        outputs,
        |denial| contract_denial(Reason::BackendFault, "the backend's answer", &denial),
    )
}

/// An output breaks the contract. The denial has the reason of its producer. The log has the whole
/// cause.
fn contract_denial(reason: Reason, who: &str, denial: &Denial) -> Denial {
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

/// A response that cannot be encoded. The client chose the format, and another format could express
/// the outputs. So this is not the backend's fault.
fn unencodable(why: Unencodable, protocol: Protocol) -> Denial {
    match why {
        Unencodable::Rows => Denial::with_field(
            Reason::Malformed,
            "instances",
            "the outputs have no common rows",
        ),
        Unencodable::Value => {
            let cause = "the answer has a value that JSON cannot represent";
            match protocol {
                Protocol::OipRest => {
                    let expected = format!("true, because {cause}: {ASK_FOR_BINARY}");
                    Denial::with_field(Reason::Malformed, "binary_data_output", cause)
                        .expecting(Some(expected))
                }
                _ => Denial::with_field(Reason::Malformed, "an answer in JSON", cause),
            }
        }
        Unencodable::Tensor => Denial::new(
            Reason::BackendFault,
            format!("the answer cannot be encoded in {}", protocol.name()),
        ),
    }
}

/// A checked request has a grant. Without one, policies were mixed up.
fn no_grant() -> Denial {
    Denial::new(Reason::Overloaded, "internal: an answer without a grant")
}

/// The requested outputs in the contract's order, or all if none was requested. [`release`] removes
/// those that the grant does not allow.
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
    selected.sort_by_cached_key(place);
    selected
}
