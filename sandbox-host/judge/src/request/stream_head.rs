//! A stream of inferences. Its head is verified once. Each message is then verified as a request of
//! its own under that head.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::{Decision, Denial};
use tensorgate_wire::context::Key;
use tensorgate_wire::messages::{self, Messages, NextMessage};

use super::charges::Charges;
use super::{AcceptedHead, Caller, Counters, DenialOrigin, DeniedRequest, ModelRequest, Verifier};

/// The accepted head of a stream.
#[derive(Debug)]
pub struct StreamHead {
    pub(super) caller: Caller,
    pub(super) decision: Decision,
    pub(super) plan: BodyPlan,
    /// When the credential that opened the stream expires, in Unix seconds.
    pub(super) until_unix_s: Option<u64>,
    /// The claims of the caller's token, which go with each message.
    pub(super) claims: HeaderMap,
    /// The key that verified the context.
    pub(super) key: Arc<Key>,
}

impl StreamHead {
    /// The caller.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How each message is read.
    pub const fn plan(&self) -> BodyPlan {
        self.plan
    }

    /// The caller of one message. The stream's ID and the message's number form a unique request
    /// ID.
    pub fn caller_of_message(&self, number: u64) -> Caller {
        Caller {
            request_id: format!("{}-{number}", self.caller.request_id),
            ..self.caller.clone()
        }
    }

    /// The denial of a message that arrives at this time, in Unix seconds, if the credential that
    /// opened the stream has expired.
    pub fn expired(&self, now_unix_s: u64) -> Option<Denial> {
        messages::expired(self.until_unix_s, now_unix_s)
    }

    /// A message as a request with an accepted head, of which nothing is charged yet.
    pub fn message_head(&self, number: u64) -> AcceptedHead {
        AcceptedHead {
            caller: self.caller_of_message(number),
            decision: self.decision.of_message(),
            plan: self.plan,
            content_type: None,
            charges: Charges::of_host(),
            claims: self.claims.clone(),
            key: Arc::clone(&self.key),
        }
    }

    /// Verifies every message of a complete stream, up to the first denial.
    pub(super) fn verify_messages(
        &self,
        verifier: &Verifier,
        body: &Bytes,
        counters: &dyn Counters,
    ) -> Result<Vec<ModelRequest>, Box<DeniedRequest>> {
        let refused = |denial| {
            let (protocol, caller) = (self.decision.protocol(), self.caller.clone());
            verifier.denied(denial, protocol, caller, DenialOrigin::FirstCheck)
        };
        let messages = Messages::new(self.plan.max_bytes);
        let (mut requests, mut at, mut number) = (Vec::new(), 0_usize, 0_u64);
        loop {
            let rest = body.get(at..).unwrap_or_default();
            match messages.take(rest).map_err(refused)? {
                NextMessage::Message { frame } => {
                    let end = at.saturating_add(frame.len());
                    let frame = body.slice(at..end);
                    at = end;
                    number = number.saturating_add(1);
                    let admitted = self.message_head(number);
                    requests.push(verifier.verify_body(admitted, frame, counters)?);
                }
                NextMessage::Incomplete(_) => {
                    messages.end(rest.len()).map_err(refused)?;
                    return Ok(requests);
                }
            }
        }
    }
}
