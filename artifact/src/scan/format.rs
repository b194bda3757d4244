//! What a row of the table of formats has, and what a scan knows of a file, which is read once.

use std::io;

use super::container::ScanFile;
use super::magic::read_at;
use super::{Input, Limits, Report, input};

/// Bytes of a file's beginning that are looked at: a tar header, and the first fields of the rest.
const HEAD_BYTES: u64 = 4_096;
/// Where readers look for the end record of a zip: its length, and the longest comment.
const TAIL_BYTES: u64 = 65_557;

/// How certain the bytes of a file are about its format, from the least on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// They are no text and have no mark.
    None,
    /// They are text.
    Text,
    /// They are text that begins as an object or a list of JSON.
    Json,
    /// They begin with fields of a protocol buffer, which may stand in any order.
    Fields,
    /// They have the mark of the format.
    Mark,
}

/// What a scan knows of a file.
pub(super) struct File<'i> {
    pub(super) input: &'i mut dyn Input,
    pub(super) limits: &'i Limits,
    /// Scans the members of a container.
    pub(super) scan_file: ScanFile,
    /// The name without folders, as it was given.
    pub(super) given_name: &'i str,
    /// The same in lower case.
    pub(super) name: &'i str,
    /// What follows the last dot of the name.
    pub(super) ending: &'i str,
    pub(super) length: u64,
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    /// Whether the scan of the format has followed a zip at the end of the file.
    pub(super) is_zip_followed: bool,
}

impl<'i> File<'i> {
    /// Reads the head and the tail of a file. The names are without folders, and the second one is
    /// in lower case.
    pub(super) fn read(
        input: &'i mut dyn Input,
        (given_name, name): (&'i str, &'i str),
        limits: &'i Limits,
        scan_file: ScanFile,
    ) -> io::Result<Self> {
        let length = input::length(&mut *input)?;
        Ok(Self {
            head: read_at(&mut *input, 0, HEAD_BYTES)?,
            tail: read_at(&mut *input, length.saturating_sub(TAIL_BYTES), TAIL_BYTES)?,
            input,
            limits,
            scan_file,
            given_name,
            name,
            ending: name.rsplit_once('.').map_or("", |(_, ending)| ending),
            length,
            is_zip_followed: false,
        })
    }

    /// Whether the file has bytes between the head and the tail.
    pub(super) fn has_middle(&self) -> bool {
        self.length > HEAD_BYTES.saturating_add(TAIL_BYTES)
    }

    /// Whether the file begins with one of these marks.
    pub(super) fn begins(&self, marks: &[&[u8]]) -> bool {
        marks.iter().any(|mark| self.head.starts_with(mark))
    }
}

/// Finds where a format begins in a file, if it is there.
pub(super) type Find = fn(&mut File<'_>) -> io::Result<Option<u64>>;

/// A format.
pub(super) struct Format {
    /// The name in output.
    pub(super) id: &'static str,
    /// Endings of names whose content has to be of this format, or of another one with the ending.
    pub(super) endings: &'static [&'static str],
    /// Whether a reader takes a file for this format by its name, if the bytes are only so certain
    /// about another one.
    pub(super) names: fn(&File<'_>, Evidence) -> bool,
    /// How certain the bytes of a file are that it is of this format.
    pub(super) magic: fn(&File<'_>) -> Evidence,
    /// Where the format begins in a file of another one, if readers find it there.
    pub(super) also: &'static [Find],
    /// Scans a file.
    pub(super) scan: fn(&mut File<'_>) -> io::Result<Report>,
}
