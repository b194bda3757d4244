//! Raw configuration to a [`Policy`], every fault at once.

use alloc::vec::Vec;

use crate::fault::Fault;
use crate::policy::Policy;
use crate::raw;

/// Validates a policy. `Ok` carries the warnings; `Err` carries every fault, warnings included, in document order of their paths.
pub fn validate(raw: &raw::Policy) -> Result<(Policy, Vec<Fault>), Vec<Fault>> {
    let _ = raw;
    unimplemented!()
}
