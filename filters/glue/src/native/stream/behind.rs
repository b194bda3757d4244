//! What stands behind the filters, as far as a stream of inferences goes: it reads marks, and answers for the first message that was refused.

use tensorgate_policy::Protocol;
use tensorgate_wire::Answer;
use tensorgate_wire::context::{HEADER, Marker, Refusal};
use tensorgate_wire::messages::{Messages, Taken};

use super::{Outcome, Stream};
use crate::host::Field;
use crate::record::Record;

/// Where streams of inferences go.
pub(super) const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

impl Stream {
    /// A stream as whoever stands behind reads it: its messages, without their marks, or the first that was refused. Any other request as it is.
    pub(super) fn read_as_stream(
        &self,
        headers: Vec<Field>,
        body: Vec<u8>,
        record: &mut Record,
    ) -> Outcome {
        let value = |name: &str| {
            let mut fields = headers.iter();
            let field = fields.find(|(known, _)| known == name.as_bytes());
            field.and_then(|(_, value)| str::from_utf8(value).ok())
        };
        let key = self.hops.first().and_then(|hop| hop.gate.context_key());
        let (Some(STREAM), Some(context), Some(key)) = (value(":path"), value(HEADER), key) else {
            return Outcome::Forwarded { headers, body };
        };
        let mut messages = Messages::marked(Marker::new(key, context), usize::MAX);
        let (mut plain, mut rest) = (Vec::new(), body.as_slice());
        let refused = loop {
            match messages.take(rest) {
                Ok(Taken::Message { frame, used, .. }) => {
                    plain.extend_from_slice(frame);
                    rest = rest.get(used..).unwrap_or_default();
                }
                Ok(Taken::Refused { refusal, .. }) => break Some(refusal),
                Ok(Taken::Wants(_)) if rest.is_empty() => break None,
                Ok(Taken::Wants(_)) => {
                    break messages
                        .end(rest.len())
                        .err()
                        .map(|it| Refusal::of(it, true).into());
                }
                Err(denial) => break Some(Refusal::of(denial, true).into()),
            }
        };
        let Some(refused) = refused else {
            return Outcome::Forwarded {
                headers,
                body: plain,
            };
        };
        let Refusal {
            denial,
            model,
            rule,
            ..
        } = *refused;
        let answer = Answer::to_denial(&denial, Protocol::OipGrpc, &self.io.request_id);
        record.reason = Some(denial.reason);
        record.detail = denial.cause;
        (record.model, record.rule) = (model, rule);
        Outcome::Denied(answer)
    }
}
