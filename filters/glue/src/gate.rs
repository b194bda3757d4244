//! The gate: the three filters fused, one body pass.
//!
//! One [`Gate`] judges one request. It drives a [`Decision`] with what the proxy delivers and carries its steps out: charges, the
//! reading of a body, the answer, the header fields for the upstream. It decides nothing by itself except to refuse where it cannot
//! decide.
//!
//! Headers are held until the verdict, and so is the body, in the proxy's own buffer: it is read once, when it is whole. The
//! verdict falls in one of three places: with the headers if the request ends there, at the body's end, or at the trailers, which
//! end a body without saying so in the body callback. Once refused, always refused: nothing is ever let through after an answer,
//! and there is one answer.

use std::rc::Rc;

use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Decision, Denial, InferRequest, Now, Reason, Step};
use tensorgate_wire::context::Context;
use tensorgate_wire::headers::ReadHead;
use tensorgate_wire::{Answer, decode};

use crate::host::{Action, HostFault, Level, Proxy};
use crate::record::{Record, Verdict, property};
use crate::root::GateRoot;
use crate::spend::spend;
use crate::upstream::Upstream;

/// Body of a server-level question, bytes: a gRPC frame around a service name, or nothing.
pub const MAX_QUESTION_BODY_BYTES: usize = 1024;

/// Steps that one callback may take before it must have an end; the longest path has four (message, charge, check, forward).
const MAX_STEPS: usize = 8;

/// Where a request stands.
enum Phase {
    /// Nothing came yet.
    Fresh,
    /// Allowed so far; headers and body are held.
    Held(Box<Held>),
    /// Sent on.
    Forwarded,
    /// Answered. Final.
    Denied,
}

/// A request on hold.
struct Held {
    decision: Decision,
    upstream: Upstream,
    body: Body,
    /// Bytes that the proxy holds.
    body_bytes: usize,
}

/// What to do with a held body.
#[derive(Clone, Copy)]
enum Body {
    /// Judge it.
    Judge(BodyPlan),
    /// Bound it only: nothing reads it but our own sandbox host.
    Question,
    /// There must be none.
    None,
}

/// One request at the gate.
pub struct Gate {
    root: Rc<GateRoot>,
    phase: Phase,
    record: Record,
}

impl Gate {
    /// A gate for one request.
    pub fn new(root: Rc<GateRoot>) -> Self {
        Self {
            root,
            phase: Phase::Fresh,
            record: Record::default(),
        }
    }

    /// What the decision came to so far.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// The headers are in. `end_of_stream`: nothing follows.
    pub fn on_request_headers(&mut self, proxy: &mut dyn Proxy, end_of_stream: bool) -> Action {
        if !matches!(self.phase, Phase::Fresh) {
            // Headers come once. A proxy that repeats them gets no second decision.
            return Action::Pause;
        }
        let (now, fields) = match (proxy.now(), proxy.request_headers()) {
            (Ok(now), Ok(fields)) => (now, fields),
            (Err(fault), _) | (_, Err(fault)) => {
                return self.deny(proxy, &cannot_decide(fault), Protocol::OipRest, "");
            }
        };
        let read = ReadHead::read(&fields, end_of_stream);
        let mut upstream = Upstream::new(read.method, read.path, read.request_id, &fields);
        let identity = self.root.keyring.identify(read.credential, now.unix_s);
        let head = read.into_head(identity);
        upstream.accept(&head);
        let (decision, step) = Decision::begin(&self.root.policy, &head);
        let held = Box::new(Held {
            decision,
            upstream,
            body: Body::None,
            body_bytes: 0,
        });
        self.advance(proxy, held, now, step, None, end_of_stream)
    }

    /// More of the body is in: `body_bytes` are held now, all that came so far.
    pub fn on_request_body(
        &mut self,
        proxy: &mut dyn Proxy,
        body_bytes: usize,
        end_of_stream: bool,
    ) -> Action {
        let Some(mut held) = self.take_held() else {
            // After the verdict there is no body left to come; whatever does come goes nowhere.
            return if matches!(self.phase, Phase::Forwarded) && body_bytes == 0 {
                Action::Continue
            } else {
                Action::Pause
            };
        };
        held.body_bytes = body_bytes;
        if let Err(denial) = held.body.fits(body_bytes) {
            return self.refuse(proxy, held, denial);
        }
        if end_of_stream {
            return self.finish(proxy, held);
        }
        self.phase = Phase::Held(held);
        Action::Pause
    }

