//! What a caller's token says of it, from the signed context to header fields. A client's own fields of these names are not looked at: the
//! gate lets none through, and the context is what it signed.

use http::{HeaderMap, HeaderName, HeaderValue};
use tensorgate_policy::request::Head;

/// The fields; `None` for what no gate of ours writes.
pub(super) fn fields(claims: &[(String, String)]) -> Option<HeaderMap> {
    claims
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

/// Takes what the gate has added out of what a head counts: its bounds are for what the client sent.
pub(super) fn uncount(head: &mut Head<'_>, claims: &[(String, String)]) {
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
            let fields = fields(&[(name.to_owned(), value.to_owned())]);
            assert_eq!(fields.is_some(), expected, "{name:?} {value:?}");
        }
    }
}
