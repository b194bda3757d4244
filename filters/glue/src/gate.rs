//! One request at one filter, and everything that a filter does with it.
//!
//! One [`Gate`] judges one request. It drives a [`Decision`] with what the proxy delivers and carries its steps out: charges, the
//! reading of a body, the answer, the header fields for the upstream. It decides nothing by itself except to refuse where it cannot
//! decide. Which of the steps are its own is its filter's [`crate::filter::Duties`]; the others count as done.
//!
//! Headers are held until the verdict, and so is the body, in the proxy's own buffer: it is read when it is whole, and again after a wait. A
//! body that is too large for that is held until its head is judged, and the rest is checked as it passes (the module `checking`). The verdict
//! falls with the headers, at the body's end, at the trailers, which end a body without saying so in the body callback, or when what the
//! request waits for is there (`waiting`, `owing`); a stream's messages each have their own (`messages`). Once refused, always refused: nothing
//! is ever let through after an answer, and there is one answer. A filter none of whose duties needs the body lets it pass once the head is
//! judged.

mod ending;
mod messages;
mod owing;
mod passing;
mod settling;
mod signing;
mod waiting;

use std::borrow::Cow;
use std::rc::Rc;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Decision, Denial, Now, Reason, Step};
use tensorgate_wire::headers::{self, ReadHead};
use tensorgate_wire::{addressee, context, decode, expand};

use crate::body::{ALWAYS_HELD_BYTES, Body, looks, waits};
use crate::checking::Checking;
use crate::enforced::Enforced;
use crate::host::{Action, HostFault, Level, Proxy};
use crate::identify::{Before, Who, identify, take_key_away};
use crate::keys::Awaited;
use crate::outcome::Outcome;
use crate::pay::{Dues, MAX_STEPS, Paid, out_of_order, pay};
use crate::places::give_back;
use crate::record::Record;
use crate::rewrite::Rewrite;
use crate::root::GateRoot;
use crate::shared_limits::leave;
use crate::streaming::Streaming;
use crate::upstream::Upstream;
use ending::Rest;
pub(crate) use passing::{read_body, read_body_at};
use settling::Settling;
use waiting::Waiting;

/// Where a request stands.
enum Phase {
    /// Nothing came yet.
    Fresh,
    /// An answer from the outside is on its way; what has come is held.
    Waiting(Box<Waiting>),
    /// Allowed so far; headers and body are held.
    Held(Box<Held>),
    /// Sent on whole.
    Forwarded,
    /// The head was sent on, and the body passes as it comes: it is no duty of this filter's.
    Passing,
    /// The same, and a charge is not told yet: the body's end waits for it.
    Owing(Box<Held>),
    /// The head was sent on, and the body is checked as it passes.
    Checking(Box<Held>, Box<Checking>),
    /// The head was sent on, and messages follow, each judged by itself.
    Messages(Box<Held>, Box<Streaming>),
    /// A stream is over before its body is: what still comes goes nowhere.
    Swallowing,
    /// Answered. Final.
    Denied,
}

/// A head that a caller sent is held as it came up to so many bytes of names and values. Writing it anew costs a tenth of a small request;
/// what may cross of it is some 400 bytes, so this is what a stream costs at most.
const MAX_HELD_HEAD_BYTES: usize = 2048;
/// What the proxy says of a certificate is held beside that up to so many bytes.
const MAX_HELD_CERTIFICATE_BYTES: usize = 4096;

/// A request on hold.
struct Held {
    decision: Decision,
    before: Before,
    upstream: Upstream,
    /// What is left to do to the proxy's head before it goes, the signed context apart.
    rewrite: Rewrite,
    /// Names and values of the head as it came, bytes.
    head_bytes: usize,
    body: Body,
    /// Bytes that the proxy holds.
    body_bytes: usize,
    /// When its credential counts no more, Unix seconds.
    until_unix_s: Option<u64>,
}

/// One request at one filter.
pub struct Gate {
    root: Rc<GateRoot>,
    phase: Phase,
    outcome: Outcome,
    /// What comes back when the answer, or the stream, is over.
    dues: Dues,
    /// Tokens that were reserved for the answer.
    settling: Option<Box<Settling>>,
    /// Of a request that has gone on: its end is here, and held back.
    ended: bool,
    /// And bytes of it that are held with the end, not looked at.
    unread_bytes: usize,
}

impl Gate {
    /// A gate for one request.
    pub fn new(root: Rc<GateRoot>) -> Self {
        let outcome = Outcome::new(root.filter);
        Self {
            root,
            phase: Phase::Fresh,
            outcome,
            dues: Dues::default(),
            settling: None,
            ended: false,
            unread_bytes: 0,
        }
    }

