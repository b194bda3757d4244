//! A picture inside a request: its `data:` URL (RFC 2397) in its one spelling, and what its header says of it.

use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::contract::media::{MediaRule, Probe};

/// How the URL of what is inside a request begins.
pub(super) const DATA: &str = "data:";
/// Types that are pictures and nothing else: SVG is a program.
const TYPES: [&str; 4] = ["png", "jpeg", "webp", "gif"];
/// Characters that are decoded at once, a multiple of four; and the bytes that they are.
const CHARACTERS: usize = 1024;
const BYTES: usize = CHARACTERS / 4 * 3;

/// A picture in base64.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture<'a> {
    data: &'a str,
    padding: usize,
}

/// What a picture came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It keeps the rule.
    Keeps,
    /// It does not, for this.
    Breaks(String),
    /// Bits that belong to no byte: another spelling of the same.
    NotBase64,
}

impl<'a> Picture<'a> {
    /// Reads a URL: padded, without blanks, of a type that is known.
    pub(super) fn read(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix(DATA)?.strip_prefix("image/")?;
        let (kind, data) = rest.split_once(";base64,")?;
        let digits = data.trim_end_matches('=');
        let padding = data.len().saturating_sub(digits.len());
        let plain = digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let whole = data.len().checked_rem(4) == Some(0) && padding <= 2 && !digits.is_empty();
        (TYPES.contains(&kind) && plain && whole).then_some(Self { data, padding })
    }

    /// Its length in base64.
    pub(super) const fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Looks at its header.
    pub(super) fn look(&self, rule: &MediaRule) -> Look {
        // Whole groups of four are three bytes each, less those that the padding stands for.
        let groups = self.data.len().checked_div(4).unwrap_or(0);
        let bytes = groups.saturating_mul(3).saturating_sub(self.padding);
        let mut probe = Probe::new(bytes);
        let mut room = [0; BYTES];
        for piece in self.data.as_bytes().chunks(CHARACTERS) {
            let Ok(decoded) = STANDARD.decode_slice(piece, &mut room) else {
                return Look::NotBase64;
            };
            let piece = room.get(..decoded).unwrap_or_default();
            if let Err(cause) = probe.take(rule, piece) {
                return Look::Breaks(cause);
            }
        }
        match probe.end() {
            Ok(()) => Look::Keeps,
            Err(cause) => Look::Breaks(cause),
        }
    }
}
