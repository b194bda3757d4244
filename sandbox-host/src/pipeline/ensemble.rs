//! Models that answer one request together. Each step is called once what it is given is there, and no later; what it is given and what it
//! answers is held against its model's contract. The first that fails fails the request by its own reason, and ends the others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::policy::{Accepts, Ensemble, EnsembleStep, Model};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Denial, Reason, Tensor};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::wanted::{Sent, Wanted};
use super::{Pipeline, broken, keeps};
use crate::backends::Call;
use crate::budget::Held;
use crate::dispatch::{Answered, Dispatcher, Latest};
use crate::metrics::Metrics;
use crate::owned;
use crate::room::no_room;
use crate::shadow::{InShadow, Values};
use crate::timings::Timings;

/// What a step came to.
struct Answer {
    place: usize,
    answered: Answered,
    queue: Duration,
    took: Duration,
}

/// The calls that are under way; they end with it.
type Running = JoinSet<Result<Answer, Denial>>;

/// A request as all of its steps see it.
pub(super) struct Together<'a> {
    pub(super) model: &'a Model,
    /// Where each step goes.
    pub(super) backends: &'a [Arc<Dispatcher>],
    pub(super) wanted: &'a Wanted,
    pub(super) latest: Latest,
    /// Whether a handler made what came.
    pub(super) handled: bool,
}

/// What a request has of its own while its steps are called.
pub(super) struct Own<'a> {
    pub(super) held: &'a mut Held,
    pub(super) timings: &'a mut Timings,
    pub(super) shadow: &'a mut InShadow,
}

/// What is there to be given to steps, by its name in the ensemble.
type Known = HashMap<String, Tensor<'static>>;

impl Pipeline {
    /// Calls every step; the outputs are those that the model's contract names, unchecked.
    pub(super) async fn together(
        &self,
        request: Together<'_>,
        sent: Sent,
        mut own: Own<'_>,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        self.admits(&request, &sent.inputs, own.shadow)?;
        let mut running = Running::new();
        let answered = self.calls(&request, sent, &mut own, &mut running).await;
        // Whoever waits for the answer holds what the others still have.
        running.shutdown().await;
        let mut known = answered?;
        let rules = request.model.backend_outputs().iter();
        Ok(rules.filter_map(|rule| known.remove(rule.name())).collect())
    }

