//! Feature services that the host asks for handlers, validated.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{BackendTls, Network};
use crate::address;
use crate::raw::{KeyType, LookupKind};

/// A feature service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub(crate) kind: LookupKind,
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) entity: String,
    pub(crate) key: KeyType,
    pub(crate) max_key_bytes: usize,
    pub(crate) max_keys: usize,
    pub(crate) features: Vec<String>,
    pub(crate) max_requests: usize,
    pub(crate) max_bytes: usize,
    pub(crate) timeout_ms: u64,
    pub(crate) concurrency: usize,
    pub(crate) allow_private: Vec<Network>,
    pub(crate) authorities: Option<BackendTls>,
    pub(crate) bearer_file: Option<String>,
}

/// What stands for the key in a path.
pub(crate) const KEY_PLACE: &str = "{key}";

impl Lookup {
    /// What it speaks.
    pub const fn kind(&self) -> LookupKind {
        self.kind
    }

    /// Whether it is asked over TLS.
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Its host and port.
    pub fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The path at which it is asked for a key. A key that [`Self::takes`] holds nothing that means something in a path.
    pub fn path(&self, key: &str) -> String {
        self.path.replace(KEY_PLACE, key)
    }

    /// The entity's join key, of Feast.
    pub fn entity(&self) -> &str {
        &self.entity
    }

    /// What a key is.
    pub const fn key(&self) -> KeyType {
        self.key
    }

    /// Whether these may be asked for: features of the list, keys of the type.
    ///
    /// # Errors
    /// Why not.
    pub fn takes(&self, features: &[String], keys: &[String]) -> Result<(), &'static str> {
        if features.is_empty() || features.iter().any(|name| !self.features.contains(name)) {
            return Err("a feature that is not listed");
        }
        if keys.is_empty() || keys.len() > self.max_keys {
            return Err("more keys than one lookup may name, or none");
        }
        let fits = |key: &String| key.len() <= self.max_key_bytes && is_key(self.key, key);
        if keys.iter().all(fits) {
            Ok(())
        } else {
            Err("a key that is none")
        }
    }

    /// Whether an address that stands for the host may be connected to.
    ///
    /// # Errors
    /// What the address is.
    pub fn admits(&self, address: IpAddr) -> Result<(), &'static str> {
        address::admit(address, &self.allow_private)
    }

    /// Features that may be asked for.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// Lookups for one call.
    pub const fn max_requests(&self) -> usize {
        self.max_requests
    }

    /// The largest answer, bytes.
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// One lookup, milliseconds.
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Lookups at once.
    pub const fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Whom to trust; the machine's own authorities where none is named.
    pub const fn authorities(&self) -> Option<&BackendTls> {
        self.authorities.as_ref()
    }

    /// The file of the token that goes along.
    pub fn bearer_file(&self) -> Option<&str> {
        self.bearer_file.as_deref()
    }
}

/// A key says one thing in a path, in JSON and in a log.
fn is_key(key_type: KeyType, key: &str) -> bool {
    match key_type {
        // One spelling for each number.
        KeyType::Int => (key.parse::<i64>()).is_ok_and(|number| number.to_string() == key),
        KeyType::String => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
            // A path's `.` and `..` lead elsewhere.
            !key.is_empty() && key.bytes().all(plain) && !key.bytes().all(|byte| byte == b'.')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_one_thing() {
        for (key_type, key, expected) in [
            (KeyType::String, "a", true),
            (KeyType::String, "user:1@x_y-z.b", true),
            (KeyType::String, "..a", true),
            (KeyType::String, "", false),
            (KeyType::String, ".", false),
            (KeyType::String, "..", false),
            (KeyType::String, "a/b", false),
            (KeyType::String, "a%2f", false),
            (KeyType::String, "a?b", false),
            (KeyType::String, "a\"b", false),
            (KeyType::String, "a b", false),
            (KeyType::String, "a\r\n", false),
            (KeyType::String, "ü", false),
            (KeyType::Int, "0", true),
            (KeyType::Int, "-1", true),
            (KeyType::Int, "9223372036854775807", true),
            (KeyType::Int, "9223372036854775808", false),
            (KeyType::Int, "-0", false),
            (KeyType::Int, "+1", false),
            (KeyType::Int, "01", false),
            (KeyType::Int, "1.0", false),
            (KeyType::Int, "", false),
        ] {
            assert_eq!(is_key(key_type, key), expected, "{key:?}");
        }
    }
}
