//! Names that a user gives for objects of a cluster. Each is checked when it is parsed, so that no
//! later code has to escape one. In a chart a placeholder is in its place, which no parser accepts.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::template::placeholder;

/// Longest DNS label and longest value of a label, bytes (RFC 1123, section 2.1).
pub(super) const MAX_LABEL_BYTES: usize = 63;
/// Longest name that we derive others from, bytes: the longest suffix fits into a label.
const MAX_NAME_BYTES: usize = 40;
/// Longest DNS name, bytes.
pub(super) const MAX_DOMAIN_BYTES: usize = 253;
/// Hex digits of a digest.
const DIGEST_DIGITS: usize = 64;
/// Longest reference to an image, bytes. The specification bounds only the tag.
const MAX_REFERENCE_BYTES: usize = 512;

/// A DNS label: the name of a namespace or of an object that other names are derived from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a part: `NAME-suffix`.
    pub fn with(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.0)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_label(text) && text.len() <= MAX_NAME_BYTES {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a name has up to {MAX_NAME_BYTES} lower-case letters, digits and dashes, and begins with a letter, because a Service gets it"
        ))
    }
}

/// The name of a namespace, which exists already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A namespace that an expression of a chart fills in.
    pub fn placeholder(expression: &str) -> Self {
        Self(placeholder(expression))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_dns_part(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a namespace has up to {MAX_LABEL_BYTES} lower-case letters, digits and dashes"
        ))
    }
}

/// The name of an object that exists already, such as a Secret or a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName(String);

impl ObjectName {
    /// The name of a part: `NAME-suffix`.
    pub fn from_label(name: &Label, suffix: &str) -> Self {
        Self(name.with(suffix))
    }

    /// A name that an expression of a chart fills in.
    pub fn placeholder(expression: &str) -> Self {
        Self(placeholder(expression))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = text.len() <= MAX_DOMAIN_BYTES && text.split('.').all(is_dns_part);
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err("an object's name has lower-case letters, digits, dashes and dots".to_owned())
    }
}

/// An object that exists already in a namespace: `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: Namespace,
    /// The object.
    pub name: ObjectName,
}

impl FromStr for NamespacedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((namespace, name)) = text.split_once('/') else {
            return Err("an object is NAMESPACE/NAME".to_owned());
        };
        Ok(Self {
            namespace: namespace.parse()?,
            name: name.parse()?,
        })
    }
}

/// A label of pods: `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLabel {
    /// The key, with its prefix.
    pub key: String,
    /// The value.
    pub value: String,
}

impl PodLabel {
    /// All labels of some pods, which an expression of a chart fills in.
    pub fn placeholder(expression: &str) -> Self {
        Self {
            key: placeholder(expression),
            value: String::new(),
        }
    }
}

impl FromStr for PodLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=');
        match parts.filter(|(key, value)| is_key(key) && is_label_value(value)) {
            Some((key, value)) => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            None => Err("a label is KEY=VALUE, as in app=triton".to_owned()),
        }
    }
}

/// Checks that labels which a flag gave have each key once. With two values of one key they select
/// no pod, and some readers of YAML silently drop one of them.
///
/// # Errors
/// A key is there twice.
pub fn check_distinct(labels: &[PodLabel], flag: &str) -> Result<(), String> {
    match repeated(labels.iter().map(|label| label.key.as_str())) {
        Some(twice) => Err(format!(
            "{flag} gives the label \"{twice}\" twice: a pod has one value of it; find a label that all these pods have"
        )),
        None => Ok(()),
    }
}

/// The first key that is there twice.
pub(super) fn repeated<'t>(mut keys: impl Iterator<Item = &'t str>) -> Option<&'t str> {
    let mut seen = BTreeSet::new();
    keys.find(|key| !seen.insert(*key))
}

/// An image, pinned by its digest: `registry.example.com/team/host@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    repository: String,
    digest: String,
}

impl Image {
    /// The digest of its manifest, in hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The tag that stands before the digest. It says what the image was when it was pinned.
    pub fn tag(&self) -> Option<&str> {
        let name = self.repository.rsplit('/').next()?;
        name.split_once(':').map(|(_, tag)| tag)
    }

    /// The port of its registry, if the reference names one.
    pub fn registry_port(&self) -> Option<u16> {
        let (registry, _) = self.repository.split_once('/')?;
        let (_, port) = registry.rsplit_once(':')?;
        port.parse().ok()
    }

    /// An image whose repository and digest are values of a chart, below `value`. The digest there
    /// begins with its algorithm, as users know it.
    pub fn placeholder(value: &str) -> Self {
        Self {
            repository: placeholder(&format!("{value}.repository")),
            digest: placeholder(&format!("trimPrefix \"sha256:\" {value}.digest")),
        }
    }

