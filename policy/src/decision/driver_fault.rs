//! Denials for a driver that violates the protocol of the decision.

use crate::denial::{Denial, Reason};

/// The driver called the decision out of order.
pub(super) fn out_of_order(call: &str) -> Denial {
    Denial::new(
        Reason::Overloaded,
        alloc::format!("internal: `{call}` was called out of order"),
    )
}

/// The driver mixed policies, so an id is unknown.
pub(super) fn foreign_policy() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: the decision belongs to another policy",
    )
}
