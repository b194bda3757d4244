//! One request at one filter.
//!
//! A [`Gate`] drives a [`Decision`] with the events that the proxy delivers and executes its steps:
//! charges, reading the body, responses, upstream headers. The gate itself only decides to reject a
//! request when a step fails. The filter's [`crate::filter::Capabilities`] say which steps the
//! filter executes; the other steps count as done.
//!
//! Headers are held until the verdict. The body stays in the proxy's buffer until it is complete.
//! The verdict falls:
//! - with the headers,
//! - at the end of the body,
//! - at the trailers, which end a body without a body callback,
//! - when a pending call completes (`waiting`, `body_streaming`),
//! - for each message of a stream separately, here or in the sandbox host (`inference_stream`).
//!
//! A sandbox host behind the filter judges every request again. So the filter only rejects, and the
//! part of a request that it does not read passes unread:
//! - a body above a bound (`PendingRequest::bound`),
//! - what follows a charge that the host makes before it looks at the body (`QuotaStep::Left`).
//!
//! Without a host, a body that is too large to buffer is held until its head is accepted, and the
//! rest is validated while it streams (`streaming_validation`).
//!
//! A rejection is final: after it nothing is forwarded, and there is only one response. The
//! response may wait for the rest of the body, which is discarded (`lingering`). A filter that does
//! not need the body forwards it once the head is accepted.

mod arrived;
mod body_ahead;
mod body_streaming;
mod completion;
mod delivery;
mod forwarding;
mod host_release;
mod inference_stream;
mod lingering;
mod readiness;
mod second_gate;
mod signed_context;
mod waiting;

use std::rc::Rc;

use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::request::{Operations, Protocol, RequestHash};
use tensorgate_policy::{Decision, Denial, Now, Step};
use tensorgate_wire::headers::{self, ReadHead};
use tensorgate_wire::{addressee, check_server_query, decode, expand};

use crate::body::reader::{MIN_CHUNK_BYTES, read_body};
use crate::body::{ALWAYS_BUFFERED_BYTES, Body, judged_bytes, needs_whole_body, reads_body};
use crate::host::{Action, Level, ListenerBounds, Proxy, SharedStore, cannot_decide};
use crate::identify::{CallerState, PreviousFilters, identify, remove_key_and_query};
use crate::keys::AwaitedFetch;
use crate::message_stream::{MessageStream, UnansweredChunks};
use crate::quota::rate_limit_service::cancel_pending_charge;
use crate::report::OutcomeReporter;
use crate::report::record::Record;
use crate::root::GateRoot;
use crate::steps::streaming_validation::StreamingValidator;
use crate::steps::{MAX_STEPS, QuotaStep, RequestResources, out_of_order, run_quota_step};
use crate::store::permits::{
    PermitFault, max_stream_ns, release as release_permits, renew, reset_ns,
};
use crate::upstream::{Rewrite, Upstream, traceparent};
use completion::Remainder;
use forwarding::Forwarded;
use lingering::Lingering;
use waiting::Waiting;

/// State of a request.
enum Phase {
    /// No event has arrived.
    Fresh,
    /// A call to another server is pending; the data that has arrived is buffered.
    Waiting(Box<Waiting>),
    /// Accepted so far; headers and body are buffered.
    Buffering(Box<PendingRequest>),
    /// Forwarded completely.
    Forwarded,
    /// The head was forwarded, and the body passes through unread.
    PassThrough,
    /// As `PassThrough`, but a charge is pending: the end of the body waits for the charge. Only
    /// without a host.
    Charging(Box<PendingRequest>),
    /// The head was forwarded, and the body is validated while it streams. Only without a host.
    Validating(Box<PendingRequest>, Box<StreamingValidator>),
    /// The head was forwarded, and messages follow that this filter judges one by one.
    Messages(Box<PendingRequest>, Box<MessageStream>),
    /// The head was forwarded, and messages pass through unread: the sandbox host judges them.
    PassingMessages(Box<PendingRequest>, Box<UnansweredChunks>),
    /// A gate before this one decides and reports, or this is the readiness probe: everything
    /// passes untouched, and is not reported here.
    Exempt,
    /// Rejected; the response waits until the rest of the body was discarded. Final.
    Lingering(Box<Lingering>),
    /// Rejected with a response. Final.
    Denied,
}

