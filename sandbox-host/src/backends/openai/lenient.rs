//! Readers of members whose form differs between servers. A value of a kind that a member cannot
//! have is left out where the answer is of use without it. What the gate writes has one form.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tensorgate_policy::contract::openai::MAX_CALLS;
use tensorgate_policy::values::safe_text::is_hidden;

/// The largest integer that every JSON parser reads exactly.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;
/// The most parts of choices in a chunk. Servers write one, or one of each choice.
const MAX_CHUNK_CHOICES: usize = 1_024;

/// A value of any kind, of which only a text or a whole number is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Missing, or `null`.
    #[default]
    Absent,
    /// A number from 0 to [`MAX_NUMBER`]. Some servers write it as a float without a fraction.
    Number(u64),
    Text(String),
    /// A value of another kind, or another number.
    Other,
}

impl Scalar {
    /// The text, if it is one.
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Number(_) | Self::Other => None,
        }
    }

    /// A number that every JSON parser reads exactly.
    const fn from_number(number: u64) -> Self {
        if number > MAX_NUMBER {
            return Self::Other;
        }
        Self::Number(number)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let joins_parts = false;
        deserializer.deserialize_any(ScalarVisitor { joins_parts })
    }
}

/// Reads any value.
struct ScalarVisitor {
    /// Whether a list is read as a text in parts.
    joins_parts: bool,
}

/// A part of a text. Parts of other types have no `text`.
#[derive(Deserialize)]
struct Part {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Absent)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    // Only negative numbers arrive here.
    fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::from_number(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        // A float without a fraction is formatted as an integer.
        let number = number.to_string().parse::<u64>();
        Ok(number.map_or(Scalar::Other, Scalar::from_number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(without_nul(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        if !self.joins_parts {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Scalar::Other);
        }
        let mut joined: Option<String> = None;
        while let Some(Part { text }) = list.next_element()? {
            match (&mut joined, text) {
                (Some(joined), Some(text)) => joined.push_str(&text),
                (None, Some(text)) => joined = Some(text),
                (_, None) => {}
            }
        }
        Ok(joined.map_or(Scalar::Absent, Scalar::Text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// Reads `null` as the default value.
pub(super) fn default_if_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An object, or nothing. Some servers write an empty list or another value in its place.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<T>, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

/// A list, or nothing. Some servers write a single entry in its place.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    bounded_list(deserializer, usize::MAX).map(Option::unwrap_or_default)
}

/// As [`object`], with the default value for nothing.
pub(super) fn object_or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    object(deserializer).map(Option::unwrap_or_default)
}

/// A text, possibly a list of its parts. Another value is a fault, because the answer would lack
/// its content.
pub(super) fn content<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let joins_parts = true;
    match deserializer.deserialize_any(ScalarVisitor { joins_parts })? {
        Scalar::Absent => Ok(None),
        Scalar::Text(text) => Ok(Some(text)),
        Scalar::Number(_) | Scalar::Other => Err(D::Error::custom("a content that is no text")),
    }
}

/// A text, or nothing.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Scalar::deserialize(deserializer).map(Scalar::into_text)
}

/// A text that is not empty, or nothing. Some servers write a missing word as an empty one.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer).map(|text| text.filter(|text| !text.is_empty()))
}

/// An id or a name of a call, or nothing. Control and hidden characters are left out: the next
/// request, which repeats the word, may have none.
pub(super) fn call_word<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let word = text(deserializer)?.map(without_hidden);
    Ok(word.filter(|word| !word.is_empty()))
}

/// The name of a function that must have one. Characters are left out as in [`call_word`].
pub(super) fn call_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(without_hidden)
}

fn without_hidden(mut word: String) -> String {
    word.retain(|c| !is_hidden(c));
    word
}

/// A text without U+0000. Models write it at times, and no request may have it.
pub(super) fn without_nul(text: &str) -> String {
    let mut text = text.to_owned();
    if text.contains('\0') {
        text.retain(|c| c != '\0');
    }
    text
}

/// A number that may be missing. Another value is a fault, because it cannot be said to what the
/// rest belongs.
pub(super) fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Scalar::deserialize(deserializer)? {
        Scalar::Absent => Ok(None),
        Scalar::Number(number) => Ok(Some(number)),
        Scalar::Text(_) | Scalar::Other => Err(D::Error::custom("an index that is no number")),
    }
}

/// A number, or nothing.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Number(number) => Some(number),
        Scalar::Absent | Scalar::Text(_) | Scalar::Other => None,
    })
}

/// A time in seconds, or 0. Some servers write fractions of a second.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    count(deserializer).map(Option::unwrap_or_default)
}

