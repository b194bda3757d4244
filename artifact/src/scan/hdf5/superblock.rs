//! The superblock: how the file is written, where it ends, and where its root group is.

use super::pages::Pages;
use super::symbols::{self, Entry};
use super::{STRUCTURE, UNDEFINED, fields::Fields};
use crate::scan::magic;
use crate::scan::source::Stop;

/// Where the version is.
const VERSION: u64 = 8;

/// The root group.
pub(super) struct Root {
    pub(super) address: u64,
    /// The symbol table that its entry repeats.
    pub(super) cached: Option<(u64, u64)>,
}

/// Reads the superblock.
pub(super) fn read(pages: &mut Pages<'_>) -> Result<Root, Stop> {
    if pages.read(0, VERSION)? != magic::HDF5 {
        let detail = "the file does not begin with the signature of HDF5";
        return Err(Stop::malformed(0, STRUCTURE, detail));
    }
    match pages.read(VERSION, 1)?.first() {
        Some(0) => read_old(pages, 96),
        Some(1) => read_old(pages, 100),
        Some(2 | 3) => read_new(pages),
        version => {
            let detail = format!("a superblock of version {}", version.unwrap_or(&u8::MAX));
            Err(Stop::unknown(VERSION, STRUCTURE, detail))
        }
    }
}

/// Versions 0 and 1, of `size` bytes.
fn read_old(pages: &mut Pages<'_>, size: u64) -> Result<Root, Stop> {
    let bytes = pages.read(0, size)?;
    let mut fields = Fields::new(&bytes, 0);
    fields.bytes(8)?;
    let version = fields.byte()?;
    // The versions of the free space and of the root group.
    fields.version(&[0], "the free space")?;
    fields.version(&[0], "the root group")?;
    fields.bytes(1)?;
    fields.version(&[0], "the format of shared messages")?;
    check_widths(&mut fields)?;
    // Reserved, sizes of nodes, and flags.
    fields.bytes(if version == 0 { 9 } else { 13 })?;
    let base = fields.u64()?;
    if fields.u64()? != UNDEFINED {
        return Err(fields.unknown("a list of free space"));
    }
    let end = fields.u64()?;
    check_bounds(pages, base, end)?;
    if fields.u64()? != UNDEFINED {
        return Err(fields.unknown("a driver of its own, whose data may lie in other files"));
    }
    let Entry { object, cached, .. } = symbols::entry(&mut fields)?;
    Ok(Root {
        address: object,
        cached,
    })
}

/// Versions 2 and 3.
fn read_new(pages: &mut Pages<'_>) -> Result<Root, Stop> {
    let bytes = pages.read(0, 48)?;
    let mut fields = Fields::new(&bytes, 0);
    fields.bytes(9)?;
    check_widths(&mut fields)?;
    // Whether a writer had the file open.
    fields.bytes(1)?;
    let base = fields.u64()?;
    if fields.u64()? != UNDEFINED {
        return Err(fields.unknown("an extension of the superblock"));
    }
    let end = fields.u64()?;
    check_bounds(pages, base, end)?;
    Ok(Root {
        address: fields.u64()?,
        cached: None,
    })
}

/// The widths of addresses and lengths.
fn check_widths(fields: &mut Fields<'_>) -> Result<(), Stop> {
    if (fields.byte()?, fields.byte()?) == (8, 8) {
        return Ok(());
    }
    Err(fields.unknown("addresses or lengths of another width than 64 bits"))
}

/// The first byte that addresses count from, and the end of the file.
fn check_bounds(pages: &Pages<'_>, base: u64, end: u64) -> Result<(), Stop> {
    let detail = if base != 0 {
        format!("addresses count from {base}, and the file begins at 0")
    } else if end != pages.length() {
        let length = pages.length();
        format!("the superblock has the end of the file at {end}, and the file has {length} bytes")
    } else {
        return Ok(());
    };
    Err(Stop::malformed(VERSION, STRUCTURE, detail))
}