/// Maximum size of client headers that stay in the proxy, in bytes of names and values. Rewriting
/// headers costs a tenth of a small request. About 400 bytes are forwarded, so this limit bounds
/// the memory per stream.
const MAX_BUFFERED_HEADER_BYTES: usize = 2048;
/// Maximum size of certificate information that stays in the proxy in addition, in bytes.
const MAX_BUFFERED_CERTIFICATE_BYTES: usize = 4096;

/// A request whose verdict is pending.
struct PendingRequest {
    decision: Decision,
    previous: PreviousFilters,
    upstream: Upstream,
    /// Changes to the proxy's headers that remain, except the signed context.
    rewrite: Rewrite,
    /// Size of names and values of the original headers, in bytes.
    head_bytes: usize,
    body: Body,
    /// Body bytes in the proxy's buffer.
    body_bytes: usize,
    /// The longest body that this filter judges, in bytes. `None`: there is no host, so the filter
    /// judges all.
    bound: Option<usize>,
    /// Whether this filter stopped at a charge that the host makes before it looks at the body.
    leaves_charge: bool,
    /// Operations that the credential does not allow.
    withheld: Operations,
    /// When the credential expires, in Unix seconds.
    until_unix_s: Option<u64>,
    /// Set once the headers were forwarded before the verdict.
    forwarded: Option<Box<Forwarded>>,
}

/// One request at one filter.
pub struct Gate {
    root: Rc<GateRoot>,
    phase: Phase,
    outcome: OutcomeReporter,
    /// Permits and memory to release when the response or the stream ends.
    resources: RequestResources,
    /// When the filter ends the stream, in ns; `None`: the proxy has a limit of its own.
    ends_ns: Option<u64>,
    /// Whether more of the request is to come.
    incomplete: bool,
    /// Whether the headers were forwarded.
    dispatched: bool,
    /// Whether the end of a streamed request has arrived and is held.
    ended: bool,
    /// Body bytes in the proxy's buffer that this filter has not read.
    unread_bytes: usize,
    /// Whether a callback other than the request's own is running.
    late: bool,
}

impl PendingRequest {
    /// Whether this filter may judge a body in this format: none is declared above the bound. A
    /// body that must be empty is always judged, because nothing of it is read.
    fn may_judge(&self, format: BodyFormat) -> bool {
        let Some(bound) = self.bound else {
            return true;
        };
        let fits = |bytes: u64| usize::try_from(bytes).is_ok_and(|bytes| bytes <= bound);
        format == BodyFormat::Empty || (bound > 0 && self.decision.declared().is_none_or(fits))
    }

    /// Whether more of the body has arrived than this filter judges.
    fn exceeds_bound(&self) -> bool {
        let is_judged = matches!(self.body, Body::Validate(_));
        is_judged && self.bound.is_some_and(|bound| self.body_bytes > bound)
    }
}

impl Gate {
    /// Creates the gate for one request.
    pub fn new(root: Rc<GateRoot>) -> Self {
        let outcome = OutcomeReporter::new(root.filter);
        Self {
            root,
            phase: Phase::Fresh,
            outcome,
            resources: RequestResources::default(),
            ends_ns: None,
            incomplete: false,
            dispatched: false,
            ended: false,
            unread_bytes: 0,
            late: false,
        }
    }

    /// When the stream must be ended, in ns of the monotonic clock, if the filter does that.
    pub const fn ends_ns(&self) -> Option<u64> {
        self.ends_ns
    }

    /// Extends the permits of a stream that is still open although its time is over. Outside of a
    /// request the listener's bounds cannot be read, so the policy's apply.
    ///
    /// # Errors
    /// The first permit that could not be extended.
    pub fn renew_permits(
        &mut self,
        store: &mut dyn SharedStore,
        now: Now,
    ) -> Result<(), PermitFault> {
        let limits = self.root.policy.listen().limits();
        let max_stream_ns = max_stream_ns(limits, ListenerBounds::default());
        let permits = &mut self.resources.permits;
        renew(store, permits, now.monotonic_ns, max_stream_ns)
    }

