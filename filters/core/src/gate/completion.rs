//! How a gate completes a request head: it forwards the head or sends a response.

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::denial::RateNote;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Decision, Denial, HeaderMode, Now, Policy, Reason, Step};
use tensorgate_wire::Answer;
use tensorgate_wire::context::{self, Context, Key, RemainingQuotas};
use tensorgate_wire::settlement::{self, Settlement};

use super::{Gate, PendingRequest, Phase, cannot_decide};
use crate::host::{Action, Level, Proxy};
use crate::identify::SharedIdentity;
use crate::message_stream::MessageStream;
use crate::quota::Reservations;
use crate::streaming_validation::StreamingValidator;

impl Gate {
    /// Forwards the request: its headers, unless they were forwarded before, and the part of the
    /// body that has arrived.
    pub(super) fn forward(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        now: Now,
        rest: Remainder,
    ) -> Action {
        // A request is never forwarded completely while a charge is pending.
        if matches!(rest, Remainder::None | Remainder::PassThrough)
            && pending.decision.has_pending_charges()
        {
            let cause = "internal: a request whose charge is not told";
            return self.refuse(proxy, pending, Denial::new(Reason::Overloaded, cause));
        }
        self.outcome.note(&self.root.policy, &pending.decision);
        let mut signed = None;
        if pending.forwarded.is_none() {
            let sent = self.send_headers(proxy, &pending, now, false);
            let sent = sent.and_then(|context| {
                if let Remainder::Messages(_) = rest {
                    // The identifying filter has done this already: envelopes make a stream longer.
                    let removed = proxy.remove_request_header("content-length");
                    removed.map_err(cannot_decide)?;
                }
                Ok(context)
            });
            match sent {
                Ok(context) => signed = context.and_then(|context| context.value),
                Err(denial) => return self.refuse(proxy, pending, denial),
            }
        } else if let Remainder::None = rest
            && let Err(denial) = self.send_verdict(proxy, &mut pending)
        {
            return self.refuse(proxy, pending, denial);
        }
        self.keep_reservations(&pending.upstream.request_id);
        self.phase = match rest {
            Remainder::None => Phase::Forwarded,
            Remainder::PassThrough if pending.forwarded.is_none() => Phase::PassThrough,
            Remainder::PassThrough | Remainder::Charging => {
                self.outcome.forwarded(proxy);
                self.outcome.allowed(proxy, &pending.upstream.request_id);
                self.phase = Phase::Charging(pending);
                return Action::Continue;
            }
            // The verdict is still pending.
            Remainder::Validated(validator) => {
                self.phase = Phase::Validating(pending, validator);
                self.outcome.forwarded(proxy);
                return Action::Continue;
            }
            // Each message has its own verdict.
            Remainder::Messages(plan) => {
                let stream = Box::new(MessageStream::new(
                    plan,
                    &self.root,
                    pending.previous.context.as_deref(),
                    signed.as_deref(),
                    pending.until_unix_s,
                ));
                self.outcome.allowed(proxy, &pending.upstream.request_id);
                self.phase = Phase::Messages(pending, stream);
                return Action::Continue;
            }
        };
        self.outcome.allowed(proxy, &pending.upstream.request_id);
        Action::Continue
    }

    /// Forwards the headers and passes the caller's identity on. If this filter identifies callers,
    /// its own header fields replace the client's. A signed context is added unless one exists.
    /// `verdict_follows`: this filter still evaluates the body. Returns the context; `None` if no
    /// host reads one.
    pub(super) fn send_headers(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        now: Now,
        verdict_follows: bool,
    ) -> Result<Option<Signed>, Denial> {
        let signed = self.sign(pending, now, verdict_follows)?;
        let value = signed.as_ref().and_then(|signed| signed.value.as_deref());
        let added = value.map(|signed| (context::HEADER, signed));
        pending
            .rewrite
            .carry_out(proxy, &pending.upstream.fields(), added)
            .map_err(cannot_decide)?;
        if self.root.filter.shares_identity() && pending.previous.is_empty() {
            let record = &self.outcome.record;
            let identity = SharedIdentity {
                client: record.client.clone(),
                credential: record.credential.clone(),
                proofs: pending.decision.proofs(),
            };
            identity.publish(proxy).map_err(cannot_decide)?;
        }
        Ok(signed)
    }

