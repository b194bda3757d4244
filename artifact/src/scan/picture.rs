//! Pictures of model cards: PNG, JPEG, GIF and WebP, from the first byte to the last one.
//!
//! A picture is safe if it ends where its format says. Its pixels are not looked at, because no
//! loader of models reads them.

use std::io;

use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict};
use crate::scan::rules::{self, Rule};

const RULE: &Rule = rules::PICTURE;
/// Endings of the names of pictures.
const ENDINGS: [&str; 7] = ["apng", "gif", "jfif", "jpeg", "jpg", "png", "webp"];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The header of a WebP, bytes: its length is that of the rest.
const RIFF_BYTES: u64 = 8;
/// The longest chunk of a PNG, bytes.
const MAX_CHUNK_BYTES: u32 = 0x7fff_ffff;

/// Scans a picture. `ending` is that of its name, in lower case: readers of other files may make
/// something else of it.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, ending: &str, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("picture");
    if !ENDINGS.contains(&ending) {
        let detail = "the content is a picture, and the name is that of no picture";
        report.add(Verdict::Unknown, 0, RULE, detail);
        return Ok(report);
    }
    let mut source = Source::new(input, rules::PICTURE_TRUNCATED)?;
    let walked = walk(&mut source, limits);
    finish(report, walked)
}

fn walk(source: &mut Source<'_>, limits: &Limits) -> Result<(), Stop> {
    let mut parts = Parts {
        left: limits.operations,
    };
    match source.array::<4>()? {
        [0x89, b'P', b'N', b'G'] => png(source, &mut parts)?,
        [0xff, 0xd8, 0xff, _] => jpeg(source, &mut parts)?,
        [b'G', b'I', b'F', b'8'] => gif(source, &mut parts)?,
        [b'R', b'I', b'F', b'F'] => webp(source, &mut parts)?,
        _ => return Err(Stop::malformed(0, RULE, "no picture begins so")),
    }
    if source.left() == 0 {
        return Ok(());
    }
    let detail = format!("{} bytes behind the end of the picture", source.left());
    Err(Stop::unknown(source.position(), RULE, detail))
}

/// How many parts a picture may still have.
struct Parts {
    left: u64,
}

impl Parts {
    fn take(&mut self, at: u64) -> Result<(), Stop> {
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| Stop::unknown(at, RULE, "a picture of too many parts"))?;
        Ok(())
    }
}

fn wrong(source: &Source<'_>, detail: &str) -> Stop {
    Stop::malformed(source.position().min(source.length()), RULE, detail)
}

/// Follows the chunks up to IEND.
fn png(source: &mut Source<'_>, parts: &mut Parts) -> Result<(), Stop> {
    source.seek(0);
    if source.read_bytes(PNG.len())? != PNG {
        return Err(Stop::malformed(0, RULE, "a PNG begins otherwise"));
    }
    let mut is_first = true;
    let mut has_data = false;
    loop {
        parts.take(source.position())?;
        let length = u32::from_be_bytes(source.array()?);
        let kind = source.array::<4>()?;
        let is_named = kind.iter().all(u8::is_ascii_alphabetic);
        let is_in_order = is_first == (kind == *b"IHDR");
        if !is_named || !is_in_order || length > MAX_CHUNK_BYTES {
            return Err(wrong(source, "a chunk of a PNG"));
        }
        is_first = false;
        has_data |= kind == *b"IDAT";
        // The checksum is behind the data.
        source.skip(u64::from(length).saturating_add(4))?;
        if kind == *b"IEND" {
            if length == 0 && has_data {
                return Ok(());
            }
            return Err(wrong(source, "the last chunk of a PNG"));
        }
    }
}

/// Follows the segments, and the data behind each that starts a scan, up to the end of the image.
fn jpeg(source: &mut Source<'_>, parts: &mut Parts) -> Result<(), Stop> {
    source.seek(2);
    let mut has_data = false;
    loop {
        parts.take(source.position())?;
        if source.byte()? != 0xff {
            return Err(wrong(source, "no marker where a segment begins"));
        }
        match marker(source, parts)? {
            0xd9 if has_data => return Ok(()),
            0xda => {
                has_data = true;
                segment(source)?;
                pass_scan(source, parts)?;
            }
            0xc0..=0xcf | 0xdb..=0xfe => segment(source)?,
            _ => return Err(wrong(source, "a marker of a JPEG")),
        }
    }
}