    /// What its contexts and marks are signed with.
    pub(crate) fn context_key(&self) -> Option<&context::Key> {
        self.root.context_key.as_ref()
    }

    /// What the decision came to so far.
    pub const fn record(&self) -> &Record {
        &self.outcome.record
    }

    /// The headers are in. `end_of_stream`: nothing follows.
    pub fn on_request_headers(&mut self, proxy: &mut dyn Proxy, end_of_stream: bool) -> Action {
        if !matches!(self.phase, Phase::Fresh) {
            // Headers come once. A proxy that repeats them gets no second decision.
            return Action::Pause;
        }
        self.judge_head(proxy, end_of_stream, None)
    }

    /// Judges the headers; `awaited`: what they have waited for.
    fn judge_head(
        &mut self,
        proxy: &mut dyn Proxy,
        end_of_stream: bool,
        awaited: Option<&Awaited>,
    ) -> Action {
        let root = Rc::clone(&self.root);
        let read = proxy.now().and_then(|now| {
            let mut fields = proxy.request_headers()?;
            let before = Before::read(&root, proxy, &mut fields)?;
            Ok((now, fields, before))
        });
        let (now, fields, before) = match read {
            Ok(read) => read,
            Err(fault) => return self.deny(proxy, &cannot_decide(fault), Protocol::OipRest, ""),
        };
        let read = ReadHead::read_keys(&fields, end_of_stream, root.key_places());
        if let Err(fault) = take_key_away(proxy, &read) {
            return self.deny(proxy, &cannot_decide(fault), Protocol::OipRest, "");
        }
        let mut upstream = Upstream::new(read.method, &read.path, read.request_id, &fields);
        let identified = match identify(proxy, &root, &before, &read, now, awaited) {
            Who::Known(identified) => identified,
            Who::Awaits(awaited, place) => {
                let holds = !read.is_stream();
                return self.wait_for_key(proxy, awaited, place, end_of_stream, holds);
            }
        };
        self.outcome.record.credential = identified.credential;
        upstream.claims = identified.claims;
        let mut head = read.into_head(identified.identity, root.policy.templates());
        (head.proofs, head.withheld) = (identified.proofs, identified.withheld);
        upstream.accept(&head);
        let (decision, step) = Decision::begin(&root.policy, &head);
        let rewrite = if root.filter.duties().identify {
            Rewrite::plan(&fields, &upstream.fields())
        } else {
            Rewrite::DONE
        };
        let held = Box::new(Held {
            decision,
            before,
            upstream,
            rewrite,
            head_bytes: fields
                .iter()
                // One certificate is what a connection holds anyway.
                .filter(|(name, value)| {
                    name != headers::CERTIFICATE || value.len() > MAX_HELD_CERTIFICATE_BYTES
                })
                .map(|(name, value)| name.len().saturating_add(value.len()))
                .fold(0, usize::saturating_add),
            body: Body::None,
            body_bytes: 0,
            until_unix_s: identified.until_unix_s,
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
        match self.phase {
            Phase::Checking(..) => return self.check_piece(proxy, body_bytes, end_of_stream),
            Phase::Waiting(_) => return self.wait_with_body(proxy, body_bytes, end_of_stream),
            Phase::Owing(_) => return self.pass_owing(body_bytes, end_of_stream),
            Phase::Messages(..) => return self.messages(proxy, body_bytes, end_of_stream),
            Phase::Swallowing => return self.swallow(proxy, body_bytes),
            _ => {}
        }
        let Some(mut held) = self.take_held() else {
            // After the verdict there is no body left to come; whatever does come goes nowhere.
            return match self.phase {
                Phase::Passing => Action::Continue,
                Phase::Forwarded if body_bytes == 0 => Action::Continue,
                _ => Action::Pause,
            };
        };
        let before = core::mem::replace(&mut held.body_bytes, body_bytes);
        // Asked once, and only for a body that may be beyond what the listener of an older policy lets anybody hold.
        if before <= ALWAYS_HELD_BYTES && body_bytes > ALWAYS_HELD_BYTES {
            held.body = held.body.within(Enforced::read(proxy));
        }
        if let Err(denial) = held.body.fits(body_bytes) {
            return self.refuse(proxy, held, denial);
        }
        if let Body::Judge(plan) = held.body
            && body_bytes > plan.hold_bytes
        {
            return self.stop_holding(proxy, held, plan, end_of_stream);
        }
        if end_of_stream {
            return self.finish(proxy, held);
        }
        self.phase = Phase::Held(held);
        Action::Pause
    }

    /// The trailers are in: the body, which never said that it ended, is whole.
    pub fn on_request_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        match self.phase {
            Phase::Fresh | Phase::Denied => return Action::Pause,
            Phase::Waiting(_) => return self.wait_with_trailers(),
            _ => {}
        }
        // No inference protocol has request trailers: they would be a client's fields that nobody judged.
        let cleared = proxy.clear_request_trailers();
        match (&self.phase, cleared) {
            (Phase::Checking(..), Ok(())) => {
                return self.check_piece(proxy, self.unread_bytes, true);
            }
            (Phase::Owing(_), Ok(())) => return self.hold_the_end(),
            (Phase::Checking(..) | Phase::Owing(_), Err(fault)) => {
                return self.refuse_gone_on(proxy, cannot_decide(fault));
            }
            (Phase::Messages(..), cleared) => return self.messages_end(proxy, cleared),
            _ => {}
        }
        match (self.take_held(), cleared) {
            (Some(held), Ok(())) => match held.body {
                // Held for its end alone: it is too large to be judged whole.
                Body::Judge(plan) if held.body_bytes > plan.hold_bytes => {
                    self.stop_holding(proxy, held, plan, true)
                }
                _ => self.finish(proxy, held),
            },
            (Some(held), Err(fault)) => self.refuse(proxy, held, cannot_decide(fault)),
            (None, Ok(())) => Action::Continue,
            (None, Err(_)) => Action::Pause,
        }
    }

    /// The access log is about to be written. It may be so more than once, and the stream may go on.
    pub fn on_log(&mut self, proxy: &mut dyn Proxy) {
        match &self.phase {
            Phase::Held(held) | Phase::Checking(held, _) | Phase::Owing(held) => {
                self.outcome.note(&self.root.policy, &held.decision);
                self.outcome.aborted(proxy);
            }
            Phase::Waiting(waiting) => {
                if let Some((held, _)) = waiting.judged() {
                    self.outcome.note(&self.root.policy, &held.decision);
                }
                self.outcome.aborted(proxy);
            }
            Phase::Fresh
            | Phase::Forwarded
            | Phase::Passing
            | Phase::Messages(..)
            | Phase::Swallowing
            | Phase::Denied => {}
        }
        self.outcome.number(proxy);
    }

    /// The stream is over, however it ended. Called once.
    pub fn on_done(&mut self, proxy: &mut dyn Proxy) {
        if let Some(held) = self
            .take_held()
            .or_else(|| self.take_gone_on().map(|(held, _)| held))
        {
            self.outcome.note(&self.root.policy, &held.decision);
            self.outcome.aborted(proxy);
        } else if let Some(waiting) = self.take_waiting() {
            if let Some((held, owed)) = waiting.judged() {
                self.outcome.note(&self.root.policy, &held.decision);
                leave(proxy, owed);
            }
            self.outcome.aborted(proxy);
        } else if let Some((_, streaming)) = self.take_messages() {
            streaming.leave(proxy);
        } else if matches!(self.phase, Phase::Fresh) {
            self.outcome.unheard(proxy);
        }
        for owed in core::mem::take(&mut self.dues.owed) {
            leave(proxy, &owed);
        }
        self.outcome.done(proxy);
        let places = core::mem::take(&mut self.dues.places);
        if places.is_empty() {
            return;
        }
        // Without a clock nothing counts as lapsed, and what is given back is given back all the same.
        let now_ns = proxy.now().map_or(0, |now| now.monotonic_ns);
        for fault in give_back(proxy, &places, now_ns) {
            proxy.log(Level::Error, &format!("places in flight: {fault}"));
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
        let body = match self.whole_body(proxy, &held, plan) {
            Ok(body) => body,
            Err(denial) => return self.refuse(proxy, held, denial),
        };
        let addressee = match addressee(plan.format, &body) {
            Ok(addressee) => addressee,
            Err(denial) => return self.refuse(proxy, held, denial),
        };
        let bytes = held.body_bytes;
        let step = held.decision.body(&self.root.policy, bytes, addressee);
        self.advance(proxy, held, now, step, Some((plan, &body)), true)
    }

    /// A body that is whole, expanded; nothing of one at which nobody here looks.
    fn whole_body(
        &self,
        proxy: &mut dyn Proxy,
        held: &Held,
        plan: BodyPlan,
    ) -> Result<Cow<'static, [u8]>, Denial> {
        let (duties, policy) = (self.root.filter.duties(), &self.root.policy);
        let looked_at = if looks(duties, plan.format, &held.decision, policy) {
            held.body_bytes
        } else {
            0
        };
        let body = read_body(proxy, looked_at)?;
        expand(&plan, body)
    }

    /// Carries steps out until the request is answered, sent on, or has to wait: for its body, or for the rate limit service.
    fn advance(
        &mut self,
        proxy: &mut dyn Proxy,
        mut held: Box<Held>,
        now: Now,
        first: Step,
        body: Option<(BodyPlan, &[u8])>,
        end_of_stream: bool,
    ) -> Action {
        let root = Rc::clone(&self.root);
        let (policy, duties) = (&root.policy, root.filter.duties());
        let mut step = first;
        let mut request = None;
        for _ in 0..MAX_STEPS {
            step = match (step, body, &request) {
                (Step::Deny(denial), ..) => return self.deny_held(proxy, &held, &denial),
                (step @ (Step::Charge(_) | Step::Acquire(_)), ..) => {
                    let (decision, dues) = (&mut held.decision, &mut self.dues);
                    let request_id = &held.upstream.request_id;
                    match pay(&root, proxy, decision, dues, request_id, now, step) {
                        Paid::Step(step) => step,
                        Paid::Asked(owed) => {
                            let whole = body.is_some();
                            return self.wait_for_limits(held, owed, whole, end_of_stream);
                        }
                    }
                }
                (Step::ReadBody(plan), None, _) => {
                    if !waits(duties, plan, &held.decision, policy) {
                        let rest = match (end_of_stream, self.dues.owed.is_empty()) {
                            (true, _) => Rest::None,
                            (false, true) => Rest::Passes,
                            (false, false) => Rest::Owes,
                        };
                        return self.forward(proxy, held, now, rest);
                    }
                    return self.hold(proxy, held, Body::Judge(plan), end_of_stream);
                }
                (Step::ReadMessages(plan), ..) => {
                    let rest = if end_of_stream {
                        Rest::None
                    } else {
                        Rest::Messages(plan)
                    };
                    return self.forward(proxy, held, now, rest);
                }
                // Whoever does not check the message needs it only where nothing else names the model.
                (Step::Decode, Some(_), None)
                    if !duties.check && held.decision.model().is_some() =>
                {
                    Step::Forward
                }
                (Step::Decode, Some((plan, body)), None) => {
                    let by = held.decision.read_by(policy);
                    match decode(plan.format, body, by) {
                        Ok(decoded) => held.decision.message(policy, request.insert(decoded)),
                        Err(denial) => return self.refuse(proxy, held, denial),
                    }
                }
                (Step::Check, Some(_), _) if !duties.check => Step::Forward,
                (Step::Check, _, Some(request)) => held.decision.check(policy, request),
                // Decoded before it had to wait for what gateways share, and not kept: the body is here again.
                (Step::Check, Some((plan, body)), None) => {
                    match decode(plan.format, body, held.decision.read_by(policy)) {
                        Ok(decoded) => held.decision.check(policy, request.insert(decoded)),
                        Err(denial) => return self.refuse(proxy, held, denial),
                    }
                }
                (Step::Answer(protocol, _), None, _) if protocol.is_grpc() && !end_of_stream => {
                    return self.hold(proxy, held, Body::Question, end_of_stream);
                }
                (Step::Answer(..) | Step::Forward, None, _) if !end_of_stream => {
                    return self.hold(proxy, held, Body::None, end_of_stream);
                }
                (Step::Answer(..) | Step::Forward, ..) => {
                    return self.forward(proxy, held, now, Rest::None);
                }
                (Step::Check | Step::Decode | Step::ReadBody(_), ..) => {
                    return self.refuse(proxy, held, out_of_order());
                }
            };
        }
        self.refuse(proxy, held, out_of_order())
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
        // A head that waits is memory that a caller holds: where only some of it may cross, only that is kept of a large one.
        if held.head_bytes > MAX_HELD_HEAD_BYTES && self.root.filter.duties().identify {
            if let Err(fault) = proxy.replace_request_headers(&held.upstream.fields()) {
                return self.refuse(proxy, held, cannot_decide(fault));
            }
            held.rewrite = Rewrite::DONE;
        }
        self.phase = Phase::Held(held);
        Action::Pause
    }
}

/// The refusal of a gate whose proxy failed it.
pub(crate) fn cannot_decide(fault: HostFault) -> Denial {
    Denial::new(Reason::Overloaded, fault.to_string())
}
