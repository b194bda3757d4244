//! Requests whose headers are forwarded before the body is evaluated ([`HeaderMode::Forward`]).
//!
//! Some proxies deliver no body while headers are held. In this mode accepted headers are forwarded
//! at once. This file contains everything that differs for such a request:
//!
//! | callback | upstream is a tensorgate host (a context key exists) | other upstream |
//! |---|---|---|
//! | headers | forwarded; the context announces a verdict | forwarded |
//! | body, more to come | forwarded; a copy is kept for evaluation | removed from the buffer |
//! | end of the body | evaluated; the verdict is sent as a trailer | evaluated, then restored |
//! | trailers | the same, after the last chunk | an empty body only |
//! | verdict after a wait | sent after the body | evaluated, then restored |
//! | rejected | local reply; upstream sees a stream reset | the same |
//!
//! A tensorgate host does not act before the verdict and validates the body itself. The proxy's
//! buffer may be smaller than a body that the policy allows. Only the last chunk stays in that
//! buffer, while the request waits for the rate-limit service.
//!
//! [`HeaderMode::Forward`]: tensorgate_policy::HeaderMode::Forward

use std::rc::Rc;

use tensorgate_policy::{Denial, HeaderMode, Now, Reason};
use tensorgate_wire::context::verdict::{TRAILER, VerdictSubject, behind_body};

use super::{Gate, PendingRequest, Phase};
use crate::body::reader::read_body;
use crate::body::{Body, reads_body};
use crate::host::{Action, HostFault, Proxy, cannot_decide};

/// A request whose headers were forwarded before its verdict.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// `None`: no host reads a verdict, so the body is withheld until the verdict.
    announced: Option<Announced>,
    /// Copy of the body so far, if this filter evaluates or withholds the body.
    copy: Rc<Vec<u8>>,
    end: End,
}

/// The verdict that the context has announced.
#[derive(Clone, Copy, Debug)]
struct Announced {
    /// Position of this verdict among those of a chain's filters.
    index: u8,
    /// How many limits on requests the context already contains.
    sent_limits: usize,
}

/// How the body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Body,
    Trailers,
}

impl Forwarded {
    /// The body so far. The caller may keep it while the request waits.
    pub(super) fn body(&self) -> Rc<Vec<u8>> {
        Rc::clone(&self.copy)
    }

