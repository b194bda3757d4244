//! Key sets that issuers publish. An entry that cannot be read as a key is kept with its fault, so
//! that it does not hide the other keys.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{Jwk, Secret};

/// A JSON Web Key Set (RFC 7517, 5), as an issuer publishes it. Other members are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct KeySet {
    /// Its entries.
    pub keys: Vec<KeyEntry>,
}

/// An entry of a published set. Its other members are ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyEntry {
    /// The key, as far as it can be read.
    pub key: Jwk,
    /// Why it cannot be used, whatever its algorithm.
    pub fault: Option<KeyEntryFault>,
}

/// Why an entry cannot be read as a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntryFault {
    /// The member at fault, if it is one.
    pub member: Option<String>,
    /// Description, lowercase, without a full stop.
    pub message: &'static str,
}

impl From<Jwk> for KeyEntry {
    fn from(key: Jwk) -> Self {
        Self { key, fault: None }
    }
}

impl KeyEntry {
    /// An entry that is not an object.
    fn not_an_object() -> Self {
        let mut entry = Self::default();
        entry.fail(None, "is not an object");
        entry
    }

    /// Stores a fault; the first one counts.
    fn fail(&mut self, member: Option<String>, message: &'static str) {
        if self.fault.is_none() {
            self.fault = Some(KeyEntryFault { member, message });
        }
    }

    /// Takes the value of a member: a text, or `key_ops`.
    fn set(&mut self, name: String, value: KeyValue) {
        let Some(text) = text(&mut self.key, &name) else {
            match value {
                KeyValue::Null => {}
                KeyValue::Texts(texts) => self.key.key_ops = Some(texts),
                KeyValue::Text(_) | KeyValue::Entry(_) | KeyValue::Other => {
                    self.fail(Some(name), "is not a list of texts")
                }
            }
            return;
        };
        match value {
            KeyValue::Null => {}
            KeyValue::Text(value) => *text = Some(value),
            KeyValue::Texts(_) | KeyValue::Entry(_) | KeyValue::Other => {
                self.fail(Some(name), "is not a text")
            }
        }
    }
}

/// Members that are texts.
fn text<'k>(key: &'k mut Jwk, name: &str) -> Option<&'k mut Option<String>> {
    Some(match name {
        "kty" => &mut key.kty,
        "kid" => &mut key.kid,
        "alg" => &mut key.alg,
        "use" => &mut key.usage,
        "crv" => &mut key.crv,
        "n" => &mut key.n,
        "e" => &mut key.e,
        "x" => &mut key.x,
        "y" => &mut key.y,
        _ => return None,
    })
}

/// Members of which it only matters whether they hold something.
fn secret<'k>(key: &'k mut Jwk, name: &str) -> Option<&'k mut Secret> {
    Some(match name {
        "d" => &mut key.d,
        "p" => &mut key.p,
        "q" => &mut key.q,
        "dp" => &mut key.dp,
        "dq" => &mut key.dq,
        "qi" => &mut key.qi,
        "oth" => &mut key.oth,
        "k" => &mut key.k,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for KeyEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let KeyValue::Entry(entry) = KeyValue::deserialize(deserializer)? else {
            return Ok(Self::not_an_object());
        };
        Ok(*entry)
    }
}

/// An entry, or the value of one of its members, as far as keys have any use for it.
enum KeyValue {
    Null,
    Text(String),
    Texts(Vec<String>),
    Entry(Box<KeyEntry>),
    Other,
}

