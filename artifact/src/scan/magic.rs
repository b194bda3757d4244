//! Marks of formats that are more than a few bytes at the beginning of a file.

use std::io::{self, Read as _, SeekFrom};

use super::Input;

/// The longest header of a safetensors file, bytes: the limit of its own library.
const MAX_SAFETENSORS_HEADER_BYTES: u64 = 100_000_000;
/// A block of tar, bytes.
const TAR_BLOCK_BYTES: usize = 512;
/// Where the checksum of a tar header is.
const TAR_CHECKSUM: std::ops::Range<usize> = 148..156;
/// The end record of a zip without its comment, bytes.
const ZIP_END_BYTES: usize = 22;
/// End records that are tried. More in one tail could hide one.
const MAX_ZIP_ENDS: usize = 64;
/// How a file of HDF5 begins.
pub(super) const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Reads up to `count` bytes at `offset`.
pub(super) fn read_at(input: &mut dyn Input, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    input.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    input.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a file begins as the older form of xz, which joblib unpacks: properties of the coder,
/// the size of its dictionary, and the length, which is not known or below 2^40.
pub(super) fn is_lzma(head: &[u8]) -> bool {
    let length = head.get(5..13).unwrap_or_default();
    head.starts_with(b"]\0") && (length == [0xff; 8] || length.ends_with(&[0; 3]))
}

/// Whether a file begins as compiled Python, which `python` runs under any name: a number of the
/// release that ends with a line, and numbers below 2^24. No text has a NUL there.
pub(super) fn is_python_code(head: &[u8]) -> bool {
    matches!(head, [_, 0x0b..=0x0f | 0xf2 | 0xf3, b'\r', b'\n', ..])
        && head.iter().take(32).skip(4).any(|byte| *byte == 0)
}

/// Whether a file begins with the length of a header within the file, and an object of JSON.
pub(super) fn is_safetensors(head: &[u8], length: u64) -> bool {
    let header_bytes = head.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let most = MAX_SAFETENSORS_HEADER_BYTES.min(length.saturating_sub(8));
    header_bytes.is_some_and(|bytes| bytes <= most) && head.get(8) == Some(&b'{')
}

/// Whether a file begins with a header of tar. Readers go by the checksum alone.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..TAR_BLOCK_BYTES) else {
        return false;
    };
    if block.get(257..262) == Some(b"ustar") {
        return true;
    }
    let written = checksums(block.get(TAR_CHECKSUM).unwrap_or_default());
    // Old programs took bytes for signed ones, and readers accept that, too.
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if TAR_CHECKSUM.contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned = unsigned.saturating_add(i64::from(byte));
        signed = signed.saturating_add(i64::from(byte.cast_signed()));
    }
    (written.iter().flatten()).any(|written| *written == unsigned || *written == signed)
}

/// The numbers that readers take a checksum for: octal digits up to the first other byte, Python's
/// `int`, which passes over signs, prefixes and underscores, and GNU's form with binary digits.
fn checksums(field: &[u8]) -> [Option<i64>; 3] {
    let octal = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).ok()?;
        i64::from_str_radix(text, 8).ok()
    };
    let is_digit = |byte: &u8| (b'0'..=b'7').contains(byte);
    let first = field.iter().copied().skip_while(|byte| *byte == b' ');
    let first: Vec<u8> = first.take_while(is_digit).collect();
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    // The white space of `str.strip`, and all else that `int` accepts.
    let is_accepted =
        |byte: &u8| is_digit(byte) || matches!(byte, 9..=13 | 28..=32) || b"+-_oO".contains(byte);
    let digits: Vec<u8> = text.iter().copied().filter(is_digit).collect();
    let python = match octal(&digits) {
        Some(number) if text.contains(&b'-') => number.checked_neg(),
        // Python takes an empty field for 0, which a signed sum can be.
        None if digits.is_empty() => Some(0),
        number => number,
    };
    let binary = match field.split_first() {
        // The first byte is the sign alone.
        Some((0x80 | 0xff, digits)) => (digits.iter()).try_fold(
            if field.first() == Some(&0xff) { -1 } else { 0 },
            |number: i64, digit| number.checked_mul(256)?.checked_add(i64::from(*digit)),
        ),
        _ => None,
    };
    let python = python.filter(|_| text.iter().all(is_accepted));
    [octal(&first), python, binary]
}

/// Whether a model of CTranslate2 begins here: the version of the format, and the name of the
/// network with its length.
pub(super) fn is_ctranslate2(head: &[u8]) -> bool {
    let [2..=15, 0, 0, 0, length, 0, name @ ..] = head else {
        return false;
    };
    let name = name.get(..usize::from(*length));
    name.is_some_and(|name| name.ends_with(b"Spec\0"))
}

/// Whether a model of Core ML begins here: its version, a description, and then a field that other
/// models do not have.
pub(super) fn is_core_ml(head: &[u8]) -> bool {
    let [0x08, 1..=0x7f, 0x12, rest @ ..] = head else {
        return false;
    };
    let field = varint(rest)
        .and_then(|(length, rest)| rest.get(length..))
        .and_then(varint);
    // Whether the model can be updated, or the model itself.
    field.is_some_and(|(key, _)| matches!(key >> 3, 10 | 200..))
}