    /// The outcome so far.
    pub const fn record(&self) -> &Record {
        &self.outcome.record
    }

    /// Handles the request headers. `end_of_stream`: nothing follows.
    pub fn on_request_headers(&mut self, proxy: &mut dyn Proxy, end_of_stream: bool) -> Action {
        if !matches!(self.phase, Phase::Fresh) {
            // Headers arrive once. A proxy that repeats them gets no second decision.
            return Action::Pause;
        }
        self.incomplete = !end_of_stream;
        self.evaluate_head(proxy, end_of_stream, None)
    }

    /// Evaluates the headers. `awaited`: the key fetch that the request has waited for.
    fn evaluate_head(
        &mut self,
        proxy: &mut dyn Proxy,
        end_of_stream: bool,
        awaited: Option<&AwaitedFetch>,
    ) -> Action {
        let root = Rc::clone(&self.root);
        let read = proxy.now().and_then(|now| {
            let mut fields = proxy.request_headers()?;
            let previous = PreviousFilters::read(&root, proxy, &mut fields)?;
            Ok((now, fields, previous))
        });
        let (now, fields, previous) = match read {
            Ok(read) => read,
            Err(fault) => return self.deny(proxy, &cannot_decide(fault), Protocol::OipRest),
        };
        root.log_quotas.end_windows(proxy, now);
        if let Some(action) = self.behind_another(proxy, &fields, now) {
            return action;
        }
        if let Some(action) = self.readiness_probe(proxy, &fields, now) {
            return action;
        }
        if self.forwards_headers() {
            let limits = root.policy.listen().limits();
            self.ends_ns = Some(reset_ns(limits, now.monotonic_ns));
        }
        let read = ReadHead::read_keys(&fields, end_of_stream, root.key_locations());
        if let Err(fault) = remove_key_and_query(proxy, &read) {
            return self.deny(proxy, &cannot_decide(fault), Protocol::OipRest);
        }
        if self.outcome.record.request_id.is_empty() {
            let given = previous.request_id().map(str::to_owned);
            self.outcome.record.request_id =
                given.unwrap_or_else(|| proxy.new_request_id(root.context_key.as_ref()));
        }
        let request_id = &self.outcome.record.request_id;
        let mut upstream = Upstream::new(read.method, &read.path, request_id, &fields);
        // Only a host can tell this id from the gate's, which is in the context.
        if root.has_host() {
            upstream.client_request_id = Some(read.request_id.to_owned());
            upstream.traceparent = traceparent(&fields);
        }
        let identified = match identify(proxy, &root, &previous, &read, now, awaited) {
            CallerState::Known(identified) => identified,
            CallerState::Awaits(awaited, permit) => {
                let holds = !read.is_stream();
                return self.wait_for_key(proxy, awaited, permit, end_of_stream, holds);
            }
        };
        self.outcome.record.credential = identified.credential;
        self.outcome.revoked_client = identified.revoked_client;
        upstream.claims = identified.claims;
        let (proofs, withheld) = (identified.proofs, identified.withheld);
        let mut head = read.into_head_under(identified.identity, proofs, withheld, &root.policy);
        head.request_hash = RequestHash::from_request_id(&upstream.request_id);
        self.outcome.record.operation = head.route.operation();
        upstream.accept(&head);
        let (decision, step) = Decision::begin(&root.policy, &head);
        let rewrite = if root.filter.capabilities().identify {
            Rewrite::plan(&fields, &upstream.fields())
        } else {
            Rewrite::DONE
        };
        let pending = Box::new(PendingRequest {
            decision,
            previous,
            upstream,
            rewrite,
            head_bytes: fields
                .iter()
                // A connection holds one certificate anyway, so a small one is not counted.
                .filter(|(name, value)| {
                    name != headers::CERTIFICATE || value.len() > MAX_BUFFERED_CERTIFICATE_BYTES
                })
                .map(|(name, value)| name.len().saturating_add(value.len()))
                .fold(0, usize::saturating_add),
            body: Body::None,
            body_bytes: 0,
            bound: root.has_host().then(|| judged_bytes(&root.policy, proxy)),
            leaves_charge: false,
            withheld,
            until_unix_s: identified.until_unix_s,
            forwarded: None,
        });
        self.advance(proxy, pending, now, step, None, end_of_stream)
    }

