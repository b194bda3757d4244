//! A stream of inferences at one filter. The module neither forwards data nor responds itself.
//!
//! With a sandbox host behind the filter, the host judges the messages, and their bytes pass unread
//! ([`UnansweredChunks`]). Without one, each message gets its own decision here: complete, accepted
//! messages are forwarded, and the first rejection ends the stream.

mod frame_scanner;
mod unanswered_chunks;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::{Decision, Denial, Now, Reason, Step};
use tensorgate_wire::messages::{Messages, NextMessage, expired};
use tensorgate_wire::{addressee, decode, expand};

use crate::body::ALWAYS_BUFFERED_BYTES;
use crate::body::reader::read_body;
use crate::host::{Action, ListenerBounds, Proxy, cannot_decide};
use crate::quota::rate_limit_service::cancel_pending_charge;
use crate::report::OutcomeReporter;
use crate::root::GateRoot;
use crate::steps::{MAX_STEPS, QuotaStep, RequestResources, out_of_order, run_quota_step};
pub(crate) use unanswered_chunks::UnansweredChunks;

/// Flag and length of the first frame.
const FIRST_BYTES: usize = 5;

/// A stream whose messages this filter judges.
#[derive(Debug)]
pub(crate) struct MessageStream {
    plan: BodyPlan,
    messages: Messages,
    /// Bytes needed before the next step.
    needed: usize,
    /// The beginning of an incomplete message that is not in the proxy's buffer: all that has
    /// arrived of it if headers are forwarded, otherwise what came with the message before.
    partial: Vec<u8>,
    /// Bytes of an incomplete message in the proxy's buffer.
    buffered: usize,
    /// Number of messages so far.
    number: u64,
    /// When the stream's credential expires.
    until_unix_s: Option<u64>,
}

/// Context in which a message is evaluated.
pub(crate) struct MessageContext<'j> {
    pub(crate) root: &'j GateRoot,
    pub(crate) proxy: &'j mut dyn Proxy,
    /// Decision of the stream's head.
    pub(crate) stream: &'j Decision,
    pub(crate) resources: &'j mut RequestResources,
    pub(crate) outcome: &'j mut OutcomeReporter,
    pub(crate) request_id: &'j str,
}

impl MessageContext<'_> {
    /// Reserves memory for the part of a message that this filter keeps.
    fn reserve(&mut self, bytes: usize, most: usize) -> Result<(), Denial> {
        let client = self.outcome.record.client.as_deref();
        let memory = &mut self.resources.body_memory;
        memory.reserve(self.root, self.proxy, client, bytes, most)
    }
}

impl MessageStream {
    /// Creates a stream whose head was forwarded.
    pub(crate) const fn new(plan: BodyPlan, until_unix_s: Option<u64>) -> Self {
        Self {
            plan,
            messages: Messages::new(plan.max_bytes),
            needed: FIRST_BYTES,
            partial: Vec::new(),
            buffered: 0,
            number: 0,
            until_unix_s,
        }
    }

    /// Judges the messages of the `bytes` in the proxy's buffer; `last`: nothing follows. Returns
    /// whether the proxy forwards its buffer as it is then.
    ///
    /// # Errors
    /// The first rejection, which ends the stream.
    pub(crate) fn take(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<Action, Denial> {
        let forwards = ctx.root.forwards_headers();
        if !last && self.partial.len().saturating_add(bytes) < self.needed {
            if forwards {
                return self.keep(ctx, bytes);
            }
            self.buffered = bytes;
            return Ok(Action::Pause);
        }
        let before = self.partial.len();
        let mut data = core::mem::take(&mut self.partial);
        data.extend(read_body(ctx.proxy, bytes)?);
        let end = self.judge(ctx, &data)?;
        let rest = data.get(end..).unwrap_or_default();
        if last {
            self.end(ctx, rest.len())?;
        }
        if !forwards && end == 0 && !last {
            data.truncate(before);
            (self.partial, self.buffered) = (data, bytes);
            return Ok(Action::Pause);
        }
        self.buffered = 0;
        if forwards {
            ctx.resources.body_memory.release(ctx.proxy);
            ctx.reserve(rest.len(), self.plan.max_bytes)?;
        }
        self.partial = rest.to_vec();
        let is_in_buffer = before == 0 && rest.is_empty();
        if !is_in_buffer {
            let judged = data.get(..end).unwrap_or_default();
            let replaced = ctx.proxy.replace_request_body(judged);
            replaced.map_err(cannot_decide)?;
        }
        Ok(Action::Continue)
    }

    /// Moves part of a message out of the proxy's buffer, which may be too small for the whole
    /// message.
    fn keep(&mut self, ctx: &mut MessageContext<'_>, bytes: usize) -> Result<Action, Denial> {
        let kept = self.partial.len().saturating_add(bytes);
        ctx.reserve(kept, self.plan.max_bytes)?;
        let piece = read_body(ctx.proxy, bytes)?;
        self.partial.extend_from_slice(&piece);
        let taken = ctx.proxy.replace_request_body(&[]);
        taken.map_err(cannot_decide)?;
        Ok(Action::Continue)
    }

    /// Ends a stream in its trailers.
    ///
    /// # Errors
    /// The last message is incomplete.
    pub(crate) fn end_in_trailers(&mut self, ctx: &mut MessageContext<'_>) -> Result<(), Denial> {
        let left = self.partial.len().saturating_add(self.buffered);
        self.end(ctx, left)
    }

    /// Ends a stream with `left` bytes of an incomplete message.
    fn end(&mut self, ctx: &mut MessageContext<'_>, left: usize) -> Result<(), Denial> {
        let ended = self.messages.end(left);
        ended.map_err(|denial| self.broken(ctx, denial))
    }

    /// Judges the complete messages of `data`; returns the end of the last one.
    fn judge(&mut self, ctx: &mut MessageContext<'_>, data: &[u8]) -> Result<usize, Denial> {
        let now = ctx.proxy.now().map_err(cannot_decide)?;
        let mut at = 0_usize;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            match self.messages.take(rest) {
                Ok(NextMessage::Message { frame }) => {
                    at = at.saturating_add(frame.len());
                    self.message(ctx, frame, now)?;
                }
                Ok(NextMessage::Incomplete(needed)) => {
                    self.needed = needed;
                    let fault = too_large(ctx, needed);
                    return match fault {
                        Some(denial) => Err(self.broken(ctx, denial)),
                        None => Ok(at),
                    };
                }
                Err(denial) => return Err(self.broken(ctx, denial)),
            }
        }
    }

