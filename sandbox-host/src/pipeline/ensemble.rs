//! Models that answer one request together. Each step is called once what it is given is there, and no later; what it is given and what it
//! answers is held against its model's contract. The first that fails fails the request by its own reason, and ends the others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::policy::{Ensemble, EnsembleStep, Model};
use tensorgate_policy::{Denial, Reason, Tensor};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::wanted::{Sent, Wanted};
use super::{Pipeline, broken, keeps};
use crate::backends::{Call, answer};
use crate::dispatch::{Answered, Dispatcher, Latest};
use crate::metrics::ModelLabels;
use crate::owned;
use crate::shadow::{InShadow, Values};
use crate::timings::Timings;

/// What a step came to.
struct Answer {
    place: usize,
    answered: Answered,
    queue: Duration,
    took: Duration,
}

/// A request as all of its steps see it.
pub(super) struct Together<'a> {
    pub(super) model: &'a Model,
    /// Where each step goes.
    pub(super) backends: &'a [Arc<Dispatcher>],
    pub(super) wanted: &'a Wanted,
    pub(super) latest: Latest,
}

impl Pipeline {
    /// Calls every step; the outputs are those that the model's contract names, unchecked.
    pub(super) async fn together(
        &self,
        request: Together<'_>,
        sent: Sent,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let Together {
            model,
            backends,
            wanted,
            latest,
        } = request;
        let Sent { parameters, inputs } = sent;
        let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
        let mut known: HashMap<String, Tensor<'static>> = inputs
            .into_iter()
            .map(|tensor| (tensor.name.clone().into_owned(), tensor))
            .collect();
        let mut waiting: Vec<_> = steps.iter().zip(backends).enumerate().collect();
        let mut done = vec![false; steps.len()];
        // What is under way ends with it.
        let mut running = JoinSet::new();
        loop {
            let is_done = |place: &usize| done.get(*place).copied().unwrap_or(false);
            let (ready, later): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, (step, _))| step.after().iter().all(is_done));
            waiting = later;
            for (place, (step, backend)) in ready {
                let inputs = self.given(step, &known, shadow)?;
                let sent = Sent {
                    parameters: parameters.clone(),
                    inputs,
                };
                let id = format!("{}-{place}", wanted.request_id);
                let claims = wanted.claims.clone();
                let (policy, step) = (Arc::clone(&self.policy), step.clone());
                let backend = Arc::clone(backend);
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
                    Ok(Answer {
                        place,
                        answered: answered.map_err(|denial| of_step(place, member, denial))?,
                        queue,
                        took: began.elapsed(),
                    })
                });
            }
            let Some(answer) = running.join_next().await else {
                break;
            };
            let answer = answer.map_err(|error| broken_off(&error))??;
            if let (Some(step), Some(done)) = (steps.get(answer.place), done.get_mut(answer.place))
            {
                *done = true;
                self.gives(step, answer, &mut known, (&mut *timings, &mut *shadow))?;
            }
        }
        let rules = model.backend_outputs().iter();
        Ok(rules.filter_map(|rule| known.remove(rule.name())).collect())
    }

    /// Bytes of every step's copy of what came, and of every answer and its copies.
    pub(super) fn room(&self, model: &Model, inputs: &[Tensor<'_>]) -> usize {
        let steps = model.ensemble().map_or(&[][..], Ensemble::steps);
        let came = owned::data_bytes(inputs).saturating_mul(steps.len());
        steps.iter().fold(came, |bytes, step| {
            let rules = self.policy.model(step.model());
            let rules = rules.map_or(&[][..], Model::backend_outputs);
            bytes.saturating_add(answer::max_bytes(rules).saturating_mul(2))
        })
    }

    /// What a step is given, under its model's names, and held against its inputs.
    fn given(
        &self,
        step: &EnsembleStep,
        known: &HashMap<String, Tensor<'static>>,
        shadow: &mut InShadow,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let member = self.policy.model(step.model()).ok_or_else(no_member)?;
        let tensor = |name: &str, shared: &str| {
            known.get(shared).map(|tensor| Tensor {
                name: Cow::Owned(name.to_owned()),
                ..tensor.clone()
            })
        };
        let joints = step.inputs().iter();
        // What may be left out is not there.
        let given: Vec<_> = joints
            .filter_map(|joint| tensor(joint.own(), joint.shared()))
            .collect();
        let by_client = step.inputs().iter().all(|joint| joint.from_client());
        let own = |denial: Denial| match by_client {
            // The caller's own tensors, which this model lets in less of than the ensemble says.
            true => denial,
            false => {
                let who = format!("what model {:?} is given", member.name());
                broken(Reason::BackendFault, &who, &denial)
            }
        };
        let rules = member.backend_inputs();
        shadow.check(Values::Inputs, rules, &given, own)?;
        Ok(given)
    }

    /// Holds a step's answer against its model's outputs, and keeps what goes on of it.
    fn gives(
        &self,
        step: &EnsembleStep,
        answer: Answer,
        known: &mut HashMap<String, Tensor<'static>>,
        (timings, shadow): (&mut Timings, &mut InShadow),
    ) -> Result<(), Denial> {
        let member = self.policy.model(step.model()).ok_or_else(no_member)?;
        let Answer {
            place,
            answered,
            queue,
            took,
        } = answer;
        timings.queue = timings.queue.max(queue);
        let labels = ModelLabels {
            model: member.name().to_owned(),
        };
        self.metrics
            .dispatch_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let kept = keeps(member, &answered.outputs, shadow);
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
    Denial::new(Reason::HandlerFault, format!("a step ended: {error}"))
}
