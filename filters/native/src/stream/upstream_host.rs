//! The simulated upstream for streams of inferences: it reads envelopes and answers the first
//! rejected message.

use tensorgate_filter_core::host::Field;
use tensorgate_filter_core::report::record::Record;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;
use tensorgate_wire::context::verdict::{TRAILER, VerdictSubject};
use tensorgate_wire::context::{Context, EnvelopeCodec, HEADER, Key, Refusal};
use tensorgate_wire::messages::{INCOMPLETE, Messages, NextMessage};

use super::RequestOutcome;

/// Path of inference streams: their heads are forwarded before their messages.
pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// The upstream of a request whose head was forwarded.
pub(super) struct UpstreamHost<'a> {
    /// Verifies contexts; without it, requests are taken as they are.
    pub(super) context_key: Option<&'a Key>,
    pub(super) now_unix_s: u64,
    /// The proxy's request id.
    pub(super) request_id: &'a str,
    /// Trailers of the request.
    pub(super) trailers: &'a [Field],
}

impl UpstreamHost<'_> {
    /// A request as the upstream host reads it: a stream's messages, or a body without its
    /// verdicts. A missing verdict is rejected.
    pub(super) fn read(
        &self,
        headers: Vec<Field>,
        mut body: Vec<u8>,
        record: &mut Record,
    ) -> RequestOutcome {
        let value = |name: &str| {
            let mut fields = headers.iter();
            let field = fields.find(|(known, _)| known == name.as_bytes());
            field.and_then(|(_, value)| str::from_utf8(value).ok())
        };
        if let (Some(signed), Some(key)) = (value(HEADER), self.context_key) {
            let (method, path) = (value(":method"), value(":path"));
            let (method, path) = (method.unwrap_or_default(), path.unwrap_or_default());
            let read = Context::verify(signed, key, method, path, self.now_unix_s, u64::MAX);
            let trailers = self.trailers.iter();
            let trailers = trailers.filter(|(name, value)| {
                name == TRAILER.as_bytes() && value != INCOMPLETE.as_bytes()
            });
            let trailers: Vec<_> = trailers.map(|(_, value)| value.as_slice()).collect();
            let read = read.map_err(|fault| fault.to_string()).and_then(|context| {
                let request = VerdictSubject {
                    client: context.client.as_deref(),
                    request_id: &context.request_id,
                    method,
                    path,
                    generation: &context.generation,
                };
                let verdicts = request.read_all(key, context.verdicts, &trailers, &body);
                verdicts.map_err(|fault| fault.to_string())
            });
            match read {
                Ok((_, length)) => body.truncate(length),
                Err(cause) => {
                    let denial = Denial::new(Reason::Unauthenticated, cause);
                    record.reason = Some(denial.reason);
                    record.detail.clone_from(&denial.cause);
                    return RequestOutcome::Denied(Answer::to_denial(
                        &denial,
                        Protocol::OipRest,
                        self.request_id,
                    ));
                }
            }
        }
        self.read_as_stream(headers, body, record)
    }

    /// Whether the filter has withheld an incomplete message at the end of a stream.
    fn is_incomplete(&self) -> bool {
        let mut trailers = self.trailers.iter();
        trailers.any(|(name, value)| name == TRAILER.as_bytes() && value == INCOMPLETE.as_bytes())
    }

    /// A stream as the upstream reads it: its messages without envelopes, or the first rejection.
    /// Other requests are unchanged.
    fn read_as_stream(
        &self,
        headers: Vec<Field>,
        body: Vec<u8>,
        record: &mut Record,
    ) -> RequestOutcome {
        let value = |name: &str| {
            let mut fields = headers.iter();
            let field = fields.find(|(known, _)| known == name.as_bytes());
            field.and_then(|(_, value)| str::from_utf8(value).ok())
        };
        let (Some(STREAM), Some(context), Some(key)) =
            (value(":path"), value(HEADER), self.context_key)
        else {
            return RequestOutcome::Forwarded { headers, body };
        };
        let mut messages = Messages::from_gate(EnvelopeCodec::new(key, context), usize::MAX);
        let (mut plain, mut rest) = (Vec::new(), body.as_slice());
        let refused = loop {
            match messages.take(rest) {
                Ok(NextMessage::Message { frame, used, .. }) => {
                    plain.extend_from_slice(&frame);
                    rest = rest.get(used..).unwrap_or_default();
                }
                Ok(NextMessage::Ahead { used }) => {
                    rest = rest.get(used..).unwrap_or_default();
                }
                Ok(NextMessage::Refused { refusal, .. }) => break Some(refusal),
                Ok(NextMessage::Incomplete(_)) => {
                    let withheld = usize::from(self.is_incomplete());
                    break messages
                        .end(rest.len().saturating_add(withheld))
                        .err()
                        .map(|it| Refusal::of(it, true).into());
                }
                Err(denial) => break Some(Refusal::of(denial, true).into()),
            }
        };
        let Some(refused) = refused else {
            return RequestOutcome::Forwarded {
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
        let answer = Answer::to_denial(&denial, Protocol::OipGrpc, self.request_id);
        record.reason = Some(denial.reason);
        record.detail = denial.cause;
        (record.model, record.rule) = (model, rule);
        RequestOutcome::Denied(answer)
    }
}
