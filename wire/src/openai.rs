//! Output for OpenAI's API: the document for a backend, and the list of models.

use core::fmt::Write as _;
use std::borrow::Cow;

use tensorgate_policy::contract::openai::may_start_token;
use tensorgate_policy::json::Value;

use crate::json_text::{list, member, string};
use crate::limits::MAX_JSON_VALUES;

/// Upper bound of the memory of a document besides its text: as a tree, and as rewritten text.
pub fn tree_bytes(text: &[u8]) -> usize {
    /// A member in a list with doubled capacity, its name in a set, and a number as text.
    const VALUE_BYTES: usize =
        2 * size_of::<(Cow<'_, str>, Value<'_>)>() + 2 * size_of::<Cow<'_, str>>() + 25;
    /// Members that a host adds.
    const ADDED_BYTES: usize = 1 << 10;
    let (mut values, mut escaped, mut blanks) = (1_usize, 0_usize, 0_usize);
    for byte in text {
        // A blank inside a special token: in the tree, and in the rewritten text. Its first
        // character may have full width or be an escape.
        if may_start_token(char::from(*byte)) || matches!(byte, b'\xef' | b'\\') {
            blanks = blanks.saturating_add(2);
        }
        match byte {
            b'[' | b'{' | b',' | b':' => values = values.saturating_add(1),
            // Escapes with six characters: a tab from two, a line separator from three, a delete
            // from one.
            b'\\' => escaped = escaped.saturating_add(4),
            b'\xe2' => escaped = escaped.saturating_add(3),
            b'\x7f' => escaped = escaped.saturating_add(5),
            _ => {}
        }
    }
    let values = values.min(MAX_JSON_VALUES.saturating_add(1));
    values
        .saturating_mul(VALUE_BYTES)
        // Texts without their escapes, and escaped again.
        .saturating_add(text.len().saturating_mul(2))
        .saturating_add(blanks)
        .saturating_add(escaped)
        .saturating_add(ADDED_BYTES)
}

/// Writes a document as compact text with one form of escapes.
pub fn to_json(value: &Value<'_>) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// The recursion is as deep as the parsed document.
fn write(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        // Writing to a String does not fail.
        Value::Int(value) => {
            let _ = write!(out, "{value}");
        }
        // With an exponent for large and small values; always finite.
        Value::Float(value) => {
            let _ = write!(out, "{value:?}");
        }
        Value::String(text) => string(out, text),
        Value::Array(elements) => list(out, elements, write),
        Value::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                string(out, name);
                out.push(':');
                write(out, value);
            }
            out.push('}');
        }
    }
}

/// The response to `/v1/models`.
pub fn models<'m>(names: impl IntoIterator<Item = &'m str>) -> Vec<u8> {
    let mut json = String::from("{\"object\":\"list\",\"data\":");
    list(&mut json, names, card);
    json.push('}');
    json.into_bytes()
}

/// The response to `/v1/models/NAME`.
pub fn model(name: &str) -> Vec<u8> {
    let mut json = String::new();
    card(&mut json, name);
    json.into_bytes()
}

/// A model's card. Creation time and owner are constants that clients require.
fn card(json: &mut String, name: &str) {
    json.push('{');
    member(json, "id", name);
    json.push_str(",\"object\":\"model\",\"created\":0,\"owned_by\":\"tensorgate\"}");
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]

    use super::*;
    use crate::decode;
    use tensorgate_policy::decision::BodyFormat;
    use tensorgate_policy::request::Api;

    #[test]
    fn a_document_is_written_as_it_was_read() {
        let body = br#"{"tools":[[],[1,{"a":{},"b":[{"c":null},"d"]}],{"e":[[2]]}],"x":[true]}"#;
        let read = crate::json::document(body).unwrap().document;
        assert_eq!(to_json(&Value::Object(read)).as_bytes(), body);
    }

    #[test]
    fn written_documents_are_read_back() {
        let body = r#"{"model":"m","a":[null,true,false,0,-1,9223372036854775807,1.5,-0,1e300,1e-300,1E2],
            "b":{"\u0061\n\"":"\u2028\ud83d\ude00\\"},"c":{},"d":[]}"#;
        let request = decode(BodyFormat::OpenAi(Api::Chat), body.as_bytes(), &[]).unwrap();
        let written = to_json(&Value::Object(request.document.clone()));
        let parsed: serde_json::Value = serde_json::from_str(&written).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(body).unwrap();
        expected.as_object_mut().unwrap().remove("model");
        assert_eq!(parsed, expected);
        let again = format!("{{\"model\":\"m\",{}", written.get(1..).unwrap());
        let again = decode(BodyFormat::OpenAi(Api::Chat), again.as_bytes(), &[]).unwrap();
        assert_eq!(again.document, request.document);
        assert!(written.len() <= Value::Object(request.document).text_bytes());
    }

    /// Bytes on the heap, as if every list had just doubled.
    fn heap(value: &Value<'_>) -> usize {
        let text = |text: &Cow<'_, str>| match text {
            Cow::Borrowed(_) => 0,
            Cow::Owned(text) => text.capacity(),
        };
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
            Value::String(string) => text(string),
            Value::Array(elements) => {
                let own = 2 * elements.len() * size_of::<Value<'_>>();
                own + elements.iter().map(heap).sum::<usize>()
            }
            Value::Object(members) => {
                let own = 2 * members.len() * size_of::<(Cow<'_, str>, Value<'_>)>();
                let below = members.iter().map(|(name, value)| text(name) + heap(value));
                own + below.sum::<usize>()
            }
        }
    }

    #[test]
    fn a_tree_uses_memory_in_proportion_to_its_text() {
        let many = |one: &str, times: usize| format!("[{}{one}]", format!("{one},").repeat(times));
        for (name, list) in [
            ("numbers", many("1", 60_000)),
            ("numbers that are written longer", many("1e15", 9_000)),
            ("empty lists", many("[]", 30_000)),
            ("members", many("{\"a\":0}", 20_000)),
            ("escaped names", many("{\"\\u0061\":\"\\t\"}", 20_000)),
            ("deletes", many("\"\u{7f}\u{7f}\u{7f}\u{7f}\"", 9_000)),
            ("line separators", many("\"\u{2028}\u{2029}\"", 9_000)),
            ("nothing", "[]".into()),
        ] {
            let body = format!("{{\"model\":\"m\",\"a\":{list}}}");
            let request = decode(BodyFormat::OpenAi(Api::Chat), body.as_bytes(), &[]).unwrap();
            let document = Value::Object(request.document);
            let takes = heap(&document) + to_json(&document).len();
            let expected = tree_bytes(body.as_bytes());
            assert!(takes <= expected, "{name}: {takes} of {expected}");
        }
    }

    #[test]
    fn a_list_of_models_is_what_clients_read() {
        let list: serde_json::Value = serde_json::from_slice(&models(["a", "b/c"])).unwrap();
        assert_eq!(list["data"][1]["id"], "b/c");
        assert_eq!(list["object"], "list");
        assert_eq!(models([]), b"{\"object\":\"list\",\"data\":[]}");
        let card: serde_json::Value = serde_json::from_slice(&model("b/c")).unwrap();
        assert_eq!(card, list["data"][1]);
    }
}
