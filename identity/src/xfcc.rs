//! `x-forwarded-client-cert`, as Envoy's `SANITIZE_SET` writes it for one certificate: `Hash=…;URI=…;DNS=…;DNS=…`.
//!
//! It reads names off a header that Envoy made, and off nothing else. A certificate whose header is odd in any way has no names: a second
//! element, an unknown or repeated key, a quote that does not close. A certificate with several URIs is nobody's (X509-SVID, 2).

use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::unhex;

/// The whole header, bytes: a certificate with more names than this holds is not one of a workload.
const MAX_BYTES: usize = 8192;
/// DNS names of one certificate.
const MAX_DNS_NAMES: usize = 32;

/// Names of a certificate that Envoy has verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedNames {
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// The one URI, if there is one.
    pub uri: Option<String>,
    /// Every DNS name.
    pub dns: Vec<String>,
}

/// Where a key may stand: Envoy writes them in this order. A value that holds `;` or `,` and were not quoted could only add what comes later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    By,
    Hash,
    Uri,
    Dns,
}

impl Key {
    fn read(name: &str) -> Option<Self> {
        [
            ("By", Self::By),
            ("Hash", Self::Hash),
            ("URI", Self::Uri),
            ("DNS", Self::Dns),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, key)| key)
    }
}

/// Reads one element; `None` if anything about it is odd.
pub fn parse(text: &str) -> Option<ForwardedNames> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut names = ForwardedNames::default();
    let mut rest = text;
    let mut last = None;
    let mut uris = 0_usize;
    let mut hash = None;
    loop {
        let (name, after) = rest.split_once('=')?;
        let key = Key::read(name)?;
        // Only DNS names and what this gate's own certificate is called (By) may come several times.
        let repeats = matches!(key, Key::Dns | Key::By | Key::Uri);
        if last.is_some_and(|last| key < last || (key == last && !repeats)) {
            return None;
        }
        last = Some(key);
        let (value, after) = value(after)?;
        match key {
            Key::By => {}
            Key::Hash => {
                let mut digits = value;
                digits.make_ascii_lowercase();
                hash = unhex(digits.as_bytes());
            }
            Key::Uri => {
                uris = uris.saturating_add(1);
                names.uri = (!value.is_empty()).then_some(value);
            }
            Key::Dns if value.is_empty() || names.dns.len() == MAX_DNS_NAMES => return None,
            Key::Dns => names.dns.push(value),
        }
        if after.is_empty() {
            break;
        }
        // A comma would begin another element: another proxy's word.
        rest = after.strip_prefix(';')?;
    }
    // Envoy always says which certificate.
    names.sha256 = hash.filter(|_| uris <= 1)?;
    Some(names)
}

/// A value and what follows it. Inside quotes a backslash takes the next character as it is.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        let plain = value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        return plain.then(|| (value.into(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => value.push(escaped),
                _ => return None,
            },
            character if character.is_control() => return None,
            character => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]

    use super::*;
    use alloc::format;

    const HASH: &str = "Hash=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn check(text: &str, expected: Option<(Option<&str>, &[&str])>) {
        let mut sha256 = [0; 32];
        for (at, byte) in sha256.iter_mut().enumerate() {
            *byte = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef][at % 8];
        }
        let expected = expected.map(|(uri, dns)| ForwardedNames {
            sha256,
            uri: uri.map(Into::into),
            dns: dns.iter().map(|name| (*name).into()).collect(),
        });
        assert_eq!(parse(text), expected, "{text}");
    }

    #[test]
    fn names_of_one_certificate_are_read() {
        let spiffe = "spiffe://prod/ns/risk/sa/engine";
        check(HASH, Some((None, &[])));
        check(&format!("{HASH};URI="), Some((None, &[])));
        check(&format!("{HASH};URI={spiffe}"), Some((Some(spiffe), &[])));
        check(
            &format!("By=spiffe://prod/gate;{HASH};URI={spiffe}"),
            Some((Some(spiffe), &[])),
        );
        check(
            &format!("{HASH};URI=\"{spiffe}\""),
            Some((Some(spiffe), &[])),
        );
        check(
            &format!("{HASH};URI={spiffe};DNS=a.example;DNS=b.example"),
            Some((Some(spiffe), &["a.example", "b.example"])),
        );
        check(
            &format!("{HASH};URI=;DNS=a.example"),
            Some((None, &["a.example"])),
        );
        check(
            &format!("{HASH};DNS=a.example"),
            Some((None, &["a.example"])),
        );
        check(
            &format!("{};uri={spiffe}", HASH.replace("Hash", "hash")),
            Some((Some(spiffe), &[])),
        );
        check(
            &format!("{HASH};URI=\"a,b;c=d\\\"e\\\\f\""),
            Some((Some("a,b;c=d\"e\\f"), &[])),
        );
    }

    #[test]
    fn several_uris_are_nobody() {
        check(&format!("{HASH};URI=spiffe://a/b;URI=spiffe://a/c"), None);
        check(&format!("{HASH};URI=spiffe://a/b;URI=spiffe://a/b"), None);
        check(&format!("{HASH};URI=;URI=spiffe://a/c"), None);
        check(&format!("{HASH};URI=spiffe://a/b;URI="), None);
    }

    #[test]
    fn whatever_is_odd_is_nobody() {
        for text in [
            "",
            "=",
            "Hash",
            "Hash=",
            "Hash=00",
            "URI=spiffe://a/b",
            "DNS=a.example",
            "By=spiffe://prod/gate",
            &format!("{HASH};"),
            &format!(";{HASH}"),
            &format!("{HASH},{HASH}"),
            &format!("{HASH};URI=spiffe://a/b,{HASH};URI=spiffe://a/c"),
            &format!("{HASH};URI=spiffe://a/b,"),
            &format!("{HASH};{HASH}"),
            &format!("{HASH};URI=spiffe://a/b;{HASH}"),
            &format!("{HASH};DNS=a.example;URI=spiffe://a/b"),
            &format!("{HASH};DNS="),
            &format!("{HASH};Subject=\"CN=a\""),
            &format!("{HASH};Cert=a"),
            &format!("{HASH};Email=a"),
            &format!("{HASH};URI=\"spiffe://a/b"),
            &format!("{HASH};URI=\"spiffe://a/b\"c"),
            &format!("{HASH};URI=spiffe://a/\"b"),
            &format!("{HASH};URI=spiffe://a/\\b"),
            &format!("{HASH};URI=\"a\\n\""),
            &format!("{HASH};URI=spiffe://a/ b"),
            &format!("{HASH}; URI=spiffe://a/b"),
            &format!("{HASH};URI=spiffe://a/\u{e9}"),
            &format!(
                "{HASH};{}",
                "DNS=a.example;".repeat(33).trim_end_matches(';')
            ),
            &format!("{HASH};URI=spiffe://a/{}", "b".repeat(MAX_BYTES)),
        ] {
            check(text, None);
        }
    }
}