/// The marker behind its first byte, of which there may be several.
fn marker(source: &mut Source<'_>, parts: &mut Parts) -> Result<u8, Stop> {
    loop {
        parts.take(source.position())?;
        let byte = source.byte()?;
        if byte != 0xff {
            return Ok(byte);
        }
    }
}

/// Passes over a segment with its length.
fn segment(source: &mut Source<'_>) -> Result<(), Stop> {
    let length = u64::from(u16::from_be_bytes(source.array()?));
    let Some(rest) = length.checked_sub(2) else {
        return Err(wrong(source, "a segment of less than its length"));
    };
    source.skip(rest)
}

/// Passes over the data of a scan, up to the next marker that does not belong to it.
fn pass_scan(source: &mut Source<'_>, parts: &mut Parts) -> Result<(), Stop> {
    loop {
        parts.take(source.position())?;
        if source.byte()? != 0xff {
            continue;
        }
        let marker = marker(source, parts)?;
        // A byte of data, and marks at which a reader may begin again.
        if !matches!(marker, 0 | 0xd0..=0xd7) {
            source.seek(source.position().saturating_sub(2));
            return Ok(());
        }
    }
}

/// Follows the blocks up to the trailer.
fn gif(source: &mut Source<'_>, parts: &mut Parts) -> Result<(), Stop> {
    if !matches!(&source.array::<2>()?, b"7a" | b"9a") {
        return Err(wrong(source, "the version of a GIF"));
    }
    let [_, _, _, _, flags, _, _] = source.array::<7>()?;
    source.skip(color_table_bytes(flags))?;
    loop {
        parts.take(source.position())?;
        match source.byte()? {
            b';' => return Ok(()),
            b'!' => source.skip(1)?,
            b',' => {
                let [_, _, _, _, _, _, _, _, flags] = source.array::<9>()?;
                // The size of codes is behind the colors.
                source.skip(color_table_bytes(flags).saturating_add(1))?;
            }
            _ => return Err(wrong(source, "a block of a GIF")),
        }
        loop {
            parts.take(source.position())?;
            let bytes = source.byte()?;
            source.skip(u64::from(bytes))?;
            if bytes == 0 {
                break;
            }
        }
    }
}

/// The bytes of a table of colors, by the flags that say how many there are.
fn color_table_bytes(flags: u8) -> u64 {
    if flags & 0x80 == 0 {
        return 0;
    }
    6_u64.checked_shl(u32::from(flags & 7)).unwrap_or(u64::MAX)
}

