//! A stream of inferences: its head is judged once, and each of its messages as a request of its own under that head.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::Decision;
use tensorgate_policy::decision::BodyPlan;
use tensorgate_wire::context::Levels;
use tensorgate_wire::messages::{Messages, Taken};

use super::{Admitted, Caller, Judge, ModelRequest, Refused, Standing};

/// A head that opened a stream.
#[derive(Debug)]
pub struct Opened {
    caller: Caller,
    decision: Decision,
    plan: BodyPlan,
    /// What the caller's token says of it; it goes along with each message.
    claims: HeaderMap,
}

impl Opened {
    pub(super) const fn new(
        caller: Caller,
        decision: Decision,
        plan: BodyPlan,
        claims: HeaderMap,
    ) -> Self {
        Self {
            caller,
            decision,
            plan,
            claims,
        }
    }

    /// Who asks.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How each message is read.
    pub const fn plan(&self) -> BodyPlan {
        self.plan
    }

    /// Who asks by one message: the stream's id and the message's number tell it from every other request.
    pub fn asks(&self, number: u64) -> Caller {
        Caller {
            request_id: format!("{}-{number}", self.caller.request_id),
            ..self.caller.clone()
        }
    }

    /// A message as a request whose head was let through. `checked` and `levels` are what the gate says of it.
    pub fn message(&self, number: u64, checked: bool, levels: Levels) -> Admitted {
        Admitted {
            caller: self.asks(number),
            decision: self.decision.of_message(),
            plan: self.plan,
            content_type: None,
            checked,
            levels,
            claims: self.claims.clone(),
        }
    }
}

impl Judge {
    /// Judges every message of a stream that is whole and was not marked, up to the first that is refused.
    pub(super) fn every_message(
        &self,
        opened: &Opened,
        body: &Bytes,
    ) -> Result<Vec<ModelRequest>, Box<Refused>> {
        let refused = |denial| {
            Box::new(Refused {
                denial,
                protocol: opened.decision.protocol(),
                caller: opened.caller.clone(),
                standing: Standing::Disagreement,
            })
        };
        let mut messages = Messages::of_client(opened.plan.max_bytes);
        let (mut requests, mut at, mut number) = (Vec::new(), 0_usize, 0_u64);
        loop {
            let rest = body.get(at..).unwrap_or_default();
            match messages.take(rest).map_err(refused)? {
                Taken::Message { frame, used, .. } => {
                    at = at.saturating_add(used);
                    number = number.saturating_add(1);
                    let admitted = opened.message(number, true, Levels::default());
                    requests.push(self.body(admitted, body.slice_ref(frame))?);
                }
                Taken::Wants(_) | Taken::Refused { .. } => {
                    messages.end(rest.len()).map_err(refused)?;
                    return Ok(requests);
                }
            }
        }
    }
}