    async fn calls(
        &self,
        request: &Together<'_>,
        sent: Sent,
        own: &mut Own<'_>,
        running: &mut Running,
    ) -> Result<Known, Denial> {
        let Sent { parameters, inputs } = sent;
        let steps = request.model.ensemble().map_or(&[][..], Ensemble::steps);
        let inputs = inputs.into_iter();
        let mut known: Known = inputs
            .map(|tensor| (tensor.name.clone().into_owned(), tensor))
            .collect();
        let mut waiting: Vec<_> = steps.iter().zip(request.backends).enumerate().collect();
        let mut done = vec![false; steps.len()];
        loop {
            let is_done = |place: &usize| done.get(*place).copied().unwrap_or(false);
            let (ready, later): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, (step, _))| step.after().iter().all(is_done));
            waiting = later;
            for (place, (step, backend)) in ready {
                let member = self.policy.model(step.model()).ok_or_else(no_member)?;
                let inputs = given(step, &known);
                if !step.is_given_what_came() {
                    let who = format!("step {place}: what model {:?} is given", member.name());
                    let by_steps = |denial| broken(Reason::BackendFault, &who, &denial);
                    let rules = member.backend_inputs();
                    own.shadow.check(Values::Inputs, rules, &inputs, by_steps)?;
                }
                let dialect = backend.dialect();
                let written = dialect
                    .room(member, &inputs)
                    .saturating_sub(dialect.answer_room(member));
                let bytes = owned::data_bytes(&inputs).saturating_add(written);
                if !own.held.resize(own.held.bytes().saturating_add(bytes)) {
                    return Err(no_room("what a step is given"));
                }
                let sent = Sent {
                    parameters: listed(member, &parameters),
                    inputs,
                };
                let claims = request.wanted.claims.clone();
                let id = format!("{}-{place}", request.wanted.request_id);
                let (policy, metrics) = (Arc::clone(&self.policy), Arc::clone(&self.metrics));
                let (step, backend, latest) = (step.clone(), Arc::clone(backend), request.latest);
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
                        kept: None,
                    };
                    let (began, mut queue) = (Instant::now(), Duration::ZERO);
                    let answered = backend.dispatch(call, latest, &mut queue).await;
                    let took = began.elapsed();
                    if answered.is_err() {
                        count(&metrics, member, &step, false, (queue, took));
                    }
                    Ok(Answer {
                        place,
                        answered: answered.map_err(|denial| of_step(place, member, denial))?,
                        queue,
                        took,
                    })
                });
            }
            let Some(answer) = running.join_next().await else {
                return Ok(known);
            };
            let answer = answer.map_err(|error| broken_off(&error))??;
            if let (Some(step), Some(done)) = (steps.get(answer.place), done.get_mut(answer.place))
            {
                *done = true;
                self.gives(step, answer, &mut known, own)?;
            }
        }
    }

    /// Bytes of every step's answer. What is written for a step is held when it is.
    pub(super) fn room(&self, model: &Model, backends: &[Arc<Dispatcher>]) -> usize {
        let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
        steps
            .iter()
            .zip(backends)
            .fold(0_usize, |bytes, (step, backend)| {
                let member = self.policy.model(step.model());
                let answer = member.map_or(0, |member| backend.dialect().answer_room(member));
                bytes.saturating_add(answer)
            })
    }

    /// Whether every model that is given some of what came takes it, before the first is called. What it refuses is a fault of whoever made it; a
    /// client is told the reason, and no model's names.
    fn admits(
        &self,
        request: &Together<'_>,
        inputs: &[Tensor<'static>],
        shadow: &mut InShadow,
    ) -> Result<(), Denial> {
        let steps = request.model.ensemble().map_or(&[][..], Ensemble::steps);
        for (place, step) in steps.iter().enumerate() {
            let member = self.policy.model(step.model()).ok_or_else(no_member)?;
            let joints = step.inputs().iter().filter(|joint| joint.from_client());
            let tensors: Vec<Tensor<'_>> = joints
                .filter_map(|joint| {
                    let tensor = inputs.iter().find(|tensor| tensor.name == joint.shared())?;
                    Some(renamed(tensor, joint.own()))
                })
                .collect();
            let whose = |denial: Denial| {
                let denial = of_step(place, member, denial);
                if request.handled {
                    broken(Reason::HandlerFault, "what preprocessing made", &denial)
                } else {
                    Denial::new(denial.reason, denial.cause)
                }
            };
            shadow.check(Values::Inputs, step.came(), &tensors, whose)?;
        }
        Ok(())
    }

    /// Holds a step's answer against its model's outputs, and keeps what goes on of it.
    fn gives(
        &self,
        step: &EnsembleStep,
        answer: Answer,
        known: &mut Known,
        own: &mut Own<'_>,
    ) -> Result<(), Denial> {
        let member = self.policy.model(step.model()).ok_or_else(no_member)?;
        let Answer {
            place,
            answered,
            queue,
            took,
        } = answer;
        own.timings.queue = own.timings.queue.max(queue);
        self.dispatched(member, took);
        let kept = keeps(member, &answered.outputs, own.shadow);
        count(&self.metrics, member, step, kept.is_ok(), (queue, took));
        let mut tensors = answered.judged(kept.as_ref().err());
        kept.map_err(|denial| of_step(place, member, denial))?;
        for joint in step.outputs() {
            let place = tensors.iter().position(|tensor| tensor.name == joint.own());
            if let Some(place) = place {
                let tensor = Tensor {
                    name: Cow::Owned(joint.shared().to_owned()),
                    ..tensors.swap_remove(place)
                };
                known.insert(joint.shared().to_owned(), tensor);
            }
        }
        Ok(())
    }
}

/// What a step is given, under its model's names. What may be left out is not there.
fn given(step: &EnsembleStep, known: &Known) -> Vec<Tensor<'static>> {
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

/// The same elements under another name.
fn renamed<'a>(tensor: &'a Tensor<'static>, name: &'a str) -> Tensor<'a> {
    Tensor {
        name: Cow::Borrowed(name),
        datatype: Cow::Borrowed(&tensor.datatype),
        shape: tensor.shape.clone(),
        parameters: Vec::new(),
        data: tensor
            .data
            .as_deref()
            .map(Cow::Borrowed)
            .map_err(|fault| *fault),
    }
}

/// The parameters that a model's contract lists; the ensemble's bounds are within its.
fn listed(member: &Model, parameters: &[Parameter<'static>]) -> Vec<Parameter<'static>> {
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

fn of_step(place: usize, member: &Model, denial: Denial) -> Denial {
    let name = member.name();
    Denial {
        cause: format!("step {place}, model {name:?}: {}", denial.cause),
        ..denial
    }
}

/// A policy's ensembles name its own models.
fn no_member() -> Denial {
    Denial::new(Reason::Overloaded, "internal: a step without a model")
}

fn broken_off(error: &JoinError) -> Denial {
    Denial::new(
        Reason::Overloaded,
        format!("internal: a step ended: {error}"),
    )
}
