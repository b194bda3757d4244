//! A stream of inferences at one filter. Each message gets its own decision and a signed envelope
//! with the result. The module returns the data to forward; it neither forwards nor responds
//! itself. A message whose charge is pending at the rate-limit service waits, and so do the
//! following ones (the module `pending`; `ahead` if headers are forwarded).

mod ahead;
mod output;
mod pending;
mod window;

use core::ops::Range;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Decision, Denial, HeaderMode, Now, Reason, Step};
use tensorgate_wire::context::{EnvelopeCodec, MessageEnvelope, Refusal};
use tensorgate_wire::messages::{Messages, NextMessage, framed, incomplete_message};
use tensorgate_wire::{addressee, decode, expand};

use crate::body::ALWAYS_BUFFERED_BYTES;
use crate::body::reader::{read_body, read_body_at};
use crate::host::{ListenerBounds, Proxy, cannot_decide};
use crate::quota::rate_limit_service::PendingCharge;
use crate::report::OutcomeReporter;
use crate::root::{GateRoot, WaitPermit};
use crate::steps::{MAX_STEPS, QuotaStep, RequestResources, out_of_order, run_quota_step};
use ahead::Ahead;
use output::{Output, joined};
use pending::{PendingMessage, queue_full};
use window::{Batch, Message, MessageOutcome, MessageSummary, Window};

/// Consecutive rejections that end a stream. A rejection costs the client a few bytes, but costs
/// the gate an evaluation, a response and a log line. Allowed messages are limited by the grant's
/// rates.
pub const MAX_CONSECUTIVE_REJECTIONS: u32 = 32;

/// Rejections before any charge that end a stream: for a model that is not granted, or an
/// unsupported coding. A message that names no model or is unreadable ends its stream at once.
pub const MAX_UNCHARGED_REJECTIONS: u32 = 4;

/// Maximum number of evaluated messages in one batch: envelopes are longer than the shortest
/// messages.
const MAX_JUDGED: usize = 1024;

/// Flag and length of the first frame.
const FIRST_BYTES: usize = 5;
/// Bytes to read at once after a message that has waited.
const WINDOW_BYTES: usize = 16 << 10;

/// A stream in progress.
#[derive(Debug)]
pub(crate) struct MessageStream {
    plan: BodyPlan,
    messages: Messages,
    /// Signs envelopes; `None` if no host reads them, and then the first rejection ends the stream.
    codec: Option<EnvelopeCodec>,
    /// Bytes needed before the next step.
    needed: usize,
    /// An incomplete message whose beginning was not forwarded with the previous message. It is at
    /// most one read long, or else holds a permit; otherwise the proxy buffers it.
    partial: Vec<u8>,
    permit: Option<WaitPermit>,
    /// The waiting message.
    pending: Option<Box<PendingMessage>>,
    /// Data that is forwarded before its results; `None`: results come first.
    ahead: Option<Ahead>,
    /// Whether the proxy buffers an incomplete message.
    waits: bool,
    /// Number of messages so far.
    number: u64,
    consecutive_rejections: u32,
    /// Messages rejected before any charge.
    uncharged: u32,
    /// When the stream's credential expires.
    until_unix_s: Option<u64>,
}

