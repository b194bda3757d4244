//! Forms that other programs give to copies of a log: compressed, re-encoded, or with other line
//! ends. Hashes cover bytes, so such a copy cannot be verified, and is reported as what it is. That
//! says nothing about its content: who changes a log can convert it, too.

/// Why a copy was not verified whose lines another program has written anew, such as `jq -S`.
pub(super) const WRITTEN_ANEW: &str = "the lines of this copy were written anew by another program, and it was not verified, because the hashes are of the bytes that the host wrote: verify the original";

/// The form of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyForm {
    /// Compressed with gzip.
    Gzip,
    /// Compressed with zstd.
    Zstd,
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
        match start {
            [0x1f, 0x8b, ..] => return Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Some(Self::Zstd),
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
        matches!(self, Self::Gzip | Self::Zstd | Self::Utf16)
    }

    /// What was done to it.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
            Self::Utf16 => "encoded in UTF-16",
            Self::ByteOrderMark => "written with a byte order mark",
            Self::Crlf => "written with CRLF line ends",
        }
    }

    /// What makes it readable again.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Gzip | Self::Zstd => "unpack it first",
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
            (b"\x1f\x8b\x08", Some(CopyForm::Gzip)),
            (b"\x28\xb5\x2f\xfd", Some(CopyForm::Zstd)),
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
