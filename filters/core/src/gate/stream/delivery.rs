//! Detects a proxy that cannot hold headers back ([`HeaderMode::Hold`]).
//!
//! Without `allow_on_headers_stop_iteration` a proxy stops every callback of a request whose
//! headers are held, so the body never arrives here. The request's size shows that the proxy has
//! received a body. The gate checks the size at ticks, which it requests until the first body has
//! come, and when the request ends. The log reports the problem once, and every later request with
//! a body is rejected at once.
//!
//! [`HeaderMode::Hold`]: tensorgate_policy::HeaderMode::Hold

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};

use super::PendingRequest;
use super::event_context::EventContext;
use crate::body::Delivery;
use crate::host::{Level, Proxy};
use crate::root::GateRoot;

/// Bytes received of a request, headers included.
const TOTAL_SIZE: [&str; 2] = ["request", "total_size"];

/// Rejection of a request whose body would never arrive.
pub(super) fn undeliverable_body(root: &GateRoot) -> Option<Denial> {
    let missing = root.delivery.get() == Delivery::Missing;
    missing.then(not_delivered)
}

/// Whether headers are held and it is not yet known that bodies arrive.
pub(super) fn is_unknown(root: &GateRoot) -> bool {
    !root.forwards_headers() && root.delivery.get() == Delivery::Unknown
}

/// Whether it is not yet known that the body of this request arrives.
pub(super) fn is_body_unknown(root: &GateRoot, pending: &PendingRequest) -> bool {
    is_unknown(root) && pending.body_bytes == 0
}

/// Rejection if the proxy has received a body without delivering it. Logs that once.
pub(super) fn undelivered(ctx: &mut EventContext<'_>, pending: &PendingRequest) -> Option<Denial> {
    if !is_body_unknown(ctx.root, pending) || received_body_bytes(ctx.proxy)? == 0 {
        return None;
    }
    ctx.root.delivery.set(Delivery::Missing);
    let denial = not_delivered();
    let line = format!("configuration: {}", denial.cause);
    ctx.proxy.log(Level::Error, &line);
    Some(denial)
}

fn not_delivered() -> Denial {
    let cause = "headers: hold needs allow_on_headers_stop_iteration, which this proxy does not \
                 have set: no body arrives while headers are held. Set it, or use headers: forward";
    Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Configuration)
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
