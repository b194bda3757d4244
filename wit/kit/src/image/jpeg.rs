//! JPEG, baseline and progressive, grey or in colour. The pixels are exactly libjpeg-turbo's, which
//! Pillow and OpenCV use: its accurate inverse transform, its smooth upsampling of colours, and its
//! fixed-point conversion to RGB.

mod bits;
mod coefficients;
mod frame;
mod inverse;
mod pixels;
mod scan;

use bits::Table;
use frame::{Component, Frame};

use super::Decoded;
use crate::failure::{Failure, data, room};

/// The most scans of a progressive image. Each may cost as much as decoding the image once, for
/// only ten bytes. Encoders make 10.
const MAX_SCANS: usize = 16;

/// The coefficients or samples of a block.
const BLOCK: usize = 64;

/// The order of coefficients in a file, as positions in a block.
const ZIGZAG: [u8; BLOCK] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

fn damaged(what: &str) -> Failure {
    data(format!("a damaged JPEG: {what}"))
}

/// Zeros of a length that the header states.
fn zeros<T: Copy + Default>(length: usize) -> Result<Vec<T>, Failure> {
    let mut made = Vec::new();
    made.try_reserve_exact(length)
        .map_err(|_| room(format!("cannot allocate {length} samples")))?;
    made.resize(length, T::default());
    Ok(made)
}

/// What the segments of a file define for its scans.
#[derive(Default)]
struct Tables {
    quantization: [Option<[u16; BLOCK]>; 4],
    /// Huffman tables of the first coefficient of a block, and of the others.
    first: [Option<Table>; 4],
    others: [Option<Table>; 4],
    /// MCUs between restart markers; 0 for none.
    restart_interval: usize,
    has_jfif: bool,
    /// The colour transform that Adobe's segment states.
    adobe: Option<u8>,
}

pub(super) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Decoded, Failure> {
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let mut scans = 0_usize;
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some((marker, behind)) = next_marker(rest) {
        rest = behind;
        match marker {
            0xd9 => {
                let frame = frame.ok_or_else(|| damaged("no frame"))?;
                return pixels::decoded(frame, &tables);
            }
            0xd8 | 0x01 | 0xd0..=0xd7 => continue,
            _ => {}
        }
        let (segment, behind) = segment(rest)?;
        rest = behind;
        match marker {
            0xc0..=0xc2 if frame.is_none() => {
                frame = Some(Frame::of_header(segment, marker == 0xc2, max_pixels)?);
            }
            0xc0..=0xc2 => return Err(damaged("a second frame")),
            0xc4 => huffman_tables(segment, &mut tables)?,
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => {
                return Err(data(
                    "a JPEG that is lossless, hierarchical or arithmetic-coded: convert it to \
                     baseline or progressive",
                ));
            }
            0xda => {
                let frame = frame.as_mut().ok_or_else(|| damaged("no frame"))?;
                scans = scans.saturating_add(1);
                if scans > MAX_SCANS {
                    return Err(data(format!("a JPEG with more than {MAX_SCANS} scans")));
                }
                rest = scan::decode(frame, &tables, segment, rest)?;
            }
            0xdb => quantization_tables(segment, &mut tables)?,
            0xdd => {
                let [high, low] = *segment else {
                    return Err(damaged("a restart interval"));
                };
                tables.restart_interval = usize::from(u16::from_be_bytes([high, low]));
            }
            0xe0 => tables.has_jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
            0xee if segment.starts_with(b"Adobe") => {
                tables.adobe = segment.get(11).copied().or(tables.adobe);
            }
            _ => {}
        }
    }
    match frame {
        // Only the last marker is missing.
        Some(frame) if !frame.progressive && frame.components.iter().all(Component::is_decoded) => {
            pixels::decoded(frame, &tables)
        }
        _ => Err(damaged("it ends early")),
    }
}

/// The next marker, and the bytes behind it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let at = rest.iter().position(|byte| *byte == 0xff)?;
        rest = rest.get(at..)?;
        let code = rest.iter().position(|byte| *byte != 0xff)?;
        let marker = *rest.get(code)?;
        rest = rest.get(code.checked_add(1)?..)?;
        if marker != 0 {
            return Some((marker, rest));
        }
    }
}

/// A segment without its length, and the bytes behind it.
fn segment(bytes: &[u8]) -> Result<(&[u8], &[u8]), Failure> {
    let early = || damaged("it ends early");
    let (length, behind) = bytes.split_first_chunk().ok_or_else(early)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let length = length
        .checked_sub(2)
        .ok_or_else(|| damaged("a segment's length"))?;
    behind.split_at_checked(length).ok_or_else(early)
}

fn quantization_tables(segment: &[u8], tables: &mut Tables) -> Result<(), Failure> {
    let wrong = || damaged("a quantization table");
    let mut rest = segment;
    while let Some((kind, behind)) = rest.split_first() {
        let width = match kind >> 4 {
            0 => 1,
            1 => 2,
            _ => return Err(wrong()),
        };
        let (values, behind) = behind
            .split_at_checked(BLOCK.saturating_mul(width))
            .ok_or_else(wrong)?;
        let slot = tables
            .quantization
            .get_mut(usize::from(kind & 15))
            .ok_or_else(wrong)?;
        let mut table = [0; BLOCK];
        for (value, at) in values.chunks_exact(width).zip(ZIGZAG) {
            let value = match *value {
                [low] => u16::from(low),
                [high, low] => u16::from_be_bytes([high, low]),
                _ => 0,
            };
            if let Some(to) = table.get_mut(usize::from(at)) {
                *to = value;
            }
        }
        *slot = Some(table);
        rest = behind;
    }
    Ok(())
}

fn huffman_tables(segment: &[u8], tables: &mut Tables) -> Result<(), Failure> {
    let wrong = || damaged("a Huffman table");
    let mut rest = segment;
    while let Some((kind, behind)) = rest.split_first() {
        let (counts, behind) = behind.split_first_chunk::<16>().ok_or_else(wrong)?;
        let total = counts.iter().map(|count| usize::from(*count)).sum();
        let (symbols, behind) = behind.split_at_checked(total).ok_or_else(wrong)?;
        let slots = match kind >> 4 {
            0 => &mut tables.first,
            1 => &mut tables.others,
            _ => return Err(wrong()),
        };
        let slot = slots.get_mut(usize::from(kind & 15)).ok_or_else(wrong)?;
        *slot = Some(Table::of(counts, symbols).ok_or_else(wrong)?);
        rest = behind;
    }
    Ok(())
}