    /// Rejects the request for a cause found in the filter.
    pub(super) fn refuse(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        denial: Denial,
    ) -> Action {
        let fallback = denial.clone();
        let denial = match pending.decision.refuse(&self.root.policy, denial) {
            Step::Deny(denial) => denial,
            // The cause found here stands, whatever else the decision returns.
            _ => fallback,
        };
        self.deny_pending(proxy, &pending, &denial)
    }

    pub(super) fn deny_pending(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        denial: &Denial,
    ) -> Action {
        self.outcome.note(&self.root.policy, &pending.decision);
        let before = self.previous_rates(proxy, pending);
        let told = Denial {
            rates: before.into_iter().chain(denial.rates.clone()).collect(),
            ..denial.clone()
        };
        self.deny(
            proxy,
            &told,
            pending.upstream.answer_protocol(),
            &pending.upstream.request_id,
        )
    }

    /// Sends the response. The phase becomes final before any other call can fail.
    pub(super) fn deny(
        &mut self,
        proxy: &mut dyn Proxy,
        denial: &Denial,
        protocol: Protocol,
        request_id: &str,
    ) -> Action {
        self.phase = Phase::Denied;
        self.outcome.denied(proxy, denial, request_id);
        if let Err(fault) = proxy.respond(&Answer::to_denial(denial, protocol, request_id)) {
            // The request stays on hold, and the proxy's own timeout ends it.
            proxy.log(Level::Error, &format!("request {request_id}: {fault}"));
        }
        Action::Pause
    }
}

/// What follows a forwarded head.
pub(super) enum Remainder {
    /// Nothing: the request is complete.
    None,
    /// A body that this filter does not read.
    PassThrough,
    /// A body that this filter does not read; its end waits for a pending charge.
    Charging,
    /// A body that is validated while it streams.
    Validated(Box<StreamingValidator>),
    /// Messages in this format.
    Messages(BodyPlan),
}

// Detects a proxy that cannot hold headers back ([`HeaderMode::Hold`]).
//
// Without `allow_on_headers_stop_iteration` a proxy stops every callback of a request whose
// headers are held, so the body never arrives here. The request's size shows that the proxy has
// received a body. The gate checks the size at ticks, which it requests until the first body has
// come, and when the request ends. The log reports the problem once, and every later request with
// a body is rejected at once.
//
// [`HeaderMode::Hold`]: tensorgate_policy::HeaderMode::Hold

/// Whether the proxy delivers bodies while headers are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// No body has come yet.
    #[default]
    Unknown,
    /// It does.
    Works,
    /// It does not.
    Missing,
}

/// Bytes received of a request, headers included.
const TOTAL_SIZE: [&str; 2] = ["request", "total_size"];

impl Gate {
    /// Rejection of a request whose body would never arrive.
    pub(super) fn undeliverable_body(&self) -> Option<Denial> {
        let missing = self.root.delivery.get() == Delivery::Missing;
        missing.then(not_delivered)
    }

    /// Whether headers are held and it is not yet known that bodies arrive.
    pub(super) fn is_delivery_unknown(&self) -> bool {
        self.root.headers == HeaderMode::Hold
            && self.root.delivery.get() == Delivery::Unknown
            && matches!(&self.phase, Phase::Buffering(pending) if pending.body_bytes == 0)
    }

    /// Records that part of a body arrived while its headers are held.
    pub(super) fn delivered(&self) {
        if self.root.delivery.get() == Delivery::Unknown {
            self.root.delivery.set(Delivery::Works);
        }
    }

