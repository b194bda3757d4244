//! Runs ensembles: several models that answer one request together. Each step is called once, as
//! soon as its inputs are available. Inputs and outputs are checked against the contract of the
//! step's model. The first failure fails the request with its own reason and cancels the other
//! steps.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_base::owned;
use tensorgate_policy::policy::{Accepts, Ensemble, EnsembleStep, Model};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::tensor_data::TensorData;
use tensorgate_policy::{Denial, Policy, Reason, Tensor};
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_telemetry::timings::Timings;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::shadow::{InShadow, Values};
use super::{BackendInputs, Pipeline, ResponseContext, check_outputs, contract_denial};
use crate::admission::body_memory::out_of_memory;
use crate::backends::Call;
use crate::dispatch::{BackendResponse, Deadline, Dispatcher};

/// The response of a step.
struct Answer {
    step_index: usize,
    answered: BackendResponse,
    queue: Duration,
    took: Duration,
}

/// The calls in flight. They are cancelled on drop.
type Running = JoinSet<Result<Answer, Denial>>;

/// The parts of a request that all steps share.
pub(super) struct EnsembleRun<'a> {
    pub(super) model: &'a Model,
    /// The dispatcher of each step.
    pub(super) backends: &'a [Arc<Dispatcher>],
    pub(super) wanted: &'a ResponseContext,
    pub(super) request_deadline: Deadline,
    /// Whether a handler produced the inputs.
    pub(super) handled: bool,
}

/// The mutable state of a request while its steps run.
pub(super) struct EnsembleContext<'a> {
    pub(super) memory_permit: &'a mut MemoryPermit,
    pub(super) timings: &'a mut Timings,
    pub(super) shadow: &'a mut InShadow,
}

/// The tensors that are available to steps, by name in the ensemble.
type Known = HashMap<String, Tensor<'static>>;

/// Runs every step. Returns the outputs of the model's contract, unchecked.
pub(super) async fn run(
    pipeline: &Pipeline,
    request: EnsembleRun<'_>,
    sent: BackendInputs,
    mut own: EnsembleContext<'_>,
) -> Result<Vec<Tensor<'static>>, Denial> {
    check_input(&pipeline.policy, &request, &sent.inputs, own.shadow)?;
    let mut running = Running::new();
    let answered = calls(pipeline, &request, sent, &mut own, &mut running).await;
    // The memory permit covers what cancelled steps still hold.
    running.shutdown().await;
    let mut known = answered?;
    let rules = request.model.backend_outputs().iter();
    Ok(rules.filter_map(|rule| known.remove(rule.name())).collect())
}

async fn calls(
    pipeline: &Pipeline,
    request: &EnsembleRun<'_>,
    sent: BackendInputs,
    own: &mut EnsembleContext<'_>,
    running: &mut Running,
) -> Result<Known, Denial> {
    let BackendInputs { parameters, inputs } = sent;
    let steps = request.model.ensemble().map_or(&[][..], Ensemble::steps);
    let inputs = inputs.into_iter();
    let mut known: Known = inputs
        .map(|tensor| (tensor.name.clone().into_owned(), tensor))
        .collect();
    let mut waiting: Vec<_> = steps.iter().zip(request.backends).enumerate().collect();
    let mut done = vec![false; steps.len()];
    loop {
        let is_done = |step_index: &usize| done.get(*step_index).copied().unwrap_or(false);
        let (ready, later): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(_, (step, _))| step.after().iter().all(is_done));
        waiting = later;
        for (step_index, (step, backend)) in ready {
            let member = pipeline.policy.model(step.model()).ok_or_else(no_member)?;
            let inputs = step_inputs(step, &known);
            if !step.has_only_client_inputs() {
                let who = format!("step {step_index}: the input of model {:?}", member.name());
                let by_steps = |denial| contract_denial(Reason::BackendFault, &who, &denial);
                let rules = member.backend_inputs();
                own.shadow.check(Values::Inputs, rules, &inputs, by_steps)?;
            }
            let dialect = backend.dialect();
            let written = dialect
                .request_memory(member, &inputs)
                .saturating_sub(dialect.response_memory(member));
            let bytes = owned::data_bytes(&inputs).saturating_add(written);
            if !own
                .memory_permit
                .resize(own.memory_permit.bytes().saturating_add(bytes))
            {
                return Err(out_of_memory("a step's input"));
            }
            let sent = BackendInputs {
                parameters: allowed_parameters(member, &parameters),
                inputs,
            };
            let claims = request.wanted.claims.clone();
            let id = format!("{}-{step_index}", request.wanted.request_id);
            let (policy, metrics) = (Arc::clone(&pipeline.policy), Arc::clone(&pipeline.metrics));
            let (step, backend, request_deadline) =
                (step.clone(), Arc::clone(backend), request.request_deadline);
            running.spawn(async move {
                let member = policy.model(step.model()).ok_or_else(no_member)?;
                let call = Call {
                    contract: member,
                    id: &id,
                    model: member.backend_model(),
                    version: step.version(),
                    parameters: sent.parameters,
                    inputs: sent.inputs,
                    outputs: member.backend_outputs(),
                    claims: &claims,
                    sent_message: None,
                };
                let (began, mut queue) = (Instant::now(), Duration::ZERO);
                let answered = backend.dispatch(call, request_deadline, &mut queue).await;
                let took = began.elapsed();
                if answered.is_err() {
                    count(&metrics, member, &step, false, (queue, took));
                }
                Ok(Answer {
                    step_index,
                    answered: answered.map_err(|denial| at_step(step_index, member, denial))?,
                    queue,
                    took,
                })
            });
        }
        let Some(answer) = running.join_next().await else {
            return Ok(known);
        };
        let answer = answer.map_err(|error| join_failure(&error))??;
        if let (Some(step), Some(done)) = (
            steps.get(answer.step_index),
            done.get_mut(answer.step_index),
        ) {
            *done = true;
            check_output(pipeline, step, answer, &mut known, own)?;
        }
    }
}