    /// The trailers are in: the body, which never said that it ended, is whole.
    pub fn on_request_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        if matches!(self.phase, Phase::Fresh | Phase::Denied) {
            return Action::Pause;
        }
        // No inference protocol has request trailers: they would be a client's fields that nobody judged.
        let cleared = proxy.clear_request_trailers();
        match (self.take_held(), cleared) {
            (Some(held), Ok(())) => self.finish(proxy, held),
            (Some(held), Err(fault)) => self.refuse(proxy, held, cannot_decide(fault)),
            (None, Ok(())) => Action::Continue,
            (None, Err(_)) => Action::Pause,
        }
    }

    /// The stream is over, however it ended. Called once, and last.
    pub fn on_log(&mut self, proxy: &mut dyn Proxy) {
        if let Some(held) = self.take_held() {
            self.note(&held.decision);
            self.settle(proxy, Verdict::Aborted);
        }
    }

    /// Judges a body that is whole.
    fn finish(&mut self, proxy: &mut dyn Proxy, mut held: Box<Held>) -> Action {
        let now = match proxy.now() {
            Ok(now) => now,
            Err(fault) => return self.refuse(proxy, held, cannot_decide(fault)),
        };
        let Body::Judge(plan) = held.body else {
            return self.advance(proxy, held, now, Step::Forward, None, true);
        };
        // A handler's raw body is not looked at here: no need to copy it out of the proxy.
        let body = match plan.format {
            BodyFormat::Raw => Ok(Vec::new()),
            _ if held.body_bytes == 0 => Ok(Vec::new()),
            _ => proxy.request_body(held.body_bytes),
        };
        let body = match body {
            Ok(body) if plan.format == BodyFormat::Raw || body.len() == held.body_bytes => body,
            Ok(body) => {
                let cause = format!(
                    "proxy gave {} bytes of a body of {}",
                    body.len(),
                    held.body_bytes
                );
                return self.refuse(proxy, held, Denial::new(Reason::Overloaded, cause));
            }
            Err(fault) => return self.refuse(proxy, held, cannot_decide(fault)),
        };
        match decode(plan.format, &body) {
            Ok(request) => {
                let step = held.decision.message(&self.root.policy, &request);
                self.advance(proxy, held, now, step, Some(&request), true)
            }
            Err(denial) => self.refuse(proxy, held, denial),
        }
    }

    /// Carries steps out until the request is answered, sent on, or has to wait for its body.
    fn advance(
        &mut self,
        proxy: &mut dyn Proxy,
        mut held: Box<Held>,
        now: Now,
        first: Step,
        request: Option<&InferRequest<'_>>,
        end_of_stream: bool,
    ) -> Action {
        let mut step = first;
        for _ in 0..MAX_STEPS {
            step = match (step, request) {
                (Step::Deny(denial), _) => return self.deny_held(proxy, &held, &denial),
                (Step::Charge(charge), _) => {
                    let (outcome, fault) = spend(proxy, &charge, now.monotonic_ns);
                    if let Some(fault) = fault {
                        proxy.log(Level::Error, &format!("bucket {:?}: {fault}", charge.key()));
                    }
                    held.decision.charged(&self.root.policy, outcome)
                }
                (Step::Check, Some(request)) => held.decision.check(&self.root.policy, request),
                (Step::ReadBody(plan), None) => {
                    return self.hold(proxy, held, Body::Judge(plan), end_of_stream);
                }
                (Step::Answer(Protocol::OipGrpc, _), None) if !end_of_stream => {
                    return self.hold(proxy, held, Body::Question, end_of_stream);
                }
                (Step::Answer(..) | Step::Forward, None) if !end_of_stream => {
                    return self.hold(proxy, held, Body::None, end_of_stream);
                }
                (Step::Answer(..) | Step::Forward, _) => return self.forward(proxy, held, now),
                (Step::Check, None) | (Step::ReadBody(_), Some(_)) => {
                    return self.refuse(
                        proxy,
                        held,
                        Denial::new(Reason::Overloaded, "decision took a step out of its order"),
                    );
                }
            };
        }
        self.refuse(
            proxy,
            held,
            Denial::new(Reason::Overloaded, "decision did not come to an end"),
        )
    }

    /// Waits for the body, or judges it at once if there is none.
    fn hold(
        &mut self,
        proxy: &mut dyn Proxy,
        mut held: Box<Held>,
        body: Body,
        end_of_stream: bool,
    ) -> Action {
        held.body = body;
        if end_of_stream {
            return self.finish(proxy, held);
        }
        // A head that waits is memory that a caller holds: only what may cross is kept.
        if let Err(fault) = proxy.replace_request_headers(&held.upstream.fields(None)) {
            return self.refuse(proxy, held, cannot_decide(fault));
        }
        self.phase = Phase::Held(held);
        Action::Pause
    }

    /// Sends the request on, with our own header fields in place of the client's.
    fn forward(&mut self, proxy: &mut dyn Proxy, held: Box<Held>, now: Now) -> Action {
        if held.upstream.request_id.is_empty() {
            return self.refuse(
                proxy,
                held,
                Denial::new(Reason::Overloaded, "proxy set no request id"),
            );
        }
        self.note(&held.decision);
        let context = Context {
            client: self.record.client.clone(),
            request_id: held.upstream.request_id.clone(),
            method: held.upstream.method.clone(),
            path: held.upstream.path.clone(),
            generation: self.root.generation.clone(),
            issued_unix_s: now.unix_s,
        };
        let signed = context.sign(&self.root.context_key);
        if let Err(fault) = proxy.replace_request_headers(&held.upstream.fields(Some(&signed))) {
            return self.refuse(proxy, held, cannot_decide(fault));
        }
        self.phase = Phase::Forwarded;
        self.settle(proxy, Verdict::Allow);
        Action::Continue
    }

    /// Refuses for a cause that was found here.
    fn refuse(&mut self, proxy: &mut dyn Proxy, mut held: Box<Held>, denial: Denial) -> Action {
        let fallback = denial.clone();
        let denial = match held.decision.refuse(denial) {
            Step::Deny(denial) => denial,
            // Whatever else a decision answers, what was found here stands.
            _ => fallback,
        };
        self.deny_held(proxy, &held, &denial)
    }

    fn deny_held(&mut self, proxy: &mut dyn Proxy, held: &Held, denial: &Denial) -> Action {
        self.note(&held.decision);
        self.deny(
            proxy,
            denial,
            held.upstream.answer_protocol(),
            &held.upstream.request_id,
        )
    }

    /// Answers. The latch closes before anything else can fail.
    fn deny(
        &mut self,
        proxy: &mut dyn Proxy,
        denial: &Denial,
        protocol: Protocol,
        request_id: &str,
    ) -> Action {
        self.phase = Phase::Denied;
        self.record.reason = Some(denial.reason);
        self.record.detail.clone_from(&denial.cause);
        let verdict = Verdict::Deny(denial.reason);
        let source = proxy.source_address();
        let level = if denial.reason == Reason::Overloaded {
            Level::Warn
        } else {
            Level::Info
        };
        proxy.log(
            level,
            &self
                .record
                .to_log_line(verdict, request_id, source.as_deref()),
        );
        self.settle(proxy, verdict);
        if let Err(fault) = proxy.respond(&Answer::to_denial(denial, protocol, request_id)) {
            // The request stays on hold, and the proxy's own timeout ends it.
            proxy.log(Level::Error, &format!("request {request_id}: {fault}"));
        }
        Action::Pause
    }

    /// Names what the decision has established.
    fn note(&mut self, decision: &Decision) {
        let policy = &self.root.policy;
        self.record.client = decision
            .client()
            .and_then(|id| policy.client(id))
            .map(|client| client.name().to_owned());
        self.record.model = decision
            .model()
            .and_then(|id| policy.model(id))
            .map(|model| model.name().to_owned());
        self.record.rule = decision
            .grant()
            .and_then(|id| policy.grant(id))
            .map(|grant| grant.name().to_owned());
    }

    /// Counts, and tells the access log.
    fn settle(&self, proxy: &mut dyn Proxy, verdict: Verdict) {
        proxy.count(verdict);
        let properties = [
            (property::VERDICT, Some(verdict.name())),
            (property::REASON, Some(verdict.reason())),
            (property::CLIENT, self.record.client.as_deref()),
            (property::MODEL, self.record.model.as_deref()),
            (property::RULE, self.record.rule.as_deref()),
        ];
        for (name, value) in properties {
            let Some(value) = value else { continue };
            if let Err(fault) = proxy.set_property(name, value) {
                proxy.log(Level::Error, &format!("property {name}: {fault}"));
            }
        }
    }

    /// The held request, if it is on hold; the phase is final until it is put back.
    fn take_held(&mut self) -> Option<Box<Held>> {
        match core::mem::replace(&mut self.phase, Phase::Denied) {
            Phase::Held(held) => Some(held),
            other => {
                self.phase = other;
                None
            }
        }
    }
}

impl Body {
    /// Whether so many bytes may be held. The reason does not depend on how the body was cut into pieces.
    fn fits(self, bytes: usize) -> Result<(), Denial> {
        let max_bytes = match self {
            Self::Judge(BodyPlan {
                format: BodyFormat::Empty,
                ..
            })
            | Self::None => {
                return if bytes == 0 {
                    Ok(())
                } else {
                    Err(Denial::new(Reason::Malformed, "a body came where none may"))
                };
            }
            Self::Judge(plan) => plan.max_bytes,
            Self::Question => MAX_QUESTION_BODY_BYTES,
        };
        if bytes > max_bytes {
            let cause = format!("body has at least {bytes} bytes, {max_bytes} are allowed");
            return Err(Denial::new(Reason::BodyTooLarge, cause));
        }
        Ok(())
    }
}

/// The refusal of a gate whose proxy failed it.
fn cannot_decide(fault: HostFault) -> Denial {
    Denial::new(Reason::Overloaded, fault.to_string())
}
