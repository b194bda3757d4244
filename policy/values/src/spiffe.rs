//! SPIFFE IDs (SPIFFE-ID, 2).

/// Maximum length of a SPIFFE ID (SPIFFE-ID, 2.3).
const MAX_ID_BYTES: usize = 2048;
/// Maximum length of a trust domain's name (SPIFFE-ID, 2.1).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The trust domain of `spiffe://trust-domain/path`; `None` if the text is not a SPIFFE ID of a
/// workload. There is one spelling: no upper-case domain, port, escape, query or empty segment.
pub fn trust_domain(id: &str) -> Option<&str> {
    let (domain, path) = id.strip_prefix("spiffe://")?.split_once('/')?;
    let is_valid = id.len() <= MAX_ID_BYTES
        && is_trust_domain(domain)
        && path.split('/').all(|segment| {
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_path_byte)
        });
    is_valid.then_some(domain)
}

/// Whether a text is the name of a trust domain.
pub fn is_trust_domain(name: &str) -> bool {
    (1..=MAX_TRUST_DOMAIN_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| is_path_byte(byte) && !byte.is_ascii_uppercase())
}

const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path_in_one_spelling() {
        for (id, domain) in [
            ("spiffe://prod/ns/a", "prod"),
            ("spiffe://a.b-c_1/Ns/..a/-", "a.b-c_1"),
        ] {
            assert_eq!(trust_domain(id), Some(domain), "{id}");
        }
        let long = format!("spiffe://{}/a", "d".repeat(MAX_TRUST_DOMAIN_BYTES + 1));
        let longer = format!("spiffe://d/{}", "a".repeat(MAX_ID_BYTES));
        for id in [
            "",
            "prod/ns/a",
            "spiffe://prod",
            "spiffe://prod/",
            "spiffe:///ns",
            "spiffe://prod/ns/",
            "spiffe://prod//a",
            "spiffe://prod/./a",
            "spiffe://prod/../a",
            "spiffe://Prod/a",
            "SPIFFE://prod/a",
            "spiffe://prod:80/a",
            "spiffe://u@prod/a",
            "spiffe://prod/a?b",
            "spiffe://prod/a#b",
            "spiffe://prod/%61",
            "spiffe://prod/\u{e9}",
            "spiffe://prod/a\0",
            &long,
            &longer,
        ] {
            assert_eq!(trust_domain(id), None, "{id:.80}");
        }
    }
}
