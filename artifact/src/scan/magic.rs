//! The format of a file from its first bytes, and the marks by which other readers would find
//! another format in the same file.

use std::io::{self, Read as _, SeekFrom};

use super::{Input, tensor_bundle};

/// Bytes of a file's beginning that are looked at: a tar header, and the first fields of the rest.
const HEAD_BYTES: u64 = 4_096;
/// The longest header of a safetensors file, bytes: the limit of its own library.
const MAX_SAFETENSORS_HEADER_BYTES: u64 = 100_000_000;
/// A block of tar, bytes.
const TAR_BLOCK_BYTES: usize = 512;
/// Where the checksum of a tar header is.
const TAR_CHECKSUM: std::ops::Range<usize> = 148..156;
/// The end record of a zip without its comment, bytes.
const ZIP_END_BYTES: usize = 22;
/// Where readers look for the end record of a zip: its length, and the longest comment.
const ZIP_TAIL_BYTES: u64 = 65_557;
/// End records that are tried. More in one tail are copies.
const MAX_ZIP_ENDS: usize = 64;
/// How a file of HDF5 begins.
pub(super) const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// What the content of a file begins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Empty,
    Gguf,
    Hdf5,
    Json,
    Lightgbm,
    Numpy,
    Onnx,
    Pickle,
    /// PNG, JPEG, GIF or WebP.
    Picture,
    /// Code for a processor, a runtime or an interpreter.
    Program(&'static str),
    Safetensors,
    SavedModel,
    /// Hashes beside a SavedModel.
    SavedModelFingerprint,
    SentencePiece,
    Tar,
    /// The index of a checkpoint of TensorFlow.
    TensorBundle,
    Text,
    Tflite,
    /// Tensors of torch before 1.6: pickles and the data behind them.
    TorchLegacy,
    TritonConfig,
    Ubjson,
    Zip,
    /// A format that has a name and no scanner.
    Other(&'static str),
    Unknown,
}

impl Content {
    /// The name in output.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Gguf => "gguf",
            Self::Hdf5 => "hdf5",
            Self::Json => "json",
            Self::Lightgbm => "lightgbm",
            Self::Numpy => "npy",
            Self::Onnx => "onnx",
            Self::Pickle => "pickle",
            Self::Picture => "picture",
            Self::Program(name) | Self::Other(name) => name,
            Self::Safetensors => "safetensors",
            Self::SavedModel => "saved model",
            Self::SavedModelFingerprint => "saved model fingerprint",
            Self::SentencePiece => "sentencepiece",
            Self::Tar => "tar",
            Self::TensorBundle => "tensor bundle",
            Self::Text => "text",
            Self::Tflite => "tflite",
            Self::TorchLegacy => "torch legacy",
            Self::TritonConfig => "triton config",
            Self::Ubjson => "ubjson",
            Self::Zip => "zip",
            Self::Unknown => "unknown",
        }
    }
}

