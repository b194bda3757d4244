//! Validated feature services that the host queries for handlers.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use tensorgate_values::{KeyType, LookupKind, getters};

use super::{BackendTls, Network};
use crate::policy::address;

/// A feature service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    pub kind: LookupKind,
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub entity: String,
    pub key: KeyType,
    pub max_key_bytes: usize,
    pub max_keys: usize,
    pub features: Vec<String>,
    pub max_requests: usize,
    pub max_bytes: usize,
    pub timeout_ms: u64,
    pub concurrency: usize,
    pub allow_private: Vec<Network>,
    pub authorities: Option<BackendTls>,
    pub bearer_file: Option<String>,
}

/// Placeholder of the key in a path.
pub const KEY_PLACEHOLDER: &str = "{key}";

getters! { Lookup {
    /// Protocol of the service.
    kind: LookupKind,
    /// Whether it uses TLS.
    tls: bool,
    /// Join key of the entity, for Feast.
    entity: &str,
    /// Type of a key.
    key: KeyType,
    /// Allowed features.
    features: &[String],
    /// Maximum lookups per call.
    max_requests: usize,
    /// Maximum size of a response, in bytes.
    max_bytes: usize,
    /// Timeout of a lookup, in milliseconds.
    timeout_ms: u64,
    /// Maximum concurrent lookups.
    concurrency: usize,
    /// Trusted authorities; the system's if absent.
    authorities: Option<&BackendTls>,
    /// File of the bearer token.
    bearer_file: Option<&str>,
} }

impl Lookup {
    /// Its host and port.
    pub fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Path for a key. Keys that pass [`Self::takes`] need no escaping.
    pub fn path(&self, key: &str) -> String {
        self.path.replace(KEY_PLACEHOLDER, key)
    }

    /// Whether a query is allowed: listed features, keys of the type.
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

    /// Whether the host may connect to an address of the service.
    ///
    /// # Errors
    /// The class of the address.
    pub fn admits(&self, address: IpAddr) -> Result<(), &'static str> {
        address::check(address, &self.allow_private)
    }
}

/// Whether a key is unambiguous in a path, in JSON and in a log.
fn is_key(key_type: KeyType, key: &str) -> bool {
    match key_type {
        // One spelling per number.
        KeyType::Int => (key.parse::<i64>()).is_ok_and(|number| number.to_string() == key),
        KeyType::String => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
            // `.` and `..` have a special meaning in paths.
            !key.is_empty() && key.bytes().all(plain) && !key.bytes().all(|byte| byte == b'.')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_keys_are_unambiguous() {
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