/// Whether a model of ONNX begins here: the version of its format, and a field that may follow.
pub(super) const fn is_onnx(head: &[u8]) -> bool {
    matches!(
        head,
        [
            0x08,
            2..=0x40,
            0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42,
            ..
        ]
    )
}

/// Whether a model of SentencePiece begins here: a piece with its text, and a score or a type.
pub(super) fn is_sentencepiece(head: &[u8]) -> bool {
    let Some((length, rest)) = head.strip_prefix(b"\x0a").and_then(varint) else {
        return false;
    };
    let piece = rest.get(..length).unwrap_or_default();
    let text = piece.strip_prefix(b"\x0a").and_then(varint);
    let behind = text.and_then(|(length, rest)| rest.get(length..));
    matches!(
        behind,
        Some([0x15, _, _, _, _] | [0x15, _, _, _, _, 0x18, _] | [0x18, _])
    )
}

/// A number of a protocol buffer below 2^28, and what follows it.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << index.saturating_mul(7);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index.saturating_add(1)..)?));
        }
    }
    None
}

/// Whether the end of a file is that of a zip. Readers look for it from the end, whatever the file
/// begins with, and take the table of contents from there. `tail` is what they look at.
pub(super) fn ends_as_zip(input: &mut dyn Input, tail: &[u8], length: u64) -> io::Result<bool> {
    let tail_bytes = u64::try_from(tail.len()).unwrap_or(u64::MAX);
    let tail_start = length.saturating_sub(tail_bytes);
    let ends = (tail.windows(ZIP_END_BYTES).enumerate().rev())
        .filter(|(_, record)| record.starts_with(b"PK\x05\x06"));
    for (index, (at, record)) in ends.enumerate() {
        if index >= MAX_ZIP_ENDS {
            return Ok(true);
        }
        let field = |from: usize| {
            let bytes = record.get(from..)?.first_chunk()?;
            Some(u64::from(u32::from_le_bytes(*bytes)))
        };
        let (Some(size), Some(offset)) = (field(12), field(16)) else {
            continue;
        };
        let end = tail_start.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        // All ones refer to another record. A table without bytes is that of an archive without
        // files, as tools append it, or readers differ in where they look for it.
        let is_empty = offset == end
            && tail.len() == at.saturating_add(ZIP_END_BYTES)
            && record.get(4..16).is_some_and(|numbers| *numbers == [0; 12])
            && record.ends_with(&[0; 2]);
        if size == u64::from(u32::MAX) || (size == 0 && !is_empty) {
            return Ok(true);
        }
        let marks = [
            // The locator of a zip64 stands right before the record.
            (end.checked_sub(20), b"PK\x06\x07"),
            // The table begins with its mark: from the end as Python looks for it, and from the
            // beginning as others do.
            (end.checked_sub(size), b"PK\x01\x02"),
            (Some(offset), b"PK\x01\x02"),
        ];
        for (position, mark) in marks {
            if let Some(position) = position
                && read_at(input, position, 4)? == mark
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Where an HDF5 file begins behind a block of the user's: at 512 bytes, or a doubling of that.
pub(super) fn hdf5_behind(input: &mut dyn Input, length: u64) -> io::Result<Option<u64>> {
    let mut offset: u64 = 512;
    while offset < length {
        if read_at(input, offset, 8)? == HDF5 {
            return Ok(Some(offset));
        }
        let Some(next) = offset.checked_mul(2) else {
            break;
        };
        offset = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_end_of_a_zip_is_found_behind_other_content() {
        let central: &[u8] = b"PK\x01\x02rest of the table";
        let size = u32::try_from(central.len()).unwrap();
        let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
        end.extend(size.to_le_bytes());
        end.extend([0; 4]);
        end.extend([0; 2]);
        let check = |content: Vec<u8>, expected: bool| {
            let length = u64::try_from(content.len()).unwrap();
            let mut input = Cursor::new(&content);
            let found = ends_as_zip(&mut input, &content, length).unwrap();
            assert_eq!(found, expected);
        };
        check([b"weights", central, &end, b"comment"].concat(), true);
        // A table that is not there: four bytes of weights that look like a mark.
        check([b"weights", central, b"!", &end].concat(), false);
        check(b"weights".to_vec(), false);
        let record = |size: [u8; 4], offset: u8| {
            [
                b"PK\x05\x06\0\0\0\0\0\0\0\0",
                &size[..],
                &[offset, 0, 0, 0, 0, 0],
            ]
            .concat()
        };
        // An archive without files where it says that it is, with a byte behind it, and elsewhere.
        check([&b"weights"[..], &record([0; 4], 7)].concat(), false);
        check([&b"weights"[..], &record([0; 4], 7), b"!"].concat(), true);
        check([&b"weights"[..], &record([0; 4], 0)].concat(), true);
        check([&b"weights"[..], &record([0xff; 4], 7)].concat(), true);
        check([&b"weights"[..], &record([9, 0, 0, 0], 7)].concat(), false);
        check(
            [b"weights", &record([9, 0, 0, 0], 7).repeat(70)[..]].concat(),
            true,
        );
        let mut content = vec![0; 1_024];
        content.extend(HDF5);
        let length = u64::try_from(content.len()).unwrap();
        let found = hdf5_behind(&mut Cursor::new(content), length).unwrap();
        assert_eq!(found, Some(1_024));
    }
}
