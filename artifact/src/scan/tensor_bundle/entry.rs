//! The values of a tensor bundle's index: a header, and for each tensor its type, its shape and
//! where its bytes are.

use std::io::Cursor;

use Field::{Bytes, Fixed32, Message as Inner, Varint};
use Message::{Dimension, Entry, Extent, Header, Shape, Slice, Version};

use crate::scan::protobuf::{self, Field, Schema, Visitor};
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop};
use crate::scan::{Limits, Report};

pub(super) const RULE: &Rule = rules::TENSOR_BUNDLE_ENTRY;
/// The tag of `SavedTensorSlices.meta`, which begins a checkpoint of version 1.
const TENSORS_OF_VERSION_1: u8 = 0x0a;
/// `DT_STRING`: each element is bytes of any length.
const TEXTS: u64 = 7;
/// What follows the lengths of texts: their checksum, bytes.
const TEXTS_CHECKSUM_BYTES: u64 = 4;

/// A type of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// `TensorShapeProto.Dim`
    Dimension,
    /// `BundleEntryProto`
    Entry,
    /// `TensorSliceProto.Extent`
    Extent,
    /// `BundleHeaderProto`
    Header,
    /// `TensorShapeProto`
    Shape,
    /// `TensorSliceProto`
    Slice,
    /// `VersionDef`
    Version,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Header, 1 | 2) | (Version, 1..=3) => Varint,
            (Header, 3) => Inner(Version),
            (Entry, 1 | 3..=5) | (Dimension, 1) | (Shape, 3) | (Extent, 1 | 2) => Varint,
            (Entry, 2) => Inner(Shape),
            (Entry, 6) => Fixed32,
            (Entry, 7) => Inner(Slice),
            (Shape, 2) => Inner(Dimension),
            (Dimension, 2) => Bytes,
            (Slice, 1) => Inner(Extent),
            _ => return None,
        })
    }
}

/// The bytes of one element of a type, by its number. Those that are not here are no plain data:
/// a resource is a handle of a process, and a variant is an object of any class.
const fn element_bytes(data_type: u64) -> Option<u64> {
    Some(match data_type {
        4 | 6 | 10..=12 | 24..=30 => 1,
        5 | 14..=17 | 19 => 2,
        1 | 3 | 13 | 22 => 4,
        2 | 8 | 9 | 23 => 8,
        18 => 16,
        _ => return None,
    })
}

/// What the fields of a message say.
#[derive(Default)]
struct Fields {
    shards: u64,
    is_big_endian: bool,
    least_version: u64,
    data_type: u64,
    /// Elements by the shape. `None` if that is no number, or the shape is not known.
    elements: Option<u64>,
    shard: u64,
    offset: u64,
    bytes: u64,
    has_slices: bool,
    /// The size of the dimension that is read.
    dimension: u64,
    /// Whether a field that must stand alone is there twice.
    is_repeated: bool,
    seen: u32,
}