    /// Checks whether the proxy has received a body without delivering it. Logs that once.
    pub(super) fn detect_undelivered(&self, proxy: &mut dyn Proxy) -> Option<Denial> {
        if !self.is_delivery_unknown() || received_body_bytes(proxy)? == 0 {
            return None;
        }
        self.root.delivery.set(Delivery::Missing);
        let denial = not_delivered();
        proxy.log(Level::Error, &format!("configuration: {}", denial.cause));
        Some(denial)
    }
}

fn not_delivered() -> Denial {
    let cause = "headers: hold needs allow_on_headers_stop_iteration, which this proxy does not \
                 have set: no body arrives while headers are held. Set it, or use headers: forward";
    Denial::new(Reason::Overloaded, cause)
}

/// Body bytes that the proxy has received; `None` if unknown.
fn received_body_bytes(proxy: &mut dyn Proxy) -> Option<u64> {
    let size = proxy.property(&TOTAL_SIZE).ok()??;
    let size = u64::from_le_bytes(size.try_into().ok()?);
    let fields = proxy.request_headers().ok()?;
    let head = fields
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()))
        .fold(0, usize::saturating_add);
    Some(size.saturating_sub(u64::try_from(head).ok()?))
}

// Settlement of token reservations. Tokens are reserved before a request runs and settled when the
// response ends. The host reports the number of used tokens in a trailer, signed with the context
// key. A response without that trailer, or an aborted one, keeps its whole reservation.

/// Tokens reserved for a response.
#[derive(Debug)]
pub(super) struct PendingSettlement {
    request_id: String,
    reserved: Reservations,
}

impl Gate {
    /// Keeps the reservations, if any, until the response ends.
    pub(super) fn keep_reservations(&mut self, request_id: &str) {
        let reserved = core::mem::take(&mut self.resources.reserved);
        if !reserved.is_empty() {
            self.pending_settlement = Some(Box::new(PendingSettlement {
                request_id: request_id.to_owned(),
                reserved,
            }));
        }
    }

    /// Handles the response trailers. The settlement trailer is always removed, because it is
    /// private to the sandbox host and the gate. An error here is never the client's fault: the
    /// reservation stays.
    pub fn on_response_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        let told = proxy.take_response_trailer(settlement::TRAILER);
        let told = told.map_err(|fault| fault.to_string());
        let pending_settlement = self.pending_settlement.take();
        let settled = told.and_then(|told| match (told, &pending_settlement) {
            (Some(told), Some(pending_settlement)) => {
                self.settled(proxy, pending_settlement, &told)
            }
            _ => Ok(()),
        });
        if let Err(cause) = settled {
            let request_id =
                pending_settlement.map(|pending_settlement| pending_settlement.request_id);
            let line = format!(
                "request {}: tokens: {cause}",
                request_id.unwrap_or_default()
            );
            proxy.log(Level::Error, &line);
        }
        Action::Continue
    }

    fn settled(
        &self,
        proxy: &mut dyn Proxy,
        pending_settlement: &PendingSettlement,
        told: &str,
    ) -> Result<(), String> {
        let Some(key) = &self.root.context_key else {
            return Ok(());
        };
        let Settlement { request_id, tokens } =
            Settlement::verify(told, key).map_err(|fault| fault.to_string())?;
        if request_id != pending_settlement.request_id {
            return Err("the settlement is of another request".into());
        }
        let now = proxy.now().map_err(|fault| fault.to_string())?;
        let (policy, used) = (&self.root.policy, tokens.max(1));
        let reserved = &pending_settlement.reserved;
        let settled = reserved.settle(policy, proxy, &request_id, used, now);
        settled.map_err(|fault| fault.to_string())
    }
}

// The signed context for the upstream host. In a chain the first filter signs the context. A later
// filter signs it again if it adds information: that it validates contracts, or the remaining
// quota of limits that it charges.

