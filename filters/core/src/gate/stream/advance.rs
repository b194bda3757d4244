//! The steps of a decision: each is executed until the request is answered or forwarded, or has to
//! wait.

use core::cell::OnceCell;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::Client;
use tensorgate_policy::{Denial, Now, Reason, Step};
use tensorgate_wire::{addressee, check_server_query, decode, expand};

use super::arrived::Arrived;
use super::delivery;
use super::event_context::{Effect, EventContext, Transition};
use super::{LimitWait, PendingRequest, Remainder, Stream, Waiting};
use crate::body::borrowed::BorrowedBody;
use crate::body::reader::read_body;
use crate::body::{Body, needs_complete_body, within};
use crate::host::cannot_decide;
use crate::root::{Refused, client_number};
use crate::steps::{MAX_STEPS, QuotaStep, out_of_order, run_quota_step};
use crate::upstream::Rewrite;

/// Maximum size of client headers that stay in the proxy, in bytes of names and values. Rewriting
/// headers costs a tenth of a small request. About 400 bytes are forwarded, so this limit bounds
/// the memory per stream.
const MAX_BUFFERED_HEADER_BYTES: usize = 2048;

/// A complete body.
#[derive(Clone, Copy)]
pub(super) enum CompleteBody<'b> {
    /// In the filter's memory.
    Copied(BodyPlan, &'b [u8]),
    /// In the proxy's memory.
    Borrowed(BorrowedBody),
}

impl PendingRequest {
    /// Evaluates a complete body.
    pub(super) fn finish(mut self: Box<Self>, ctx: &mut EventContext<'_>) -> Transition {
        let now = match ctx.proxy.now() {
            Ok(now) => now,
            Err(fault) => return self.refuse(ctx, cannot_decide(fault)),
        };
        let plan = match self.body {
            Body::Validate(plan) => plan,
            Body::ServerQuery(question) => {
                let body = self.received(ctx.proxy, self.body_bytes);
                let checked = body.and_then(|body| check_server_query(question, &body));
                return match checked {
                    Ok(()) => self.advance(ctx, now, Step::Forward, None, true),
                    Err(denial) => self.refuse(ctx, denial),
                };
            }
            Body::None => return self.advance(ctx, now, Step::Forward, None, true),
        };
        let checks = ctx.root.filter().capabilities().check;
        let borrowed = (checks && self.forwarded_head.is_none())
            .then(|| BorrowedBody::new(ctx.proxy, plan, self.body_bytes))
            .flatten();
        if let Some(body) = borrowed
            && let Some(step) = body.addressee(ctx.proxy, ctx.root.policy(), &mut self.decision)
        {
            return self.advance(ctx, now, step, Some(CompleteBody::Borrowed(body)), true);
        }
        let body = match self.complete_body(ctx, plan) {
            Ok(body) => body,
            Err(denial) => return self.refuse(ctx, denial),
        };
        let body = match expand(&plan, &*body) {
            Ok(body) => body,
            Err(denial) => return self.refuse(ctx, denial),
        };
        let addressee = match addressee(plan.format, &body) {
            Ok(addressee) => addressee,
            Err(denial) => return self.refuse(ctx, denial),
        };
        let bytes = match plan.expansion {
            // The host expands it.
            Some(expansion) if body.is_empty() => expansion.most_by_ratio(self.body_bytes),
            Some(_) => body.len(),
            None => self.body_bytes,
        };
        let step = self.decision.body(ctx.root.policy(), bytes, addressee);
        self.advance(
            ctx,
            now,
            step,
            Some(CompleteBody::Copied(plan, &body)),
            true,
        )
    }