/// Formats that are known by their first bytes alone.
const AT_ZERO: [(&[u8], Content); 59] = [
    (b"PK\x03\x04", Content::Zip),
    (b"PK\x05\x06", Content::Zip),
    (b"PK\x07\x08", Content::Zip),
    // A pickle of torch's magic number.
    (
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        Content::TorchLegacy,
    ),
    (b"GGUF", Content::Gguf),
    (b"\x93NUMPY", Content::Numpy),
    (b"tree\nversion=", Content::Lightgbm),
    (b"tree\r\nversion=", Content::Lightgbm),
    // Releases before 2.0.12 wrote no version.
    (b"tree\nnum_class=", Content::Lightgbm),
    (b"tree\r\nnum_class=", Content::Lightgbm),
    (b"\x7fELF", Content::Program("elf")),
    (b"MZ", Content::Program("pe")),
    (b"\xfe\xed\xfa\xce", Content::Program("mach-o")),
    (b"\xfe\xed\xfa\xcf", Content::Program("mach-o")),
    (b"\xce\xfa\xed\xfe", Content::Program("mach-o")),
    (b"\xcf\xfa\xed\xfe", Content::Program("mach-o")),
    // Also the classes of Java.
    (b"\xca\xfe\xba\xbe", Content::Program("mach-o")),
    (b"\xca\xfe\xba\xbf", Content::Program("mach-o")),
    (b"\0asm", Content::Program("wasm")),
    (b"BC\xc0\xde", Content::Program("llvm bitcode")),
    // `lua` runs a file of any name that begins so.
    (b"\x1bLua", Content::Program("lua bytecode")),
    (b"\x1bLJ", Content::Program("lua bytecode")),
    (b"#!", Content::Program("script")),
    (b"!<arch>\n", Content::Program("ar")),
    (HDF5, Content::Hdf5),
    (b"\x1f\x8b", Content::Other("gzip")),
    (b"x\x01", Content::Other("zlib")),
    (b"x\x9c", Content::Other("zlib")),
    (b"x\xda", Content::Other("zlib")),
    (b"\xfd7zXZ\0", Content::Other("xz")),
    (b"\x28\xb5\x2f\xfd", Content::Other("zstd")),
    (b"BZh", Content::Other("bzip2")),
    (b"\x04\x22\x4d\x18", Content::Other("lz4")),
    (b"7z\xbc\xaf\x27\x1c", Content::Other("7z")),
    (b"Rar!\x1a\x07", Content::Other("rar")),
    // joblib before 0.10.
    (b"ZF0x", Content::Other("joblib zlib")),
    (b"lmgg", Content::Other("ggml")),
    (b"fmgg", Content::Other("ggml")),
    (b"tjgg", Content::Other("ggml")),
    (b"algg", Content::Other("ggml")),
    // Readers in C++ take lengths and offsets from these as they are.
    (b"\xba\x16\x4f\x2f", Content::Other("fasttext")),
    (b"mmap lm http://", Content::Other("kenlm")),
    // `load` of R runs what is in it.
    (b"RDX2\n", Content::Other("r")),
    (b"RDX3\n", Content::Other("r")),
    (b"X\n\0\0\0", Content::Other("r")),
    (b"|TZR|", Content::Other("tensorizer")),
    (b"binf", Content::Other("xgboost binary")),
    (b"CBM1", Content::Other("catboost")),
    // Readers in Java make objects of any class.
    (b"\xac\xed\0\x05", Content::Other("java serialization")),
    (b"ftrt", Content::Other("tensorrt")),
    (b"ptrt", Content::Other("tensorrt")),
    (b"SQLite format 3\0", Content::Other("sqlite")),
    (b"PAR1", Content::Other("parquet")),
    (b"ARROW1\0\0", Content::Other("arrow")),
    (b"%PDF-", Content::Other("pdf")),
    (b"\x89PNG\r\n\x1a\n", Content::Picture),
    (b"\xff\xd8\xff", Content::Picture),
    (b"GIF87a", Content::Picture),
    (b"GIF89a", Content::Picture),
];

/// Formats of flatbuffers, by the identifier at byte 4.
const AT_FOUR: [(&[u8], Content); 3] = [
    (b"TFL3", Content::Tflite),
    (b"ET12", Content::Other("executorch")),
    (b"ORTM", Content::Other("ort")),
];

