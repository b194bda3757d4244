//! Arrays in numpy's `.npy` format, versions 1.0 to 3.0.
//!
//! A header in the syntax of a Python dictionary, then the elements. An array of objects is a
//! pickle behind the header, with the verdict of that pickle, and never safe: whether numpy
//! unpickles it depends on an option of the caller.

mod header;

use std::io::{self, Cursor, SeekFrom};

use self::header::{Header, parse, parse_plain};
use super::finding::{Report, Verdict};
use super::input::{self, Input, Window};
use super::limits::Limits;
use super::pickle;

/// The first bytes of a file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Scans an array.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("npy");
    let length = input::length(input)?;
    input.seek(SeekFrom::Start(0))?;
    let (text, begin) = match header_text(input, length, limits)? {
        Ok(header) => header,
        Err((verdict, detail)) => {
            report.add(verdict, 0, "npy-header", detail);
            return Ok(report);
        }
    };
    let header = match parse(&text) {
        Ok(header) => header,
        Err(detail) => {
            report.add(Verdict::Malformed, 0, "npy-header", detail);
            return Ok(report);
        }
    };
    let rest = length.saturating_sub(begin);
    match header {
        Header::Objects => {
            let detail = "an array of objects, which are unpickled with allow_pickle";
            report.add(Verdict::Unknown, begin, "npy-objects", detail);
            let mut elements = Window::new(input, begin, rest);
            let mut part = pickle::scan(&mut elements, limits)?;
            for finding in &mut part.findings {
                finding.offset = finding.offset.saturating_add(begin);
            }
            report.add_part("the elements", part);
        }
        Header::Bytes(bytes) if bytes == rest => {}
        Header::Bytes(bytes) => {
            let detail = format!("the shape needs {bytes} bytes, the file has {rest}");
            report.add(Verdict::Malformed, begin, "npy-size", &detail);
        }
    }
    Ok(report)
}

/// An array in memory whose dtype is one code.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainArray<'f> {
    /// The dtype as numpy writes it, such as `<f4`.
    pub descr: String,
    /// Whether the first dimension varies fastest.
    pub is_fortran_order: bool,
    /// The dimensions.
    pub shape: Vec<u64>,
    /// The elements, as many as the shape needs.
    pub data: &'f [u8],
}

/// Reads an array. Objects and records are refused.
///
/// # Errors
/// What is wrong with the file.
pub fn plain_array<'f>(file: &'f [u8], limits: &Limits) -> Result<PlainArray<'f>, &'static str> {
    let length = u64::try_from(file.len()).unwrap_or(u64::MAX);
    let text = header_text(&mut Cursor::new(file), length, limits);
    let text = text.map_err(|_| "the file cannot be read")?;
    let (text, begin) = text.map_err(|(_, detail)| detail)?;
    let header = parse_plain(&text)?;
    let begin = usize::try_from(begin).unwrap_or(usize::MAX);
    let data = file.get(begin..).unwrap_or_default();
    if u64::try_from(data.len()) != Ok(header.bytes) {
        return Err("the file has more or fewer elements than its shape needs");
    }
    Ok(PlainArray {
        descr: header.descr.to_owned(),
        is_fortran_order: header.is_fortran_order,
        shape: header.shape,
        data,
    })
}

/// The header and where it ends, or what is wrong with the bytes in front of it.
type HeaderText = Result<(String, u64), (Verdict, &'static str)>;

fn header_text(input: &mut dyn Input, length: u64, limits: &Limits) -> io::Result<HeaderText> {
    let malformed = |detail| Ok(Err((Verdict::Malformed, detail)));
    let Some(start) = bytes::<8>(input)? else {
        return malformed("the file is shorter than a header");
    };
    let Some([major, minor]) = start.strip_prefix(MAGIC.as_slice()) else {
        return malformed("the file does not begin with numpy's magic");
    };
    let size = match (major, minor) {
        (1, 0) => bytes(input)?.map(|size| u32::from(u16::from_le_bytes(size))),
        (2 | 3, 0) => bytes(input)?.map(u32::from_le_bytes),
        _ => return Ok(Err((Verdict::Unknown, "the version is not known"))),
    };
    let Some(size) = size else {
        return malformed("the file is shorter than a header");
    };
    let begin = input.stream_position()?.saturating_add(u64::from(size));
    if begin > length {
        return malformed("the header goes beyond the end of the file");
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > limits.header_bytes {
        return Ok(Err((Verdict::Unknown, "the header is too long")));
    }
    let mut text = vec![0; size];
    // A member of an archive can hold less than it declares.
    if !fill(input, &mut text)? {
        return malformed("the file ends within its header");
    }
    // Version 3 is UTF-8, the others are Latin-1. Names in ASCII are the same in both.
    if *major < 3 && !text.is_ascii() {
        return Ok(Err((Verdict::Unknown, "the header is not ASCII")));
    }
    match String::from_utf8(text) {
        Ok(text) => Ok(Ok((text, begin))),
        Err(_) => malformed("the header is not UTF-8"),
    }
}

/// The next bytes of an input; nothing if it ends before.
fn bytes<const N: usize>(input: &mut dyn Input) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    let is_full = fill(input, &mut bytes)?;
    Ok(is_full.then_some(bytes))
}

/// Fills a buffer, if the input has as many bytes.
fn fill(input: &mut dyn Input, buffer: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
