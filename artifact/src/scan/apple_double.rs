//! AppleDouble: what macOS stores about a file in another one, `._model.onnx`, such as where it
//! came from. Archives have such files in a folder `__MACOSX`. No loader opens them.

use std::io;

use super::rules;
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report};

/// Where the number of entries is, behind the first bytes and the name of a system.
const COUNT_AT: u64 = 24;
/// The length of the header that macOS writes, with two entries.
const HEADER_BYTES: u64 = 50;

/// Scans a file with the mark of the format.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, _: &Limits) -> io::Result<Report> {
    let mut source = Source::new(input, rules::APPLE_DOUBLE)?;
    let walked = walk(&mut source);
    finish(Report::new("apple double"), walked)
}

/// Follows the two entries, each with its kind, offset and length. Their data lies behind them up
/// to the end.
fn walk(source: &mut Source<'_>) -> Result<(), Stop> {
    source.seek(COUNT_AT);
    let mut is_dense = source.array::<2>()? == [0, 2];
    let mut end = HEADER_BYTES;
    while source.position() < HEADER_BYTES {
        source.skip(4)?;
        is_dense &= end == u64::from(u32::from_be_bytes(source.array()?));
        end = end.saturating_add(u32::from_be_bytes(source.array()?).into());
    }
    if is_dense && end == source.length() {
        return Ok(());
    }
    let detail = "the data of the entries has gaps, or does not end with the file";
    Err(Stop::unknown(0, rules::APPLE_DOUBLE, detail))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::scan::Verdict;
    use std::io::Cursor;

    /// A file with two entries, as macOS writes it.
    fn file(second_start: u32, data: &[u8]) -> Vec<u8> {
        let words = [9, 50, 32, 2, second_start, 4].map(u32::to_be_bytes);
        let header = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        \0\x02";
        [&header[..], words.as_flattened(), data].concat()
    }

    #[test]
    fn entries_fill_the_file() {
        let verdict = |file: &[u8]| {
            let report = scan(&mut Cursor::new(file), &Limits::default()).unwrap();
            report.verdict
        };
        assert_eq!(verdict(&file(82, &[7; 36])), Verdict::Safe);
        // What no entry has may be another format.
        assert_eq!(verdict(&file(82, &[7; 37])), Verdict::Unknown);
        assert_eq!(verdict(&file(82, &[7; 35])), Verdict::Unknown);
        assert_eq!(verdict(&file(81, &[7; 35])), Verdict::Unknown);
        assert_eq!(verdict(&file(83, &[7; 32])), Verdict::Unknown);
        assert_eq!(verdict(&file(u32::MAX, &[7; 36])), Verdict::Unknown);
        assert_eq!(verdict(&file(82, &[])[..30]), Verdict::Malformed);
    }
}
