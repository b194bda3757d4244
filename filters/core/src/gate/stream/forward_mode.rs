//! Requests whose headers are forwarded before the body is evaluated ([`HeaderMode::Forward`]).
//!
//! Some proxies deliver no body while headers are held. In this mode accepted headers are forwarded
//! at once. This file has most of what differs for such a request:
//!
//! | callback | a sandbox host is behind the filter | another upstream |
//! |---|---|---|
//! | headers | forwarded | forwarded |
//! | body, more to come | forwarded; a copy is kept for evaluation | removed from the buffer |
//! | more body than the bound | the copy is dropped, the rest passes unread | – |
//! | more body than `hold_bytes` | – | its head is evaluated, then each chunk ([`streaming`]); rejected if requests may wait for limits |
//! | end of the body, or of its declared length if a host is behind | evaluated | evaluated, then restored |
//! | trailers | evaluated; rejected if small chunks wait for more | an empty body only |
//! | verdict after a wait | – | evaluated, then restored |
//! | rejected | local reply without the last chunk; the host sees a reset | the same |
//!
//! A sandbox host does not act before the end of the request, and judges it itself. The proxy's
//! buffer may be smaller than a body that the policy allows. Only the last chunk stays in that
//! buffer, while a request without a host waits for the rate-limit service.
//!
//! [`HeaderMode::Forward`]: tensorgate_policy::HeaderMode::Forward

use std::rc::Rc;

use tensorgate_policy::Denial;

use super::event_context::{Effect, EventContext, Transition};
use super::{ForwardedHead, PendingRequest, Waiting, streaming};
use crate::body::reader::read_body;
use crate::body::{Body, reads_body};
use crate::host::cannot_decide;

impl ForwardedHead {
    /// The body so far. The caller may keep it while the request waits.
    pub(super) fn body(&self) -> Rc<Vec<u8>> {
        Rc::clone(&self.copy)
    }
}

/// Handles more of the body: `bytes` new bytes.
pub(super) fn collect(
    mut pending: Box<PendingRequest>,
    ctx: &mut EventContext<'_>,
    bytes: usize,
    end: bool,
) -> Transition {
    pending.body_bytes = pending.body_bytes.saturating_add(bytes);
    let end = end || pending.is_all_for_host(ctx.root);
    if let Err(denial) = collect_chunk(&mut pending, ctx, bytes, end) {
        return pending.refuse(ctx, denial);
    }
    if pending.exceeds_bound() {
        return pending.leave_to_host(ctx, end);
    }
    if let Body::Validate(plan) = pending.body
        && pending.body_bytes > plan.hold_bytes
    {
        return streaming::start(pending, ctx, plan, end);
    }
    if end {
        return pending.finish(ctx);
    }
    // Without a host, nothing of an incomplete body is forwarded.
    if !ctx.root.has_host()
        && let Err(fault) = ctx.proxy.replace_request_body(&[])
    {
        return pending.refuse(ctx, cannot_decide(fault));
    }
    (Waiting::for_body(pending), Effect::Continue)
}

/// Copies the next chunk to evaluate it, and prepares it to be forwarded if a host is behind.
fn collect_chunk(
    pending: &mut PendingRequest,
    ctx: &mut EventContext<'_>,
    bytes: usize,
    end: bool,
) -> Result<(), Denial> {
    pending.body.fits(pending.body_bytes)?;
    if !pending.exceeds_bound() {
        keep_copy(pending, ctx, bytes, end)?;
    }
    match &mut pending.forwarded_head {
        Some(head) if ctx.root.has_host() => head.small_chunks.forward(ctx.proxy, bytes, end),
        _ => Ok(()),
    }
}

/// Keeps a copy of the next chunk, unless this filter neither evaluates nor withholds it.
fn keep_copy(
    pending: &mut PendingRequest,
    ctx: &mut EventContext<'_>,
    bytes: usize,
    end: bool,
) -> Result<(), Denial> {
    let root = ctx.root;
    let Some(head) = &mut pending.forwarded_head else {
        return Ok(());
    };
    let capabilities = root.filter().capabilities();
    let is_read = match pending.body {
        Body::Validate(plan) => {
            reads_body(capabilities, plan.format, &pending.decision, root.policy())
        }
        Body::ServerQuery(_) => true,
        Body::None => false,
    };
    if bytes == 0 || (root.has_host() && !is_read) {
        return Ok(());
    }
    // A body that is evaluated within one callback needs no reservation.
    if !(end && head.copy.is_empty()) {
        let client = ctx.outcome.record.client.as_deref();
        let hold_bytes = root.policy().listen().limits().hold_bytes;
        let most = pending.bound.unwrap_or(hold_bytes);
        let memory = &mut ctx.resources.body_memory;
        memory.reserve(root, ctx.proxy, client, pending.body_bytes, most)?;
    }
    let chunk = read_body(ctx.proxy, bytes)?;
    if head.copy.is_empty() {
        head.copy = Rc::new(chunk);
    } else {
        Rc::make_mut(&mut head.copy).extend_from_slice(&chunk);
    }
    Ok(())
}

/// A request ends in trailers. If its headers were forwarded, `unread_bytes` of its body are
/// still in the proxy's buffer.
pub(super) fn collect_trailers(
    pending: &mut PendingRequest,
    ctx: &mut EventContext<'_>,
    unread_bytes: usize,
) -> Result<(), Denial> {
    if pending.forwarded_head.is_some() && unread_bytes > 0 {
        pending.body_bytes = pending.body_bytes.saturating_add(unread_bytes);
        pending.body.fits(pending.body_bytes)?;
        if !pending.exceeds_bound() {
            keep_copy(pending, ctx, unread_bytes, true)?;
        }
    }
    if let Some(head) = &mut pending.forwarded_head {
        head.in_trailers = true;
    }
    Ok(())
}