    /// Executes steps until the request is answered or forwarded, or waits for its body or, without
    /// a host, for the rate-limit service. `body`: the complete body. `end`: nothing follows.
    pub(super) fn advance(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        now: Now,
        first: Step,
        body: Option<CompleteBody<'_>>,
        end: bool,
    ) -> Transition {
        let root = ctx.root;
        let (policy, capabilities) = (root.policy(), root.filter().capabilities());
        let mut step = first;
        let copy = OnceCell::new();
        let mut request = None;
        for _ in 0..MAX_STEPS {
            step = match (step, body, &request) {
                (Step::Deny(denial), ..) => return self.deny(ctx, &denial),
                (step @ (Step::Charge(_) | Step::Acquire(_)), ..) => {
                    let (decision, resources) = (&mut self.decision, &mut *ctx.resources);
                    match run_quota_step(root, ctx.proxy, decision, resources, now, step) {
                        QuotaStep::Done(step) => step,
                        QuotaStep::Pending(charge) => {
                            let arrived = match body {
                                Some(_) => Arrived::EVALUATED,
                                None => Arrived::head(end),
                            };
                            let wait = LimitWait {
                                pending: self,
                                charge,
                                arrived,
                            };
                            return (
                                Stream::Waiting(Waiting::Limit(Box::new(wait))),
                                Effect::Pause,
                            );
                        }
                        QuotaStep::Left => {
                            if let Err(denial) = self.count_body(ctx, now, end) {
                                return self.refuse(ctx, denial);
                            }
                            self.leaves_charge = true;
                            return self.forward(ctx, now, Remainder::unread(end));
                        }
                    }
                }
                (Step::ReadBody(plan), None, _) => return self.read_body(ctx, now, plan, end),
                (Step::ReadMessages(plan), ..) => {
                    let rest = if end {
                        Remainder::None
                    } else {
                        Remainder::Messages(plan)
                    };
                    return self.forward(ctx, now, rest);
                }
                // A filter that does not validate needs the message only if nothing else names the
                // model.
                (Step::Decode, Some(_), None)
                    if !capabilities.check && self.decision.model().is_some() =>
                {
                    Step::Forward
                }
                (Step::Check, Some(_), _) if !capabilities.check => Step::Forward,
                (Step::Check, _, Some(request)) => self.decision.check(policy, request),
                // Before a check, the request was decoded before it waited for shared limits. The
                // result was not kept, so the body is decoded again.
                (of_body @ (Step::Decode | Step::Check), Some(body), None) => {
                    let is_check = matches!(of_body, Step::Check);
                    let decision = &mut self.decision;
                    let borrowed = match body {
                        CompleteBody::Borrowed(body) if is_check => {
                            body.check(ctx.proxy, policy, decision)
                        }
                        CompleteBody::Borrowed(body) => body.message(ctx.proxy, policy, decision),
                        CompleteBody::Copied(..) => None,
                    };
                    if let Some(next) = borrowed {
                        step = next;
                        continue;
                    }
                    let read = match body {
                        CompleteBody::Copied(plan, body) => Ok((plan, body)),
                        CompleteBody::Borrowed(body) => read_body(ctx.proxy, self.body_bytes)
                            .map(|read| (body.plan, &**copy.get_or_init(|| read))),
                    };
                    let by = self.decision.read_by(policy).for_check();
                    match read.and_then(|(plan, body)| decode(plan.format, body, by)) {
                        Ok(decoded) => {
                            let decoded = request.insert(decoded);
                            if is_check {
                                self.decision.check(policy, decoded)
                            } else {
                                self.decision.message(policy, decoded)
                            }
                        }
                        Err(denial) => return self.refuse(ctx, denial),
                    }
                }
                (Step::Answer(protocol, question), None, _) if protocol.is_grpc() && !end => {
                    return self.hold(ctx, now, Body::ServerQuery(question), end);
                }
                (Step::Answer(..) | Step::Forward, None, _) if !end => {
                    return self.hold(ctx, now, Body::None, end);
                }
                (Step::Answer(..) | Step::Forward, ..) => {
                    return self.forward(ctx, now, Remainder::None);
                }
                (Step::Check | Step::Decode | Step::ReadBody(_), ..) => {
                    return self.refuse(ctx, out_of_order());
                }
            };
        }
        self.refuse(ctx, out_of_order())
    }

