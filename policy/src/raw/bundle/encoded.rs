//! A bundle as one base64 string in a filter's configuration.
//!
//! Istio and Envoy Gateway pass a filter's configuration through a protobuf `Struct`. It turns
//! every number into a double, orders members anew and drops repeated ones. The filter would read
//! another policy than the one that `render` wrote. A string passes unchanged.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Bundle;

/// The configuration `{"bundle": "…"}`: the JSON of a [`Bundle`] in base64, and no other member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodedBundle<'a> {
    #[serde(borrow)]
    bundle: Cow<'a, str>,
}

/// Why the string of an encoded bundle is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodedBundleFault {
    /// It is longer than [`Bundle::MAX_ENCODED_BYTES`].
    #[error(
        "is {bytes} bytes of base64, more than {limit}: split the policy between several gateways, or use a plain Envoy, whose filter reads {plain} bytes of JSON", limit = Bundle::MAX_ENCODED_BYTES, plain = Bundle::MAX_BYTES
    )]
    Size {
        /// Its length.
        bytes: usize,
    },
    /// It is not base64.
    #[error(
        "is not base64 in the standard alphabet, with padding and without white space: use `base64 -w0`"
    )]
    NotBase64,
}

impl EncodedBundle<'static> {
    /// Encodes the JSON of a bundle.
    ///
    /// # Errors
    /// The result is too long for a filter.
    pub fn from_json(json: &str) -> Result<Self, EncodedBundleFault> {
        let encoded: String = STANDARD.encode(json);
        check_size(&encoded)?;
        Ok(Self {
            bundle: encoded.into(),
        })
    }
}

impl EncodedBundle<'_> {
    /// Whether a configuration is in this form: its first member is `bundle`, which no [`Bundle`]
    /// has. This does not read the rest.
    pub fn is_form_of(configuration: &[u8]) -> bool {
        let members = configuration.trim_ascii_start().strip_prefix(b"{");
        let first = members.map(<[u8]>::trim_ascii_start);
        first.is_some_and(|first| first.starts_with(b"\"bundle\""))
    }

    /// The JSON of the bundle.
    ///
    /// # Errors
    /// The string is too long, or not base64 in exactly the form that [`Self::from_json`] writes.
    pub fn decode(&self) -> Result<Vec<u8>, EncodedBundleFault> {
        check_size(&self.bundle)?;
        STANDARD
            .decode(self.bundle.as_bytes())
            .map_err(|_| EncodedBundleFault::NotBase64)
    }
}

fn check_size(encoded: &str) -> Result<(), EncodedBundleFault> {
    let bytes = encoded.len();
    if bytes > Bundle::MAX_ENCODED_BYTES {
        return Err(EncodedBundleFault::Size { bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    /// The decoded string, or the fault.
    fn decoded(text: &str) -> Result<Vec<u8>, EncodedBundleFault> {
        let encoded = EncodedBundle {
            bundle: text.into(),
        };
        encoded.decode()
    }

    #[test]
    fn what_is_encoded_is_decoded_unchanged() {
        for json in ["", "{}", "{\"a\": 1.0, \"a\": 9007199254740993}", "ü…"] {
            let encoded = EncodedBundle::from_json(json).unwrap();
            let written = serde_json::to_string(&encoded).unwrap();
            assert!(EncodedBundle::is_form_of(written.as_bytes()), "{written}");
            let read: EncodedBundle<'_> = serde_json::from_str(&written).unwrap();
            assert_eq!(read.decode().unwrap(), json.as_bytes());
        }
    }

    #[test]
    fn only_the_standard_form_of_base64_is_decoded() {
        assert_eq!(decoded("/+8=").unwrap(), [0xff, 0xef]);
        for text in [
            "/+8", "_-8=", "/+8==", "/+ 8=", "/+8=\n", " /+8=", "/+9=", "/", "ü===",
        ] {
            let expected = Err(EncodedBundleFault::NotBase64);
            assert_eq!(decoded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_string_beyond_the_limit_is_neither_written_nor_decoded() {
        let json = |encoded_bytes: usize| " ".repeat(encoded_bytes / 4 * 3);
        let largest = Bundle::MAX_ENCODED_BYTES;
        assert!(EncodedBundle::from_json(&json(largest)).is_ok());
        let bytes = largest + 4;
        let expected = EncodedBundleFault::Size { bytes };
        assert_eq!(EncodedBundle::from_json(&json(bytes)), Err(expected));
        assert_eq!(decoded(&"A".repeat(bytes)), Err(expected));
        let message = alloc::format!("{expected}");
        for part in ["524292", "524288", "split the policy"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_form_shows_in_the_first_member() {
        for (text, expected) in [
            ("{\"bundle\":\"\"}", true),
            (" \n{ \t\"bundle\" : 1", true),
            ("{\"generation\":\"g\",\"bundle\":\"\"}", false),
            ("{\"bundles\":\"\"}", false),
            ("[\"bundle\"]", false),
            ("\"bundle\"", false),
            ("{}", false),
            ("", false),
        ] {
            let is_form = EncodedBundle::is_form_of(text.as_bytes());
            assert_eq!(is_form, expected, "{text}");
        }
    }
}
