//! Forms that other programs give to copies of a log: compressed, re-encoded, written anew, or with
//! other line ends. Hashes cover bytes, so such a copy cannot be verified, and is reported as what
//! it is. That says nothing about its content: who changes a log can convert it, too.

/// The first bytes of compressed files, and what was done to them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\xfd7zXZ", "compressed with xz"),
    (b"BZh", "compressed with bzip2"),
    (b"PK\x03\x04", "compressed with zip"),
];

/// The form of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyForm {
    /// Compressed, and how.
    Compressed(&'static str),
    /// JSON that another program has written, over several lines or with other blanks.
    OtherJson,
    /// Encoded in UTF-16.
    Utf16,
    /// With a byte order mark before its first line.
    ByteOrderMark,
    /// With CRLF at the ends of lines.
    Crlf,
}

impl CopyForm {
    /// The form that the start of a file shows. `None` for a file as the host writes it, and for
    /// one that is damaged. `start` has the first line if that is as long as a line may be.
    pub fn of_start(start: &[u8]) -> Option<Self> {
        for (magic, what) in COMPRESSED {
            if start.starts_with(magic) {
                return Some(Self::Compressed(what));
            }
        }
        match start {
            // A list of records, or a record over several lines. Lines of Envoy begin with `[` too.
            [b'[', b'{' | b' ' | b'\n' | b'\r', ..] | [b'{', b'\n' | b'\r', ..] => {
                return Some(Self::OtherJson);
            }
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..] | [0, b'{', ..] => {
                return Some(Self::Utf16);
            }
            [0xef, 0xbb, 0xbf, ..] => return Some(Self::ByteOrderMark),
            _ => {}
        }
        let first = start.split_inclusive(|byte| *byte == b'\n').next()?;
        first.ends_with(b"\r\n").then_some(Self::Crlf)
    }

    /// Whether no line of it can be read.
    pub const fn is_unreadable(self) -> bool {
        matches!(self, Self::Compressed(_) | Self::OtherJson | Self::Utf16)
    }

    /// What was done to it.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Compressed(what) => what,
            Self::OtherJson => "written anew by a program for JSON",
            Self::Utf16 => "encoded in UTF-16",
            Self::ByteOrderMark => "written with a byte order mark",
            Self::Crlf => "written with CRLF line ends",
        }
    }

    /// What makes it readable again.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Compressed(_) => "unpack it first",
            Self::OtherJson => {
                "write a record on each line, without blanks and with its members in the host's order"
            }
            Self::Utf16 => "convert it to UTF-8 without a byte order mark",
            Self::ByteOrderMark => "remove the mark",
            Self::Crlf => "convert its line ends to LF",
        }
    }

    /// Why it was not verified.
    pub(super) fn detail(self) -> String {
        format!(
            "this copy is {} and was not verified, because the hashes are of the bytes that the host wrote: verify the original, or {}",
            self.what(),
            self.cure()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_show_the_form_of_a_copy() {
        for (start, form) in [
            (&b"{\"v\":1}\n{\"v\":1}\r\n"[..], None),
            (b"{\"v\":1}", None),
            (b"", None),
            (b"\n", None),
            (
                b"\x1f\x8b\x08",
                Some(CopyForm::Compressed("compressed with gzip")),
            ),
            (
                b"\xfd7zXZ\0",
                Some(CopyForm::Compressed("compressed with xz")),
            ),
            (b"{", None),
            (b"{\n  \"v\": 1,\n", Some(CopyForm::OtherJson)),
            (b"[{\"v\":1}]", Some(CopyForm::OtherJson)),
            (b"[2026-11-20 08:00:00.000][7][info] x\n", None),
            (b"\xff\xfe{\0", Some(CopyForm::Utf16)),
            (b"\xfe\xff\0{", Some(CopyForm::Utf16)),
            (b"{\0\"\0", Some(CopyForm::Utf16)),
            (b"\0{\0\"", Some(CopyForm::Utf16)),
            (b"\xef\xbb\xbf{\"v\":1}\n", Some(CopyForm::ByteOrderMark)),
            (b"{\"v\":1}\r\n{", Some(CopyForm::Crlf)),
        ] {
            assert_eq!(CopyForm::of_start(start), form, "{}", start.escape_ascii());
        }
    }
}