/// Reads up to `count` bytes at `offset`.
pub(super) fn read_at(input: &mut dyn Input, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    input.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    input.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The beginning of a file.
pub(super) fn head(input: &mut dyn Input) -> io::Result<Vec<u8>> {
    read_at(input, 0, HEAD_BYTES)
}

/// The format of a binary file with this beginning and length. `None` if it has no mark of one: it
/// may be a text.
pub(super) fn binary(head: &[u8], length: u64) -> Option<Content> {
    if length == 0 {
        return Some(Content::Empty);
    }
    let marked = |(mark, content): &(&[u8], Content)| head.starts_with(mark).then_some(*content);
    if let Some(content) = AT_ZERO.iter().find_map(marked) {
        return Some(content);
    }
    if is_lzma(head) {
        return Some(Content::Other("lzma"));
    }
    if is_python_code(head) {
        return Some(Content::Program("python bytecode"));
    }
    if is_safetensors(head, length) {
        return Some(Content::Safetensors);
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return Some(Content::Picture);
    }
    let identifier = head.get(4..8).unwrap_or_default();
    if let Some((_, content)) = AT_FOUR.iter().find(|(mark, _)| *mark == identifier) {
        return Some(*content);
    }
    if begins_pickle(head) {
        return Some(Content::Pickle);
    }
    if is_tar(head) {
        return Some(Content::Tar);
    }
    if head.starts_with(b"{L\0\0\0\0") || (head.starts_with(b"{i") && head.contains(&0)) {
        return Some(Content::Ubjson);
    }
    protobuf(head)
}

/// Whether a file begins as the older form of xz, which joblib unpacks: properties of the coder,
/// the size of its dictionary, and the length, which is not known or below 2^40.
fn is_lzma(head: &[u8]) -> bool {
    let length = head.get(5..13).unwrap_or_default();
    head.starts_with(b"]\0") && (length == [0xff; 8] || length.ends_with(&[0; 3]))
}

/// Whether a file begins as compiled Python, which `python` runs under any name: a number of the
/// release that ends with a line, and numbers below 2^24. No text has a NUL there.
fn is_python_code(head: &[u8]) -> bool {
    matches!(head, [_, 0x0b..=0x0f | 0xf2 | 0xf3, b'\r', b'\n', ..])
        && head.iter().take(32).skip(4).any(|byte| *byte == 0)
}

/// Whether a file begins with the length of a header within the file, and an object of JSON.
fn is_safetensors(head: &[u8], length: u64) -> bool {
    let header_bytes = head.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let most = MAX_SAFETENSORS_HEADER_BYTES.min(length.saturating_sub(8));
    header_bytes.is_some_and(|bytes| bytes <= most) && head.get(8) == Some(&b'{')
}

/// Whether a file begins with the PROTO opcode of a pickle and an opcode that exists.
fn begins_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 0..=5, next, ..] if is_opcode(*next))
}

