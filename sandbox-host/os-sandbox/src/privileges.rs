//! Drops privileges. A host needs none, even if root started it.

use caps::CapSet;
use caps::errors::CapsError;

use super::Enforcement;

/// Drops every capability of this thread for good.
pub(super) fn drop_all() -> Enforcement {
    // Only a privileged process can clear its bounding set.
    let bounding = caps::clear(None, CapSet::Bounding);
    let dropped = || -> Result<(), CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        caps::clear(None, CapSet::Inheritable)?;
        caps::clear(None, CapSet::Effective)?;
        caps::clear(None, CapSet::Permitted)
    };
    match dropped() {
        Ok(()) if bounding.is_ok() => Enforcement::Full("none, and none can be gained".to_owned()),
        // Without new privileges the bounding set does not matter.
        Ok(()) => Enforcement::Full("none".to_owned()),
        Err(error) => Enforcement::Partial(error.to_string()),
    }
}
