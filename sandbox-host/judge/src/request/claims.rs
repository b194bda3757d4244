//! The claims of a caller's token, from the signed context to header fields. A client's own fields
//! of these names are ignored: the gate removes them, and the signed context has the values.

use http::{HeaderMap, HeaderName, HeaderValue};
use tensorgate_policy::request::Head;

/// Converts claims to header fields. Returns `None` for values that the gate never writes.
pub(super) fn header_fields(claims: &[(String, String)]) -> Option<HeaderMap> {
    claims
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

/// Subtracts the fields that the gate has added from the size of a head. The limits apply to what
/// the client sent.
pub(super) fn subtract_from_size(head: &mut Head<'_>, claims: &[(String, String)]) {
    head.header_count = head.header_count.saturating_sub(claims.len());
    for (name, value) in claims {
        let bytes = name.len().saturating_add(value.len());
        head.header_bytes = head.header_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_field_can_hold_is_one() {
        for (name, value, expected) in [
            ("x-user", "a b", true),
            ("x-user", "", true),
            ("x user", "a", false),
            ("", "a", false),
            (":path", "/", false),
            ("x-user", "a\r\nb", false),
            ("x-user", "a\0", false),
        ] {
            let fields = header_fields(&[(name.to_owned(), value.to_owned())]);
            assert_eq!(fields.is_some(), expected, "{name:?} {value:?}");
        }
    }
}
