//! The simulated upstream of a request whose head was forwarded: it reads the verdicts on the body.

use tensorgate_filter_core::host::Field;
use tensorgate_filter_core::report::record::Record;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;
use tensorgate_wire::context::verdict::{TRAILER, VerdictSubject};
use tensorgate_wire::context::{Context, HEADER, Key};

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
    /// A request as the upstream host reads it: a body without its verdicts. A missing verdict is
    /// rejected.
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
            let trailers = trailers.filter(|(name, _)| name == TRAILER.as_bytes());
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
        RequestOutcome::Forwarded { headers, body }
    }
}
