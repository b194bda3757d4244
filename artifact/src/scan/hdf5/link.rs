//! Links from a group to what is in it, as messages.

use super::fields::Fields;
use crate::scan::source::Stop;

/// Flags of a message.
const HAS_CREATION_ORDER: u8 = 0x04;
const HAS_KIND: u8 = 0x08;
const HAS_CHARACTER_SET: u8 = 0x10;
/// Kinds of links.
const HARD: u8 = 0;
const SOFT: u8 = 1;
const EXTERNAL: u8 = 64;

/// What a link refers to.
pub(super) enum Target<'m> {
    /// The object at an address.
    Object(u64),
    /// Another path in the file.
    Path,
    /// An object of another file, with the names of both.
    External(&'m [u8]),
    /// What a function of this number finds, which an application registers.
    User(u8),
}

/// A link.
pub(super) struct Link<'m> {
    pub(super) name: &'m [u8],
    pub(super) target: Target<'m>,
}

/// Reads a link message.
pub(super) fn read(body: &[u8], address: u64) -> Result<Link<'_>, Stop> {
    let mut fields = Fields::new(body, address);
    fields.version(&[1], "a link")?;
    let flags = fields.byte()?;
    let kind = if flags & HAS_KIND == 0 {
        HARD
    } else {
        fields.byte()?
    };
    if flags & HAS_CREATION_ORDER != 0 {
        fields.bytes(8)?;
    }
    if flags & HAS_CHARACTER_SET != 0 {
        fields.bytes(1)?;
    }
    let name_bytes = fields.number(1_usize.wrapping_shl(u32::from(flags & 3)))?;
    let name = fields.bytes(usize::try_from(name_bytes).unwrap_or(usize::MAX))?;
    let target = match kind {
        HARD => Target::Object(fields.u64()?),
        SOFT => Target::Path,
        EXTERNAL => {
            let size = usize::from(fields.u16()?);
            Target::External(fields.bytes(size)?)
        }
        kind => Target::User(kind),
    };
    Ok(Link { name, target })
}
