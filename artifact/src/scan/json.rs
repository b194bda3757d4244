//! A walk over a JSON document that keeps no more of it than one text and the keys of the objects
//! around it.
//!
//! Readers disagree about a key that an object has twice, so it ends the walk.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Limits;
use super::python_json::{PythonJson, TOO_LONG};
use super::source::{Source, Stop};
use crate::scan::rules::Rule;

/// The longest text or number, bytes.
const MAX_TOKEN_BYTES: usize = 1 << 20;
/// What the hash of a key takes in memory, bytes: a table that grows has twice the room, and the
/// table before it.
const KEY_HASH_BYTES: usize = 32;
/// Stands for the elements of a list in a path.
pub(super) const ELEMENT: &str = "[]";

/// What looks at a document. `path` has the keys around a value, the innermost last.
pub(super) trait Watch {
    /// A key of the object at `path`.
    fn key(&mut self, path: &[String], key: &str);
    /// A text.
    fn text(&mut self, path: &[String], text: &str);
    /// A truth value.
    fn truth(&mut self, path: &[String], value: bool);
    /// A number, with its value if it is known and whole.
    fn numeral(&mut self, _: &[String], _: Option<i64>) {}
    /// The list at a path begins.
    fn list(&mut self, _: &[String]) {}
    /// The end of the object at a path.
    fn end(&mut self, _: &[String]) {}
    /// A null.
    fn null(&mut self, _: &[String]) {}
    /// The walk goes into the value of a key, or without a key into the elements of a list.
    fn enter(&mut self, _: Option<&str>) {}
    /// The walk leaves what it went into last.
    fn leave(&mut self) {}
    /// A tag of YAML, which chooses the class of an object.
    fn tag(&mut self, _: &str) {}
}

/// Follows the document that the whole input is.
pub(super) fn walk(
    source: &mut Source<'_>,
    limits: &Limits,
    rule: &'static Rule,
    watch: &mut impl Watch,
) -> Result<(), Stop> {
    let mut state = State {
        path: Vec::new(),
        watch,
        key_bytes_left: limits.header_bytes,
        hash_key: RandomState::new(),
        is_over: false,
    };
    let walked = read_into(source, Value(&mut state), MAX_TOKEN_BYTES, rule);
    if state.is_over {
        return Err(too_large(rule));
    }
    walked
}

/// Reads the document that the whole input is, as a seed makes something of it. `max_bytes` is the
/// length of the longest text.
pub(super) fn read_into<'de, S: DeserializeSeed<'de>>(
    source: &mut Source<'_>,
    seed: S,
    max_bytes: usize,
    rule: &'static Rule,
) -> Result<S::Value, Stop> {
    let mut json = serde_json::Deserializer::from_reader(PythonJson::new(source, max_bytes));
    let value = seed.deserialize(&mut json);
    let value = value.and_then(|value| json.end().map(|()| value));
    value.map_err(|error| match error.io_error_kind() {
        Some(TOO_LONG) => too_large(rule),
        Some(_) => Stop::Io(error.into()),
        None => Stop::malformed(0, rule, error.to_string()),
    })
}

fn too_large(rule: &'static Rule) -> Stop {
    let detail = "a text or an object is larger than this scan reads";
    Stop::unknown(0, rule, detail)
}

struct State<'w, W> {
    path: Vec<String>,
    watch: &'w mut W,
    /// How many bytes of keys may still be kept.
    key_bytes_left: usize,
    /// The key of the hashes, which no file can know.
    hash_key: RandomState,
    is_over: bool,
}

/// A value of the document.
struct Value<'s, 'w, W>(&'s mut State<'w, W>);

