//! An image inside a request: a `data:` URL (RFC 2397) in one spelling, and the image header.

use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::contract::media::{MediaRule, Probe};

/// Prefix of such a URL.
pub(super) const DATA: &str = "data:";
/// Allowed image types; SVG is excluded because it is a program. Clients name a JPEG either way,
/// and the policy's types hold for the image itself.
const TYPES: [&str; 5] = ["png", "jpeg", "jpg", "webp", "gif"];
/// Characters decoded at once, a multiple of four, and the resulting bytes.
const CHARACTERS: usize = 1024;
const BYTES: usize = CHARACTERS / 4 * 3;

/// A base64 image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture<'a> {
    data: &'a str,
    padding: usize,
}

/// Result of the header check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The image satisfies the rule.
    Keeps,
    /// The image violates the rule.
    Breaks(String),
    /// Unused bits are set: another spelling of the same data.
    NotBase64,
}

impl<'a> Picture<'a> {
    /// Parses a URL: padded, without blanks, of a known type.
    pub(super) fn read(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix(DATA)?.strip_prefix("image/")?;
        let (kind, data) = rest.split_once(";base64,")?;
        let digits = data.trim_end_matches('=');
        let padding = data.len().saturating_sub(digits.len());
        let plain = digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let is_padded = data.len().checked_rem(4) == Some(0) && padding <= 2 && !digits.is_empty();
        (TYPES.contains(&kind) && plain && is_padded).then_some(Self { data, padding })
    }

    /// Length in base64.
    pub(super) const fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Checks the header.
    pub(super) fn look(&self, rule: &MediaRule) -> Look {
        // Groups of four characters are three bytes each, minus the padding.
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