    /// Waits for a body in this form, or forwards the head if this filter does not judge the body.
    fn read_body(
        self: Box<Self>,
        ctx: &mut EventContext<'_>,
        now: Now,
        plan: BodyPlan,
        end: bool,
    ) -> Transition {
        let (root, capabilities) = (ctx.root, ctx.root.filter().capabilities());
        if let Err(denial) = self.count_body(ctx, now, end) {
            return self.refuse(ctx, denial);
        }
        // Where there is a host, it counts the bytes in flight.
        let counts_bytes =
            capabilities.charge && !root.has_host() && self.decision.needs_body_size(root.policy());
        let is_needed = needs_complete_body(capabilities, plan.format, counts_bytes);
        if !is_needed || !self.may_judge(plan.format) {
            return self.forward(ctx, now, Remainder::unread(end));
        }
        let plan = if root.may_stream() {
            plan
        } else {
            plan.buffered()
        };
        let declared = self.decision.declared().map(usize::try_from);
        let declared = declared.map(|bytes| bytes.unwrap_or(usize::MAX));
        match within(declared.unwrap_or_default(), plan.max_bytes) {
            Ok(()) => self.hold(ctx, now, Body::Validate(plan), end),
            Err(denial) => self.refuse(ctx, denial),
        }
    }

    /// Counts a body that is still to come, if this worker can finish it in time.
    fn count_body(&self, ctx: &mut EventContext<'_>, now: Now, end: bool) -> Result<(), Denial> {
        // After a wait the whole body may have arrived.
        if end || !ctx.is_open || !ctx.root.filter().capabilities().identify {
            return Ok(());
        }
        let limiter = &ctx.root.body_limiter;
        let client = self.decision.client();
        let client = client.and_then(|id| ctx.root.policy().client(id));
        let client = client_number(client.map(Client::name));
        let progress = limiter.admit(client, self.decision.declared(), now.monotonic_ns);
        let progress = progress.map_err(|Refused| {
            let cause = "this worker of the proxy has more bodies to read than it finishes in time";
            Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Worker)
        })?;
        ctx.resources.body_progress = Some(progress);
        if limiter.needs_tick(now.monotonic_ns) {
            ctx.request_tick();
        }
        Ok(())
    }

    /// Waits for the body, or continues at once if the body is complete.
    fn hold(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        now: Now,
        body: Body,
        end: bool,
    ) -> Transition {
        self.body = body;
        if end {
            return self.finish(ctx);
        }
        if ctx.root.forwards_headers() {
            return self.forward_headers(ctx, now);
        }
        if let Some(denial) = delivery::undeliverable_body(ctx.root) {
            return self.refuse(ctx, denial);
        }
        // A held head is memory that a client occupies. For a large head, only the fields to
        // forward are kept.
        if self.head_bytes > MAX_BUFFERED_HEADER_BYTES && ctx.root.filter().capabilities().identify
        {
            let replaced = ctx.proxy.replace_request_headers(&self.upstream.fields());
            if let Err(fault) = replaced {
                return self.refuse(ctx, cannot_decide(fault));
            }
            self.rewrite = Rewrite::DONE;
        }
        if delivery::is_unknown(ctx.root) {
            // A proxy that delivers no body calls this request again only at a tick.
            ctx.request_tick();
        }
        (Waiting::for_body(self), Effect::Pause)
    }

    /// Forwards accepted headers. The body is evaluated when it is complete.
    pub(super) fn forward_headers(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        now: Now,
    ) -> Transition {
        ctx.outcome.note(ctx.root.policy(), &self.decision);
        if let Err(denial) = self.send_headers(ctx, now, false) {
            return self.refuse(ctx, denial);
        }
        self.forwarded_head = Some(Box::default());
        ctx.outcome.forwarded(ctx.proxy);
        (Waiting::for_body(self), Effect::Continue)
    }
}