    /// Handles more of the body. `body_bytes` is the total in the proxy's buffer.
    pub fn on_request_body(
        &mut self,
        proxy: &mut dyn Proxy,
        body_bytes: usize,
        end_of_stream: bool,
    ) -> Action {
        self.incomplete = !end_of_stream;
        if !end_of_stream && self.gathers(body_bytes) {
            self.unread_bytes = body_bytes;
            return Action::Pause;
        }
        match self.phase {
            Phase::Validating(..) => return self.validate_chunk(proxy, body_bytes, end_of_stream),
            Phase::Waiting(_) => return self.wait_with_body(proxy, body_bytes, end_of_stream),
            Phase::Charging(_) => {
                return self.pass_while_charging(proxy, body_bytes, end_of_stream);
            }
            Phase::Messages(..) => return self.messages(proxy, body_bytes, end_of_stream),
            Phase::PassingMessages(..) => {
                return self.pass_messages(proxy, body_bytes, end_of_stream);
            }
            Phase::Lingering(_) => return self.linger(proxy, body_bytes, end_of_stream),
            _ => {}
        }
        let Some(mut pending) = self.take_pending() else {
            // After the verdict no more body is expected; any further data is held.
            return match self.phase {
                Phase::PassThrough | Phase::Exempt => Action::Continue,
                Phase::Forwarded if body_bytes == 0 => Action::Continue,
                _ => Action::Pause,
            };
        };
        if pending.forwarded.is_some() {
            self.unread_bytes = 0;
            return self.collect(proxy, pending, body_bytes, end_of_stream);
        }
        self.delivered();
        let before = core::mem::replace(&mut pending.body_bytes, body_bytes);
        // Read once, and only for a body that may exceed what the listener of an older policy
        // buffers. With a host, the bound is within that.
        if pending.bound.is_none()
            && before <= ALWAYS_BUFFERED_BYTES
            && body_bytes > ALWAYS_BUFFERED_BYTES
        {
            pending.body = pending.body.within(ListenerBounds::read(proxy));
        }
        if let Err(denial) = pending.body.fits(body_bytes) {
            return self.refuse(proxy, pending, denial);
        }
        if pending.exceeds_bound() {
            return self.leave_to_host(proxy, pending, end_of_stream);
        }
        if let Body::Validate(plan) = pending.body
            && body_bytes > plan.hold_bytes
        {
            return self.start_streaming(proxy, pending, plan, end_of_stream);
        }
        if end_of_stream {
            return self.finish(proxy, pending);
        }
        self.phase = Phase::Buffering(pending);
        Action::Pause
    }

    /// Whether a small chunk of a streamed body waits for more in the proxy's buffer.
    ///
    /// Each chunk becomes an HTTP/2 frame of a connection that many clients share. Proxies and
    /// servers close a connection on which too many small frames wait. A request that waits for the
    /// rate-limit service is left out, because its answer makes the proxy send all that it has.
    fn gathers(&self, bytes: usize) -> bool {
        let is_streamed = match &self.phase {
            Phase::Buffering(pending) => pending.forwarded.is_some(),
            // A filter behind this one may hold the head for what it gathers, unless this one
            // judges bodies.
            Phase::PassThrough => self.root.filter.capabilities().check,
            Phase::Validating(..) => true,
            _ => false,
        };
        is_streamed && bytes < MIN_CHUNK_BYTES && self.resources.pending_charges.is_empty()
    }