/// Whether an unpickler has an operation for this byte.
pub(super) fn is_opcode(byte: u8) -> bool {
    /// The opcodes of all protocols that are printable.
    const PRINTABLE: &[u8] = b"().012BCFGIJKLMNPQRSTUVX]abcdeghijlopqrstu}";
    PRINTABLE.contains(&byte) || matches!(byte, 0x80..=0x98)
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

/// A protocol buffer of a model by its first fields: the version, then one with a length.
fn protobuf(head: &[u8]) -> Option<Content> {
    if is_core_ml(head) {
        return Some(Content::Other("coreml"));
    }
    if is_sentencepiece(head) {
        return Some(Content::SentencePiece);
    }
    match head {
        [0x08, 1, 0x12, ..] => Some(Content::SavedModel),
        [
            0x08,
            2..=0x40,
            0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42,
            ..,
        ] => Some(Content::Onnx),
        _ => None,
    }
}

/// Whether a model of Core ML begins here: its version, a description, and then a field that other
/// models do not have.
fn is_core_ml(head: &[u8]) -> bool {
    let [0x08, 1..=0x7f, 0x12, rest @ ..] = head else {
        return false;
    };
    let field = varint(rest)
        .and_then(|(length, rest)| rest.get(length..))
        .and_then(varint);
    // Whether the model can be updated, or the model itself.
    field.is_some_and(|(key, _)| matches!(key >> 3, 10 | 200..))
}

/// Whether a model of SentencePiece begins here: a piece with its text, and a score or a type.
fn is_sentencepiece(head: &[u8]) -> bool {
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

/// Whether a file ends as a table of LevelDB.
pub(super) fn ends_as_table(input: &mut dyn Input, length: u64) -> io::Result<bool> {
    let mark = &tensor_bundle::table::MAGIC;
    let mark_bytes = u64::try_from(mark.len()).unwrap_or(u64::MAX);
    let tail = read_at(input, length.saturating_sub(mark_bytes), mark_bytes)?;
    Ok(tail == mark)
}

/// Whether the end of a file is that of a zip. Readers look for it from the end, whatever the file
/// begins with, and take the table of contents from there.
pub(super) fn ends_as_zip(input: &mut dyn Input, length: u64) -> io::Result<bool> {
    let tail_start = length.saturating_sub(ZIP_TAIL_BYTES);
    let tail = read_at(input, tail_start, ZIP_TAIL_BYTES)?;
    let ends = (tail.windows(ZIP_END_BYTES).enumerate().rev())
        .filter(|(_, record)| record.starts_with(b"PK\x05\x06"))
        .take(MAX_ZIP_ENDS);
    for (at, record) in ends {
        let field = |from: usize| {
            let bytes = record.get(from..)?.first_chunk()?;
            Some(u64::from(u32::from_le_bytes(*bytes)))
        };
        let (Some(size), Some(offset)) = (field(12), field(16)) else {
            continue;
        };
        let end = tail_start.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        // The locator of a zip64 stands right before the record; a table does with its first mark.
        let mut marks = vec![(end.checked_sub(20), b"PK\x06\x07")];
        if size > 0 {
            // From the end as Python does it, and from the beginning as others do.
            marks.push((end.checked_sub(size), b"PK\x01\x02"));
            marks.push((Some(offset), b"PK\x01\x02"));
        }
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
    fn a_format_is_known_by_its_first_bytes() {
        let mut tar = vec![0_u8; TAR_BLOCK_BYTES];
        tar[..4].copy_from_slice(b"name");
        let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        tar[TAR_CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut safetensors = 2_u64.to_le_bytes().to_vec();
        safetensors.extend(b"{}");
        // The length of this header begins as a pickle does, and no opcode follows.
        let mut looks_pickled = 640_u64.to_le_bytes().to_vec();
        looks_pickled.resize(648, b' ');
        looks_pickled[8] = b'{';
        let cases: [(&[u8], Option<Content>); 25] = [
            (b"", Some(Content::Empty)),
            (b"PK\x03\x04", Some(Content::Zip)),
            (b"\x80\x02}q\x00.", Some(Content::Pickle)),
            (b"\x80\x04\x95\x00", Some(Content::Pickle)),
            (b"\x80\x02\x00\x00", None),
            (&tar, Some(Content::Tar)),
            (&safetensors, Some(Content::Safetensors)),
            (&looks_pickled, Some(Content::Safetensors)),
            (b"\x1c\0\0\0TFL3", Some(Content::Tflite)),
            (b"\x08\x08\x12\x07pytorch", Some(Content::Onnx)),
            (b"\x08\x01\x12\x80\x01", Some(Content::SavedModel)),
            (b"#!/bin/sh\n", Some(Content::Program("script"))),
            (b"\x1bLuaS\0", Some(Content::Program("lua bytecode"))),
            (
                b"\xcb\x0d\r\n\0\0\0\0\0\0\0\0\0\0\0\0\xe3",
                Some(Content::Program("python bytecode")),
            ),
            (
                b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0",
                Some(Content::Other("lzma")),
            ),
            (
                b"]\0\0\x10\0\x63\0\0\0\0\0\0\0\0",
                Some(Content::Other("lzma")),
            ),
            (b"]\0\0\x10\0\x63\0\0\0\0\0\0\x3f\0", None),
            // A text with odd ends of lines.
            (b"U\r\r\na text of more than thirty-two bytes\0", None),
            (b"{\"a\": 1}", None),
            (b"plain", None),
            (b"\x0a\x05\x0a\x01a\x18\x02", Some(Content::SentencePiece)),
            // The piece ends elsewhere, or has a text alone.
            (b"\x0a\x06\x0a\x01a\x18\x02", None),
            (b"\x0a\x03\x0a\x01a", None),
            (b"GIF89a", Some(Content::Picture)),
            (b"RIFF\0\0\0\0WEBP", Some(Content::Picture)),
        ];
        for (head, expected) in cases {
            let length = u64::try_from(head.len()).unwrap();
            assert_eq!(binary(head, length), expected, "{head:?}");
        }
        // The header would be longer than the file.
        assert_eq!(binary(b"\x03\0\0\0\0\0\0\0{}", 10), None);
        tar[511] = 1;
        assert!(!is_tar(&tar));
    }

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
            let mut input = Cursor::new(content);
            assert_eq!(ends_as_zip(&mut input, length).unwrap(), expected);
        };
        check([b"weights", central, &end, b"comment"].concat(), true);
        // A table that is not there: four bytes of weights that look like a mark.
        check([b"weights", central, b"!", &end].concat(), false);
        check(b"weights".to_vec(), false);
        let mut content = vec![0; 1_024];
        content.extend(HDF5);
        let length = u64::try_from(content.len()).unwrap();
        let found = hdf5_behind(&mut Cursor::new(content), length).unwrap();
        assert_eq!(found, Some(1_024));
    }
}
