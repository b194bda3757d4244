//! Reads rendered files as other programs do, with the documents inside of their texts.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tensorgate_policy::Compiled;
use tensorgate_policy::policy::{Client, Grant, Model};
use tensorgate_policy_text::de::At;
use tensorgate_policy_text::parse::parse;

use super::names::OPEN;

/// Type of a text in Envoy's configuration that a filter parses.
const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";
/// Texts that YAML 1.1 takes for booleans or null.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Files by name, each as a document. What depends on the whole policy, digests and versions, is
/// null.
pub fn documents(files: &BTreeMap<String, String>, generation: &str) -> BTreeMap<String, Value> {
    let files = files.iter();
    let document = |(file, text): (&String, &String)| {
        let document = match file.rsplit_once('.') {
            Some((_, "yaml")) if file.starts_with("templates/") => template(text),
            Some((_, "yaml")) => yaml(text),
            Some((_, "json")) => serde_json::from_str(text).unwrap(),
            Some((_, "base64")) => compiled(&STANDARD.decode(text).unwrap()).unwrap(),
            _ => Value::from(text.as_str()),
        };
        (file.clone(), decoded(document, generation))
    };
    files.map(document).collect()
}

/// A YAML document. Every reader has to take a plain scalar for the same value.
fn yaml(text: &str) -> Value {
    for event in Parser::new_from_str(text) {
        if let Event::Scalar(scalar, ScalarStyle::Plain, ..) = event.unwrap().0 {
            let json = serde_json::from_str::<Value>(&scalar).is_ok();
            let first = scalar.starts_with(|c: char| c.is_ascii_alphabetic() || "/_".contains(c));
            let reserved = RESERVED.contains(&scalar.to_ascii_lowercase().as_str());
            assert!(json || (first && !reserved), "plain: {scalar}");
        }
    }
    let (tree, faults) = parse(text);
    assert!(faults.is_empty(), "{faults:?}\n{text}");
    Value::deserialize(At::root(&tree.unwrap())).unwrap()
}

/// A template of a chart: its actions, and the document with a text in place of each value.
fn template(text: &str) -> Value {
    let (mut actions, mut document) = (Vec::new(), String::new());
    for line in text.lines() {
        let (mut kept, mut rest) = (String::new(), line);
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").unwrap();
            kept.push_str(before);
            // An action that writes nothing begins with a dash.
            if !action.starts_with('-') {
                kept.push_str("value");
            }
            actions.push(action.to_owned());
            rest = after;
        }
        kept.push_str(rest);
        if !kept.trim().is_empty() {
            document.push_str(&kept);
            document.push('\n');
        }
    }
    json!({"actions": actions, "document": yaml(&document)})
}

fn decoded(document: Value, generation: &str) -> Value {
    match document {
        Value::Object(entries) => {
            let kind = entries.get("@type").and_then(Value::as_str);
            let is_parsed = kind == Some(STRING_VALUE);
            let entry = |(key, value): (String, Value)| {
                let value = match value {
                    Value::String(text) => match inner(&key, &text, is_parsed) {
                        Some(inner) => json!({"inner": decoded(inner, generation)}),
                        None => digest(&key, text, generation),
                    },
                    other => decoded(other, generation),
                };
                (key, value)
            };
            Value::Object(entries.into_iter().map(entry).collect())
        }
        Value::Array(items) => {
            let items = items.into_iter();
            items.map(|item| decoded(item, generation)).collect()
        }
        other => other,
    }
}

/// The document that a text holds.
fn inner(key: &str, text: &str, is_parsed: bool) -> Option<Value> {
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).ok();
    if key == "bundle" || key.starts_with("bundle.bin") {
        return compiled(&STANDARD.decode(text).ok()?);
    }
    if key.ends_with(".json") || (key == "value" && is_parsed) {
        return json(text.as_bytes());
    }
    // The template of a ConfigMap reads its data from a file.
    (key.ends_with(".yaml") && text != "value").then(|| yaml(text))
}

/// Names of a compiled policy, as keys.
fn compiled(bytes: &[u8]) -> Option<Value> {
    let compiled = Compiled::load(bytes).ok()?;
    let policy = &compiled.policy;
    let named = |names: &mut dyn Iterator<Item = &str>| {
        let entries = names.map(|name| (name.to_owned(), Value::Null));
        Value::Object(entries.collect())
    };
    Some(json!({
        "generation": compiled.generation,
        "policy": {
            "clients": named(&mut policy.clients().iter().map(Client::name)),
            "models": named(&mut policy.models().iter().map(Model::name)),
            "grants": named(&mut policy.grants().iter().map(Grant::name)),
        },
    }))
}

/// The text, or null if it depends on the whole policy.
fn digest(key: &str, text: String, generation: &str) -> Value {
    let is_digest = text == generation || key.starts_with("checksum/") || text.contains("+policy.");
    if is_digest {
        Value::Null
    } else {
        Value::String(text)
    }
}

/// Where documents differ, and how.
pub fn difference(path: &str, read: &Value, expected: &Value) -> Option<String> {
    match (read, expected) {
        (Value::Object(read), Value::Object(expected)) if read.len() == expected.len() => {
            expected.iter().find_map(|(key, expected)| {
                let path = format!("{path}/{key}");
                match read.get(key) {
                    Some(read) => difference(&path, read, expected),
                    None => Some(format!("{path} is missing")),
                }
            })
        }
        (Value::Array(read), Value::Array(expected)) if read.len() == expected.len() => {
            let mut pairs = read.iter().zip(expected).enumerate();
            pairs.find_map(|(at, (read, expected))| {
                difference(&format!("{path}/{at}"), read, expected)
            })
        }
        _ if read == expected => None,
        _ => Some(format!("{path}: {read} instead of {expected}")),
    }
}

/// Texts with a mark outside of policies, with the keys that they are below.
pub fn marked<'d>(document: &'d Value, key: &'d str, found: &mut BTreeSet<(&'d str, &'d str)>) {
    match document {
        Value::String(text) if text.contains(OPEN) => {
            found.insert((key, text.as_str()));
        }
        Value::Array(items) => items.iter().for_each(|item| marked(item, key, found)),
        Value::Object(entries) => {
            let below = entries.iter();
            // A policy is data: nothing interprets its texts where they stand.
            let below = below.filter(|(key, _)| *key != "policy");
            below.for_each(|(key, value)| marked(value, key, found));
        }
        _ => {}
    }
}