impl<'de> Deserialize<'de> for KeyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = KeyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<KeyValue, E> {
        Ok(KeyValue::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<KeyValue, E> {
        Ok(KeyValue::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<KeyValue, E> {
        Ok(KeyValue::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<KeyValue, E> {
        Ok(KeyValue::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<KeyValue, E> {
        Ok(KeyValue::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<KeyValue, E> {
        Ok(KeyValue::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<KeyValue, A::Error> {
        let mut texts = Vec::new();
        let mut only_texts = true;
        while let Some(value) = list.next_element::<KeyValue>()? {
            if let KeyValue::Text(text) = value {
                texts.push(text);
            } else {
                only_texts = false;
            }
        }
        Ok(if only_texts {
            KeyValue::Texts(texts)
        } else {
            KeyValue::Other
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyValue, A::Error> {
        let mut entry = KeyEntry::default();
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(secret) = secret(&mut entry.key, &name) {
                secret.0 |= map.next_value::<Secret>()?.0;
                continue;
            }
            // `key_ops` is the only list that is read.
            if name != "key_ops" && text(&mut entry.key, &name).is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<KeyValue>()?;
            if seen.insert(name.clone()) {
                entry.set(name, value);
            } else {
                // Two readers could take two different values.
                entry.fail(Some(name), "occurs twice");
            }
        }
        Ok(KeyValue::Entry(Box::new(entry)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use alloc::borrow::ToOwned as _;
    use alloc::format;

    fn entry(text: &str) -> KeyEntry {
        let set: KeySet = serde_json::from_str(&format!(r#"{{"keys": [{text}]}}"#)).unwrap();
        set.keys.first().cloned().unwrap()
    }

    #[test]
    fn an_entry_that_is_no_key_is_kept_with_its_fault() {
        let fault = |text: &str| {
            let fault = entry(text).fault?;
            Some((fault.member.unwrap_or_default(), fault.message))
        };
        let at = |member: &str, message| Some((member.to_owned(), message));
        for (text, expected) in [
            (r#"{"kty": "AKP", "x5c": 7, "alg": null}"#, None),
            (
                r#"{"kty": "RSA", "key_ops": ["verify"], "a": {}, "a": 1}"#,
                None,
            ),
            ("null", at("", "is not an object")),
            ("7.5", at("", "is not an object")),
            (r#""RSA""#, at("", "is not an object")),
            (r#"[["RSA"]]"#, at("", "is not an object")),
            (r#"{"kid": 7}"#, at("kid", "is not a text")),
            (r#"{"n": {"a": [1]}}"#, at("n", "is not a text")),
            (r#"{"kty": ["RSA"]}"#, at("kty", "is not a text")),
            (
                r#"{"key_ops": "verify"}"#,
                at("key_ops", "is not a list of texts"),
            ),
            (
                r#"{"key_ops": ["verify", 1]}"#,
                at("key_ops", "is not a list of texts"),
            ),
            (r#"{"kid": "a", "kid": "b"}"#, at("kid", "occurs twice")),
            (r#"{"kty": null, "kty": "RSA"}"#, at("kty", "occurs twice")),
        ] {
            assert_eq!(fault(text), expected, "{text}");
        }
        let read = entry(r#"{"kty": "RSA", "kid": "a", "d": "AA", "use": "sig"}"#).key;
        assert_eq!(read.usage.as_deref(), Some("sig"));
        assert!(read.d.0 && !read.k.0);
    }

    #[test]
    fn a_member_without_a_value_is_no_secret() {
        for (value, expected) in [
            ("null", false),
            ("[]", false),
            ("\"\"", true),
            ("{}", true),
            ("[[]]", true),
            ("[null]", true),
            ("0", true),
            ("-1.5", true),
            ("false", true),
        ] {
            let text = format!(r#"{{"kty": "RSA", "oth": {value}}}"#);
            assert_eq!(entry(&text).key.oth.0, expected, "{value}");
            let read: Jwk = serde_json::from_str(&text).unwrap();
            assert_eq!(read.oth.0, expected, "{value}");
        }
        // Neither of two values hides the other.
        assert!(entry(r#"{"d": "AA", "d": null}"#).key.d.0);
        assert!(entry(r#"{"d": null, "d": "AA"}"#).key.d.0);
    }
}
