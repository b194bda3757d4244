//! Evaluates the head of a request.

use tensorgate_policy::Decision;
use tensorgate_policy::request::{CallerDigests, Protocol, RequestHash};
use tensorgate_wire::headers::{self, ReadHead};

use super::arrived::Arrived;
use super::event_context::{Effect, EventContext, Transition};
use super::{KeyWait, PendingRequest, Stream, Waiting, readiness, second_gate};
use crate::body::{Body, judged_bytes};
use crate::host::cannot_decide;
use crate::identify::{CallerState, PreviousFilters, digests, identify, remove_key_and_query};
use crate::keys::AwaitedFetch;
use crate::store::permits::reset_ns;
use crate::upstream::{Rewrite, Upstream};

/// Maximum size of certificate information that is not counted as headers, in bytes.
const MAX_BUFFERED_CERTIFICATE_BYTES: usize = 4096;

/// Evaluates the headers. `end`: nothing follows. `awaited`: the key fetch that the request has
/// waited for.
pub(super) fn evaluate(
    ctx: &mut EventContext<'_>,
    end: bool,
    awaited: Option<&AwaitedFetch>,
) -> Transition {
    let root = ctx.root;
    let read = ctx.proxy.now().and_then(|now| {
        let mut fields = ctx.proxy.request_headers()?;
        let previous = PreviousFilters::read(root, ctx.proxy, &mut fields)?;
        Ok((now, fields, previous))
    });
    let (now, fields, previous) = match read {
        Ok(read) => read,
        Err(fault) => return ctx.deny(&cannot_decide(fault), Protocol::OipRest),
    };
    root.log_quotas.end_windows(ctx.proxy, now);
    let read = ReadHead::read_keys(fields.iter(), end, root.key_locations());
    if let Some(transition) = second_gate::behind_another(ctx, &read, &fields, now) {
        return transition;
    }
    if let Some(transition) = readiness::probe(ctx, &read, now) {
        return transition;
    }
    if root.forwards_headers() {
        let limits = root.policy().listen().limits();
        ctx.resources.ends_ns = Some(reset_ns(limits, now.monotonic_ns));
    }
    if let Err(fault) = remove_key_and_query(ctx.proxy, &read) {
        return ctx.deny(&cannot_decide(fault), Protocol::OipRest);
    }
    if ctx.outcome.record.request_id.is_empty() {
        let given = previous.request_id().map(str::to_owned);
        ctx.outcome.record.request_id =
            given.unwrap_or_else(|| ctx.proxy.new_request_id(root.context_key()));
    }
    let request_id = &ctx.outcome.record.request_id;
    let mut upstream = Upstream::new(&read, request_id, root.has_host());
    let identified = match identify(ctx.proxy, root, &previous, &read, now, awaited) {
        CallerState::Known(identified) => identified,
        CallerState::Awaits(fetch, permit) => {
            ctx.request_tick();
            let wait = KeyWait {
                fetch,
                permit,
                arrived: Arrived::head(end),
                holds: !read.is_stream(),
            };
            return (Stream::Waiting(Waiting::Key(Box::new(wait))), Effect::Pause);
        }
    };
    ctx.outcome.record.credential = identified.credential;
    ctx.outcome.revoked_client = identified.revoked_client;
    upstream.claims = identified.claims;
    // The context of a previous filter has them.
    let caller = match previous.context {
        None => digests::caller(ctx.proxy, root, identified.user.as_ref()),
        Some(_) => CallerDigests::default(),
    };
    let (proofs, withheld) = (identified.proofs, identified.withheld);
    let grpc_timeout = read.grpc_timeout;
    let mut head = read.into_head_under(identified.identity, proofs, withheld, root.policy());
    head.request_hash = RequestHash::from_request_id(upstream.request_id());
    ctx.outcome.record.operation = head.route.operation();
    upstream.accept(&head, grpc_timeout);
    let (decision, step) = Decision::begin(root.policy(), &head);
    let rewrite = if root.filter().capabilities().identify {
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
                *name != headers::CERTIFICATE || value.len() > MAX_BUFFERED_CERTIFICATE_BYTES
            })
            .map(|(name, value)| name.len().saturating_add(value.len()))
            .fold(0, usize::saturating_add),
        body: Body::None,
        body_bytes: 0,
        bound: root
            .has_host()
            .then(|| judged_bytes(root.policy(), ctx.proxy)),
        leaves_charge: false,
        withheld,
        caller,
        until_unix_s: identified.until_unix_s,
        forwarded_head: None,
    });
    pending.advance(ctx, now, step, None, end)
}