/// Result of processing stream data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamProgress {
    /// The proxy buffers the data until there is more.
    Buffer,
    /// The proxy forwards its buffer as it is now.
    Forward {
        /// The rest of the stream is discarded.
        ends: bool,
        /// The stream is complete.
        last: bool,
    },
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
    /// Creates a stream whose head was forwarded with the `signed` context, and came with one of
    /// the filter `before`.
    pub(crate) fn new(
        plan: BodyPlan,
        root: &GateRoot,
        before: Option<&str>,
        signed: Option<&str>,
        until_unix_s: Option<u64>,
    ) -> Self {
        let key = root.host_key();
        let codec = |context: Option<&str>| Some(EnvelopeCodec::new(key?, context?));
        let forwards = root.headers == HeaderMode::Forward;
        let may_wait = root.policy.rate_limit_service().is_some();
        let messages = match codec(before) {
            Some(codec) => Messages::from_gate(codec, plan.max_bytes),
            None => Messages::from_client(plan.max_bytes),
        };
        Self {
            plan,
            messages,
            codec: codec(signed.or(before)),
            needed: FIRST_BYTES,
            partial: Vec::new(),
            permit: None,
            pending: None,
            ahead: (forwards && may_wait).then(Ahead::default),
            waits: false,
            number: 0,
            consecutive_rejections: 0,
            uncharged: 0,
            until_unix_s,
        }
    }

    /// Whether a message is incomplete.
    pub(crate) fn waits(&self) -> bool {
        let ahead = self.ahead.as_ref().is_some_and(Ahead::waits);
        ahead || self.waits || !self.partial.is_empty()
    }

    /// Processes `bytes` in the proxy's buffer; `last`: nothing follows. An error is one that no
    /// envelope can express: it ends the stream.
    pub(crate) fn take(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        if self.ahead.is_some() {
            return self.take_ahead(ctx, bytes, last);
        }
        if self.has_pending_call() {
            return self.buffer_more(ctx, bytes, last);
        }
        let mut bytes = bytes;
        let forwards = ctx.root.headers == HeaderMode::Forward;
        if forwards && !last && self.partial.len().saturating_add(bytes) < self.needed {
            return self.keep(ctx, bytes);
        }
        if !self.partial.is_empty() {
            ctx.resources.body_memory.release(ctx.proxy);
            let partial = core::mem::take(&mut self.partial);
            ctx.proxy
                .prepend_request_body(&partial)
                .map_err(cannot_decide)?;
            bytes = bytes.saturating_add(partial.len());
            self.permit = None;
        }
        self.waits = bytes > 0;
        if bytes < self.needed && !last {
            return Ok(StreamProgress::Buffer);
        }
        let window = Window {
            start: 0,
            bytes: read_body(ctx.proxy, bytes)?,
        };
        self.process(ctx, window, Batch::new(bytes, last))
    }

    /// Moves part of a message out of the proxy's buffer, which may be too small for the whole
    /// message.
    fn keep(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
    ) -> Result<StreamProgress, Denial> {
        let kept = self.partial.len().saturating_add(bytes);
        ctx.reserve(kept, self.plan.max_bytes)?;
        let piece = read_body(ctx.proxy, bytes)?;
        self.partial.extend_from_slice(&piece);
        let taken = ctx.proxy.replace_request_body(&[]);
        taken.map_err(cannot_decide)?;
        Ok(StreamProgress::Forward {
            ends: false,
            last: false,
        })
    }

    /// Processes messages until one waits or none is complete.
    fn process(
        &mut self,
        ctx: &mut MessageContext<'_>,
        mut window: Window,
        mut batch: Batch,
    ) -> Result<StreamProgress, Denial> {
        let now = ctx.proxy.now().map_err(cannot_decide)?;
        let mut ends = false;
        while !ends {
            let (rest, left) = (
                window.from(batch.at),
                batch.buffered.saturating_sub(batch.at),
            );
            let needed = match self.messages.take(rest) {
                Ok(NextMessage::Incomplete(needed)) => needed,
                Ok(NextMessage::Message {
                    envelope,
                    frame,
                    used,
                }) => {
                    let end = batch.at.saturating_add(used);
                    let place = end.saturating_sub(frame.len())..end;
                    batch.at = end;
                    if batch.is_full(&place) {
                        ends = self.broken(ctx, &mut batch.out, queue_full())?;
                        continue;
                    }
                    match self.message(ctx, &mut batch, (envelope, place), &frame, now)? {
                        MessageOutcome::Done { ends: over } => ends = over,
                        MessageOutcome::Pending(message, pending_charge) => {
                            return self.wait(ctx, *message, pending_charge, window, batch);
                        }
                    }
                    continue;
                }
                // Only a filter that waits sends messages ahead, and it is the only one.
                Ok(NextMessage::Ahead { .. }) => return Err(out_of_order()),
                // Rejected by the previous filter.
                Ok(NextMessage::Refused { refusal, used }) => {
                    self.number = self.number.saturating_add(1);
                    batch.at = batch.at.saturating_add(used);
                    ends = self.refuse(&mut batch.out, *refusal)?;
                    continue;
                }
                Err(denial) => {
                    ends = self.broken(ctx, &mut batch.out, denial)?;
                    continue;
                }
            };
            // Not all buffered data was read.
            if rest.len() < needed.min(left) {
                window = Window::read(ctx.proxy, batch.at, left.min(needed.max(WINDOW_BYTES)))?;
                continue;
            }
            self.needed = needed;
            let fault = self
                .too_much(ctx, needed)
                .or_else(|| batch.last.then(|| self.messages.end(left).err()).flatten());
            if let Some(denial) = fault {
                ends = self.broken(ctx, &mut batch.out, denial)?;
            }
            break;
        }
        self.end(ctx, window, batch, ends)
    }

    /// Lets a message wait for its charge.
    fn wait(
        &mut self,
        ctx: &mut MessageContext<'_>,
        message: Message,
        pending_charge: PendingCharge,
        window: Window,
        batch: Batch,
    ) -> Result<StreamProgress, Denial> {
        if self.ahead.is_some() {
            return self.wait_ahead(ctx, message, pending_charge, window, batch);
        }
        let pending = PendingMessage::new(message, pending_charge, batch);
        self.pending = Some(Box::new(pending));
        Ok(StreamProgress::Buffer)
    }

    /// Writes the data to forward into the proxy's buffer.
    fn end(
        &mut self,
        ctx: &mut MessageContext<'_>,
        window: Window,
        mut batch: Batch,
        mut ends: bool,
    ) -> Result<StreamProgress, Denial> {
        if self.ahead.is_some() {
            return self.end_ahead(ctx, window, batch, ends);
        }
        let forwards = ctx.root.headers == HeaderMode::Forward;
        if batch.at == 0 && !batch.last && !ends && !forwards {
            return Ok(StreamProgress::Buffer);
        }
        let left = batch.buffered.saturating_sub(batch.at);
        if forwards && !ends {
            ctx.reserve(left, self.plan.max_bytes)?;
        } else if !ends && left > ALWAYS_BUFFERED_BYTES {
            // Data that arrived after a waiting message.
            let permit = ctx.root.message_waiters.try_acquire();
            self.permit = permit.and_then(|mut permit| permit.try_reserve(left).then_some(permit));
            if self.permit.is_none() {
                let cause =
                    "no memory for the data of a stream that arrived behind waiting messages";
                let denial = Denial::new(Reason::Overloaded, cause);
                let denial = denial.overloaded_by(OverloadCause::Memory);
                ends = self.broken(ctx, &mut batch.out, denial)?;
            }
        }
        if !ends {
            let read = window.from(batch.at);
            self.partial = if read.len() == left {
                read.to_vec()
            } else {
                read_body_at(ctx.proxy, batch.at, left)?
            };
        }
        self.waits = false;
        let whole = window.start == 0 && window.bytes.len() == batch.buffered;
        let came = whole.then_some(window.bytes.as_slice());
        batch.out.put(ctx.proxy, came, batch.buffered)?;
        Ok(StreamProgress::Forward {
            ends,
            last: batch.last,
        })
    }

    /// Evaluates one message as far as possible without waiting.
    fn message(
        &mut self,
        ctx: &mut MessageContext<'_>,
        batch: &mut Batch,
        (envelope, place): (Option<MessageEnvelope>, Range<usize>),
        frame: &[u8],
        now: Now,
    ) -> Result<MessageOutcome, Denial> {
        self.number = self.number.saturating_add(1);
        let mut message = Message {
            decision: ctx.stream.of_message(),
            envelope,
            place,
            summary: MessageSummary::default(),
        };
        let over = self.until_unix_s.is_some_and(|until| now.unix_s >= until);
        let judged = if over {
            Err(Denial::new(
                Reason::Unauthenticated,
                "the credential that opened the stream has expired",
            ))
        } else if batch.reject_waiting {
            Err(queue_full())
        } else {
            self.evaluate(ctx, &mut message, batch, frame, now)
        };
        match judged {
            Ok(Some(pending_charge)) => {
                Ok(MessageOutcome::Pending(Box::new(message), pending_charge))
            }
            Ok(None) => self.close(ctx, batch, message, Ok(()), over),
            Err(denial) => self.close(ctx, batch, message, Err(denial), over),
        }
    }

    /// Records the result of a message and writes its envelope. `over`: the stream ends in any
    /// case.
    fn close(
        &mut self,
        ctx: &mut MessageContext<'_>,
        batch: &mut Batch,
        message: Message,
        judged: Result<(), Denial>,
        over: bool,
    ) -> Result<MessageOutcome, Denial> {
        let Message {
            decision,
            envelope,
            place,
            summary,
        } = message;
        let (model, rule) = self.record(ctx, &decision, judged.as_ref().err());
        let denial = match judged {
            Ok(()) => {
                self.consecutive_rejections = 0;
                let envelope = joined(envelope, ctx.root, &decision);
                self.push(batch, &envelope, place);
                return Ok(MessageOutcome::Done { ends: false });
            }
            Err(denial) => denial,
        };
        self.complete(batch, &place);
        self.consecutive_rejections = self.consecutive_rejections.saturating_add(1);
        // Denials before the charge: no grant, or an unsupported coding.
        let early = decision.model().is_none() && denial.reason != Reason::Overloaded;
        let uncharged = early || denial.reason == Reason::UnsupportedEncoding;
        self.uncharged = self.uncharged.saturating_add(u32::from(uncharged));
        let ends = over
            || self.consecutive_rejections >= MAX_CONSECUTIVE_REJECTIONS
            || (uncharged && (!summary.named || self.uncharged >= MAX_UNCHARGED_REJECTIONS));
        let refusal = Refusal {
            denial,
            model,
            rule,
            id: summary.id,
            shadowed: decision.shadowed().to_vec(),
            ends,
        };
        let ends = self.refuse(&mut batch.out, refusal)?;
        Ok(MessageOutcome::Done { ends })
    }

    /// Evaluates a message until its decision ends or waits for a charge.
    fn evaluate(
        &self,
        ctx: &mut MessageContext<'_>,
        message: &mut Message,
        batch: &Batch,
        frame: &[u8],
        now: Now,
    ) -> Result<Option<PendingCharge>, Denial> {
        let body = expand(&self.plan, frame)?;
        let addressee = addressee(self.plan.format, &body)?;
        message.summary.named = addressee.is_some();
        let policy = &ctx.root.policy;
        let step = message.decision.body(policy, body.len(), addressee);
        self.steps(ctx, message, batch, &body, now, step)
    }

    /// Executes the steps of a message's decision.
    fn steps(
        &self,
        ctx: &mut MessageContext<'_>,
        message: &mut Message,
        batch: &Batch,
        body: &[u8],
        now: Now,
        first: Step,
    ) -> Result<Option<PendingCharge>, Denial> {
        let (plan, root) = (self.plan, ctx.root);
        let (policy, capabilities) = (&root.policy, root.filter.capabilities());
        let Message {
            decision, summary, ..
        } = message;
        let (mut step, mut request) = (first, None);
        for _ in 0..MAX_STEPS {
            step = match (step, &request) {
                (Step::Deny(denial), _) => return Err(denial),
                (Step::Forward, _) => return Ok(None),
                (Step::Charge(charge), _)
                    if !charge.scope.is_local() && batch.out.len() >= MAX_JUDGED =>
                {
                    return Err(queue_full());
                }
                (step @ (Step::Charge(_) | Step::Acquire(_)), _) => {
                    match run_quota_step(root, ctx.proxy, decision, ctx.resources, now, step) {
                        QuotaStep::Done(step) => step,
                        QuotaStep::Pending(pending_charge) => return Ok(Some(pending_charge)),
                    }
                }
                (Step::Decode, None) if !capabilities.check && decision.model().is_some() => {
                    return Ok(None);
                }
                (Step::Decode, None) => {
                    let decoded = decode(plan.format, body, decision.read_by(policy))?;
                    summary.id = decoded.id.as_deref().map(str::to_owned);
                    decision.message(policy, request.insert(decoded))
                }
                (Step::Check, _) if !capabilities.check => return Ok(None),
                (Step::Check, Some(request)) => decision.check(policy, request),
                // The message was decoded before it waited, and the result was not kept.
                (Step::Check, None) => {
                    let decoded = decode(plan.format, body, decision.read_by(policy))?;
                    decision.check(policy, request.insert(decoded))
                }
                (
                    Step::Answer(..) | Step::ReadBody(_) | Step::ReadMessages(_) | Step::Decode,
                    _,
                ) => break,
            };
        }
        Err(out_of_order())
    }

    /// Rejects malformed data and ends the stream.
    fn broken(
        &mut self,
        ctx: &mut MessageContext<'_>,
        out: &mut Output,
        denial: Denial,
    ) -> Result<bool, Denial> {
        self.number = self.number.saturating_add(1);
        self.record(ctx, ctx.stream, Some(&denial));
        self.refuse(out, Refusal::of(denial, true))
    }

    /// Ends a stream whose trailers arrived inside a message. The message is recorded as malformed,
    /// and no more of it is forwarded.
    ///
    /// # Errors
    /// The rejection of the stream, if no host answers its messages, one of them waits, or results
    /// were not forwarded.
    pub(crate) fn end_incomplete(&mut self, ctx: &mut MessageContext<'_>) -> Result<(), Denial> {
        let denial = incomplete_message();
        let unsent_results = self.ahead.as_ref().is_some_and(Ahead::has_results);
        if self.codec.is_none() || self.has_pending_call() || unsent_results {
            return Err(denial);
        }
        if self.waits {
            (ctx.proxy.replace_request_body(&[])).map_err(cannot_decide)?;
        }
        ctx.resources.body_memory.release(ctx.proxy);
        self.number = self.number.saturating_add(1);
        self.record(ctx, ctx.stream, Some(&denial));
        Ok(())
    }

    /// Writes the envelope of an accepted message, and the message unless it was sent ahead.
    fn push(&mut self, batch: &mut Batch, envelope: &MessageEnvelope, place: Range<usize>) {
        let sent_ahead = self.complete(batch, &place);
        let envelope = self.codec.as_mut().map(|codec| codec.write(envelope));
        let envelope = envelope.map(|it| framed(&it)).unwrap_or_default();
        batch
            .out
            .push(envelope, if sent_ahead { 0..0 } else { place });
    }

    /// Sends the rest of a message whose beginning was sent ahead; returns whether that is so.
    fn complete(&mut self, batch: &mut Batch, place: &Range<usize>) -> bool {
        if batch.sent <= place.start {
            return false;
        }
        let rest = batch.sent..place.end;
        if let Some(codec) = &mut self.codec
            && !rest.is_empty()
        {
            batch.sent = rest.end;
            let bytes = rest.len();
            let envelope = framed(&codec.write(&MessageEnvelope::Ahead { bytes }));
            batch.out.push(envelope, rest);
        }
        true
    }

    /// Replaces a message with its rejection; returns whether the stream ends.
    fn refuse(&mut self, out: &mut Output, refusal: Refusal) -> Result<bool, Denial> {
        let Some(codec) = &mut self.codec else {
            return Err(refusal.denial);
        };
        let ends = refusal.ends;
        let envelope = codec.write(&MessageEnvelope::Refused(Box::new(refusal)));
        out.push(framed(&envelope), 0..0);
        Ok(ends)
    }

    /// Rejects a message that exceeds the buffer of the stream's listener, possibly of an older
    /// policy.
    fn too_much(&self, ctx: &mut MessageContext<'_>, needed: usize) -> Option<Denial> {
        if needed <= ALWAYS_BUFFERED_BYTES {
            return None;
        }
        let most = ListenerBounds::read(ctx.proxy).hold_bytes?;
        (needed > most).then(|| {
            let cause = format!("a message of {needed} bytes, at most {most} are buffered");
            Denial::new(Reason::BodyTooLarge, cause)
        })
    }

    /// Logs and counts a message; returns the names of its model and grant.
    fn record(
        &self,
        ctx: &mut MessageContext<'_>,
        decision: &Decision,
        denial: Option<&Denial>,
    ) -> (Option<String>, Option<String>) {
        let id = format!("{}-{}", ctx.request_id, self.number);
        ctx.outcome
            .message(ctx.proxy, ctx.root, decision, denial, id)
    }
}
