//! The configuration of a filter: a compiled policy as one base64 string.
//!
//! Istio and Envoy Gateway pass a filter's configuration through a protobuf `Struct`, which holds
//! strings and no bytes. A string passes unchanged.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The configuration `{"bundle": "…"}`: a compiled policy in base64, and no other member. The name
/// is that of the member in earlier releases, which then had the JSON of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfiguration<'a> {
    #[serde(borrow)]
    bundle: Cow<'a, str>,
}

/// Why the string of a configuration is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterConfigurationFault {
    /// It is longer than its place allows.
    #[error(
        "is {bytes} bytes of base64, more than {limit}: split the policy between several gateways (a plain Envoy takes {plain} bytes)", plain = FilterConfiguration::MAX_PLAIN_BYTES
    )]
    Size {
        /// Its length.
        bytes: usize,
        /// The limit of its place.
        limit: usize,
    },
    /// It is not base64.
    #[error(
        "is not base64 in the standard alphabet, with padding and without white space: render it again"
    )]
    NotBase64,
}

impl FilterConfiguration<'_> {
    /// Maximum size of the whole configuration, in bytes: it bounds one copy in each VM.
    pub const MAX_BYTES: usize = 16 << 20;
    /// Maximum size of the string for a plain Envoy, in bytes.
    pub const MAX_PLAIN_BYTES: usize = Self::MAX_BYTES - r#"{"bundle":""}"#.len();
    /// Maximum size of the string in a resource of Kubernetes, in bytes. A whole resource may have
    /// about 1 MiB.
    pub const MAX_RESOURCE_BYTES: usize = 512 << 10;
}

impl FilterConfiguration<'static> {
    /// Encodes a compiled policy for a place that allows this many bytes of base64.
    ///
    /// # Errors
    /// The result is longer.
    pub fn new(compiled: &[u8], limit: usize) -> Result<Self, FilterConfigurationFault> {
        let bundle: String = STANDARD.encode(compiled);
        let bytes = bundle.len();
        if bytes > limit {
            return Err(FilterConfigurationFault::Size { bytes, limit });
        }
        Ok(Self {
            bundle: bundle.into(),
        })
    }
}

impl FilterConfiguration<'_> {
    /// The compiled policy.
    ///
    /// # Errors
    /// The string is not base64 in exactly the form that [`FilterConfiguration::new`] writes.
    pub fn decode(&self) -> Result<Vec<u8>, FilterConfigurationFault> {
        STANDARD
            .decode(self.bundle.as_bytes())
            .map_err(|_| FilterConfigurationFault::NotBase64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use alloc::string::ToString as _;

    use super::*;

    /// The decoded string, or the fault.
    fn decoded(text: &str) -> Result<Vec<u8>, FilterConfigurationFault> {
        let encoded = FilterConfiguration {
            bundle: text.into(),
        };
        encoded.decode()
    }

    #[test]
    fn what_is_encoded_is_decoded_unchanged() {
        for bytes in [&b""[..], b"tgpolicy", &[0, 0xff, 0x80]] {
            let written =
                serde_json::to_string(&FilterConfiguration::new(bytes, 12).unwrap()).unwrap();
            let read: FilterConfiguration<'_> = serde_json::from_str(&written).unwrap();
            assert_eq!(read.decode().unwrap(), bytes);
        }
    }

    #[test]
    fn only_the_standard_form_of_base64_is_decoded() {
        assert_eq!(decoded("/+8=").unwrap(), [0xff, 0xef]);
        for text in [
            "/+8", "_-8=", "/+8==", "/+ 8=", "/+8=\n", " /+8=", "/+9=", "/", "ü===",
        ] {
            let expected = Err(FilterConfigurationFault::NotBase64);
            assert_eq!(decoded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_string_beyond_its_limit_is_not_written() {
        for limit in [
            FilterConfiguration::MAX_RESOURCE_BYTES,
            FilterConfiguration::MAX_PLAIN_BYTES / 4 * 4,
        ] {
            let largest = alloc::vec![b' '; limit / 4 * 3];
            let encoded = FilterConfiguration::new(&largest, limit).unwrap();
            let written = serde_json::to_string(&encoded).unwrap();
            assert!(written.len() <= FilterConfiguration::MAX_BYTES);
            let bytes = limit + 4;
            let expected = FilterConfigurationFault::Size { bytes, limit };
            let larger = [&largest[..], b" "].concat();
            assert_eq!(FilterConfiguration::new(&larger, limit), Err(expected));
            let message = alloc::format!("{expected}");
            for part in [&bytes.to_string()[..], "16777203", "split the policy"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