/// The memory of all responses. The encoded request of a step is reserved when the step starts.
pub(super) fn memory_bytes(policy: &Policy, model: &Model, backends: &[Arc<Dispatcher>]) -> usize {
    let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
    steps
        .iter()
        .zip(backends)
        .fold(0_usize, |bytes, (step, backend)| {
            let member = policy.model(step.model());
            let answer = member.map_or(0, |member| backend.dialect().response_memory(member));
            bytes.saturating_add(answer)
        })
}

/// Checks the request's tensors against the models that receive them, before the first step.
/// The producer of a tensor is at fault. A client gets the reason, without model names.
fn check_input(
    policy: &Policy,
    request: &EnsembleRun<'_>,
    inputs: &[Tensor<'static>],
    shadow: &mut InShadow,
) -> Result<(), Denial> {
    let steps = request.model.ensemble().map_or(&[][..], Ensemble::steps);
    for (step_index, step) in steps.iter().enumerate() {
        let member = policy.model(step.model()).ok_or_else(no_member)?;
        let joints = step.inputs().iter().filter(|joint| joint.from_client());
        let tensors: Vec<Tensor<'_>> = joints
            .filter_map(|joint| {
                let tensor = inputs.iter().find(|tensor| tensor.name == joint.shared())?;
                Some(renamed(tensor, joint.own()))
            })
            .collect();
        let at_member = |denial: Denial| {
            let denial = at_step(step_index, member, denial);
            if request.handled {
                contract_denial(Reason::HandlerFault, "the preprocessor's output", &denial)
            } else {
                Denial::new(denial.reason, denial.cause)
            }
        };
        shadow.check(Values::Inputs, step.client_inputs(), &tensors, at_member)?;
    }
    Ok(())
}

/// Checks a step's response against its model's outputs, and keeps the tensors that other steps
/// need.
fn check_output(
    pipeline: &Pipeline,
    step: &EnsembleStep,
    answer: Answer,
    known: &mut Known,
    own: &mut EnsembleContext<'_>,
) -> Result<(), Denial> {
    let member = pipeline.policy.model(step.model()).ok_or_else(no_member)?;
    let Answer {
        step_index,
        answered,
        queue,
        took,
    } = answer;
    own.timings.queue = own.timings.queue.max(queue);
    pipeline.count_dispatch(member, took);
    let kept = check_outputs(member, &answered.outputs, own.shadow);
    count(&pipeline.metrics, member, step, kept.is_ok(), (queue, took));
    let mut tensors = answered.validated(kept.as_ref().err());
    kept.map_err(|denial| at_step(step_index, member, denial))?;
    for joint in step.outputs() {
        let step_index = tensors.iter().position(|tensor| tensor.name == joint.own());
        if let Some(step_index) = step_index {
            let tensor = Tensor {
                name: Cow::Owned(joint.shared().to_owned()),
                ..tensors.swap_remove(step_index)
            };
            known.insert(joint.shared().to_owned(), tensor);
        }
    }
    Ok(())
}

/// The inputs of a step, with its model's names. Optional ones may be missing.
fn step_inputs(step: &EnsembleStep, known: &Known) -> Vec<Tensor<'static>> {
    let joints = step.inputs().iter();
    let tensors = joints.filter_map(|joint| {
        let tensor = known.get(joint.shared())?;
        Some(Tensor {
            name: Cow::Owned(joint.own().to_owned()),
            ..tensor.clone()
        })
    });
    tensors.collect()
}

/// The same tensor with another name.
fn renamed<'a>(tensor: &'a Tensor<'static>, name: &'a str) -> Tensor<'a> {
    Tensor {
        name: Cow::Borrowed(name),
        datatype: Cow::Borrowed(&tensor.datatype),
        shape: tensor.shape.clone(),
        parameters: Vec::new(),
        data: tensor
            .data
            .as_deref()
            .map(TensorData::Borrowed)
            .map_err(|fault| *fault),
    }
}

/// The parameters that a model's contract lists. The ensemble's bounds are within the model's.
fn allowed_parameters(
    member: &Model,
    parameters: &[Parameter<'static>],
) -> Vec<Parameter<'static>> {
    let Accepts::Tensors(contract) = member.accepts() else {
        return Vec::new();
    };
    let listed = parameters
        .iter()
        .filter(|parameter| contract.lists_parameter(&parameter.name));
    listed.cloned().collect()
}

fn count(
    metrics: &Metrics,
    member: &Model,
    step: &EnsembleStep,
    answered: bool,
    (queue, dispatch): (Duration, Duration),
) {
    let timings = Timings {
        dispatch,
        queue,
        ..Timings::default()
    };
    let (model, version) = (member.name(), step.version());
    metrics
        .statistics
        .count(model, version, answered, dispatch, &timings);
}

fn at_step(step_index: usize, member: &Model, denial: Denial) -> Denial {
    let name = member.name();
    Denial {
        cause: format!("step {step_index}, model {name:?}: {}", denial.cause),
        ..denial
    }
}

/// The validated policy's ensembles only name its own models.
fn no_member() -> Denial {
    Denial::new(Reason::Overloaded, "internal: a step without a model")
}

fn join_failure(error: &JoinError) -> Denial {
    Denial::new(
        Reason::Overloaded,
        format!("internal: a step ended: {error}"),
    )
}
