//! The release of a gateway or host, in the part of signed texts that every release can read.
//!
//! Two rules hold for each context, of past and later releases:
//!
//! | part | form |
//! |---|---|
//! | the beginning | `v<format>;<release>;`, or `v<format>.` up to format 7 |
//! | the end | `.<mac>`: HMAC-SHA256 of all before the dot; its first half from format 11 on |
//!
//! The key of the HMAC is the context key. So a release can verify a context that it cannot read,
//! and name the release that signed it. One of format 10 or earlier verifies whole HMACs only. An
//! unsigned text names nothing. Any change of what filter and host say to each other needs another
//! format: contexts, and calls to the rate-limit service.

use core::fmt;
use core::hint::black_box;

use super::key::Key;

/// Format and release of this build. No build has a switch for another one. A test that needs one
/// replaces these bytes in a copy of a program.
static OWN_PREFIX: &str = concat!("v11;", env!("CARGO_PKG_VERSION"), ";");
/// Beginning of what a host says of itself. It differs from all other signed texts.
const HOST_PREFIX: &str = "host.";
/// Maximum length of a release's name, in bytes.
const MAX_NAME_BYTES: usize = 32;
/// Maximum number of digits of a format.
const MAX_FORMAT_DIGITS: usize = 4;
/// Maximum length of what a host says of itself, in bytes: prefixes and a signature.
const MAX_HOST_BYTES: usize = 128;

/// The beginning of each context that this build signs. It is opaque to the compiler, or the bytes
/// might not be in the program as they are here.
pub(super) fn own_prefix() -> &'static str {
    black_box(OWN_PREFIX)
}

/// A release, as its own gateways and hosts name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Format of what filter and host say to each other. It grows with each change.
    format: u16,
    /// Name of the release; empty up to format 7.
    name: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, name } = self;
        if name.is_empty() {
            write!(f, "of an early release (format {format})")
        } else {
            write!(f, "of release {name} (format {format})")
        }
    }
}

impl Release {
    /// This build.
    pub fn own() -> Self {
        // The prefix of a build is always valid.
        let (format, name, _) = Self::parts(own_prefix()).unwrap_or_default();
        let name = name.to_owned();
        Self { format, name }
    }

    /// The release that signed a text in the form of a context, if the signature is valid. Nothing
    /// else of the text is read.
    pub fn of_signed(value: &str, key: &Key) -> Option<Self> {
        Self::named(key.signed(value).ok()?)
    }

    /// What this host says of itself, signed.
    pub fn signed_by_host(key: &Key) -> String {
        let mut value = format!("{HOST_PREFIX}{}", own_prefix());
        key.sign_for_all(&mut value);
        value
    }

    /// Whether a text is what a host says of itself.
    pub fn is_from_host(value: &str) -> bool {
        value.starts_with(HOST_PREFIX)
    }

    /// The release of the host that wrote this; `None` if the text is not signed with this key.
    pub fn of_host(value: &str, key: &Key) -> Option<Self> {
        if value.len() > MAX_HOST_BYTES {
            return None;
        }
        Self::named(key.signed(value).ok()?.strip_prefix(HOST_PREFIX)?)
    }

    /// Says that a gateway and a host do not understand each other, which release each is, and
    /// which one is the older.
    pub fn mismatch(gateway: &Self, host: &Self) -> String {
        let older = match gateway.format.cmp(&host.format) {
            core::cmp::Ordering::Less => "the gateway is the older one",
            core::cmp::Ordering::Greater => "the host is the older one",
            core::cmp::Ordering::Equal => "they have the same format",
        };
        format!(
            "the gateway's filter is {gateway}, the host is {host}: {older}; give both the same release"
        )
    }

    /// The release that a verified text names at its beginning.
    fn named(signed: &str) -> Option<Self> {
        let (format, name, _) = Self::parts(signed)?;
        let name = name.to_owned();
        Some(Self { format, name })
    }

