//! The header before a member, and the descriptor after it, compared with the central directory.
//!
//! Some readers go by the central directory, others by local headers. A file in which they differ
//! is another file for each of them.

use std::io;

use super::central::Entry;
use super::extra;
use super::fields::Fields;
use crate::scan::magic::read_at;
use crate::scan::rules;
use crate::scan::{Input, Report, Verdict};

/// APPNOTE 4.3.7 and 4.3.9.
const HEADER: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const HEADER_BYTES: u64 = 30;
/// Flag: checksum and sizes follow the member.
pub(super) const HAS_DESCRIPTOR: u16 = 1 << 3;

/// Where the content of the entry's member begins; none if there is no header.
pub(super) fn open(
    input: &mut dyn Input,
    entry: &Entry<'_>,
    report: &mut Report,
) -> io::Result<Option<u64>> {
    let header = read_at(input, entry.offset, HEADER_BYTES)?;
    let Some(local) = parse(&header) else {
        let detail = "the central directory points to bytes that are no local header";
        report.add(
            Verdict::Malformed,
            entry.offset,
            rules::ZIP_LOCAL_HEADER,
            detail,
        );
        return Ok(None);
    };
    let start = entry.offset.saturating_add(HEADER_BYTES);
    let name = read_at(input, start, local.name_bytes.into())?;
    let start = start.saturating_add(local.name_bytes.into());
    let extra = read_at(input, start, local.extra_bytes.into())?;
    if name != entry.name {
        let detail = format!(
            "the local header has the name {:?}, the central directory {:?}",
            String::from_utf8_lossy(&name),
            String::from_utf8_lossy(entry.name)
        );
        report.add(
            Verdict::Malformed,
            entry.offset,
            rules::ZIP_NAME_DIFFERS,
            &detail,
        );
    }
    let mut differs = |what: &str| {
        let detail = format!("the local header and the central directory differ in {what}");
        report.add(
            Verdict::Malformed,
            entry.offset,
            rules::ZIP_HEADER_DIFFERS,
            &detail,
        );
    };
    if local.flags != entry.flags {
        differs("the flags");
    }
    if local.method != entry.method {
        differs("the method");
    }
    // The descriptor has what the header leaves out.
    let later = entry.flags & HAS_DESCRIPTOR != 0;
    if local.crc != entry.crc && !(later && local.crc == 0) {
        differs("the checksum");
    }
    match extra::parse(&extra) {
        Err(fault) => report.add(Verdict::Malformed, entry.offset, rules::ZIP_EXTRA, fault),
        Ok(fields) => {
            if !local.has_sizes_of(entry, &fields, later) {
                differs("the sizes");
            }
            extra::check(&fields, entry.name, entry.offset, report);
        }
    }
    Ok(Some(start.saturating_add(local.extra_bytes.into())))
}

/// Whether the bytes from `start` to `end` are the descriptor of the entry's member. With and
/// without signature, with sizes of 32 and 64 bits: all of them are written.
pub(super) fn is_descriptor(
    input: &mut dyn Input,
    entry: &Entry<'_>,
    start: u64,
    end: u64,
) -> io::Result<bool> {
    let length = end.saturating_sub(start);
    // PyTorch writes none after an empty member.
    if length == 0 {
        return Ok(entry.size == 0 && entry.compressed_bytes == 0);
    }
    if length > 24 {
        return Ok(false);
    }
    let bytes = read_at(input, start, length)?;
    let signed = bytes.strip_prefix(&DESCRIPTOR);
    Ok([Some(bytes.as_slice()), signed]
        .into_iter()
        .flatten()
        .any(|bytes| describes(bytes, entry) == Some(true)))
}

fn describes(bytes: &[u8], entry: &Entry<'_>) -> Option<bool> {
    let mut fields = Fields(bytes);
    let crc = fields.u32()?;
    let (compressed_bytes, size) = match bytes.len() {
        12 => (fields.u32()?.into(), fields.u32()?.into()),
        20 => (fields.u64()?, fields.u64()?),
        _ => return None,
    };
    Some(crc == entry.crc && compressed_bytes == entry.compressed_bytes && size == entry.size)
}

struct Local {
    flags: u16,
    method: u16,
    crc: u32,
    compressed_bytes: u32,
    size: u32,
    name_bytes: u16,
    extra_bytes: u16,
}

fn parse(header: &[u8]) -> Option<Local> {
    let mut fields = Fields(header);
    if fields.take(HEADER.len())? != HEADER {
        return None;
    }
    // The version that it needs.
    fields.take(2)?;
    let flags = fields.u16()?;
    let method = fields.u16()?;
    // Time and date.
    fields.take(4)?;
    Some(Local {
        flags,
        method,
        crc: fields.u32()?,
        compressed_bytes: fields.u32()?,
        size: fields.u32()?,
        name_bytes: fields.u16()?,
        extra_bytes: fields.u16()?,
    })
}

impl Local {
    /// Whether the sizes are those of the entry, in the header and in its zip64 field. Python
    /// writes a zip64 field for small members, too. `later` is whether a descriptor has the sizes.
    fn has_sizes_of(&self, entry: &Entry<'_>, fields: &[(u16, &[u8])], later: bool) -> bool {
        let zip64 = fields.iter().find(|(id, _)| *id == extra::ZIP64);
        let in_header = [
            (self.compressed_bytes, entry.compressed_bytes),
            (self.size, entry.size),
        ];
        let header_fits = in_header.into_iter().all(|(local, central)| {
            u64::from(local) == central
                || (local == u32::MAX && zip64.is_some())
                || (local == 0 && later)
        });
        let field_fits = zip64.is_none_or(|(_, bytes)| {
            let mut fields = Fields(bytes);
            let (size, compressed_bytes) = (fields.u64(), fields.u64());
            let offset = fields.u64();
            let zero = later.then_some(0);
            // PyTorch's writer has the offset here, too.
            let offset_fits = offset.is_none_or(|offset| offset == entry.offset);
            let only_offset = size == Some(entry.offset) && compressed_bytes.is_none() && later;
            let sizes_fit = (size == Some(entry.size) || (size.is_some() && size == zero))
                && (compressed_bytes == Some(entry.compressed_bytes)
                    || (compressed_bytes.is_some() && compressed_bytes == zero));
            fields.0.is_empty() && (only_offset || (sizes_fit && offset_fits))
        });
        header_fits && field_fits
    }
}
