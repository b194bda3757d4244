//! What a grant's mode lets pass: noted, and the decision goes on. Which reasons may, [`Shadow`] says.

use alloc::vec::Vec;

use super::Decision;
use crate::denial::Denial;
use crate::policy::{Policy, Shadow, note};

impl Decision {
    /// What is in shadow for this request: nothing until its grant is found.
    pub(super) fn shadow(&self, policy: &Policy) -> Shadow {
        self.grant
            .and_then(|id| policy.grant(id))
            .map(|grant| grant.shadow())
            .unwrap_or_default()
    }
}

/// Refuses, unless that is in shadow: then the first denial of each reason is noted, of which there are few.
pub(super) fn hold(shadow: Shadow, noted: &mut Vec<Denial>, denial: Denial) -> Result<(), Denial> {
    if !shadow.lets_pass(denial.reason) {
        return Err(denial);
    }
    note(noted, denial);
    Ok(())
}
