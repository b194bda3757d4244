//! A body that is too large to be held, checked as it passes: drives the decoder in pieces and the decision's steps for it. What it
//! does not do: it neither answers nor sends anything on.

use tensorgate_policy::decision::{Addressee, BodyPlan};
use tensorgate_policy::{
    ChargeOutcome, Decision, Denial, InferRequest, Now, Policy, Protocol, Reason, Step,
};
use tensorgate_wire::BodyStream;
use tensorgate_wire::stream::Event;

use crate::body::within;
use crate::host::Proxy;
use crate::pay::{Dues, MAX_STEPS, Paid, out_of_order, pay};
use crate::root::GateRoot;

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Checking {
    stream: BodyStream,
    plan: BodyPlan,
    /// Bytes that have passed.
    bytes: usize,
    /// Whether the elements are this filter's to check.
    checks: bool,
}

impl Checking {
    /// Judges the head of a body, and what has come of the rest: more than may be held.
    pub(crate) fn begin(
        root: &GateRoot,
        proxy: &mut dyn Proxy,
        decision: &mut Decision,
        dues: &mut Dues,
        plan: BodyPlan,
        now: Now,
        body: &[u8],
    ) -> Result<Self, Denial> {
        let checks = root.filter.duties().check;
        let mut stream = BodyStream::new(plan.format, plan.hold_bytes, decision.declared())
            .ok_or_else(|| internal("a body that cannot pass in pieces is too large to be held"))?;
        let mut judged = false;
        stream.feed(body, &mut |event| match event {
            Event::Head {
                request,
                elements,
                body_bytes,
            } => {
                judged = true;
                // Told by what the head announces, so that it does not matter how much of it has come.
                within(body_bytes, plan.max_bytes)?;
                let named = addressee(decision.protocol(), request);
                let mut step = decision.head_of_body(&root.policy, body_bytes, named);
                for _ in 0..MAX_STEPS {
                    step = match step {
                        Step::Deny(denial) => return Err(denial),
                        step @ (Step::Charge(_) | Step::Acquire(_)) => {
                            // Nothing is reserved for an answer to tensors: it needs no name.
                            match pay(root, proxy, decision, dues, "", now, step) {
                                Paid::Step(step) => step,
                                // The body goes on: what it comes to is told before its end does.
                                Paid::Asked(owed) => {
                                    dues.owed.push(owed);
                                    decision.charged(&root.policy, ChargeOutcome::Later)
                                }
                            }
                        }
                        Step::Decode => decision.message(&root.policy, request),
                        Step::Check if !checks => return Ok(()),
                        Step::Check => decision.check_head(&root.policy, request, elements),
                        Step::Forward => return Ok(()),
                        Step::Answer(..) | Step::ReadBody(_) | Step::ReadMessages(_) => break,
                    };
                }
                Err(out_of_order())
            }
            Event::Part(_) if !checks => Ok(()),
            Event::Part(part) => outcome(decision.pass(&root.policy, part)),
        })?;
        if !judged {
            return Err(internal("a body has no head within what is held of it"));
        }
        Ok(Self {
            stream,
            plan,
            bytes: body.len(),
            checks,
        })
    }

    /// Whether anything is left to do: the elements are checked here.
    pub(crate) const fn checks(&self) -> bool {
        self.checks
    }

    /// How many there are with so many more.
    pub(crate) const fn bytes_with(&self, more: usize) -> usize {
        self.bytes.saturating_add(more)
    }

    /// Checks the next bytes.
    pub(crate) fn piece(
        &mut self,
        policy: &Policy,
        decision: &mut Decision,
        piece: &[u8],
    ) -> Result<(), Denial> {
        self.bytes = self.bytes.saturating_add(piece.len());
        within(self.bytes, self.plan.max_bytes)?;
        self.stream.feed(piece, &mut |event| match event {
            Event::Head { .. } => Err(internal("a body has a second head")),
            Event::Part(part) => outcome(decision.pass(policy, part)),
        })
    }

    /// The body is over.
    pub(crate) fn end(&mut self, decision: &mut Decision) -> Result<(), Denial> {
        self.stream.end()?;
        outcome(decision.passed())
    }
}

/// Whom a message is for, where it says so.
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

/// What a judgement of parts came to.
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
