//! A complete body that is read in the pieces in which its proxy has it, instead of a copy. Only a
//! body without a fault is: of another one the reader gives no result, and it is read as a whole,
//! which tells the fault.

use tensorgate_policy::decision::{Addressee, BodyFormat, BodyPlan, PartsCheck};
use tensorgate_policy::{Decision, InferRequest, Policy, Step};
use tensorgate_wire::BodyStream;
use tensorgate_wire::stream_event::{Event, Sink};

use crate::host::Proxy;

/// The longest part before the elements. It is decoded several times, first before the request is
/// charged, so that has to cost little. A body with a longer one, or with its elements in it, is
/// copied.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BorrowedBody {
    /// How it is read.
    pub(crate) plan: BodyPlan,
    bytes: usize,
}

impl BorrowedBody {
    /// A body of so many bytes, if its proxy lends it, it can be decoded in pieces, and it has its
    /// format.
    pub(crate) fn new(proxy: &mut dyn Proxy, plan: BodyPlan, bytes: usize) -> Option<Self> {
        let body = Self { plan, bytes };
        let is_decoded = plan.expansion.is_none() && BodyStream::can_decode(plan.format);
        (is_decoded && body.read(proxy, &mut |_| Ok(())).is_some()).then_some(body)
    }

    /// Evaluates the addressee: of a gRPC message the model that it names.
    pub(crate) fn addressee(
        &self,
        proxy: &mut dyn Proxy,
        policy: &Policy,
        decision: &mut Decision,
    ) -> Option<Step> {
        if self.plan.format != BodyFormat::OipGrpcInfer {
            return Some(decision.body(policy, self.bytes, None));
        }
        let bytes = self.bytes;
        self.head(proxy, |request| {
            let named = request.model.as_deref().map(|model| Addressee {
                model: model.into(),
                version: request.version.as_deref().map(Into::into),
                streams: false,
            });
            decision.body(policy, bytes, named)
        })
    }

    /// Evaluates the message.
    pub(crate) fn message(
        &self,
        proxy: &mut dyn Proxy,
        policy: &Policy,
        decision: &mut Decision,
    ) -> Option<Step> {
        self.head(proxy, |request| decision.message(policy, request))
    }

    /// Validates it against the model's contract.
    pub(crate) fn check(
        &self,
        proxy: &mut dyn Proxy,
        policy: &Policy,
        decision: &mut Decision,
    ) -> Option<Step> {
        let mut check = None;
        self.read(proxy, &mut |event| {
            check = match event {
                Event::Head {
                    request, elements, ..
                } => PartsCheck::begin(decision, policy, request, elements),
                Event::Part(part) => check
                    .take()
                    .and_then(|check: PartsCheck| check.next(decision, policy, part)),
            };
            Ok(())
        })?;
        check?.accept(decision, policy)
    }

    /// Passes on what comes before the elements.
    fn head<T>(
        &self,
        proxy: &mut dyn Proxy,
        pass: impl FnOnce(&InferRequest<'_>) -> T,
    ) -> Option<T> {
        let (mut pass, mut result) = (Some(pass), None);
        self.read(proxy, &mut |event| {
            if let (Event::Head { request, .. }, Some(pass)) = (event, pass.take()) {
                result = Some(pass(request));
            }
            Ok(())
        })?;
        result
    }

    /// Decodes all of it.
    fn read(&self, proxy: &mut dyn Proxy, sink: &mut Sink<'_>) -> Option<()> {
        let declared = u64::try_from(self.bytes).ok();
        let mut stream = BodyStream::new(self.plan.format, MAX_HEAD_BYTES, declared)?;
        let (mut bytes, mut is_valid) = (0_usize, true);
        let is_lent = proxy.visit_request_body(self.bytes, &mut |piece| {
            bytes = bytes.saturating_add(piece.len());
            is_valid = is_valid && stream.feed(piece, sink).is_ok();
        });
        (is_lent && is_valid && bytes == self.bytes && stream.end().is_ok()).then_some(())
    }
}
