//! Where the elements of datasets are: in the header, in one piece of the file, in chunks, or in
//! other files.

use super::pages::Pages;
use super::types::{self, Kind};
use super::{EXTERNAL, STRUCTURE, UNDEFINED, fields::Fields, header::Message};
use crate::scan::rules;
use crate::scan::source::Stop;
use crate::scan::{Limits, Report, Verdict};

/// Classes of layouts.
const COMPACT: u8 = 0;
const CONTIGUOUS: u8 = 1;
const CHUNKED: u8 = 2;
const VIRTUAL: u8 = 3;
/// What finds the chunks of a layout of versions 4 and 5.
const ONE_CHUNK: u8 = 1;
const ALL_CHUNKS: u8 = 2;
const FIXED_ARRAY: u8 = 3;
const GROWING_ARRAY: u8 = 4;
const TREE: u8 = 5;
/// The flag of a layout whose only chunk has filters.
const HAS_FILTERED_CHUNK: u8 = 2;
/// Filters that every reader has: deflate, shuffle, Fletcher's checksum, and h5py's LZF.
const FILTERS: [u16; 4] = [1, 2, 3, 32_000];
/// Those that expand: a thousand times, and about a hundred times.
const COMPRESSIONS: [u16; 2] = [1, 32_000];
/// Filters from this number on have a name.
const FIRST_NAMED_FILTER: u16 = 256;

/// The messages of a dataset.
pub(super) struct Parts<'m> {
    pub(super) space: &'m Message,
    pub(super) datatype: &'m Message,
    pub(super) layout: &'m Message,
    pub(super) filters: Option<&'m Message>,
}

/// The data of all datasets.
pub(super) struct Data {
    /// Where pieces begin and end.
    pieces: Vec<(u64, u64)>,
    /// Bytes of elements that are compressed or not written.
    expanded_bytes: u64,
    /// The most of them.
    most: u64,
}

impl Data {
    /// The data in a file of `length` bytes.
    pub(super) fn new(length: u64, limits: &Limits) -> Self {
        Self {
            pieces: Vec::new(),
            expanded_bytes: 0,
            most: length
                .saturating_mul(limits.expansion)
                .min(limits.expanded_bytes),
        }
    }

    /// Adds a dataset.
    pub(super) fn add(
        &mut self,
        pages: &Pages<'_>,
        parts: &Parts<'_>,
        report: &mut Report,
    ) -> Result<(), Stop> {
        let Parts {
            space,
            datatype,
            layout,
            filters,
        } = parts;
        let (rank, count) = types::space(&space.body, space.address)?;
        let datatype = types::datatype(&datatype.body, datatype.address)?;
        if datatype.kind == Kind::TextReference {
            let detail = "a dataset of texts of variable length is not followed";
            return Err(Stop::unknown(layout.address, STRUCTURE, detail));
        }
        if let Some(filters) = filters {
            check_filters(filters, report)?;
        }
        let mut fields = Fields::new(&layout.body, layout.address);
        let Some(bytes) = count.checked_mul(datatype.bytes) else {
            return Err(fields.malformed("a dataset is larger than any file"));
        };
        let version = fields.version(&[3, 4, 5], "the layout of a dataset")?;
        match fields.byte()? {
            COMPACT => {
                let size = fields.u16()?;
                fields.bytes(usize::from(size))?;
                check_size(&fields, u64::from(size), bytes)
            }
            CONTIGUOUS => {
                let (address, size) = (fields.u64()?, fields.u64()?);
                if address == UNDEFINED {
                    return self.expand(&fields, bytes);
                }
                check_size(&fields, size, bytes)?;
                pages.check(address, size)?;
                self.pieces.push((address, address.saturating_add(size)));
                Ok(())
            }
            CHUNKED => {
                let chunk_bytes = if version == 3 {
                    chunks_of_version_3(&mut fields, pages, rank)?
                } else {
                    chunks_of_version_4_and_5(&mut fields, pages, rank)?
                };
                self.expand(&fields, bytes.max(chunk_bytes))
            }
            VIRTUAL => {
                let detail = "a virtual dataset takes its data from other files";
                report.add(Verdict::Executable, layout.address, EXTERNAL, detail);
                Ok(())
            }
            class => Err(fields.unknown(&format!("the layout of a dataset has class {class}"))),
        }
    }

    /// Checks that no two pieces overlap. A file whose datasets share bytes could expand without
    /// end.
    pub(super) fn finish(mut self) -> Result<(), Stop> {
        self.pieces.sort_unstable();
        let mut last_end = 0;
        for (start, end) in self.pieces {
            if start < last_end && start < end {
                let detail = "the data of two datasets overlaps";
                return Err(Stop::malformed(start, STRUCTURE, detail));
            }
            last_end = end.max(last_end);
        }
        Ok(())
    }

