//! What a decision answers to a driver that does not drive it as it should: nothing can be decided then.

use crate::denial::{Denial, Reason};

/// A driver called the machine out of order: it cannot decide, so it denies.
pub(super) fn out_of_order(call: &str) -> Denial {
    Denial::new(
        Reason::Overloaded,
        alloc::format!("internal: `{call}` was called out of order"),
    )
}

/// A driver mixed up policies, so that an id names nothing: the machine cannot decide, so it denies.
pub(super) fn foreign_policy() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: the decision belongs to another policy",
    )
}
