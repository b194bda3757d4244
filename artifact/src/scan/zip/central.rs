//! The table of contents of a zip file: the records at its end, and the central directory.
//!
//! Readers look for the end record in different ways. Here it is the last signature in the file,
//! its comment ends with the file, and what it points to ends where the next record begins.

use std::io;

use super::extra;
use super::fields::Fields;
use crate::scan::magic::read_at;
use crate::scan::rules;
use crate::scan::{Input, Limits, Report, Verdict, input};

/// APPNOTE 4.3.16, 4.3.15, 4.3.14 and 4.3.12.
const END: [u8; 4] = *b"PK\x05\x06";
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const END64_BYTES: usize = 56;
/// All records at the end, with the longest comment.
const MAX_TAIL_BYTES: u64 = 65_535 + 22 + 20 + 56;

/// The central directory.
pub(super) struct Directory {
    bytes: Vec<u8>,
    /// Where it begins.
    pub(super) start: u64,
    /// How many entries the end record declares.
    pub(super) count: u64,
}

/// An entry of the central directory, with the numbers of its zip64 field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'d> {
    /// Where it is.
    pub(super) at: u64,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) compressed_bytes: u64,
    pub(super) size: u64,
    /// Where the local header is.
    pub(super) offset: u64,
    /// The mode of Unix, in its upper half.
    pub(super) attributes: u32,
    pub(super) name: &'d [u8],
    pub(super) extra: &'d [u8],
    pub(super) comment_bytes: usize,
}

/// What an end record declares: its disk and that of the directory, the entries on this disk and on
/// all, and the bytes and the start of the directory.
type Table = [u64; 6];

/// What stands in an end record for numbers that are in the zip64 record.
const IN_ZIP64: Table = [0xffff, 0xffff, 0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff];

/// Reads the table of contents. Faults are added to the report; none if it cannot be followed.
pub(super) fn find(
    input: &mut dyn Input,
    limits: &Limits,
    report: &mut Report,
) -> io::Result<Option<Directory>> {
    let length = input::length(input)?;
    let tail_start = length.saturating_sub(MAX_TAIL_BYTES);
    let tail = read_at(input, tail_start, length.saturating_sub(tail_start))?;
    let Some(at) = tail.windows(END.len()).rposition(|bytes| bytes == END) else {
        report.add(
            Verdict::Malformed,
            length,
            rules::ZIP_END,
            "the file has no end record: it is cut, or more than a comment follows",
        );
        return Ok(None);
    };
    let end_at = tail_start.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
    let (records, end) = tail.split_at_checked(at).unwrap_or_default();
    let Some((table, comment_bytes)) = parse_end(end) else {
        report.add(
            Verdict::Malformed,
            end_at,
            rules::ZIP_END,
            "the end record is cut",
        );
        return Ok(None);
    };
    if END_BYTES.checked_add(comment_bytes) != Some(end.len()) {
        report.add(
            Verdict::Malformed,
            end_at,
            rules::ZIP_TRAILING_BYTES,
            "the comment of the end record does not end with the file",
        );
        return Ok(None);
    }
    if comment_bytes > 0 {
        let detail = "the file has a comment, which no scanner follows";
        report.add(Verdict::Unknown, end_at, rules::ZIP_COMMENT, detail);
    }
    let (table, directory_end) = match zip64(records, end_at, &table) {
        Ok(found) => found.unwrap_or((table, end_at)),
        Err(fault) => {
            report.add(Verdict::Malformed, end_at, rules::ZIP_ZIP64, fault);
            return Ok(None);
        }
    };
    let [disk, directory_disk, entries_here, entries, bytes, start] = table;
    if disk != 0 || directory_disk != 0 || entries_here != entries {
        let detail = "the file is a part of an archive on several disks";
        report.add(Verdict::Malformed, end_at, rules::ZIP_DISKS, detail);
        return Ok(None);
    }
    if start.checked_add(bytes) != Some(directory_end) {
        report.add(
            Verdict::Malformed,
            end_at,
            rules::ZIP_DIRECTORY,
            "the central directory does not end where the records at the end begin: \
             there are bytes between them, or before the archive",
        );
        return Ok(None);
    }
    let most_bytes = u64::try_from(limits.header_bytes).unwrap_or(u64::MAX);
    let most_entries = u64::try_from(limits.entries).unwrap_or(u64::MAX);
    if bytes > most_bytes || entries > most_entries {
        let detail = format!(
            "a table of contents of {entries} entries in {bytes} bytes is more than is read"
        );
        report.add(Verdict::Unknown, start, rules::ZIP_DIRECTORY_SIZE, &detail);
        return Ok(None);
    }
    Ok(Some(Directory {
        bytes: read_at(input, start, bytes)?,
        start,
        count: entries,
    }))
}

/// An end record, with the length of its comment.
fn parse_end(end: &[u8]) -> Option<(Table, usize)> {
    let mut fields = Fields(end);
    fields.take(END.len())?;
    let table = [
        fields.u16()?.into(),
        fields.u16()?.into(),
        fields.u16()?.into(),
        fields.u16()?.into(),
        fields.u32()?.into(),
        fields.u32()?.into(),
    ];
    Some((table, usize::from(fields.u16()?)))
}

