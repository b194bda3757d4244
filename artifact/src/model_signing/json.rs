//! Strict reading of JSON. Readers disagree about an object that has a member twice, so such a
//! text is rejected, whatever the member is.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use tensorgate_values::safe_text::printable;
use tensorgate_values::unique_members;

/// Maximum members of an object. The largest object of the format has eight.
const MAX_MEMBERS: usize = 64;
/// Maximum length of a fault, in characters. It may quote the text.
const MAX_FAULT_CHARS: usize = 200;

/// Why a text is not read: a fault of JSON, or of the form that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonFault(String);

impl From<serde_json::Error> for JsonFault {
    fn from(error: serde_json::Error) -> Self {
        Self(excerpt(&error.to_string()))
    }
}

/// The start of a foreign text, for a message.
pub(super) fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(MAX_FAULT_CHARS).collect();
    printable(&start)
}

/// Checks that a text is one JSON value in which no object has a member twice.
pub(super) fn check_members(text: &[u8]) -> Result<(), JsonFault> {
    let mut json = serde_json::Deserializer::from_slice(text);
    UniqueMembers.deserialize(&mut json)?;
    Ok(json.end()?)
}

/// Reads a text that [`check_members`] has accepted.
pub(super) fn parse<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, JsonFault> {
    Ok(serde_json::from_slice(text)?)
}

/// A number in its only form: digits without leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Either alphabet of base64 (RFC 4648), as the envelope's specification allows.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}

/// Reads a list of at most `MAX` elements and stops at the first element beyond.
pub(super) fn at_most<'de, const MAX: usize, T, D>(json: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    json.deserialize_seq(AtMost::<MAX, T>(PhantomData))
}

struct AtMost<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < MAX {
            let Some(element) = list.next_element()? else {
                return Ok(elements);
            };
            elements.push(element);
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(elements),
            Some(_) => Err(A::Error::custom(format!(
                "a list has more than {MAX} elements"
            ))),
        }
    }
}

/// A value in which no object has a member twice.
struct UniqueMembers;

impl<'de> DeserializeSeed<'de> for UniqueMembers {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueMembers {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        let twice = |name: &str| format!("the member {name:?} is there twice");
        let members = unique_members(object, twice, |object, _, members| {
            if members == MAX_MEMBERS {
                return Err(A::Error::custom(format!(
                    "an object has more than {MAX_MEMBERS} members"
                )));
            }
            object.next_value_seed(Self)
        });
        members.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tensorgate_values::safe_text::is_hidden;

    #[test]
    fn a_member_that_is_there_twice_is_found_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":[{"a":{"c":1,"c":2}}]}]"#,
        ] {
            let fault = check_members(text.as_bytes()).unwrap_err();
            assert!(fault.to_string().contains("is there twice"), "{fault}");
        }
        check_members(br#"[{"a":1},{"a":[-1,2.5,true,null,"x"]}]"#).unwrap();
    }

    #[test]
    fn what_is_not_one_value_of_json_is_rejected() {
        for text in [
            "",
            "{} {}",
            "[1,]",
            "[NaN]",
            "\u{feff}{}",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(check_members(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(check_members(b"\"\xff\"").is_err());
        assert!(check_members("[".repeat(100_000).as_bytes()).is_err());
        let members: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("\"{n}\":0")).collect();
        assert!(check_members(format!("{{{}}}", members.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn a_list_ends_at_its_bound() {
        let read = |text: &str| {
            let mut json = serde_json::Deserializer::from_str(text);
            at_most::<2, u8, _>(&mut json).map_err(JsonFault::from)
        };
        assert_eq!(read("[]"), Ok(vec![]));
        assert_eq!(read("[1,2]"), Ok(vec![1, 2]));
        // The text behind the third element is not read.
        let fault = read("[1,2,3").unwrap_err();
        assert!(fault.to_string().contains("more than 2"), "{fault}");
    }

    #[test]
    fn a_fault_does_not_control_a_terminal() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Empty {}
        let fault = parse::<Empty>(b"{\"\\u001b[31m\\u202e\":1}").unwrap_err();
        assert!(!fault.to_string().contains(is_hidden), "{fault:?}");
    }
}
