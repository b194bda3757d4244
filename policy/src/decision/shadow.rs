//! Shadow mode: a denial is recorded, and the decision continues. [`Shadow`] determines which
//! reasons may pass.

use alloc::vec::Vec;

use super::Decision;
use crate::denial::Denial;
use crate::policy::{Policy, Shadow, note};

impl Decision {
    /// The shadow mode of this request; none until its grant is found.
    pub(super) fn shadow(&self, policy: &Policy) -> Shadow {
        self.grant
            .and_then(|id| policy.grant(id))
            .map(|grant| grant.shadow())
            .unwrap_or_default()
    }
}

/// Denies, unless the reason is in shadow. Then the first denial of each reason is recorded.
pub(super) fn deny_or_note(
    shadow: Shadow,
    noted: &mut Vec<Denial>,
    denial: Denial,
) -> Result<(), Denial> {
    if !shadow.lets_pass(denial.reason) {
        return Err(denial);
    }
    note(noted, denial);
    Ok(())
}
