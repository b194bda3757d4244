//! An image inside a request: a `data:` URL (RFC 2397), and the image header. Scheme and media type
//! have no case (RFC 3986, 3.1; RFC 9110, 8.3.1). The backend gets them in lower case, because some
//! servers compare them as they are.

use alloc::borrow::Cow;
use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::contract::media::{MediaRule, Probe};

/// Prefix of such a URL.
const DATA: &str = "data:";
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

/// Whether a picture is inside the request. For any other URL the server fetches it.
pub(super) fn is_data(url: &str) -> bool {
    without_prefix(url, DATA).is_some()
}

/// The rest of a text behind a prefix, which has no case.
fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Writes scheme and media type of a `data:` URL in lower case.
pub(super) fn lower_header(url: &mut Cow<'_, str>) {
    let Some(end) = url.find(',').filter(|_| is_data(url)) else {
        return;
    };
    let header = url.get(..end).unwrap_or_default();
    if header.bytes().any(|byte| byte.is_ascii_uppercase())
        && let Some(header) = url.to_mut().get_mut(..end)
    {
        header.make_ascii_lowercase();
    }
}

impl<'a> Picture<'a> {
    /// Parses a URL: padded, without blanks, of a known type.
    pub(super) fn read(url: &'a str) -> Option<Self> {
        let rest = without_prefix(without_prefix(url, DATA)?, "image/")?;
        let (header, data) = rest.split_once(',')?;
        let (kind, coding) = header.split_once(';')?;
        let is_known = TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind));
        let digits = data.trim_end_matches('=');
        let padding = data.len().saturating_sub(digits.len());
        let plain = digits
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let is_padded = data.len().checked_rem(4) == Some(0) && padding <= 2 && !digits.is_empty();
        let is_base64 = coding.eq_ignore_ascii_case("base64") && plain && is_padded;
        (is_known && is_base64).then_some(Self { data, padding })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_type_and_coding_have_no_case_and_the_backend_gets_one_spelling() {
        for (url, expected) in [
            ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
            ("DATA:image/PNG;base64,AaAA", "data:image/png;base64,AaAA"),
            ("Data:Image/Jpg;BASE64,AA==", "data:image/jpg;base64,AA=="),
        ] {
            assert!(is_data(url) && Picture::read(url).is_some(), "{url}");
            let mut sent = Cow::Borrowed(url);
            lower_header(&mut sent);
            assert_eq!(sent, expected);
            assert_eq!(matches!(sent, Cow::Borrowed(_)), url == expected);
        }
        for url in [
            "data:image/png;charset=x;base64,AAAA",
            "data:image/png;base64;base64,AAAA",
            "data:image/png; base64,AAAA",
            "data:image/png,AAAA",
            "data:image/svg+xml;base64,AAAA",
            "data:text/html;base64,AAAA",
            "data:;base64,AAAA",
            "data:image/png;base64,AA\r\nAA",
            "data:image/\u{212a}ng;base64,AAAA",
            "data:image/png;base64,",
            "data:",
        ] {
            assert!(is_data(url) && Picture::read(url).is_none(), "{url}");
        }
        for url in [
            " data:",
            "dat",
            "d\u{e4}ta:",
            "",
            "http://A/data:image/png;base64,AAAA",
        ] {
            assert!(!is_data(url) && Picture::read(url).is_none(), "{url}");
            let mut sent = Cow::Borrowed(url);
            lower_header(&mut sent);
            assert_eq!(sent, url);
        }
    }
}