    /// The registry and the name in it.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest, with its algorithm.
    pub fn algorithm_and_digest(&self) -> String {
        format!("sha256:{}", self.digest)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@sha256:{}", self.repository, self.digest)
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(format!(
                "an image has no scheme: leave out {scheme}://, as in {rest}"
            ));
        }
        let Some((repository, digest)) = text.split_once("@sha256:") else {
            return Err(
                "an image is pinned by its digest: REGISTRY/NAME@sha256:DIGEST; a tag can be moved to another image".to_owned(),
            );
        };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digest.len() != DIGEST_DIGITS || !digest.bytes().all(is_digit) {
            return Err(format!(
                "a digest has {DIGEST_DIGITS} lower-case hex digits"
            ));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:[]".contains(&byte);
        let usable = text.len() <= MAX_REFERENCE_BYTES
            && repository.bytes().all(allowed)
            && repository.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && repository.ends_with(|last: char| last.is_ascii_alphanumeric());
        if !usable {
            return Err(format!("{repository:?} is not the name of an image"));
        }
        Ok(Self {
            repository: repository.to_owned(),
            digest: digest.to_owned(),
        })
    }
}

/// Whether a text is a DNS label that begins with a letter, as names of Services must.
fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL_BYTES
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && is_dns_part(text)
}

/// Whether a text is one part of a DNS name in lower case.
pub(super) fn is_dns_part(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty()
        && text.len() <= MAX_LABEL_BYTES
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text is the key of a label or an annotation, with its prefix or without.
pub(super) fn is_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(|prefix| ObjectName::from_str(prefix).is_ok()) && is_qualified(name)
}

/// Whether a text is the value of a label.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified(text)
}

/// Whether a text can be the name or the value of a label.
fn is_qualified(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= MAX_LABEL_BYTES
        && text.bytes().all(inner)
        && text.starts_with(edge)
        && text.ends_with(edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for (text, valid) in [
            ("tensorgate", true),
            ("ml-2", true),
            ("", false),
            ("2ml", false),
            ("ml-", false),
            ("Ml", false),
            ("a.b", false),
            ("a\nkind: Secret", false),
        ] {
            assert_eq!(text.parse::<Label>().is_ok(), valid, "{text:?}");
        }
        assert!("a".repeat(41).parse::<Label>().is_err());
        for (text, valid) in [("a.b", true), ("1", true), ("a..b", false), ("a b", false)] {
            assert_eq!(text.parse::<ObjectName>().is_ok(), valid, "{text:?}");
        }
        for (text, valid) in [
            ("app=triton", true),
            ("app.kubernetes.io/name=Triton_1", true),
            ("app=", true),
            ("app", false),
            ("=x", false),
            ("app=a b", false),
            ("app=\"x\"", false),
            ("a/b/c=d", false),
        ] {
            assert_eq!(text.parse::<PodLabel>().is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn an_object_of_a_namespace_has_no_other_characters() {
        for (text, valid) in [
            ("ml/web", true),
            ("web", false),
            ("ml/", false),
            ("/web", false),
            ("ml/a/b", false),
            ("ml/*", false),
        ] {
            assert_eq!(text.parse::<NamespacedName>().is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn the_port_of_a_registry_is_before_the_first_slash() {
        let digest = "0".repeat(DIGEST_DIGITS);
        for (repository, expected) in [
            ("r.example:5000/a", Some(5000)),
            ("[::1]:5000/a", Some(5000)),
            ("r.example/a", None),
            ("r.example/a:1", None),
            ("gate:1", None),
        ] {
            let image = format!("{repository}@sha256:{digest}").parse::<Image>();
            let port = image.map(|image| image.registry_port());
            assert_eq!(port, Ok(expected), "{repository}");
        }
    }

    #[test]
    fn an_image_is_pinned_by_a_digest() {
        let digest = "0".repeat(DIGEST_DIGITS);
        for (text, valid) in [
            (format!("r.example/gate@sha256:{digest}"), true),
            (format!("r.example:5000/a/b:1@sha256:{digest}"), true),
            (format!("oci://r.example/gate@sha256:{digest}"), false),
            ("r.example/gate:1".to_owned(), false),
            (format!("r.example/gate@sha256:{}", "A".repeat(64)), false),
            (format!("r.example/gate@sha256:{}", "0".repeat(63)), false),
            (format!("@sha256:{digest}"), false),
            (format!("r.example/a b@sha256:{digest}"), false),
            (format!("r.example/a\"@sha256:{digest}"), false),
        ] {
            assert_eq!(text.parse::<Image>().is_ok(), valid, "{text}");
        }
    }
}
