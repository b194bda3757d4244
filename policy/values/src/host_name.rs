//! Syntax of host names. Nothing is resolved here.

/// Maximum length of a name (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
/// Maximum length of a label.
const MAX_LABEL_BYTES: usize = 63;

/// Whether a name consists of labels separated by dots (RFC 1123 §2.1), with these bytes and inner
/// hyphens.
pub fn is_host_name(name: &str, allows: impl Fn(u8) -> bool) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte == b'-' || allows(byte))
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn a_name_is_labels_of_bounded_length() {
        let label = "a".repeat(63);
        let longest = [label.as_str(), &label, &label, &label[..61]].join(".");
        for (name, expected) in [
            ("a", true),
            ("a-b.c1", true),
            (&label, true),
            (&longest, true),
            ("", false),
            ("a.", false),
            (".a", false),
            ("a..b", false),
            ("-a", false),
            ("a-", false),
            ("a_b", false),
            (&String::from_iter([&label, "a"]), false),
            (&String::from_iter([&longest, "a"]), false),
        ] {
            let found = is_host_name(name, |byte| byte.is_ascii_alphanumeric());
            assert_eq!(found, expected, "{name}");
        }
        assert!(is_host_name("a_b", |byte| byte == b'_' || byte.is_ascii_alphanumeric()));
    }
}