/// The parts of choices in a chunk.
pub(super) fn choices<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    bounded_list(deserializer, MAX_CHUNK_CHOICES)
}

/// The pieces of calls in a part of a choice, at most as many as a message has calls.
pub(super) fn calls<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    bounded_list(deserializer, MAX_CALLS).map(Option::unwrap_or_default)
}

/// A list with a bound, a single entry, or `null`. An element takes some hundred bytes, and `{}` is
/// one where each of its members may be left out.
fn bounded_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    most: usize,
) -> Result<Option<Vec<T>>, D::Error> {
    struct ListVisitor<T> {
        most: usize,
        element: PhantomData<T>,
    }

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {} elements", self.most)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() >= self.most {
                    return Err(A::Error::custom("a list with too many elements"));
                }
                elements.push(element);
            }
            Ok(Some(elements))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|entry| Some(vec![entry]))
        }
    }

    let element = PhantomData;
    deserializer.deserialize_any(ListVisitor { most, element })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Read {
        #[serde(deserialize_with = "content")]
        content: Option<String>,
        #[serde(deserialize_with = "text")]
        text: Option<String>,
        #[serde(deserialize_with = "word")]
        word: Option<String>,
        #[serde(deserialize_with = "call_word")]
        call_word: Option<String>,
        #[serde(deserialize_with = "call_name")]
        call_name: String,
        #[serde(deserialize_with = "index")]
        index: Option<u64>,
        #[serde(deserialize_with = "count")]
        count: Option<u64>,
        #[serde(deserialize_with = "seconds")]
        seconds: u64,
    }

    /// What is read of one member with this value. `None`: the answer is a fault.
    fn read(name: &str, value: &str) -> Option<Read> {
        serde_json::from_str(&format!("{{\"{name}\":{value}}}")).ok()
    }

    #[test]
    fn texts_are_read_in_the_forms_that_servers_write() {
        let parts =
            r#"[{"type":"text","text":"a"},{"type":"x","y":[1]},{"type":"text","text":"b"}]"#;
        for (value, content, text, word) in [
            (r#""a""#, Some(Some("a")), Some("a"), Some("a")),
            (r#""""#, Some(Some("")), Some(""), None),
            ("null", Some(None), None, None),
            (parts, Some(Some("ab")), None, None),
            ("[]", Some(None), None, None),
            (r#"["a"]"#, None, None, None),
            (r#"{"a":[{}]}"#, None, None, None),
            ("1", None, None, None),
            ("false", None, None, None),
        ] {
            let of = |name| read(name, value);
            let found = of("content").map(|read| read.content);
            assert_eq!(
                found,
                content.map(|text| text.map(str::to_owned)),
                "{value}"
            );
            assert_eq!(
                of("text").and_then(|read| read.text).as_deref(),
                text,
                "{value}"
            );
            assert_eq!(
                of("word").and_then(|read| read.word).as_deref(),
                word,
                "{value}"
            );
            assert!(of("text").is_some() && of("word").is_some(), "{value}");
        }
    }

    #[test]
    fn what_the_next_request_may_not_have_is_left_out() {
        let of = |name| read(name, r#""a\u0000\n\u202eb""#).unwrap();
        assert_eq!(of("content").content.as_deref(), Some("a\n\u{202e}b"));
        assert_eq!(of("text").text.as_deref(), Some("a\n\u{202e}b"));
        assert_eq!(of("call_word").call_word.as_deref(), Some("ab"));
        assert_eq!(of("call_name").call_name, "ab");
        let hidden = read("call_word", r#""\u202e""#).unwrap();
        assert_eq!(hidden.call_word, None);
    }

    #[test]
    fn numbers_are_integers_and_exact_or_left_out() {
        for (value, index, count) in [
            ("3", Some(Some(3)), Some(3)),
            ("3.0", Some(Some(3)), Some(3)),
            ("9007199254740991", Some(Some(MAX_NUMBER)), Some(MAX_NUMBER)),
            ("null", Some(None), None),
            ("9007199254740992", None, None),
            ("18446744073709551616", None, None),
            ("1e300", None, None),
            ("3.5", None, None),
            ("-1", None, None),
            ("-1.0", None, None),
            (r#""3""#, None, None),
            ("[3]", None, None),
        ] {
            assert_eq!(
                read("index", value).map(|read| read.index),
                index,
                "{value}"
            );
            assert_eq!(
                read("count", value).map(|read| read.count),
                Some(count),
                "{value}"
            );
            let seconds = read("seconds", value).map(|read| read.seconds);
            assert_eq!(seconds, Some(count.unwrap_or(0)), "{value}");
        }
    }
}
