//! Reads one operation of a pickle: its opcode and its argument, by the rules of `pickletools`.
//!
//! Where CPython's two unpicklers read a text differently, only the form that both read alike is
//! accepted.

use std::io;

use super::super::reader::Reader;
use super::opcodes::{Kind, Opcode};

/// Bytes of a text or of bytes that are kept. Longer ones are no names.
pub(super) const HEAD_BYTES: usize = 200;
/// Bytes of a line. Longer ones are not followed.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Digits of a number. Python refuses more since 3.11.
const MAX_DIGITS: usize = 4_300;
/// What a pickle that ends early gets.
const TRUNCATED: &str = "the pickle ends before its STOP";

/// Why a walk ends before STOP.
#[derive(Debug)]
pub(super) enum Stop {
    /// The input cannot be read.
    Io(io::Error),
    /// The pickle breaks a rule.
    Malformed(&'static str),
    /// Some unpicklers go on here, and others do not.
    Ambiguous(&'static str),
    /// The pickle is larger than the scanner follows.
    Limit(&'static str),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A text or bytes in the stream.
pub(super) struct Data {
    /// Where it begins.
    pub(super) start: u64,
    /// How long it is.
    pub(super) length: u64,
    /// Its first bytes, at most [`HEAD_BYTES`].
    pub(super) head: Vec<u8>,
    /// Whether it is a line, which can have escapes and is not UTF-8.
    pub(super) is_line: bool,
}

impl Data {
    /// The text, if it is short, in UTF-8 and without escapes.
    pub(super) fn text(&self) -> Option<&str> {
        let is_complete = u64::try_from(self.head.len()).is_ok_and(|head| head == self.length);
        let is_plain = !self.is_line || (self.head.is_ascii() && !self.head.contains(&b'\\'));
        if is_complete && is_plain {
            std::str::from_utf8(&self.head).ok()
        } else {
            None
        }
    }
}

/// The argument of an operation.
pub(super) enum Argument {
    Nothing,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits.
    BigInt,
    Float,
    Text(Data),
    Bytes(Data),
    Line,
    /// Module and name.
    Names(Vec<u8>, Vec<u8>),
}

/// One operation.
pub(super) struct Operation {
    pub(super) offset: u64,
    pub(super) opcode: Opcode,
    pub(super) argument: Argument,
}

/// Reads the next operation.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Operation, Stop> {
    let offset = reader.position();
    let code = reader.byte()?.ok_or(Stop::Malformed(TRUNCATED))?;
    let opcode = Opcode::from_code(code).ok_or(Stop::Malformed("no opcode has this byte"))?;
    let argument = argument(reader, opcode.kind())?;
    Ok(Operation {
        offset,
        opcode,
        argument,
    })
}

/// Reads the argument of an operation.
pub(super) fn argument(reader: &mut Reader<'_>, kind: Kind) -> Result<Argument, Stop> {
    Ok(match kind {
        Kind::Nothing => Argument::Nothing,
        Kind::Uint1 => Argument::Int(i64::from(u8::from_le_bytes(array(reader)?))),
        Kind::Uint2 => Argument::Int(i64::from(u16::from_le_bytes(array(reader)?))),
        Kind::Uint4 => Argument::Int(i64::from(u32::from_le_bytes(array(reader)?))),
        Kind::Int4 => Argument::Int(i64::from(i32::from_le_bytes(array(reader)?))),
        Kind::Uint8 => i64::try_from(u64::from_le_bytes(array(reader)?))
            .map_or(Argument::BigInt, Argument::Int),
        Kind::Float8 => {
            array::<8>(reader)?;
            Argument::Float
        }
        Kind::DecimalLine => match line(reader)?.as_slice() {
            b"00" => Argument::Bool(false),
            b"01" => Argument::Bool(true),
            digits => decimal(digits)?,
        },
        Kind::LongLine => {
            let line = line(reader)?;
            decimal(line.strip_suffix(b"L").unwrap_or(&line))?
        }
        Kind::FloatLine => {
            let line = line(reader)?;
            if !is_float(&line) {
                return Err(if is_float(&lenient(&line)) {
                    Stop::Ambiguous("a line is not a plain number")
                } else {
                    Stop::Malformed("a line is not a number")
                });
            }
            Argument::Float
        }
        Kind::Long1 => long(reader, Kind::Uint1)?,
        Kind::Long4 => long(reader, Kind::Int4)?,
        Kind::String1 | Kind::Unicode1 => Argument::Text(data(reader, Kind::Uint1)?),
        Kind::String4 => Argument::Text(data(reader, Kind::Int4)?),
        Kind::Unicode4 => Argument::Text(data(reader, Kind::Uint4)?),
        Kind::Unicode8 => Argument::Text(data(reader, Kind::Uint8)?),
        Kind::Bytes1 => Argument::Bytes(data(reader, Kind::Uint1)?),
        Kind::Bytes4 => Argument::Bytes(data(reader, Kind::Uint4)?),
        Kind::Bytes8 | Kind::ByteArray8 => Argument::Bytes(data(reader, Kind::Uint8)?),
        Kind::StringLine => Argument::Text(quoted(reader)?),
        Kind::UnicodeLine => {
            let start = reader.position();
            Argument::Text(text_line(start, &line(reader)?))
        }
        Kind::Line => {
            line(reader)?;
            Argument::Line
        }
        Kind::LinePair => Argument::Names(line(reader)?, line(reader)?),
    })
}

fn array<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Stop> {
    reader.array()?.ok_or(Stop::Malformed(TRUNCATED))
}

fn line(reader: &mut Reader<'_>) -> Result<Vec<u8>, Stop> {
    let line = reader.line(MAX_LINE_BYTES)?;
    let line = line.ok_or(Stop::Malformed("a line has no end"))?;
    if !line.complete {
        return Err(Stop::Limit("a line is longer than 1 MiB"));
    }
    Ok(line.bytes)
}

/// An integer in the one form that all unpicklers read alike. C reads `010` as octal, Python as 10.
fn decimal(line: &[u8]) -> Result<Argument, Stop> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !is_plain || (digits.len() > 1 && digits.starts_with(b"0")) {
        let detail = "a line is not a plain decimal number";
        // C takes no digits before a NUL for 0.
        return Err(if line.contains(&0) || is_integer(&lenient(line)) {
            Stop::Ambiguous(detail)
        } else {
            Stop::Malformed(detail)
        });
    }
    if digits.len() > MAX_DIGITS {
        return Err(Stop::Ambiguous(
            "a number has more digits than Python reads",
        ));
    }
    let number = std::str::from_utf8(line).map(str::parse::<i64>);
    Ok(match number {
        Ok(Ok(number)) => Argument::Int(number),
        _ => Argument::BigInt,
    })
}

/// What some unpicklers read of a number: C ends at a NUL, Python passes over space around it, with
/// vertical tabs, and underscores.
fn lenient(line: &[u8]) -> Vec<u8> {
    let text = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = text.iter().copied();
    text.filter(|byte| *byte > b' ' && *byte != b'_').collect()
}

fn is_float(line: &[u8]) -> bool {
    let number = std::str::from_utf8(line).map(str::parse::<f64>);
    matches!(number, Ok(Ok(_)))
}

/// Whether some unpickler reads an integer in decimal, or in a base that a prefix names.
fn is_integer(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"L").unwrap_or(text);
    let digits = match text {
        [b'+' | b'-', digits @ ..] => digits,
        digits => digits,
    };
    match digits {
        [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', digits @ ..] => {
            digits.iter().all(u8::is_ascii_hexdigit)
        }
        digits => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
    }
}

/// The length in front of a text, of bytes or of a long number.
fn count(reader: &mut Reader<'_>, kind: Kind) -> Result<u64, Stop> {
    match argument(reader, kind)? {
        Argument::Int(count) => {
            u64::try_from(count).map_err(|_| Stop::Malformed("a length is negative"))
        }
        _ => Err(Stop::Malformed("a length is greater than any file")),
    }
}

/// A number in two's complement. A long one is passed over.
fn long(reader: &mut Reader<'_>, kind: Kind) -> Result<Argument, Stop> {
    let count = count(reader, kind)?;
    let Some(padding) = 8_u64.checked_sub(count) else {
        if !reader.skip(count) {
            return Err(Stop::Malformed(TRUNCATED));
        }
        return Ok(Argument::BigInt);
    };
    let mut bytes = [0; 8];
    let mut last = 0;
    let count = 8_usize.saturating_sub(usize::try_from(padding).unwrap_or(8));
    for byte in bytes.iter_mut().take(count) {
        last = reader.byte()?.ok_or(Stop::Malformed(TRUNCATED))?;
        *byte = last;
    }
    if last >= 0x80 {
        bytes.iter_mut().skip(count).for_each(|byte| *byte = 0xff);
    }
    Ok(Argument::Int(i64::from_le_bytes(bytes)))
}

/// A text or bytes behind their length. Only the head is read.
fn data(reader: &mut Reader<'_>, kind: Kind) -> Result<Data, Stop> {
    let length = count(reader, kind)?;
    let start = reader.position();
    if length > reader.left() {
        return Err(Stop::Malformed("a length goes beyond the end of the file"));
    }
    let head = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(HEAD_BYTES);
    let head = reader.read_bytes(head)?.ok_or(Stop::Malformed(TRUNCATED))?;
    let read = u64::try_from(head.len()).unwrap_or(u64::MAX);
    if !reader.skip(length.saturating_sub(read)) {
        return Err(Stop::Malformed(TRUNCATED));
    }
    Ok(Data {
        start,
        length,
        head,
        is_line: false,
    })
}

/// The text of a STRING: quoted with the same character at both ends.
fn quoted(reader: &mut Reader<'_>) -> Result<Data, Stop> {
    let start = reader.position().saturating_add(1);
    let line = line(reader)?;
    let text = [b'\'', b'"'].iter().find_map(|quote| {
        let quote = std::slice::from_ref(quote);
        line.strip_prefix(quote)?.strip_suffix(quote)
    });
    let text = text.ok_or(Stop::Malformed("a string has no quotes around it"))?;
    Ok(text_line(start, text))
}

fn text_line(start: u64, line: &[u8]) -> Data {
    Data {
        start,
        length: u64::try_from(line.len()).unwrap_or(u64::MAX),
        head: line.get(..HEAD_BYTES).unwrap_or(line).to_vec(),
        is_line: true,
    }
}
