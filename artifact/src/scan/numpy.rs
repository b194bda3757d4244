//! Arrays in numpy's `.npy` format, versions 1.0 to 3.0.
//!
//! A header in the syntax of a Python dictionary, then the elements. An array of objects is a
//! pickle behind the header, with the verdict of that pickle, and never safe: whether numpy
//! unpickles it depends on an option of the caller.
//!
//! Further arrays may follow, as programs write them that save one after the other into a file, as
//! Equinox does. `numpy.load` reads the first one of a path, and such programs read all of them.

mod header;

use std::io::{self, Cursor};

use self::header::parse;
use super::finding::{Report, Verdict};
use super::input::{Input, Window};
use super::limits::Limits;
use super::pickle;
use super::reader::Reader;
use crate::scan::rules;

/// The first bytes of a file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Scans an array, or several.
///
/// # Errors
/// The input cannot be read.
pub fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("npy");
    let mut reader = Reader::new(&mut *input)?;
    for _ in 0..limits.entries {
        let at = reader.position();
        let text = header_text(&mut reader, limits)?;
        let header = text.and_then(|text| {
            let header = parse(&text).map_err(|detail| (Verdict::Malformed, detail))?;
            Ok(header.bytes)
        });
        let (begin, rest) = (reader.position(), reader.left());
        match header {
            Err((verdict, detail)) => {
                report.add(verdict, at, rules::NPY_HEADER, detail);
                return Ok(report);
            }
            Ok(None) => {
                let detail = "an array of objects, which are unpickled with allow_pickle";
                report.add(Verdict::Unknown, begin, rules::NPY_OBJECTS, detail);
                let mut elements = Window::new(input, begin, rest);
                let mut part = pickle::scan(&mut elements, limits)?;
                for finding in &mut part.findings {
                    finding.offset = finding.offset.saturating_add(begin);
                }
                report.add_part("the elements", part);
                return Ok(report);
            }
            Ok(Some(bytes)) => {
                if !reader.skip(bytes) {
                    let detail = format!("the shape needs {bytes} bytes, the file has {rest}");
                    report.add(Verdict::Malformed, begin, rules::NPY_SIZE, &detail);
                    return Ok(report);
                }
                if reader.left() == 0 {
                    return Ok(report);
                }
            }
        }
    }
    let detail = "more arrays than are read";
    report.add(Verdict::Unknown, reader.position(), rules::NPY_SIZE, detail);
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
    let mut input = Cursor::new(file);
    let read = Reader::new(&mut input).and_then(|mut reader| {
        let text = header_text(&mut reader, limits)?;
        Ok((text, reader.position()))
    });
    let (text, begin) = read.map_err(|_| "the file cannot be read")?;
    let text = text.map_err(|(_, detail)| detail)?;
    let header = parse(&text)?;
    let bytes = header.bytes.ok_or("an array of objects")?;
    let descr = header.descr.ok_or("an array of records")?;
    let begin = usize::try_from(begin).unwrap_or(usize::MAX);
    let data = file.get(begin..).unwrap_or_default();
    if u64::try_from(data.len()) != Ok(bytes) {
        return Err("the file has more or fewer elements than its shape needs");
    }
    Ok(PlainArray {
        descr: descr.to_owned(),
        is_fortran_order: header.is_fortran_order,
        shape: header.shape,
        data,
    })
}

/// The header of the array at the position, or what is wrong with the bytes there.
fn header_text(
    reader: &mut Reader<'_>,
    limits: &Limits,
) -> io::Result<Result<String, (Verdict, &'static str)>> {
    let malformed = |detail| Ok(Err((Verdict::Malformed, detail)));
    let unknown = |detail| Ok(Err((Verdict::Unknown, detail)));
    let Some(start) = reader.array::<8>()? else {
        return malformed("the file is shorter than a header");
    };
    let Some([major, minor]) = start.strip_prefix(MAGIC.as_slice()) else {
        return malformed("the file does not begin with numpy's magic");
    };
    let size = match (major, minor) {
        (1, 0) => reader
            .array()?
            .map(|size| u32::from(u16::from_le_bytes(size))),
        (2 | 3, 0) => reader.array()?.map(u32::from_le_bytes),
        _ => return unknown("the version is not known"),
    };
    let Some(size) = size.filter(|size| u64::from(*size) <= reader.left()) else {
        return malformed("the header goes beyond the end of the file");
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > limits.header_bytes {
        return unknown("the header is too long");
    }
    // A member of an archive can hold less than it declares.
    let Some(text) = reader.read_bytes(size)? else {
        return malformed("the file ends within its header");
    };
    // Version 3 is UTF-8, the others are Latin-1. Names in ASCII are the same in both.
    if *major < 3 && !text.is_ascii() {
        return unknown("the header is not ASCII");
    }
    match String::from_utf8(text) {
        Ok(text) => Ok(Ok(text)),
        Err(_) => malformed("the header is not UTF-8"),
    }
}

#[cfg(test)]
mod tests;