    /// Format, name, and everything after them.
    fn parts(signed: &str) -> Option<(u16, &str, &str)> {
        let signed = signed.strip_prefix('v')?;
        let digits = signed.bytes().take_while(u8::is_ascii_digit).count();
        let (format, rest) = signed.split_at_checked(digits)?;
        if format.len() > MAX_FORMAT_DIGITS {
            return None;
        }
        let format = format.parse().ok()?;
        if let Some(rest) = rest.strip_prefix('.') {
            return Some((format, "", rest));
        }
        let (name, rest) = rest.strip_prefix(';')?.split_once(';')?;
        is_name(name).then_some((format, name, rest))
    }

    /// The fields of a context, if its beginning is that of any release. `Err` if it is not of this
    /// build's format.
    pub(super) fn own_fields(signed: &str) -> Option<Result<&str, OtherFormat>> {
        // Almost every context has this build's own beginning.
        if let Some(fields) = signed.strip_prefix(own_prefix()) {
            return Some(Ok(fields));
        }
        let (format, _, fields) = Self::parts(signed)?;
        let (own, _, _) = Self::parts(own_prefix())?;
        Some(if format == own {
            Ok(fields)
        } else {
            Err(OtherFormat)
        })
    }
}

/// A context has another format than those of this build.
pub(super) struct OtherFormat;

/// A name may stand in logs and on pages: no other text of a sender does.
fn is_name(name: &str) -> bool {
    let is_in_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_in_names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_hex(&(format!("{byte:02x}").repeat(31) + "f0")).unwrap()
    }

    fn signed(text: &str) -> String {
        let mut text = text.to_owned();
        key(7).sign(&mut text);
        text
    }

    fn shown(text: &str) -> Option<String> {
        Release::of_signed(&signed(text), &key(7)).map(|release| release.to_string())
    }

    #[test]
    fn the_releases_of_all_formats_are_named() {
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            Release::own().to_string(),
            format!("of release {own} (format 11)")
        );
        for (text, expected) in [
            ("v7.AAAA", "of an early release (format 7)"),
            ("v10;0.1.0;AAAA", "of release 0.1.0 (format 10)"),
            ("v10;1.0.0-rc.1;", "of release 1.0.0-rc.1 (format 10)"),
            ("v1234;2.0.0+b;a.b;c.d", "of release 2.0.0+b (format 1234)"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
            assert_eq!(Release::of_signed(&signed(text), &key(8)), None, "{text}");
        }
    }

    #[test]
    fn a_name_has_no_text_of_its_senders_choice() {
        let long = format!("v10;{};", "1".repeat(MAX_NAME_BYTES + 1));
        for text in [
            "",
            "v",
            "v.",
            "v;1.0;",
            "v+9;1.0;",
            "v12345;1.0;",
            "v10;;",
            "v10;1 0;",
            "v10;1\n0;",
            "v10;\u{e9};",
            "v10;1.0",
            "8;1.0;",
            &long,
        ] {
            assert_eq!(shown(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_a_host_with_the_key_names_its_release() {
        let text = Release::signed_by_host(&key(7));
        assert!(Release::is_from_host(&text));
        assert_eq!(Release::of_host(&text, &key(7)), Some(Release::own()));
        assert_eq!(Release::of_host(&text, &key(8)), None);
        // Neither can be used as the other.
        assert_eq!(Release::of_signed(&text, &key(7)), None);
        assert_eq!(Release::of_host(&signed("v10;1.0;AAAA"), &key(7)), None);
        let long = signed(&format!(
            "{HOST_PREFIX}v10;1.0;{}",
            "a".repeat(MAX_HOST_BYTES)
        ));
        assert_eq!(Release::of_host(&long, &key(7)), None);
    }

    #[test]
    fn a_mismatch_names_both_and_the_older_one() {
        let of = |text: &str| Release::named(text).unwrap();
        let (old, new) = (of("v10;0.1.0;"), of("v11;0.2.0;"));
        let text = Release::mismatch(&old, &new);
        assert!(
            text.contains("filter is of release 0.1.0 (format 10)"),
            "{text}"
        );
        assert!(
            text.contains("host is of release 0.2.0 (format 11)"),
            "{text}"
        );
        assert!(text.contains("the gateway is the older one"), "{text}");
        let text = Release::mismatch(&new, &old);
        assert!(text.contains("the host is the older one"), "{text}");
    }
}
