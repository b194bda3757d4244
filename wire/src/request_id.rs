//! The form of request ids: those of Envoy and of the gate are UUIDs. Other texts in their place
//! are a client's, and are neither logged as an id nor joined by it.

/// Digits of the groups of a UUID (RFC 9562, section 4).
const GROUP_DIGITS: [usize; 5] = [8, 4, 4, 4, 12];

/// Whether a text has the form of a UUID.
pub fn is_uuid(text: &str) -> bool {
    let is_hex = |group: &str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    let groups = text.split('-').map(|group| (group.len(), is_hex(group)));
    groups.eq(GROUP_DIGITS.map(|digits| (digits, true)))
}

#[cfg(test)]
mod tests {
    use super::is_uuid;

    #[test]
    fn only_five_groups_of_hex_digits_are_a_uuid() {
        for (text, expected) in [
            ("8f1a2b3c-0000-4000-8000-0000000000aa", true),
            ("8F1A2B3C-0000-4000-8000-0000000000AA", true),
            ("", false),
            ("------------------------------------", false),
            ("8f1a2b3c000040008000000000000000aaaa", false),
            ("8f1a2b3-c0000-4000-8000-0000000000aa", false),
            ("8f1a2b3g-0000-4000-8000-0000000000aa", false),
            ("8f1a2b3c-0000-4000-8000-0000000000aa-", false),
        ] {
            assert_eq!(is_uuid(text), expected, "{text:?}");
        }
    }
}
