//! Requests whose headers are forwarded before the body is evaluated ([`HeaderMode::Forward`]).
//!
//! Some proxies deliver no body while headers are held. In this mode accepted headers are forwarded
//! at once. This file contains everything that differs for such a request:
//!
//! | callback | a sandbox host is behind the filter | another upstream |
//! |---|---|---|
//! | headers | forwarded | forwarded |
//! | body, more to come | forwarded; a copy is kept for evaluation | removed from the buffer |
//! | more body than the bound | the copy is dropped, the rest passes unread | – |
//! | end of the body | evaluated | evaluated, then restored |
//! | trailers | the same, after the last chunk | an empty body only |
//! | verdict after a wait | – | evaluated, then restored |
//! | rejected | local reply without the last chunk; the host sees a reset | the same |
//!
//! A sandbox host does not act before the end of the request, and judges it itself. The proxy's
//! buffer may be smaller than a body that the policy allows. Only the last chunk stays in that
//! buffer, while a request without a host waits for the rate-limit service.
//!
//! [`HeaderMode::Forward`]: tensorgate_policy::HeaderMode::Forward

use std::rc::Rc;

use tensorgate_policy::{Denial, HeaderMode, Now, Reason};

use super::body_ahead::is_all;
use super::{Gate, PendingRequest, Phase};
use crate::body::reader::read_body;
use crate::body::{Body, reads_body};
use crate::host::{Action, Proxy, cannot_decide};

/// A request whose headers were forwarded before its verdict.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    /// Copy of the body so far, if this filter evaluates or withholds the body.
    copy: Rc<Vec<u8>>,
    /// Whether trailers have arrived, after which a proxy accepts no more body.
    in_trailers: bool,
}

impl Forwarded {
    /// The body so far. The caller may keep it while the request waits.
    pub(super) fn body(&self) -> Rc<Vec<u8>> {
        Rc::clone(&self.copy)
    }
}

impl Gate {
    /// Whether headers are forwarded before the body is evaluated.
    pub fn forwards_headers(&self) -> bool {
        self.root.headers == HeaderMode::Forward
    }

    /// Forwards accepted headers. The body is evaluated when it is complete.
    pub(super) fn forward_headers(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        now: Now,
    ) -> Action {
        self.outcome.note(&self.root.policy, &pending.decision);
        if let Err(denial) = self.send_headers(proxy, &pending, now, false) {
            return self.refuse(proxy, pending, denial);
        }
        pending.forwarded = Some(Box::default());
        self.outcome.forwarded(proxy);
        self.phase = Phase::Buffering(pending);
        Action::Continue
    }

    /// Handles more of the body: `bytes` new bytes.
    pub(super) fn collect(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        bytes: usize,
        last: bool,
    ) -> Action {
        let body_bytes = pending.body_bytes.saturating_add(bytes);
        // For a server that counts bytes, the last declared ones are the end.
        if self.root.has_host() && !last && is_all(&pending, body_bytes) {
            self.unread_bytes = bytes;
            self.phase = Phase::Buffering(pending);
            return Action::Pause;
        }
        pending.body_bytes = body_bytes;
        if let Err(denial) = pending.body.fits(pending.body_bytes) {
            return self.refuse(proxy, pending, denial);
        }
        if pending.exceeds_bound() {
            return self.leave_to_host(proxy, pending, last);
        }
        if let Err(denial) = self.keep_copy(proxy, &mut pending, bytes, last) {
            return self.refuse(proxy, pending, denial);
        }
        if let Body::Validate(plan) = pending.body
            && pending.body_bytes > plan.hold_bytes
        {
            return self.start_streaming(proxy, pending, plan, last);
        }
        if last {
            return self.finish(proxy, pending);
        }
        self.continue_incomplete(proxy, pending)
    }

    /// Continues a request that is not complete. Without a host, nothing of its body is forwarded.
    pub(super) fn continue_incomplete(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: Box<PendingRequest>,
    ) -> Action {
        if !self.root.has_host()
            && let Err(fault) = proxy.replace_request_body(&[])
        {
            return self.refuse(proxy, pending, cannot_decide(fault));
        }
        self.phase = Phase::Buffering(pending);
        Action::Continue
    }

    /// Keeps a copy of the next chunk, unless this filter neither evaluates nor withholds it.
    fn keep_copy(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &mut PendingRequest,
        bytes: usize,
        last: bool,
    ) -> Result<(), Denial> {
        let (root, body) = (Rc::clone(&self.root), pending.body);
        let Some(forwarded) = &mut pending.forwarded else {
            return Ok(());
        };
        let capabilities = root.filter.capabilities();
        let looked_at = match body {
            Body::Validate(plan) => {
                reads_body(capabilities, plan.format, &pending.decision, &root.policy)
            }
            Body::ServerQuery(_) => true,
            Body::None => false,
        };
        if bytes == 0 || (root.has_host() && !looked_at) {
            return Ok(());
        }
        // A body that is evaluated within one callback needs no reservation.
        if !(last && forwarded.copy.is_empty()) {
            let client = self.outcome.record.client.as_deref();
            let hold_bytes = root.policy.listen().limits().hold_bytes;
            let most = pending.bound.unwrap_or(hold_bytes);
            let memory = &mut self.resources.body_memory;
            memory.reserve(&root, proxy, client, pending.body_bytes, most)?;
        }
        let chunk = read_body(proxy, bytes)?;
        if forwarded.copy.is_empty() {
            forwarded.copy = Rc::new(chunk);
        } else {
            Rc::make_mut(&mut forwarded.copy).extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Ends the evaluation of a body, or of the head of one that streams. A host has received what
    /// has arrived; for another server, the withheld body is restored, all of it at once.
    pub(super) fn release_copy(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &mut PendingRequest,
    ) -> Result<(), Denial> {
        let Some(forwarded) = &mut pending.forwarded else {
            return Ok(());
        };
        let copy = core::mem::take(&mut forwarded.copy);
        self.resources.body_memory.release(proxy);
        if self.root.has_host() || copy.is_empty() {
            return Ok(());
        }
        if forwarded.in_trailers {
            let cause = "request trailers follow a body that is withheld from its server";
            return Err(Denial::new(Reason::Malformed, cause));
        }
        proxy.replace_request_body(&copy).map_err(cannot_decide)
    }

    /// Ends a request whose body was streamed. `recorded`: its outcome is recorded already.
    pub(super) fn conclude(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        recorded: bool,
    ) {
        self.phase = Phase::Forwarded;
        if !recorded {
            self.outcome.note(&self.root.policy, &pending.decision);
            self.outcome.allowed(proxy, &self.root);
        }
    }

    /// A request whose headers were forwarded ends in trailers. `unread_bytes` of its body are
    /// still in the proxy's buffer.
    pub(super) fn collect_trailers(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &mut PendingRequest,
    ) -> Result<(), Denial> {
        let unread = core::mem::take(&mut self.unread_bytes);
        if pending.forwarded.is_some() && unread > 0 {
            pending.body_bytes = pending.body_bytes.saturating_add(unread);
            pending.body.fits(pending.body_bytes)?;
            if !pending.exceeds_bound() {
                self.keep_copy(proxy, pending, unread, true)?;
            }
        }
        if let Some(forwarded) = &mut pending.forwarded {
            forwarded.in_trailers = true;
        }
        Ok(())
    }
}
