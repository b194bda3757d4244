//! Decoupled requests: preprocessing as for a single response. Each response is checked,
//! postprocessed and encoded separately.

use bytes::Bytes;
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::request::ModelRequest;
use tensorgate_judge::response_size;
use tensorgate_policy::policy::{Decoupled, EMPTY_FINAL_RESPONSE, ModelId};
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_policy::{Denial, Reason};
use tensorgate_telemetry::timings::Timings;
use tensorgate_wire::encode;
use tokio::time::Instant;

use super::shadow::InShadow;
use super::{Pipeline, ResponseContext, check_outputs};
use crate::counters::RequestUsage;
use crate::dispatch::{Deadline, ResponseStream};
use crate::pipeline::reply;

/// The responses in memory before the caller's: one that arrives, one that waits, one that is
/// processed.
const ANSWERS_AT_ONCE: usize = 3;

/// A request that the backend is answering.
pub(crate) struct DecoupledRequest {
    replies: ResponseStream,
    wanted: ResponseContext,
    /// Whether the caller requested an empty final message.
    says_end: bool,
    /// The deadline of the whole stream.
    until: Instant,
    /// The memory of responses that are not processed yet, and the permits of the request.
    _held: (MemoryPermit, RequestUsage),
}

/// The result of waiting for a response.
pub(crate) struct DecoupledAnswer {
    /// The encoded response for the caller.
    pub(crate) answer: Option<Bytes>,
    /// Whether it is the last one.
    pub(crate) last: bool,
}

impl Pipeline {
    /// The bounds of a decoupled model. `None` for other models.
    pub(crate) fn decoupled(&self, model: ModelId) -> Option<Decoupled> {
        self.policy.model(model)?.decoupled().copied()
    }

    /// Sends the request and waits for the first response until the request's deadline. All
    /// responses arrive before `until`.
    pub(crate) async fn open_decoupled(
        &self,
        mut request: ModelRequest,
        bounds: &Decoupled,
        (mut memory_permit, usage): (MemoryPermit, RequestUsage),
        (request_deadline, until): (Deadline, Instant),
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<DecoupledRequest, Denial> {
        let (model, route) = self.route(request.model)?;
        let says_end = request_final_flag(&mut request.parameters);
        let room =
            response_size::max_bytes(model.backend_outputs()).saturating_mul(ANSWERS_AT_ONCE);
        let (sent, wanted) = self
            .prepared(
                request,
                |_| room,
                &mut memory_permit,
                until,
                timings,
                shadow,
            )
            .await?;
        let started = Instant::now();
        let call = sent.call(model, &wanted);
        let (backend, times) = (route.backend()?, (request_deadline, until));
        let replies = ResponseStream::open(backend, call, bounds, times, &mut timings.queue).await;
        self.count_queue_time(model, started, timings, replies.is_err());
        // Shrinking never fails. The inputs are released.
        let _ = memory_permit.resize(room);
        Ok(DecoupledRequest {
            replies: replies?,
            wanted,
            says_end,
            until,
            _held: (memory_permit, usage),
        })
    }

    /// The next response for the caller. `held` is the memory for it and is released with it.
    pub(crate) async fn reply(
        &self,
        conversation: &mut DecoupledRequest,
        mut memory_permit: MemoryPermit,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<DecoupledAnswer, Denial> {
        let DecoupledRequest {
            replies,
            wanted,
            says_end,
            until,
            _held,
        } = conversation;
        let started = Instant::now();
        let answered = replies.next().await;
        timings.dispatch = timings.dispatch.saturating_add(started.elapsed());
        let answered = answered?;
        let last = answered.last;
        let answer = match answered.tensors {
            Some(outputs) => {
                let (model, _) = self.route(wanted.model)?;
                let kept = check_outputs(model, &outputs, shadow);
                if kept.is_err() {
                    replies.report_contract_violation();
                }
                kept?;
                let answer = self
                    .answer(wanted, outputs, &mut memory_permit, *until, timings, shadow)
                    .await?;
                let answer = encode::stream_answer(answer.body, Some(last)).ok_or_else(|| {
                    let cause = "the answer cannot be encoded in a stream";
                    Denial::new(Reason::BackendFault, cause)
                })?;
                Some(reply::metered(answer.into(), memory_permit))
            }
            None if *says_end => {
                let (model, _) = self.route(wanted.model)?;
                let (version, id) = (wanted.version.as_str(), wanted.id.as_deref());
                Some(encode::stream_end(model.name(), version, id).into())
            }
            None => None,
        };
        Ok(DecoupledAnswer { answer, last })
    }
}

/// Makes the backend always send the final message. Returns whether the caller requested it.
fn request_final_flag(parameters: &mut Vec<Parameter<'static>>) -> bool {
    let asked = |parameter: &Parameter<'_>| parameter.name == EMPTY_FINAL_RESPONSE;
    let says_end = parameters
        .iter()
        .any(|parameter| asked(parameter) && parameter.value == ParameterValue::Bool(true));
    parameters.retain(|parameter| !asked(parameter));
    parameters.push(Parameter {
        name: EMPTY_FINAL_RESPONSE.into(),
        value: ParameterValue::Bool(true),
    });
    says_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_always_asked_to_say_that_it_is_over_and_the_caller_is_told_if_it_asked() {
        let said = |name: &'static str, value| Parameter {
            name: name.into(),
            value: ParameterValue::Bool(value),
        };
        for (parameters, expected) in [
            (Vec::new(), false),
            (vec![said(EMPTY_FINAL_RESPONSE, true)], true),
            (vec![said(EMPTY_FINAL_RESPONSE, false)], false),
            (vec![said("other", true)], false),
        ] {
            let others = parameters
                .iter()
                .filter(|parameter| parameter.name == "other")
                .count();
            let mut sent = parameters;
            assert_eq!(request_final_flag(&mut sent), expected);
            assert_eq!(sent.last(), Some(&said(EMPTY_FINAL_RESPONSE, true)));
            assert_eq!(sent.len(), others.saturating_add(1));
        }
    }
}