/// Result of signing.
#[derive(Debug)]
pub(super) struct Signed {
    /// The context; `None` if one exists and there is nothing to add.
    pub(super) value: Option<String>,
    /// Verdicts on the body that the previous filters have announced.
    pub(super) verdicts_before: u8,
}

impl Gate {
    /// Signs the context; `None` if there is no key. `verdict_follows`: the context announces this
    /// filter's verdict on the body.
    pub(super) fn sign(
        &self,
        pending: &PendingRequest,
        now: Now,
        verdict_follows: bool,
    ) -> Result<Option<Signed>, Denial> {
        let Some(key) = self.root.context_key.as_ref() else {
            return Ok(None);
        };
        let mut checked = self.root.filter.capabilities().check;
        let mut quotas = RemainingQuotas {
            request: pending.decision.remaining_quotas(false).collect(),
            content: pending.decision.remaining_quotas(true).collect(),
        };
        if pending.upstream.request_id.is_empty() {
            return Err(Denial::new(Reason::Overloaded, "proxy set no request id"));
        }
        let claims = pending.upstream.claims.iter();
        let mut claims: Vec<_> = claims
            .map(|(name, value)| (name.as_ref().to_owned(), value.clone()))
            .collect();
        let mut verdicts_before = 0;
        if let Some(before) = &pending.previous.context {
            if !checked && quotas == RemainingQuotas::default() && !verdict_follows {
                return Ok(Some(Signed {
                    value: None,
                    verdicts_before,
                }));
            }
            if self.root.policy.passes_claims_on()
                || self.forwards_headers()
                || limits_anything(&self.root.policy, &pending.decision)
            {
                let before = read(before, key, pending, now)?;
                verdicts_before = before.verdicts;
                checked |= before.checked;
                quotas = quotas.or(before.quotas);
                claims = before.claims;
            }
        }
        let context = Context {
            client: self.outcome.record.client.clone(),
            credential: self.outcome.record.credential.clone(),
            proofs: pending.decision.proofs(),
            request_id: pending.upstream.request_id.clone(),
            method: pending.upstream.method.clone(),
            path: pending.upstream.path.clone(),
            generation: self.root.generation.clone(),
            issued_unix_s: now.unix_s,
            checked,
            verdicts: verdicts_before.saturating_add(u8::from(verdict_follows)),
            quotas,
            claims,
        };
        Ok(Some(Signed {
            value: Some(context.sign(key)),
            verdicts_before,
        }))
    }
}

impl Gate {
    /// Remaining quota of request limits that a previous filter has charged; responses include it.
    /// An unreadable context is ignored.
    pub(super) fn previous_rates(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
    ) -> Vec<RateNote> {
        let (policy, decision) = (&self.root.policy, &pending.decision);
        let before = pending.previous.context.as_ref();
        let before = before.zip(self.root.context_key.as_ref());
        let Some((before, key)) = before.filter(|_| limits_anything(policy, decision)) else {
            return Vec::new();
        };
        let read = |now| read(before, key, pending, now).ok();
        let context = proxy.now().ok().and_then(read);
        context.map_or_else(Vec::new, |context| {
            decision.rate_notes_before(policy, context.quotas.request)
        })
    }
}

/// Whether any limit applies. Without limits, only a validating filter signs again.
fn limits_anything(policy: &Policy, decision: &Decision) -> bool {
    let grant = decision.grant().and_then(|id| policy.grant(id));
    grant.is_some_and(|grant| {
        let mut limits = grant.per_request().chain(grant.per_content());
        limits.next().is_some()
    })
}

/// Verifies the context that a previous filter has just signed.
fn read(before: &str, key: &Key, pending: &PendingRequest, now: Now) -> Result<Context, Denial> {
    let (method, path) = (&pending.upstream.method, &pending.upstream.path);
    Context::verify(before, key, method, path, now.unix_s, u64::MAX).map_err(|fault| {
        let cause = format!("the filter before this one: {fault}");
        Denial::new(Reason::Overloaded, cause)
    })
}
