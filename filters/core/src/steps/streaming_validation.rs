//! Streaming validation of a body that is too large to buffer, where no host is behind the filter.
//! It drives the decoder chunk by chunk and the decision's steps for each chunk. It neither answers
//! nor forwards anything.

use tensorgate_policy::decision::{Addressee, BodyPlan};
use tensorgate_policy::{Decision, Denial, InferRequest, Now, Policy, Protocol, Reason, Step};
use tensorgate_wire::BodyStream;
use tensorgate_wire::stream_event::Event;

use super::{MAX_STEPS, QuotaStep, RequestResources, out_of_order, run_quota_step};
use crate::body::within;
use crate::host::Proxy;
use crate::quota::rate_limit_service::cancel_pending_charge;
use crate::root::GateRoot;

/// Validator of one streaming body.
#[derive(Debug)]
pub(crate) struct StreamingValidator {
    stream: BodyStream,
    plan: BodyPlan,
    /// Bytes validated so far.
    bytes: usize,
    /// Whether this filter validates the elements.
    checks: bool,
}

impl StreamingValidator {
    /// Validates the body's head and the part of the body that has arrived, which is more than may
    /// be buffered.
    pub(crate) fn begin(
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        decision: &mut Decision,
        resources: &mut RequestResources,
        plan: BodyPlan,
        now: Now,
        body: &[u8],
    ) -> Result<Self, Denial> {
        let checks = root.filter().capabilities().check;
        let mut stream = BodyStream::new(plan.format, plan.hold_bytes, decision.declared())
            .ok_or_else(|| internal("a body that must be buffered is too large"))?;
        let mut judged = false;
        stream.feed(body, &mut |event| match event {
            Event::Head {
                request,
                elements,
                body_bytes,
            } => {
                judged = true;
                // Uses the size that the head announces, so that the result does not depend on how
                // much has arrived.
                within(body_bytes, plan.max_bytes)?;
                let named = addressee(decision.protocol(), request);
                let mut step = decision.head_of_body(root.policy(), body_bytes, named);
                for _ in 0..MAX_STEPS {
                    step = match step {
                        Step::Deny(denial) => return Err(denial),
                        step @ (Step::Charge(_) | Step::Acquire(_)) => {
                            match run_quota_step(root, proxy, decision, resources, now, step) {
                                QuotaStep::Done(step) => step,
                                // Where charges wait, no body streams.
                                QuotaStep::Pending(pending_charge) => {
                                    let prefix = root.key_prefix();
                                    cancel_pending_charge(proxy, prefix, &pending_charge);
                                    break;
                                }
                                QuotaStep::Left => break,
                            }
                        }
                        Step::Decode => decision.message(root.policy(), request),
                        Step::Check if !checks => return Ok(()),
                        Step::Check => decision.check_head(root.policy(), request, elements),
                        Step::Forward => return Ok(()),
                        Step::Answer(..) | Step::ReadBody(_) | Step::ReadMessages(_) => break,
                    };
                }
                Err(out_of_order())
            }
            Event::Part(_) if !checks => Ok(()),
            Event::Part(part) => outcome(decision.pass(root.policy(), part)),
        })?;
        if !judged {
            return Err(internal("a body has no head within its buffered part"));
        }
        Ok(Self {
            stream,
            plan,
            bytes: body.len(),
            checks,
        })
    }

    /// Whether this filter still has to validate elements.
    pub(crate) const fn checks(&self) -> bool {
        self.checks
    }

    /// Validates the next chunk.
    pub(crate) fn chunk(
        &mut self,
        policy: &Policy,
        decision: &mut Decision,
        chunk: &[u8],
    ) -> Result<(), Denial> {
        self.bytes = self.bytes.saturating_add(chunk.len());
        within(self.bytes, self.plan.max_bytes)?;
        self.stream.feed(chunk, &mut |event| match event {
            Event::Head { .. } => Err(internal("a body has a second head")),
            Event::Part(part) => outcome(decision.pass(policy, part)),
        })
    }

    /// Ends the body.
    pub(crate) fn end(&mut self, decision: &mut Decision) -> Result<(), Denial> {
        self.stream.end()?;
        outcome(decision.passed())
    }
}

/// The model that a message names, if the message names one.
fn addressee<'r>(protocol: Protocol, request: &'r InferRequest<'_>) -> Option<Addressee<'r>> {
    if !protocol.is_grpc() {
        return None;
    }
    Some(Addressee {
        model: request.model.as_deref()?.into(),
        version: request.version.as_deref().map(Into::into),
        streams: false,
    })
}

/// Converts the result of a partial validation.
fn outcome(step: Step) -> Result<(), Denial> {
    match step {
        Step::Forward => Ok(()),
        Step::Deny(denial) => Err(denial),
        _ => Err(out_of_order()),
    }
}

fn internal(cause: &str) -> Denial {
    Denial::new(Reason::Overloaded, format!("internal: {cause}"))
}
