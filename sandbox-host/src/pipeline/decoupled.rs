//! A message that is answered several times: the model, and its handlers' part, as for one that is answered once; every answer checked, handled and
//! written by itself.

use bytes::Bytes;
use tensorgate_policy::policy::{Decoupled, EMPTY_FINAL_RESPONSE, ModelId};
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::encode;
use tokio::time::Instant;

use super::wanted::Wanted;
use super::{Pipeline, keeps};
use crate::backends::answer;
use crate::budget::Held;
use crate::dispatch::{Latest, Replies};
use crate::reply;
use crate::request::ModelRequest;
use crate::shadow::InShadow;
use crate::timings::Timings;

/// Answers that are in memory at once before the caller's: one that comes, one that waits, one that is looked at.
const ANSWERS_AT_ONCE: usize = 3;

/// A message that the backend is answering.
pub(crate) struct Conversation {
    replies: Replies,
    wanted: Wanted,
    /// Whether the caller wants to be told that it is over where there is nothing else to say.
    says_end: bool,
    /// When it has to be over.
    until: Instant,
    /// The bytes of answers that nobody looks at yet.
    _held: Held,
}

/// What came of waiting for an answer.
pub(crate) struct Piece {
    /// What the caller gets.
    pub(crate) answer: Option<Bytes>,
    /// Whether nothing comes after it.
    pub(crate) last: bool,
}

impl Pipeline {
    /// How a model's several answers are bounded, if it gives several.
    pub(crate) fn decoupled(&self, model: ModelId) -> Option<Decoupled> {
        self.policy.model(model)?.decoupled().copied()
    }

    /// Asks for answers; the first of them is there when this is done, before `latest`. All of them are before `until`.
    pub(crate) async fn converse(
        &self,
        mut request: ModelRequest,
        bounds: &Decoupled,
        mut held: Held,
        (latest, until): (Latest, Instant),
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<Conversation, Denial> {
        let (model, route) = self.route(request.model)?;
        let says_end = ask_for_the_end(&mut request.parameters);
        let room = answer::max_bytes(model.backend_outputs()).saturating_mul(ANSWERS_AT_ONCE);
        let (sent, wanted) = self
            .prepared(request, |_| room, &mut held, until, timings, shadow)
            .await?;
        let started = Instant::now();
        let call = sent.call(model, &wanted);
        let replies = route
            .backend()?
            .converse(call, bounds, (latest, until), &mut timings.queue)
            .await;
        self.waited(model, started, timings);
        // Less than was taken: the inputs have gone.
        let _ = held.resize(room);
        Ok(Conversation {
            replies: replies?,
            wanted,
            says_end,
            until,
            _held: held,
        })
    }

    /// The next answer as the caller gets it. `held` is for that one, and goes with it.
    pub(crate) async fn reply(
        &self,
        conversation: &mut Conversation,
        mut held: Held,
        timings: &mut Timings,
        shadow: &mut InShadow,
    ) -> Result<Piece, Denial> {
        let Conversation {
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
                let kept = keeps(model, &outputs, shadow);
                if kept.is_err() {
                    replies.broken();
                }
                kept?;
                let answer = self
                    .answer(wanted, outputs, &mut held, *until, timings, shadow)
                    .await?;
                let answer = encode::stream_answer(answer.body, Some(last)).ok_or_else(|| {
                    let cause = "the answer cannot be said in a stream";
                    Denial::new(Reason::BackendFault, cause)
                })?;
                Some(reply::kept(answer.into(), held))
            }
            None if *says_end => {
                let (model, _) = self.route(wanted.model)?;
                let (version, id) = (wanted.version.as_str(), wanted.id.as_deref());
                Some(encode::stream_end(model.name(), version, id).into())
            }
            None => None,
        };
        Ok(Piece { answer, last })
    }
}

/// Has the backend say in any case that its answers are over; whether the caller wants to be told.
fn ask_for_the_end(parameters: &mut Vec<Parameter<'static>>) -> bool {
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
            assert_eq!(ask_for_the_end(&mut sent), expected);
            assert_eq!(sent.last(), Some(&said(EMPTY_FINAL_RESPONSE, true)));
            assert_eq!(sent.len(), others.saturating_add(1));
        }
    }
}
