//! Classifies `content-type` values. Invalid media types and unsupported charsets are malformed.

use std::borrow::Cow;

use tensorgate_policy::request::{Boundary, ContentType, FORM};

/// Whether a byte is allowed in a token (RFC 9110, 5.6.2).
// Used for each byte of every field name.
#[inline(always)]
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Class of a `charset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    /// UTF-8, or none.
    Utf8,
    /// One that equals UTF-8 for ASCII.
    Ascii,
}

impl Charset {
    fn read(name: Option<&str>) -> Option<Self> {
        let is = |known: &str| name.is_some_and(|name| name.eq_ignore_ascii_case(known));
        if name.is_none() || is("utf-8") || is("utf8") {
            return Some(Self::Utf8);
        }
        (is("us-ascii") || is("iso-8859-1")).then_some(Self::Ascii)
    }
}

/// Classifies a value. Parameters must be well-formed; `charset` must be UTF-8. JSON and forms may
/// declare one that equals it for ASCII, and are read as UTF-8. A form needs exactly one boundary.
pub(crate) fn classify(value: &str) -> ContentType<'_> {
    match classify_text(value) {
        (known, Charset::Utf8) => known,
        // Java clients declare ISO-8859-1 by default. The backend never sees that.
        (known @ (ContentType::Json | ContentType::Form(_)), Charset::Ascii) => known,
        (_, Charset::Ascii) => ContentType::Malformed,
    }
}

/// The same for a text that may have another character set.
pub(crate) fn classify_text(value: &str) -> (ContentType<'_>, Charset) {
    let (known, charset) = split(value);
    match Charset::read(charset) {
        Some(charset) => (known, charset),
        None => (ContentType::Malformed, Charset::Utf8),
    }
}

/// The class of a value, and its `charset`.
fn split(value: &str) -> (ContentType<'_>, Option<&str>) {
    const MALFORMED: (ContentType<'_>, Option<&str>) = (ContentType::Malformed, None);
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim_matches(' ');
    let well_formed = matches!(essence.split_once('/'), Some((kind, subtype)) if is_token(kind) && is_token(subtype));
    if !well_formed {
        return MALFORMED;
    }
    let (mut charset, mut boundary) = (None, None);
    for part in parts {
        let part = part.trim_matches(' ');
        // A parameter may be empty (RFC 9110, 5.6.6).
        if part.is_empty() {
            continue;
        }
        // A quoted value may contain a `;`; no type here needs one, so such a value is rejected.
        let Some((name, text)) = part.split_once('=') else {
            return MALFORMED;
        };
        let text = match text.strip_prefix('"') {
            Some(open) => open.strip_suffix('"').unwrap_or_default(),
            None => text,
        };
        if !is_token(name) || !is_token(text) {
            return MALFORMED;
        }
        let known = [("charset", &mut charset), ("boundary", &mut boundary)];
        for (known, slot) in known {
            if name.eq_ignore_ascii_case(known) && slot.replace(text).is_some() {
                return MALFORMED;
            }
        }
    }
    if essence.eq_ignore_ascii_case(FORM) {
        let boundary = boundary.and_then(Boundary::new);
        let form = boundary.map_or(ContentType::Malformed, ContentType::Form);
        return (form, charset);
    }
    let known = if essence.eq_ignore_ascii_case("application/json") {
        ContentType::Json
    } else if ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|grpc| essence.eq_ignore_ascii_case(grpc))
    {
        ContentType::Grpc
    } else if essence.bytes().any(|byte| byte.is_ascii_uppercase()) {
        ContentType::Other(Cow::Owned(essence.to_ascii_lowercase()))
    } else {
        ContentType::Other(Cow::Borrowed(essence))
    };
    (known, charset)
}

/// Whether a response to this type should be gRPC: the type begins with `application/grpc`.
pub(crate) fn speaks_grpc(value: &str) -> bool {
    const PREFIX: &str = "application/grpc";
    value
        .trim_start_matches(' ')
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_classified_without_guessing() {
        let other = |text: &'static str| ContentType::Other(Cow::Borrowed(text));
        let form = |text| Boundary::new(text).map_or(ContentType::Absent, ContentType::Form);
        for (value, expected) in [
            ("application/json", ContentType::Json),
            ("Application/JSON ; Charset=UTF-8", ContentType::Json),
            ("application/json;charset=\"utf-8\"", ContentType::Json),
            ("application/json; charset=utf8", ContentType::Json),
            ("application/json; charset=ISO-8859-1", ContentType::Json),
            ("application/json; charset=utf-16", ContentType::Malformed),
            ("application/json; charset=utf-7", ContentType::Malformed),
            (
                "application/json; charset=utf-8; charset=utf-8",
                ContentType::Malformed,
            ),
            ("application/json;", ContentType::Json),
            ("application/json; ;charset=utf-8", ContentType::Json),
            ("application/json;utf-8", ContentType::Malformed),
            ("application/json;;charset=utf-16", ContentType::Malformed),
            (";application/json", ContentType::Malformed),
            ("application/json, application/grpc", ContentType::Malformed),
            ("application/json application/grpc", ContentType::Malformed),
            ("application/json; a=\"b;c\"", ContentType::Malformed),
            ("application/json; a=\"", ContentType::Malformed),
            ("application/grpc", ContentType::Grpc),
            ("application/grpc+proto", ContentType::Grpc),
            ("application/grpc+json", other("application/grpc+json")),
            ("application/grpc-web", other("application/grpc-web")),
            ("Image/PNG", other("image/png")),
            (
                "application/vnd.sagemaker-triton.binary+json;json-header-size=9",
                other("application/vnd.sagemaker-triton.binary+json"),
            ),
            ("multipart/form-data; boundary=x-1", form("x-1")),
            (
                "Multipart/Form-Data;BOUNDARY=\"x\"; charset=utf-8",
                form("x"),
            ),
            (
                "multipart/form-data; charset=ISO-8859-1; boundary=x",
                form("x"),
            ),
            (
                "multipart/form-data; charset=utf-16; boundary=x",
                ContentType::Malformed,
            ),
            ("multipart/form-data", ContentType::Malformed),
            ("multipart/form-data; boundary=", ContentType::Malformed),
            (
                "multipart/form-data; boundary=a; boundary=a",
                ContentType::Malformed,
            ),
            (
                "multipart/form-data; boundary=\"a b\"",
                ContentType::Malformed,
            ),
            ("multipart/form-data; boundary=a!", ContentType::Malformed),
            ("multipart/mixed; boundary=a", other("multipart/mixed")),
            ("", ContentType::Malformed),
            ("/", ContentType::Malformed),
            ("json", ContentType::Malformed),
            ("a/b/c", ContentType::Malformed),
            ("*/*", other("*/*")),
        ] {
            assert_eq!(classify(value), expected, "{value:?}");
        }
    }

    #[test]
    fn only_the_known_character_sets_are_accepted() {
        let text = || ContentType::Other(Cow::Borrowed("text/plain"));
        for (value, expected) in [
            ("text/plain", (text(), Charset::Utf8)),
            ("text/plain; charset=\"UTF-8\"", (text(), Charset::Utf8)),
            ("text/plain; charset=US-ASCII", (text(), Charset::Ascii)),
            ("text/plain; Charset=iso-8859-1", (text(), Charset::Ascii)),
        ] {
            assert_eq!(classify_text(value), expected, "{value}");
        }
        for value in [
            "text/plain; charset=utf-16",
            "text/plain; charset=utf-7",
            "text/plain; charset=us-ascii; charset=utf-8",
        ] {
            assert_eq!(classify_text(value).0, ContentType::Malformed, "{value}");
        }
        let classified = classify("text/plain; charset=us-ascii");
        assert_eq!(classified, ContentType::Malformed);
    }

    #[test]
    fn only_a_grpc_content_type_gets_a_grpc_answer() {
        for (value, expected) in [
            ("application/grpc", true),
            ("APPLICATION/GRPC+json", true),
            ("application/grp", false),
            ("text/plain; application/grpc", false),
            ("", false),
            ("application/grpé", false),
        ] {
            assert_eq!(speaks_grpc(value), expected, "{value:?}");
        }
    }
}
