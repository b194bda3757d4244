//! Parser for `x-forwarded-client-cert`: Envoy's own element for the connection's certificate
//! (`Hash=…;Cert="…";URI=…;DNS=…;DNS=…`), and elements of proxies in front.
//!
//! The parser decides nothing about trust; [`crate::Identifier`] does. An unusual element has no
//! names: unknown or repeated keys, keys in another order, an unclosed quote. A certificate with
//! several URIs identifies no client (X509-SVID, 2).
//!
//! Envoy does not quote URIs and DNS names, so a name with `;` or `,` looks like several keys or
//! elements. Quoted or escaped values (a certificate, a subject) cannot.

use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::unhex;

/// Maximum size of an element: a workload's certificate with names, and a chain.
const MAX_BYTES: usize = 48 << 10;
/// Maximum DNS names of a certificate.
const MAX_DNS_NAMES: usize = 32;
/// Maximum elements of proxies in front, including ones that clients invented.
const MAX_ELEMENTS: usize = 32;

/// Contents of an element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedNames {
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// The only URI, if any.
    pub uri: Option<String>,
    /// Every DNS name.
    pub dns: Vec<String>,
    /// The certificate as URL-escaped PEM.
    pub certificate: Option<String>,
    /// Whether it has names, which are unquoted.
    pub named: bool,
}

/// Keys in Envoy's order. An unquoted value with `;` or `,` can only add later keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    By,
    Hash,
    Cert,
    Chain,
    Subject,
    Uri,
    Dns,
}

impl Key {
    fn read(name: &str) -> Option<Self> {
        [
            ("By", Self::By),
            ("Hash", Self::Hash),
            ("Cert", Self::Cert),
            ("Chain", Self::Chain),
            ("Subject", Self::Subject),
            ("URI", Self::Uri),
            ("DNS", Self::Dns),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, key)| key)
    }
}

/// Parses exactly one element; `None` if anything is unusual.
pub fn parse(text: &str) -> Option<ForwardedNames> {
    let (names, rest) = element(text)?;
    rest.is_empty().then_some(names)
}

/// Parses elements separated by commas; `None` if any is unusual, or if there are too many. An
/// empty text has none.
pub fn parse_all(text: &str) -> Option<Vec<ForwardedNames>> {
    let mut elements = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if elements.len() == MAX_ELEMENTS {
            return None;
        }
        let (names, after) = element(rest)?;
        elements.push(names);
        if after.is_empty() {
            break;
        }
        // A trailing comma would hide another proxy's element.
        rest = after
            .strip_prefix(',')
            .map(|rest| rest.trim_start_matches(' '))
            .filter(|rest| !rest.is_empty())?;
    }
    Some(elements)
}

/// Splits Envoy's own element, identified by the connection's digest, from earlier ones. Data
/// chosen by a client or in a certificate cannot imitate it after that point, because no
/// certificate contains its own digest.
pub fn split_own<'a>(text: &'a str, sha256: &str) -> Option<(&'a str, &'a str)> {
    const HASH: &str = "Hash=";
    const BY: &str = "By=";
    // Characters that may precede a key.
    let begins = |at: usize| {
        text.get(..at)
            .is_some_and(|it| it.is_empty() || it.ends_with([',', ';']))
    };
    let mut at = text
        .rmatch_indices(HASH)
        .map(|(at, _)| at)
        .find(|at| {
            let own = text.get(at.saturating_add(HASH.len())..);
            own.is_some_and(|own| own.starts_with(sha256)) && begins(*at)
        })
        .filter(|_| !sha256.is_empty())?;
    // The proxy's own names (By) come first; clients cannot choose them.
    while text.get(..at).is_some_and(|before| before.ends_with(';')) {
        at = text.get(..at)?.rfind(BY).filter(|at| begins(*at))?;
    }
    let (before, own) = text.split_at_checked(at)?;
    match before.strip_suffix(',') {
        Some(before) => Some((before, own)),
        None => before.is_empty().then_some((before, own)),
    }
}

/// The first element of a text, and the rest.
fn element(text: &str) -> Option<(ForwardedNames, &str)> {
    let mut names = ForwardedNames::default();
    let mut rest = text;
    let mut last = None;
    let mut uris = 0_usize;
    let mut hash = None;
    loop {
        let (name, after) = rest.split_once('=')?;
        let key = Key::read(name)?;
        // Names, and the proxy's own names (By), may be repeated.
        let repeats = matches!(key, Key::Dns | Key::By | Key::Uri);
        if last.is_some_and(|last| key < last || (key == last && !repeats)) {
            return None;
        }
        last = Some(key);
        let quoted = after.starts_with('"');
        // Subjects have their own escapes (RFC 4514) and are not read here.
        let read = matches!(key, Key::Hash | Key::Cert | Key::Uri | Key::Dns);
        let (value, after) = value(after, read)?;
        match key {
            // Envoy does not quote names: a quote would be the name's own first character.
            Key::Uri | Key::Dns if quoted => return None,
            Key::By => {}
            Key::Hash => {
                let mut digits = value;
                digits.make_ascii_lowercase();
                hash = unhex(digits.as_bytes());
            }
            // Always quoted.
            Key::Cert | Key::Chain | Key::Subject if !quoted => return None,
            Key::Cert => names.certificate = Some(value),
            Key::Chain | Key::Subject => {}
            Key::Uri => {
                uris = uris.saturating_add(1);
                // An empty one counts too: a name that begins with `,` ends there and continues as
                // the next element.
                names.named = true;
                names.uri = (!value.is_empty()).then_some(value);
            }
            Key::Dns if value.is_empty() || names.dns.len() == MAX_DNS_NAMES => return None,
            Key::Dns => {
                names.named = true;
                names.dns.push(value);
            }
        }
        match after.strip_prefix(';') {
            Some(after) => rest = after,
            None => {
                rest = after;
                break;
            }
        }
    }
    if text.len().saturating_sub(rest.len()) > MAX_BYTES {
        return None;
    }
    // Envoy always writes the digest.
    names.sha256 = hash.filter(|_| uris <= 1)?;
    Some((names, rest))
}

