//! A header of a tar file: one block with fields at fixed positions.

use std::ops::Range;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: u64 = 512;
/// Where the checksum is. It counts as spaces in itself.
const CHECKSUM: Range<usize> = 148..156;

/// Which extension of the first format a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    Posix,
    Gnu,
    Other,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A hard or a symbolic link.
    Link,
    /// A device or a pipe.
    Device,
    /// An extended header of POSIX.
    Extended,
    Other(u8),
}

/// A header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) kind: Kind,
    pub(super) link: String,
    pub(super) magic: Magic,
}

/// Reads a block.
pub(super) fn parse(block: &[u8]) -> Result<Header, &'static str> {
    let field = |range: Range<usize>| block.get(range).ok_or("the file ends in a header");
    // The end of the block first: it may be cut anywhere.
    let reserved = field(500..512)?;
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field(CHECKSUM)?.iter().map(|byte| u64::from(*byte)).sum();
    let expected = sum.checked_sub(own).and_then(|sum| sum.checked_add(8 * 32));
    if octal(field(CHECKSUM)?) != expected {
        return Err("the checksum of a header is wrong");
    }
    let magic = match field(257..265)? {
        b"ustar\x0000" => Magic::Posix,
        b"ustar  \0" => Magic::Gnu,
        _ => Magic::Other,
    };
    let mut name = text(field(0..100)?).ok_or("a name that is not UTF-8, or bytes after it")?;
    let prefix = field(345..500)?;
    if magic == Magic::Posix {
        let prefix = text(prefix).ok_or("a prefix that is not UTF-8, or bytes after it")?;
        if !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
    } else if prefix.iter().any(|byte| *byte != 0) {
        return Err("a header of GNU with fields of another kind of member");
    }
    if reserved.iter().any(|byte| *byte != 0) {
        return Err("bytes after the fields of a header");
    }
    let size = number(field(124..136)?).ok_or("a size that is no number")?;
    let kind = match block.get(156).copied().unwrap_or_default() {
        0 | b'0' | b'7' => Kind::File,
        b'5' => Kind::Folder,
        b'1' | b'2' => Kind::Link,
        b'3' | b'4' | b'6' => Kind::Device,
        b'x' => Kind::Extended,
        kind => Kind::Other(kind),
    };
    let link = text(field(157..257)?).ok_or("a link that is not UTF-8, or bytes after it")?;
    Ok(Header {
        name,
        size,
        kind,
        link,
        magic,
    })
}

/// A text up to its first NUL. Only NULs follow.
fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0);
    let (text, rest) = field.split_at_checked(end.unwrap_or(field.len()))?;
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    String::from_utf8(text.to_vec()).ok()
}

/// A number: octal digits, or GNU's form for large ones: a byte 0x80, then big-endian bytes.
fn number(field: &[u8]) -> Option<u64> {
    let Some((0x80, digits)) = field.split_first() else {
        return octal(field);
    };
    let (high, low) = digits.split_last_chunk::<8>()?;
    high.iter()
        .all(|byte| *byte == 0)
        .then(|| u64::from_be_bytes(*low))
}

/// Octal digits between spaces and NULs, at least one.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_start_matches(' ').trim_end_matches(['\0', ' ']);
    // `from_str_radix` accepts a sign.
    let is_octal = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let number = u64::from_str_radix(digits, 8).ok();
    number.filter(|_| is_octal)
}
