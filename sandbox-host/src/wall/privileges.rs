//! A host needs no privilege: not even when root started it.

use caps::CapSet;
use caps::errors::CapsError;

use super::Stands;

/// Gives up every capability of this thread, for good.
pub(super) fn drop_all() -> Stands {
    // Only a privileged process has a bounding set to give up, and it alone can.
    let bounding = caps::clear(None, CapSet::Bounding);
    let dropped = || -> Result<(), CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        caps::clear(None, CapSet::Inheritable)?;
        caps::clear(None, CapSet::Effective)?;
        caps::clear(None, CapSet::Permitted)
    };
    match dropped() {
        Ok(()) if bounding.is_ok() => Stands::Whole("none, and none to be had".to_owned()),
        // Without a new privilege to be had, what bounds new ones does not matter.
        Ok(()) => Stands::Whole("none".to_owned()),
        Err(error) => Stands::Less(error.to_string()),
    }
}