/// A value and the rest. In quotes a backslash escapes the next character; if the value is `read`,
/// only characters that need it.
fn value(text: &str, read: bool) -> Option<(String, &str)> {
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
                escaped if !read || matches!(escaped, '"' | '\\') => value.push(escaped),
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
            certificate: None,
            named: ["uri=", "dns="]
                .iter()
                .any(|key| text.to_ascii_lowercase().contains(key)),
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
    }

    #[test]
    fn several_uris_identify_no_client() {
        check(&format!("{HASH};URI=spiffe://a/b;URI=spiffe://a/c"), None);
        check(&format!("{HASH};URI=spiffe://a/b;URI=spiffe://a/b"), None);
        check(&format!("{HASH};URI=;URI=spiffe://a/c"), None);
        check(&format!("{HASH};URI=spiffe://a/b;URI="), None);
    }

    #[test]
    fn malformed_elements_identify_no_client() {
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
            &format!("{HASH};Subject=CN"),
            &format!("{HASH};Cert=a"),
            &format!("{HASH};Chain=a"),
            &format!("{HASH};Subject=\"a\";Cert=\"b\""),
            &format!("{HASH};Cert=\"a\";Cert=\"a\""),
            &format!("{HASH};URI=spiffe://a/b;Cert=\"a\""),
            &format!("{HASH};Email=a"),
            &format!("{HASH};URI=\"spiffe://a/b"),
            &format!("{HASH};URI=\"spiffe://a/b\"c"),
            &format!("{HASH};URI=spiffe://a/\"b"),
            &format!("{HASH};URI=spiffe://a/\\b"),
            &format!("{HASH};URI=\"a\\n\""),
            &format!("{HASH};URI=\"spiffe://a/b\""),
            &format!("{HASH};URI=\"\""),
            &format!("{HASH};URI=spiffe://a/b;DNS=\"a.example\""),
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

    #[test]
    fn a_quoted_certificate_hides_no_other_element() {
        let read = parse(&format!(
            "{HASH};Cert=\"-----BEGIN%0A\";Chain=\"x\";Subject=\"CN=\\\"a\\\",O=b\\,c\\2B;URI=c\";URI=spiffe://a/b"
        ))
        .unwrap();
        assert_eq!(read.certificate.as_deref(), Some("-----BEGIN%0A"));
        assert_eq!(read.uri.as_deref(), Some("spiffe://a/b"));
        let bare = parse(&format!("{HASH};Cert=\"a\";Subject=\"\"")).unwrap();
        assert!(!bare.named);
        let empty = parse(&format!("{HASH};Cert=\"a\";Subject=\"\";URI=")).unwrap();
        assert!(empty.named, "a name may hide behind it");
    }

    #[test]
    fn lists_of_complete_elements_are_read() {
        let uri = |name: &str| format!("{HASH};URI=spiffe://{name}");
        for (text, expected) in [
            (String::new(), Some(0)),
            (uri("a"), Some(1)),
            (format!("{},{}", uri("a"), uri("b")), Some(2)),
            (format!("{}, {}", uri("a"), uri("b")), Some(2)),
            (format!("{},", uri("a")), None),
            (format!(",{}", uri("a")), None),
            (format!("{},,{}", uri("a"), uri("b")), None),
            (format!("{},URI=spiffe://b", uri("a")), None),
            (format!("{} ,{}", uri("a"), uri("b")), None),
            (
                alloc::vec![uri("a"); MAX_ELEMENTS].join(","),
                Some(MAX_ELEMENTS),
            ),
            (alloc::vec![uri("a"); MAX_ELEMENTS + 1].join(","), None),
        ] {
            let read = parse_all(&text).map(|elements| elements.len());
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn the_proxys_own_element_is_recognised_by_what_only_it_can_write() {
        let digest = |digit: &str| digit.repeat(64);
        let own = format!("Hash={};URI=spiffe://own", digest("1"));
        let other = format!("Hash={};URI=spiffe://other", digest("2"));
        for (text, expected) in [
            (own.clone(), Some(("", own.as_str()))),
            (
                format!("{other},{own}"),
                Some((other.as_str(), own.as_str())),
            ),
            (format!("{other},By=spiffe://gate;{own}"), None),
            // A forged element with the same digest comes before the proxy's own.
            (format!("{own},{own}"), Some((own.as_str(), own.as_str()))),
            (other.clone(), None),
            (format!("{other}{own}"), None),
            (format!("{other};{own}"), None),
            (format!("x{own}"), None),
            (String::new(), None),
        ] {
            let by = format!("By=spiffe://gate;{own}");
            let read = split_own(&text, &digest("1"));
            if text.contains("By=") {
                assert_eq!(read, Some((other.as_str(), by.as_str())), "{text}");
            } else {
                assert_eq!(read, expected, "{text}");
            }
        }
        let twice = format!("By=spiffe://gate;By=spiffe://b;{own}");
        assert_eq!(split_own(&twice, &digest("1")), Some(("", twice.as_str())));
        // Names chosen by a client do not form the proxy's element.
        let names = format!("{own},Hash={};DNS=a", digest("2"));
        assert_eq!(split_own(&names, &digest("1")), Some(("", names.as_str())));
        assert_eq!(split_own(&own, ""), None);
    }
}
