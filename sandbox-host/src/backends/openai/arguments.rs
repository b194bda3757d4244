//! The arguments of a function call: a text with JSON. Some servers (Ollama) write the object
//! itself, which becomes its text.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};

use super::lenient::without_nul;

/// The arguments of a call that has none.
pub(super) const NO_ARGUMENTS: &str = "{}";

/// The text of a call's arguments, `None` for `null`.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Arguments;

    impl<'de> Visitor<'de> for Arguments {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("arguments as a text or an object")
        }

        fn visit_unit<E: Error>(self) -> Result<Option<String>, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<String>, E> {
            Ok(Some(without_nul(text)))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<String>, A::Error> {
            let mut json = Vec::new();
            JsonWriter(&mut json).visit_map(map)?;
            String::from_utf8(json).map(Some).map_err(A::Error::custom)
        }
    }

    deserializer.deserialize_any(Arguments)
}

/// Writes a value as JSON while it is read, without intermediate values.
struct JsonWriter<'j>(&'j mut Vec<u8>);

impl JsonWriter<'_> {
    fn write<T: Serialize + ?Sized, E: Error>(self, value: &T) -> Result<(), E> {
        serde_json::to_writer(self.0, value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for JsonWriter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonWriter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write(&())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.write(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(json) = self;
        json.push(b'[');
        while list.next_element_seed(JsonWriter(&mut *json))?.is_some() {
            json.push(b',');
        }
        close(json, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(json) = self;
        json.push(b'{');
        while let Some(key) = map.next_key::<String>()? {
            JsonWriter(&mut *json).write::<_, A::Error>(&key)?;
            json.push(b':');
            map.next_value_seed(JsonWriter(&mut *json))?;
            json.push(b',');
        }
        close(json, b'}');
        Ok(())
    }
}

/// Closes a list or an object. A comma behind its last value is removed.
fn close(json: &mut Vec<u8>, bracket: u8) {
    if json.last() == Some(&b',') {
        json.pop();
    }
    json.push(bracket);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Option<String>> {
        text(&mut serde_json::Deserializer::from_str(value)).ok()
    }

    #[test]
    fn an_object_becomes_its_text_and_a_text_stays() {
        let all = r#"{ "a" : [1, -2, 2.5, true, null, "x\"\n,"], "b": {}, "c": [ ], "\u0061": {"d": "," } }"#;
        let written = r#"{"a":[1,-2,2.5,true,null,"x\"\n,"],"b":{},"c":[],"a":{"d":","}}"#;
        for (value, expected) in [
            (r#""{\"a\":1}""#, Some(Some(r#"{"a":1}"#))),
            (r#""""#, Some(Some(""))),
            ("null", Some(None)),
            ("{}", Some(Some("{}"))),
            (all, Some(Some(written))),
            ("[1]", None),
            ("1", None),
            (r#"{"a":}"#, None),
        ] {
            let expected = expected.map(|text| text.map(str::to_owned));
            assert_eq!(read(value), expected, "{value}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert!(read(&deep(100)).is_some());
        assert_eq!(read(&deep(10_000)), None);
    }
}