impl Visitor<Message> for Fields {
    fn begin(&mut self, path: &[Message], _: &mut Report) -> Result<(), Stop> {
        match path.last() {
            Some(Dimension) => self.dimension = 0,
            Some(Slice) => self.has_slices = true,
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, path: &[Message], field: u32, value: u64, _: u64) -> Result<(), Stop> {
        if matches!(path.last(), Some(Header | Entry)) {
            let bit = 1_u32.checked_shl(field).unwrap_or(0);
            self.is_repeated |= self.seen & bit != 0;
            self.seen |= bit;
        }
        match (path.last(), field) {
            (Some(Header), 1) => self.shards = value,
            (Some(Header), 2) => self.is_big_endian = value != 0,
            (Some(Version), 2) => self.least_version = value,
            (Some(Entry), 1) => self.data_type = value,
            (Some(Entry), 3) => self.shard = value,
            (Some(Entry), 4) => self.offset = value,
            (Some(Entry), 5) => self.bytes = value,
            (Some(Dimension), 1) => self.dimension = value,
            (Some(Shape), 3) if value != 0 => self.elements = None,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, path: &[Message], _: u64, _: &mut Report) -> Result<(), Stop> {
        if path.last() == Some(&Dimension) && path.contains(&Entry) {
            let dimension = self.dimension;
            self.elements = self.elements.and_then(|count| count.checked_mul(dimension));
        }
        Ok(())
    }
}

/// Follows a message whose findings are at `at` in the file.
fn read(message: Message, value: &[u8], at: u64) -> Result<Fields, Stop> {
    let mut fields = Fields {
        elements: Some(1),
        ..Fields::default()
    };
    let mut input = Cursor::new(value);
    let mut source = Source::new(&mut input, RULE)?;
    let mut report = Report::new("tensor bundle");
    let limits = Limits::default();
    let walked = protobuf::walk(
        &mut source,
        message,
        &limits,
        RULE,
        &mut fields,
        &mut report,
    );
    // The value may be in a compressed block, so only its beginning has a position in the file.
    walked.map_err(|stop| match stop {
        Stop::Found {
            verdict,
            rule,
            detail,
            ..
        } => Stop::Found {
            verdict,
            offset: at,
            rule,
            detail,
        },
        stop @ Stop::Io(_) => stop,
    })?;
    if fields.is_repeated {
        return Err(Stop::malformed(at, RULE, "a field that is there twice"));
    }
    Ok(fields)
}

/// The number of data files, as the header says it.
pub(super) fn shards(value: &[u8], at: u64) -> Result<u64, Stop> {
    // Its first field, the tensors of a file of version 1, is a message and no number.
    if value.first() == Some(&TENSORS_OF_VERSION_1) {
        let detail = "a checkpoint of the format's first version is not followed";
        return Err(Stop::unknown(at, RULE, detail));
    }
    let header = read(Header, value, at)?;
    if header.is_big_endian || header.least_version > 1 {
        let detail = "numbers with the greatest byte first, or a later version of the format";
        return Err(Stop::unknown(at, RULE, detail));
    }
    Ok(header.shards)
}

/// Where the bytes of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) shard: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
}

/// Where the bytes of a tensor of plain data are. `None` if other entries have its slices.
pub(super) fn position(value: &[u8], shards: u64, at: u64) -> Result<Option<Position>, Stop> {
    let entry = read(Entry, value, at)?;
    let plain_bytes = element_bytes(entry.data_type);
    if plain_bytes.is_none() && entry.data_type != TEXTS {
        let detail = format!(
            "a tensor of the type {}, which is no plain data",
            entry.data_type
        );
        return Err(Stop::unknown(at, RULE, detail));
    }
    let Some(elements) = entry.elements else {
        return Err(Stop::malformed(
            at,
            RULE,
            "a shape without a number of elements",
        ));
    };
    if entry.shard >= shards {
        let detail = format!("the data file {} of {shards}", entry.shard);
        return Err(Stop::malformed(at, RULE, detail));
    }
    if entry.has_slices {
        if entry.offset != 0 || entry.bytes != 0 {
            return Err(Stop::malformed(
                at,
                RULE,
                "a tensor in slices that has own bytes",
            ));
        }
        return Ok(None);
    }
    let fits = match plain_bytes {
        Some(bytes) => elements.checked_mul(bytes) == Some(entry.bytes),
        // Each length has one byte at least.
        None => elements
            .checked_add(TEXTS_CHECKSUM_BYTES)
            .is_some_and(|least| entry.bytes >= least),
    };
    let end = entry.offset.checked_add(entry.bytes);
    let Some(end) = end.filter(|end| fits && i64::try_from(*end).is_ok()) else {
        let detail = format!(
            "{} bytes at {} for {elements} elements of the type {}",
            entry.bytes, entry.offset, entry.data_type
        );
        return Err(Stop::malformed(at, RULE, detail));
    };
    Ok(Some(Position {
        shard: entry.shard,
        offset: entry.offset,
        end,
    }))
}