    /// Judges and records one message.
    fn message(
        &mut self,
        ctx: &mut MessageContext<'_>,
        frame: &[u8],
        now: Now,
    ) -> Result<(), Denial> {
        self.number = self.number.saturating_add(1);
        let mut decision = ctx.stream.of_message();
        let judged = match expired(self.until_unix_s, now.unix_s) {
            Some(denial) => Err(denial),
            None => self.evaluate(ctx, &mut decision, frame, now),
        };
        self.record(ctx, &decision, judged.as_ref().err());
        judged
    }

    /// Executes the steps of a message's decision.
    fn evaluate(
        &self,
        ctx: &mut MessageContext<'_>,
        decision: &mut Decision,
        frame: &[u8],
        now: Now,
    ) -> Result<(), Denial> {
        let (plan, root) = (self.plan, ctx.root);
        let (policy, capabilities) = (root.policy(), root.filter().capabilities());
        let body = expand(&plan, frame)?;
        let addressee = addressee(plan.format, &body)?;
        let (mut step, mut request) = (decision.body(policy, body.len(), addressee), None);
        for _ in 0..MAX_STEPS {
            step = match (step, &request) {
                (Step::Deny(denial), _) => return Err(denial),
                (Step::Forward, _) => return Ok(()),
                (step @ (Step::Charge(_) | Step::Acquire(_)), _) => {
                    match run_quota_step(root, ctx.proxy, decision, ctx.resources, now, step) {
                        QuotaStep::Done(step) => step,
                        // Without a host, no charge is left to one.
                        QuotaStep::Left => break,
                        // No policy of a filter without a host makes messages wait.
                        QuotaStep::Pending(pending_charge) => {
                            cancel_pending_charge(ctx.proxy, root.key_prefix(), &pending_charge);
                            break;
                        }
                    }
                }
                (Step::Decode, None) if !capabilities.check && decision.model().is_some() => {
                    return Ok(());
                }
                (Step::Decode, None) => {
                    let decoded = decode(plan.format, &body, decision.read_by(policy))?;
                    decision.message(policy, request.insert(decoded))
                }
                (Step::Check, _) if !capabilities.check => return Ok(()),
                (Step::Check, Some(request)) => decision.check(policy, request),
                (
                    Step::Answer(..)
                    | Step::ReadBody(_)
                    | Step::ReadMessages(_)
                    | Step::Decode
                    | Step::Check,
                    _,
                ) => break,
            };
        }
        Err(out_of_order())
    }

    /// Records malformed data as a message.
    fn broken(&mut self, ctx: &mut MessageContext<'_>, denial: Denial) -> Denial {
        self.number = self.number.saturating_add(1);
        self.record(ctx, ctx.stream, Some(&denial));
        denial
    }

    /// Logs and counts a message.
    fn record(&self, ctx: &mut MessageContext<'_>, decision: &Decision, denial: Option<&Denial>) {
        let id = format!("{}-{}", ctx.request_id, self.number);
        ctx.outcome
            .message(ctx.proxy, ctx.root, decision, denial, id);
    }
}

/// Rejects a message that exceeds the buffer of the stream's listener, possibly of an older policy.
fn too_large(ctx: &mut MessageContext<'_>, needed: usize) -> Option<Denial> {
    if needed <= ALWAYS_BUFFERED_BYTES {
        return None;
    }
    let most = ListenerBounds::read(ctx.proxy).hold_bytes?;
    (needed > most).then(|| {
        let cause = format!("a message of {needed} bytes, at most {most} are buffered");
        Denial::new(Reason::BodyTooLarge, cause)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    /// A message of so many bytes, which look like headers of long messages.
    pub(super) fn frame(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[0][..], &length, &vec![1; bytes][..]].concat()
    }
}