    /// Handles the trailers: the body is complete, although no body callback said so.
    pub fn on_request_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        self.incomplete = false;
        match self.phase {
            Phase::Fresh | Phase::Denied => return Action::Pause,
            Phase::Lingering(_) => return self.end_linger(proxy),
            Phase::Waiting(_) => return self.wait_with_trailers(),
            Phase::Exempt => return Action::Continue,
            _ => {}
        }
        // No inference protocol has request trailers; client trailers would be forwarded unchecked.
        let cleared = proxy.set_request_trailers(&[]);
        match (&self.phase, cleared) {
            (Phase::Validating(..), Ok(())) => {
                return self.end_validation_in_trailers(proxy);
            }
            (Phase::Charging(_), Ok(())) => return self.end_passing(proxy),
            (Phase::Validating(..) | Phase::Charging(_), Err(fault)) => {
                return self.reject_streamed(proxy, cannot_decide(fault));
            }
            (Phase::Messages(..) | Phase::PassingMessages(..), cleared) => {
                return self.messages_end(proxy, cleared);
            }
            _ => {}
        }
        match (self.take_pending(), cleared) {
            (Some(mut pending), Ok(())) => {
                if let Err(denial) = self.collect_trailers(proxy, &mut pending) {
                    return self.refuse(proxy, pending, denial);
                }
                if pending.exceeds_bound() {
                    return self.leave_to_host(proxy, pending, true);
                }
                match pending.body {
                    // The body is too large to validate as a whole; only its end was held.
                    Body::Validate(plan) if pending.body_bytes > plan.hold_bytes => {
                        self.start_streaming(proxy, pending, plan, true)
                    }
                    _ => self.finish(proxy, pending),
                }
            }
            (Some(pending), Err(fault)) => self.refuse(proxy, pending, cannot_decide(fault)),
            (None, Ok(())) => Action::Continue,
            (None, Err(_)) => Action::Pause,
        }
    }

    /// Handles the access log callback. It may run more than once, and the stream may continue.
    pub fn on_log(&mut self, proxy: &mut dyn Proxy) {
        match &self.phase {
            Phase::Buffering(pending)
            | Phase::Validating(pending, _)
            | Phase::Charging(pending) => {
                self.outcome.note(&self.root.policy, &pending.decision);
                self.outcome.aborted(proxy);
            }
            Phase::Waiting(waiting) => {
                if let Some((pending, _)) = waiting.judged() {
                    self.outcome.note(&self.root.policy, &pending.decision);
                }
                self.outcome.aborted(proxy);
            }
            // The first gate numbers the request. The probe's listener has no access log.
            Phase::Exempt => return,
            Phase::Fresh
            | Phase::Forwarded
            | Phase::PassThrough
            | Phase::Messages(..)
            | Phase::PassingMessages(..)
            | Phase::Lingering(_)
            | Phase::Denied => {}
        }
        self.outcome.number(proxy);
    }

    /// Handles the end of the stream, for any reason. Called once.
    pub fn on_done(&mut self, proxy: &mut dyn Proxy) {
        // The client has gone. A proxy that does not deliver bodies is still worth logging.
        self.detect_undelivered(proxy);
        if let Some(pending) = self
            .take_pending()
            .or_else(|| self.take_streamed().map(|(pending, _)| pending))
        {
            self.outcome.note(&self.root.policy, &pending.decision);
            self.outcome.aborted(proxy);
        } else if let Some(waiting) = self.take_waiting() {
            if let Some((pending, pending_charge)) = waiting.judged() {
                self.outcome.note(&self.root.policy, &pending.decision);
                cancel_pending_charge(proxy, pending_charge);
            }
            self.outcome.aborted(proxy);
        } else if matches!(self.phase, Phase::Fresh) {
            self.outcome.ended_before_head(proxy);
        }
        for pending_charge in core::mem::take(&mut self.resources.pending_charges) {
            cancel_pending_charge(proxy, &pending_charge);
        }
        self.resources.body_memory.release(proxy);
        self.outcome.done(proxy);
        self.release_permits(proxy);
    }

    /// Releases the concurrency permits.
    fn release_permits(&mut self, proxy: &mut dyn Proxy) {
        let places = core::mem::take(&mut self.resources.permits);
        if places.is_empty() {
            return;
        }
        // Without a clock no permit counts as expired, and all are still released.
        let now_ns = proxy.now().map_or(0, |now| now.monotonic_ns);
        for fault in release_permits(proxy, &places, now_ns) {
            proxy.log(Level::Error, &format!("concurrency permits: {fault}"));
        }
    }

    /// Evaluates a complete body.
    fn finish(&mut self, proxy: &mut dyn Proxy, mut pending: Box<PendingRequest>) -> Action {
        let now = match proxy.now() {
            Ok(now) => now,
            Err(fault) => return self.refuse(proxy, pending, cannot_decide(fault)),
        };
        let plan = match pending.body {
            Body::Validate(plan) => plan,
            Body::ServerQuery(question) => {
                let body = received(proxy, &pending, pending.body_bytes);
                let checked = body.and_then(|body| check_server_query(question, &body));
                return match checked {
                    Ok(()) => self.advance(proxy, pending, now, Step::Forward, None, true),
                    Err(denial) => self.refuse(proxy, pending, denial),
                };
            }
            Body::None => return self.advance(proxy, pending, now, Step::Forward, None, true),
        };
        let body = match self.whole_body(proxy, &pending, plan) {
            Ok(body) => body,
            Err(denial) => return self.refuse(proxy, pending, denial),
        };
        let body = match expand(&plan, body.as_slice()) {
            Ok(body) => body,
            Err(denial) => return self.refuse(proxy, pending, denial),
        };
        let addressee = match addressee(plan.format, &body) {
            Ok(addressee) => addressee,
            Err(denial) => return self.refuse(proxy, pending, denial),
        };
        let bytes = match plan.expansion {
            // The host expands it.
            Some(expansion) if body.is_empty() => expansion.most_by_ratio(pending.body_bytes),
            Some(_) => body.len(),
            None => pending.body_bytes,
        };
        let step = pending.decision.body(&self.root.policy, bytes, addressee);
        self.advance(proxy, pending, now, step, Some((plan, &body)), true)
    }

    /// A complete body as it arrived; empty if this filter does not read it.
    fn whole_body(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        plan: BodyPlan,
    ) -> Result<Rc<Vec<u8>>, Denial> {
        let (capabilities, policy) = (self.root.filter.capabilities(), &self.root.policy);
        let looked_at = if reads_body(capabilities, plan.format, &pending.decision, policy) {
            pending.body_bytes
        } else {
            0
        };
        received(proxy, pending, looked_at)
    }

    /// Executes steps until the request is answered or forwarded, or waits for its body or, without
    /// a host, for the rate-limit service.
    fn advance(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        now: Now,
        first: Step,
        body: Option<(BodyPlan, &[u8])>,
        end_of_stream: bool,
    ) -> Action {
        let root = Rc::clone(&self.root);
        let (policy, capabilities) = (&root.policy, root.filter.capabilities());
        let mut step = first;
        let mut request = None;
        for _ in 0..MAX_STEPS {
            step = match (step, body, &request) {
                (Step::Deny(denial), ..) => return self.deny_pending(proxy, &pending, &denial),
                (step @ (Step::Charge(_) | Step::Acquire(_)), ..) => {
                    let (decision, resources) = (&mut pending.decision, &mut self.resources);
                    match run_quota_step(&root, proxy, decision, resources, now, step) {
                        QuotaStep::Done(step) => step,
                        QuotaStep::Pending(pending_charge) => {
                            let whole = body.is_some();
                            return self.wait_for_rate_limits(
                                pending,
                                pending_charge,
                                whole,
                                end_of_stream,
                            );
                        }
                        QuotaStep::Left => {
                            pending.leaves_charge = true;
                            let rest = Remainder::unread(end_of_stream);
                            return self.forward(proxy, pending, now, rest);
                        }
                    }
                }
                (Step::ReadBody(plan), None, _) => {
                    // Where there is a host, it counts the bytes in flight.
                    let counts_bytes = capabilities.charge
                        && !root.has_host()
                        && pending.decision.needs_body_size(policy);
                    let is_needed = needs_whole_body(capabilities, plan.format, counts_bytes);
                    if !is_needed || !pending.may_judge(plan.format) {
                        let rest = match (end_of_stream, self.resources.pending_charges.is_empty())
                        {
                            (true, _) => Remainder::None,
                            (false, true) => Remainder::PassThrough,
                            (false, false) => Remainder::Charging,
                        };
                        return self.forward(proxy, pending, now, rest);
                    }
                    return self.hold(proxy, pending, now, Body::Validate(plan), end_of_stream);
                }
                (Step::ReadMessages(plan), ..) => {
                    let rest = if end_of_stream {
                        Remainder::None
                    } else {
                        Remainder::Messages(plan)
                    };
                    return self.forward(proxy, pending, now, rest);
                }
                // A filter that does not validate needs the message only if nothing else names the
                // model.
                (Step::Decode, Some(_), None)
                    if !capabilities.check && pending.decision.model().is_some() =>
                {
                    Step::Forward
                }
                (Step::Decode, Some((plan, body)), None) => {
                    let by = pending.decision.read_by(policy);
                    match decode(plan.format, body, by) {
                        Ok(decoded) => pending.decision.message(policy, request.insert(decoded)),
                        Err(denial) => return self.refuse(proxy, pending, denial),
                    }
                }
                (Step::Check, Some(_), _) if !capabilities.check => Step::Forward,
                (Step::Check, _, Some(request)) => pending.decision.check(policy, request),
                // The request was decoded before it waited for shared limits. The result was not
                // kept, so the body is decoded again.
                (Step::Check, Some((plan, body)), None) => {
                    match decode(plan.format, body, pending.decision.read_by(policy)) {
                        Ok(decoded) => pending.decision.check(policy, request.insert(decoded)),
                        Err(denial) => return self.refuse(proxy, pending, denial),
                    }
                }
                (Step::Answer(protocol, question), None, _)
                    if protocol.is_grpc() && !end_of_stream =>
                {
                    let body = Body::ServerQuery(question);
                    return self.hold(proxy, pending, now, body, end_of_stream);
                }
                (Step::Answer(..) | Step::Forward, None, _) if !end_of_stream => {
                    return self.hold(proxy, pending, now, Body::None, end_of_stream);
                }
                (Step::Answer(..) | Step::Forward, ..) => {
                    return self.forward(proxy, pending, now, Remainder::None);
                }
                (Step::Check | Step::Decode | Step::ReadBody(_), ..) => {
                    return self.refuse(proxy, pending, out_of_order());
                }
            };
        }
        self.refuse(proxy, pending, out_of_order())
    }

    /// Waits for the body, or continues at once if the body is complete.
    fn hold(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        now: Now,
        body: Body,
        end_of_stream: bool,
    ) -> Action {
        pending.body = body;
        if end_of_stream {
            return self.finish(proxy, pending);
        }
        if self.forwards_headers() {
            return self.forward_headers(proxy, pending, now);
        }
        if let Some(denial) = self.undeliverable_body() {
            return self.refuse(proxy, pending, denial);
        }
        // A held head is memory that a client occupies. For a large head, only the fields to
        // forward are kept.
        if pending.head_bytes > MAX_BUFFERED_HEADER_BYTES
            && self.root.filter.capabilities().identify
        {
            if let Err(fault) = proxy.replace_request_headers(&pending.upstream.fields()) {
                return self.refuse(proxy, pending, cannot_decide(fault));
            }
            pending.rewrite = Rewrite::DONE;
        }
        self.phase = Phase::Buffering(pending);
        if self.is_delivery_unknown() {
            // A proxy that delivers no body calls this request again only at a tick.
            self.request_tick(proxy);
        }
        Action::Pause
    }
}

/// The received body: the filter's copy, or `bytes` of the proxy's buffer.
fn received(
    proxy: &mut dyn Proxy,
    pending: &PendingRequest,
    bytes: usize,
) -> Result<Rc<Vec<u8>>, Denial> {
    match &pending.forwarded {
        Some(forwarded) => Ok(forwarded.body()),
        None => read_body(proxy, bytes).map(Rc::new),
    }
}
