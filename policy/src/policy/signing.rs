//! Required signatures of components.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

/// Maximum length of a component's name.
const MAX_NAME_BYTES: usize = 128;
/// Maximum length of its version.
const MAX_VERSION_BYTES: usize = 64;

/// Keys of which one must have signed the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBy {
    pub(crate) keys: BTreeMap<String, [u8; 32]>,
    pub(crate) signed_as: Option<SignedAs>,
}

impl SignedBy {
    /// Ed25519 public keys by their names, at least one.
    pub const fn keys(&self) -> &BTreeMap<String, [u8; 32]> {
        &self.keys
    }

    /// Required name and version in the signature; any if absent.
    pub const fn signed_as(&self) -> Option<&SignedAs> {
        self.signed_as.as_ref()
    }
}

/// Name and version of a component in its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAs {
    name: String,
    version: String,
}

impl SignedAs {
    /// Parses `name@version`. A name has letters, digits and `. _ - /`, at most 128 bytes, and no
    /// part is empty or begins with a dot. A version has letters, digits and `. _ -`, at most 64
    /// bytes, and begins with a letter or digit.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, version) = text.split_once('@')?;
        let of = |text: &str, marks: &[u8]| {
            (text.bytes()).all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
        };
        let parts = |part: &str| !part.is_empty() && !part.starts_with('.');
        let named = name.len() <= MAX_NAME_BYTES && of(name, b"._-/") && name.split('/').all(parts);
        let versioned = version.len() <= MAX_VERSION_BYTES
            && of(version, b"._-")
            && version.starts_with(|first: char| first.is_ascii_alphanumeric());
        (named && versioned).then(|| Self {
            name: name.into(),
            version: version.into(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Display for SignedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}