    /// Counts bytes that a reader makes and the file does not have.
    fn expand(&mut self, fields: &Fields<'_>, bytes: u64) -> Result<(), Stop> {
        self.expanded_bytes = self.expanded_bytes.saturating_add(bytes);
        if self.expanded_bytes <= self.most {
            return Ok(());
        }
        let detail = format!(
            "datasets expand to {} bytes, far more than the file has",
            self.expanded_bytes
        );
        Err(Stop::unknown(
            fields.address(),
            rules::HDF5_EXPANSION,
            detail,
        ))
    }
}

fn check_size(fields: &Fields<'_>, size: u64, expected: u64) -> Result<(), Stop> {
    if size == expected {
        return Ok(());
    }
    let detail = format!("the elements of a dataset need {expected} bytes, and it has {size}");
    Err(fields.malformed(&detail))
}

/// Reads the sizes of a chunk, of which the last is that of an element. Answers its bytes.
fn chunk_bytes(fields: &mut Fields<'_>, sizes: u8, width: usize, rank: u8) -> Result<u64, Stop> {
    let mut bytes = Some(1_u64);
    for _ in 0..sizes {
        let size = fields.number(width)?;
        bytes = bytes.and_then(|bytes| bytes.checked_mul(size));
    }
    let bytes = bytes.filter(|bytes| *bytes > 0 && u32::try_from(*bytes).is_ok());
    let Some(bytes) = bytes.filter(|_| Some(rank) == sizes.checked_sub(1)) else {
        return Err(fields.malformed("the chunks of a dataset have an impossible size"));
    };
    Ok(bytes)
}

/// Checks the address of what finds the chunks.
fn check_index(fields: &mut Fields<'_>, pages: &Pages<'_>) -> Result<(), Stop> {
    match fields.u64()? {
        UNDEFINED => Ok(()),
        address => pages.check(address, 1),
    }
}

fn chunks_of_version_3(fields: &mut Fields<'_>, pages: &Pages<'_>, rank: u8) -> Result<u64, Stop> {
    let sizes = fields.byte()?;
    check_index(fields, pages)?;
    chunk_bytes(fields, sizes, 4, rank)
}

fn chunks_of_version_4_and_5(
    fields: &mut Fields<'_>,
    pages: &Pages<'_>,
    rank: u8,
) -> Result<u64, Stop> {
    let flags = fields.byte()?;
    let sizes = fields.byte()?;
    let width = usize::from(fields.byte()?);
    let bytes = chunk_bytes(fields, sizes, width, rank)?;
    let parameter_bytes = match fields.byte()? {
        // The size of the chunk, and which filters it was written without.
        ONE_CHUNK if flags & HAS_FILTERED_CHUNK != 0 => 12,
        ONE_CHUNK | ALL_CHUNKS => 0,
        FIXED_ARRAY => 1,
        GROWING_ARRAY => 5,
        TREE => 6,
        kind => return Err(fields.unknown(&format!("an index of chunks of kind {kind}"))),
    };
    fields.bytes(parameter_bytes)?;
    check_index(fields, pages)?;
    Ok(bytes)
}

/// Reports filters that need a library of their own, and those that expand what another one has
/// expanded.
fn check_filters(message: &Message, report: &mut Report) -> Result<(), Stop> {
    let mut fields = Fields::new(&message.body, message.address);
    let version = fields.version(&[1, 2], "the filters of a dataset")?;
    let count = fields.byte()?;
    if version == 1 {
        fields.bytes(6)?;
    }
    let mut has_compression = false;
    for _ in 0..count {
        let filter = fields.u16()?;
        let has_name = version == 1 || filter >= FIRST_NAMED_FILTER;
        let name_bytes = if has_name { fields.u16()? } else { 0 };
        // Whether the filter may be left out.
        fields.bytes(2)?;
        let parameters = usize::from(fields.u16()?);
        fields.bytes(usize::from(name_bytes))?;
        // An even number of words in version 1.
        let words = if version == 1 {
            parameters.next_multiple_of(2)
        } else {
            parameters
        };
        fields.bytes(words.saturating_mul(4))?;
        if !FILTERS.contains(&filter) {
            let detail = format!("the filter {filter}, for which readers load a plugin");
            report.add(
                Verdict::Unknown,
                message.address,
                rules::HDF5_FILTER,
                &detail,
            );
        }
        let is_compression = COMPRESSIONS.contains(&filter);
        if is_compression && has_compression {
            let detail = "a dataset is compressed more than once";
            report.add(
                Verdict::Unknown,
                message.address,
                rules::HDF5_FILTER,
                detail,
            );
        }
        has_compression |= is_compression;
    }
    Ok(())
}
