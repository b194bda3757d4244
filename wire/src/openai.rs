//! What goes out in OpenAI's API: the document for a backend, written from what was checked, and the list of models.

use core::fmt::Write as _;

use tensorgate_policy::json::Value;

use crate::json_text::{list, member, string};

/// A document as text: no blanks, every name and string escaped in one way.
pub fn to_json(value: &Value<'_>) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// The recursion is as deep as the document that was read.
fn write(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        // Writing to a String does not fail.
        Value::Int(value) => {
            let _ = write!(out, "{value}");
        }
        // With an exponent where it is far from one; finite, as it was read.
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

/// The answer to `/v1/models`. When a model was made and whose it is are nobody's business, and clients want a value all the same.
pub fn models<'m>(names: impl IntoIterator<Item = &'m str>) -> Vec<u8> {
    let mut json = String::from("{\"object\":\"list\",\"data\":");
    list(&mut json, names, |json, name| {
        json.push('{');
        member(json, "id", name);
        json.push_str(",\"object\":\"model\",\"created\":0,\"owned_by\":\"tensorgate\"}");
    });
    json.push('}');
    json.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::decode;
    use tensorgate_policy::decision::BodyFormat;
    use tensorgate_policy::request::Api;

    #[test]
    fn what_is_written_reads_as_what_it_was() {
        let body = r#"{"model":"m","a":[null,true,false,0,-1,9223372036854775807,1.5,-0,1e300,1e-300,1E2],
            "b":{"\u0061\n\"":"\u2028\ud83d\ude00\\"},"c":{},"d":[]}"#;
        let request = decode(BodyFormat::OpenAi(Api::Chat), body.as_bytes(), &[]).unwrap();
        let written = to_json(&Value::Object(request.document.clone()));
        let theirs: serde_json::Value = serde_json::from_str(&written).unwrap();
        let mut whole: serde_json::Value = serde_json::from_str(body).unwrap();
        whole.as_object_mut().unwrap().remove("model");
        assert_eq!(theirs, whole);
        let again = format!("{{\"model\":\"m\",{}", written.get(1..).unwrap());
        let again = decode(BodyFormat::OpenAi(Api::Chat), again.as_bytes(), &[]).unwrap();
        assert_eq!(again.document, request.document);
        assert!(written.len() <= Value::Object(request.document).text_bytes());
    }

    #[test]
    fn a_list_of_models_is_what_clients_read() {
        let list: serde_json::Value = serde_json::from_slice(&models(["a", "b/c"])).unwrap();
        assert_eq!(list["data"][1]["id"], "b/c");
        assert_eq!(list["object"], "list");
        assert_eq!(models([]), b"{\"object\":\"list\",\"data\":[]}");
    }
}