/// Follows the chunks up to the length that the header has.
fn webp(source: &mut Source<'_>, parts: &mut Parts) -> Result<(), Stop> {
    let end = u64::from(source.u32()?).saturating_add(RIFF_BYTES);
    if end > source.length() || source.array::<4>()? != *b"WEBP" {
        return Err(wrong(source, "the header of a WebP"));
    }
    let mut is_first = true;
    while source.position() < end {
        parts.take(source.position())?;
        let kind = source.array::<4>()?;
        let length = u64::from(source.u32()?);
        let begins = matches!(&kind, b"VP8 " | b"VP8L" | b"VP8X");
        let is_named = kind
            .iter()
            .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        // A chunk has an even length.
        let padded = length.saturating_add(length & 1);
        let left = end.saturating_sub(source.position());
        if (is_first && !begins) || !is_named || padded > left {
            return Err(wrong(source, "a chunk of a WebP"));
        }
        is_first = false;
        source.skip(padded)?;
    }
    if is_first {
        return Err(wrong(source, "a WebP without a picture"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use std::io::Cursor;

    use super::*;
    use crate::scan::detect;

    fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], kind, data, &[0; 4]].concat()
    }

    /// A picture of each format, and its ending.
    fn pictures() -> Vec<(&'static str, Vec<u8>)> {
        let png = [
            PNG,
            &chunk(b"IHDR", &[0; 13]),
            &chunk(b"tEXt", b"Comment\0a"),
            &chunk(b"IDAT", &[0x78, 1, 2]),
            &chunk(b"IEND", b""),
        ];
        let jpeg: [&[u8]; 5] = [
            b"\xff\xd8\xff\xe0\0\x04JF",
            b"\xff\xff\xc0\0\x03\x08",
            b"\xff\xda\0\x03\x01abc\xff\0d\xff\xd0e",
            b"\xff\xc4\0\x02\xff\xda\0\x02f",
            b"\xff\xd9",
        ];
        let gif: [&[u8]; 5] = [
            b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff",
            b"!\xf9\x04\0\0\0\0\0",
            b",\0\0\0\0\x01\0\x01\0\x80\0\0\0\x01\x01\x01\x02",
            b"\x02D\x01\0",
            b";",
        ];
        let webp = b"RIFF\x10\0\0\0WEBPVP8L\x03\0\0\0abc\0";
        vec![
            ("png", png.concat()),
            ("apng", png.concat()),
            ("jpg", jpeg.concat()),
            ("gif", gif.concat()),
            ("webp", webp.to_vec()),
        ]
    }

    fn verdict(name: &str, content: &[u8]) -> Verdict {
        let mut file = Cursor::new(content);
        detect::scan(&mut file, name, &Limits::default())
            .unwrap()
            .verdict
    }

    #[test]
    fn a_picture_is_safe_only_to_its_last_byte() {
        for (ending, picture) in pictures() {
            let name = format!("card.{ending}");
            let report = detect::scan(&mut Cursor::new(&picture), &name, &Limits::default());
            let report = report.unwrap();
            assert_eq!(
                (report.verdict, report.format),
                (Verdict::Safe, "picture"),
                "{report:?}"
            );
            for bytes in 13..picture.len() {
                let cut = picture.get(..bytes).unwrap();
                assert_eq!(
                    verdict(&name, cut),
                    Verdict::Malformed,
                    "{ending} of {bytes}"
                );
            }
            let behind = [picture.as_slice(), b"\0"].concat();
            assert_eq!(verdict(&name, &behind), Verdict::Unknown, "{ending}");
            let program = [picture.as_slice(), b"\x7fELF"].concat();
            assert_eq!(verdict(&name, &program), Verdict::Unknown, "{ending}");
        }
    }

    #[test]
    fn a_picture_under_another_name_is_not_safe() {
        for (_, picture) in pictures() {
            for (name, expected) in [
                ("card", Verdict::Unknown),
                ("card.svg", Verdict::Unknown),
                ("weights.bin", Verdict::Unknown),
                ("model.pt", Verdict::Malformed),
                ("model.safetensors", Verdict::Malformed),
                ("a.php", Verdict::Executable),
                ("a.py", Verdict::Executable),
            ] {
                assert_eq!(verdict(name, &picture), expected, "{name}");
            }
        }
    }

    #[test]
    fn parts_that_no_picture_has_are_malformed() {
        for (name, broken) in [
            (
                "a.png",
                [PNG, &chunk(b"IDAT", b"a"), &chunk(b"IEND", b"")].concat(),
            ),
            (
                "a.png",
                [PNG, &chunk(b"IHDR", &[0; 13]), &chunk(b"IEND", b"")].concat(),
            ),
            (
                "a.png",
                [PNG, &chunk(b"IHDR", b""), b"\xff\xff\xff\xffIDAT"].concat(),
            ),
            ("a.jpg", b"\xff\xd8\xff\xe0\0\x01ab".to_vec()),
            ("a.jpg", b"\xff\xd8\xff\xd9".to_vec()),
            ("a.jpg", b"\xff\xd8\xff\xe0\0\x02a".to_vec()),
            ("a.gif", b"GIF89a\0\0\0\0\0\0\0?".to_vec()),
            ("a.webp", b"RIFF\xff\0\0\0WEBPVP8L\0\0\0\0".to_vec()),
            ("a.webp", b"RIFF\x0c\0\0\0WEBPXMP \0\0\0\0".to_vec()),
            ("a.webp", b"RIFF\x04\0\0\0WEBP".to_vec()),
        ] {
            assert_eq!(
                verdict(name, &broken),
                Verdict::Malformed,
                "{name}: {broken:?}"
            );
        }
    }
}