/// What the zip64 end record declares and where it is, if there is one. `records` are the bytes
/// before the end record.
fn zip64(records: &[u8], end_at: u64, table: &Table) -> Result<Option<(Table, u64)>, &'static str> {
    let locator =
        (records.len().checked_sub(LOCATOR_BYTES)).and_then(|at| records.split_at_checked(at));
    let Some((records, locator)) = locator.filter(|(_, bytes)| bytes.starts_with(&LOCATOR)) else {
        if table
            .iter()
            .zip(&IN_ZIP64)
            .any(|(value, none)| value == none)
        {
            return Err("the end record refers to a zip64 record, and there is none");
        }
        return Ok(None);
    };
    let mut fields = Fields(locator);
    fields.take(LOCATOR.len());
    let located = (fields.u32(), fields.u64(), fields.u32());
    let both = u64::try_from(LOCATOR_BYTES.saturating_add(END64_BYTES)).ok();
    let at = both.and_then(|both| end_at.checked_sub(both));
    let record = records.len().checked_sub(END64_BYTES);
    let record = record.and_then(|at| records.get(at..));
    let (Some(at), Some(record)) = (at, record) else {
        return Err("the zip64 end record is cut");
    };
    if located != (Some(0), Some(at), Some(1)) {
        return Err("the zip64 locator does not point to the record before it");
    }
    let found = parse_end64(record).ok_or("the zip64 end record is not one of 56 bytes")?;
    let mut numbers = table.iter().zip(&found).zip(&IN_ZIP64);
    if numbers.any(|((short, long), none)| short != long && short != none) {
        return Err("the end record and the zip64 end record differ");
    }
    Ok(Some((found, at)))
}

fn parse_end64(record: &[u8]) -> Option<Table> {
    let mut fields = Fields(record);
    if fields.take(END64.len())? != END64 || fields.u64()? != 44 {
        return None;
    }
    // The versions that made it and that it needs.
    fields.take(4)?;
    Some([
        fields.u32()?.into(),
        fields.u32()?.into(),
        fields.u64()?,
        fields.u64()?,
        fields.u64()?,
        fields.u64()?,
    ])
}

impl Directory {
    /// The entries in their order. The last item is an error if bytes follow that are no entry.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries {
            fields: Fields(&self.bytes),
            end: self
                .start
                .saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)),
            is_cut: false,
        }
    }
}

/// Entries of a central directory.
pub(super) struct Entries<'d> {
    fields: Fields<'d>,
    /// Where the directory ends.
    end: u64,
    is_cut: bool,
}

impl<'d> Iterator for Entries<'d> {
    type Item = Result<Entry<'d>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_cut || self.fields.0.is_empty() {
            return None;
        }
        let left = u64::try_from(self.fields.0.len()).unwrap_or(u64::MAX);
        let at = self.end.saturating_sub(left);
        let entry = parse_entry(&mut self.fields, at)
            .ok_or("the central directory has bytes that are no entry")
            .and_then(|entry| entry.with_zip64());
        self.is_cut = entry.is_err();
        Some(entry)
    }
}

fn parse_entry<'d>(fields: &mut Fields<'d>, at: u64) -> Option<Entry<'d>> {
    if fields.take(ENTRY.len())? != ENTRY {
        return None;
    }
    // The versions that made it and that it needs.
    fields.take(4)?;
    let flags = fields.u16()?;
    let method = fields.u16()?;
    // Time and date.
    fields.take(4)?;
    let crc = fields.u32()?;
    let compressed_bytes = fields.u32()?.into();
    let size = fields.u32()?.into();
    let name_bytes = usize::from(fields.u16()?);
    let extra_bytes = usize::from(fields.u16()?);
    let comment_bytes = usize::from(fields.u16()?);
    let disk = fields.u16()?;
    // Internal attributes.
    fields.take(2)?;
    let attributes = fields.u32()?;
    let offset = fields.u32()?.into();
    let name = fields.take(name_bytes)?;
    let extra = fields.take(extra_bytes)?;
    fields.take(comment_bytes)?;
    (disk == 0).then_some(Entry {
        at,
        flags,
        method,
        crc,
        compressed_bytes,
        size,
        offset,
        attributes,
        name,
        extra,
        comment_bytes,
    })
}

impl Entry<'_> {
    /// The entry with the numbers of its zip64 field. APPNOTE 4.5.3: the field has those numbers
    /// that are all ones in the entry, in this order, and nothing else.
    fn with_zip64(mut self) -> Result<Self, &'static str> {
        let extras = extra::parse(self.extra)?;
        let zip64 = extras.iter().find(|(id, _)| *id == extra::ZIP64);
        let mut fields = Fields(zip64.map_or(&[][..], |(_, bytes)| *bytes));
        for value in [&mut self.size, &mut self.compressed_bytes, &mut self.offset] {
            if *value == u64::from(u32::MAX) {
                *value = fields
                    .u64()
                    .ok_or("an entry refers to a number in its zip64 field, and there is none")?;
            }
        }
        if fields.0.is_empty() {
            Ok(self)
        } else {
            Err("the zip64 field of an entry has more than the entry refers to")
        }
    }
}
