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
use tensorgate_policy::{Denial, HeaderMode, Reason};

use super::{Gate, Phase};
use crate::body::Delivery;
use crate::host::{Level, Proxy};

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