impl<'de, W: Watch> DeserializeSeed<'de> for Value<'_, '_, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, W: Watch> Visitor<'de> for Value<'_, '_, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.watch.null(&self.0.path);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.watch.truth(&self.0.path, value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        let integer = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.watch.numeral(&self.0.path, Some(integer));
        Ok(())
    }

    // The reader passes on only negative numbers here.
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.watch.numeral(&self.0.path, Some(value));
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.watch.numeral(&self.0.path, None);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.watch.text(&self.0.path, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.watch.list(&self.0.path);
        self.0.watch.enter(None);
        self.0.path.push(ELEMENT.to_owned());
        while seq.next_element_seed(Value(&mut *self.0))?.is_some() {}
        self.0.path.pop();
        self.0.watch.leave();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let state = self.0;
        let key_bytes_left = state.key_bytes_left;
        let mut hashes = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !hashes.insert(state.hash_key.hash_one(&key)) {
                let detail = format!("the key {key:?} is there twice");
                return Err(A::Error::custom(detail));
            }
            // The key itself is kept as long as its value is read.
            let key_bytes = key.len();
            let kept = key_bytes.saturating_add(KEY_HASH_BYTES);
            let Some(left) = state.key_bytes_left.checked_sub(kept) else {
                state.is_over = true;
                return Err(A::Error::custom("an object has too many keys"));
            };
            state.key_bytes_left = left;
            state.watch.key(&state.path, &key);
            state.watch.enter(Some(&key));
            state.path.push(key);
            map.next_value_seed(Value(&mut *state))?;
            state.path.pop();
            state.watch.leave();
            state.key_bytes_left = left.saturating_add(key_bytes);
        }
        state.watch.end(&state.path);
        state.key_bytes_left = key_bytes_left;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::rules::UNSCANNED;
    use std::io::Cursor;

    struct Paths(Vec<String>);

    impl Watch for Paths {
        fn key(&mut self, _: &[String], _: &str) {}

        fn text(&mut self, path: &[String], text: &str) {
            self.0.push(format!("{}={text}", path.join("/")));
        }

        fn truth(&mut self, path: &[String], value: bool) {
            self.0.push(format!("{}={value}", path.join("/")));
        }
    }

    fn paths(document: &str, limits: &Limits) -> Result<Vec<String>, Stop> {
        let mut file = Cursor::new(document.as_bytes().to_vec());
        let mut source = Source::new(&mut file, UNSCANNED).unwrap();
        let mut paths = Paths(Vec::new());
        walk(&mut source, limits, UNSCANNED, &mut paths).map(|()| paths.0)
    }

    #[test]
    fn values_have_paths() {
        let document = r#"{"a":[1,-2.5e3,{"b":"c\"d"}],"e":{"a":true,"f":null}} "#;
        let found = paths(document, &Limits::default()).unwrap();
        assert_eq!(found, ["a/[]/b=c\"d", "e/a=true"]);
    }

    #[test]
    fn what_readers_disagree_about_ends_the_walk() {
        for document in [
            r#"{"a":1,"\u0061":2}"#,
            "{} {}",
            "",
            "[-NaN]",
            "[1,]",
            "\u{feff}{}",
        ] {
            let error = paths(document, &Limits::default()).unwrap_err();
            assert!(matches!(
                error,
                Stop::Found {
                    verdict: crate::scan::Verdict::Malformed,
                    ..
                }
            ));
        }
        let deep = "[".repeat(100_000);
        assert!(paths(&deep, &Limits::default()).is_err());
    }

    #[test]
    fn texts_and_keys_are_bounded() {
        let limits = Limits {
            header_bytes: 100,
            ..Limits::default()
        };
        let long = format!("\"{}\"", "a".repeat(MAX_TOKEN_BYTES + 1));
        let digits = "1".repeat(MAX_TOKEN_BYTES + 1);
        for document in [long.as_str(), &digits, r#"{"a":1,"b":2,"c":3,"d":4}"#] {
            let error = paths(document, &limits).unwrap_err();
            assert!(matches!(
                error,
                Stop::Found {
                    verdict: crate::scan::Verdict::Unknown,
                    ..
                }
            ));
        }
        // Keys around a value count with their characters.
        let long = format!(r#"{{"{}":{{"a":1}}}}"#, "a".repeat(60));
        assert!(paths(&long, &limits).is_err());
        // Keys of objects that have ended do not count.
        for document in [
            r#"[{"a":1},{"b":2},{"c":3},{"d":4}]"#,
            r#"{"a":1,"b":2,"c":3}"#,
        ] {
            assert!(paths(document, &limits).is_ok(), "{document}");
        }
    }

    #[test]
    fn a_vocabulary_may_have_half_a_million_keys() {
        let document = |count: usize| {
            let entries: Vec<_> = (0..count).map(|id| format!("\"token{id}\":{id}")).collect();
            format!("{{{}}}", entries.join(","))
        };
        let limits = Limits::default();
        assert!(paths(&document(500_000), &limits).is_ok());
        assert!(paths(&document(530_000), &limits).is_err());
    }
}