    const fn withholds(&self) -> bool {
        self.announced.is_none()
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
        let signed = match self.send_headers(proxy, &pending, now, true) {
            Ok(signed) => signed,
            Err(denial) => return self.refuse(proxy, pending, denial),
        };
        // A verdict after the body makes the body longer than declared.
        if self.root.policy.rate_limit_service().is_some()
            && let Err(fault) = proxy.remove_request_header("content-length")
        {
            return self.refuse(proxy, pending, cannot_decide(fault));
        }
        let announced = signed.map(|signed| Announced {
            index: signed.verdicts_before,
            sent_limits: pending.decision.request_quotas().count(),
        });
        pending.forwarded = Some(Box::new(Forwarded {
            announced,
            copy: Rc::default(),
            end: End::Open,
        }));
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
        pending.body_bytes = pending.body_bytes.saturating_add(bytes);
        let kept = pending
            .body
            .fits(pending.body_bytes)
            .and_then(|()| self.keep_copy(proxy, &mut pending, bytes, last));
        if let Err(denial) = kept {
            return self.refuse(proxy, pending, denial);
        }
        if last {
            pending.ends_in_body();
        }
        if let Body::Validate(plan) = pending.body
            && pending.body_bytes > plan.hold_bytes
        {
            return self.start_streaming(proxy, pending, plan, last);
        }
        if last {
            return self.finish(proxy, pending);
        }
        if let Err(denial) = self.withhold(proxy, &pending) {
            return self.refuse(proxy, pending, denial);
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
        if bytes == 0 || !(looked_at || forwarded.withholds()) {
            return Ok(());
        }
        // A body that is evaluated within one callback needs no reservation.
        if !(last && forwarded.copy.is_empty()) {
            let client = self.outcome.record.client.as_deref();
            let most = root.policy.listen().limits().hold_bytes;
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

    /// Removes the received bytes from the proxy's buffer if the body is withheld.
    fn withhold(&self, proxy: &mut dyn Proxy, pending: &PendingRequest) -> Result<(), Denial> {
        match &pending.forwarded {
            Some(forwarded) if forwarded.withholds() => {
                proxy.replace_request_body(&[]).map_err(cannot_decide)
            }
            _ => Ok(()),
        }
    }

    /// The head of a large body is accepted: the withheld part is forwarded, and the rest is
    /// validated while it streams.
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
        if forwarded.withholds() {
            if forwarded.end == End::Trailers {
                return Err(cannot_put_back());
            }
            proxy.replace_request_body(&copy).map_err(cannot_decide)?;
        }
        Ok(())
    }

    /// Ends an allowed, complete request with its verdict. Does nothing for a request whose headers
    /// were held.
    pub(super) fn send_verdict(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &mut PendingRequest,
    ) -> Result<(), Denial> {
        let Some(forwarded) = pending.forwarded.take() else {
            return Ok(());
        };
        self.resources.body_memory.release(proxy);
        let Some(announced) = forwarded.announced else {
            return put_back(proxy, &forwarded);
        };
        let Some(key) = self.root.host_key() else {
            return Ok(());
        };
        let quotas = pending.decision.request_quotas();
        let quotas: Vec<_> = quotas.skip(announced.sent_limits).collect();
        let request = VerdictSubject {
            client: self.outcome.record.client.as_deref(),
            request_id: &pending.upstream.request_id,
            method: &pending.upstream.method,
            path: &pending.upstream.path,
            generation: &self.root.generation,
        };
        let verdict = request.sign(key, announced.index, &quotas);
        let sent = if self.late && forwarded.end == End::Body {
            proxy.append_request_body(&behind_body(&verdict))
        } else {
            let before = pending.previous.context.is_some();
            self.gave_verdict = true;
            add_trailer(proxy, &verdict, before && forwarded.end == End::Trailers)
        };
        sent.map_err(cannot_decide)
    }

    /// Ends a request whose body was streamed. `recorded`: its outcome is recorded already.
    pub(super) fn conclude(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        recorded: bool,
    ) -> Action {
        if let Err(denial) = self.send_verdict(proxy, &mut pending) {
            return self.refuse(proxy, pending, denial);
        }
        self.phase = Phase::Forwarded;
        if !recorded {
            self.outcome.note(&self.root.policy, &pending.decision);
            self.outcome.allowed(proxy, &self.root);
        }
        Action::Continue
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
            self.keep_copy(proxy, pending, unread, true)?;
        }
        pending.ends_in_trailers();
        Ok(())
    }
}

/// Removes the client's request trailers. Verdicts of other filters stay.
pub(super) fn clear_trailers(proxy: &mut dyn Proxy, keeps_verdicts: bool) -> Result<(), HostFault> {
    if !keeps_verdicts {
        return proxy.set_request_trailers(&[]);
    }
    let verdicts = verdicts_before(proxy)?;
    let fields: Vec<_> = verdicts.iter().map(|it| (TRAILER, it.as_str())).collect();
    proxy.set_request_trailers(&fields)
}

/// Adds a verdict to the request's trailers. `behind`: keeps the verdicts of previous filters.
fn add_trailer(proxy: &mut dyn Proxy, verdict: &str, behind: bool) -> Result<(), HostFault> {
    let before = if behind {
        verdicts_before(proxy)?
    } else {
        Vec::new()
    };
    let own = core::iter::once(verdict);
    let all = before.iter().map(String::as_str).chain(own);
    let fields: Vec<_> = all.map(|it| (TRAILER, it)).collect();
    proxy.set_request_trailers(&fields)
}

fn verdicts_before(proxy: &mut dyn Proxy) -> Result<Vec<String>, HostFault> {
    let fields = proxy.request_trailers()?;
    let verdicts = fields
        .into_iter()
        .filter(|(name, _)| name == TRAILER.as_bytes());
    // A verdict that is not text is dropped: the host then misses one verdict and rejects.
    Ok(verdicts
        .filter_map(|(_, value)| String::from_utf8(value).ok())
        .collect())
}

/// Restores a withheld body, all of it at once.
fn put_back(proxy: &mut dyn Proxy, forwarded: &Forwarded) -> Result<(), Denial> {
    if forwarded.copy.is_empty() {
        return Ok(());
    }
    if forwarded.end == End::Trailers {
        return Err(cannot_put_back());
    }
    let put = proxy.replace_request_body(&forwarded.copy);
    put.map_err(cannot_decide)
}

/// After trailers have arrived, a proxy accepts no more body.
fn cannot_put_back() -> Denial {
    let cause = "request trailers follow a body that is withheld from its server";
    Denial::new(Reason::Malformed, cause)
}

impl PendingRequest {
    /// Marks the end of the body.
    pub(super) fn ends_in_body(&mut self) {
        self.ends(End::Body);
    }

    /// Marks the arrival of trailers.
    pub(super) fn ends_in_trailers(&mut self) {
        self.ends(End::Trailers);
    }

    fn ends(&mut self, end: End) {
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.end = end;
        }
    }
}
