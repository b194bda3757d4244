//! The part of JSON Schema that the chart's schema uses.

use std::collections::BTreeMap;
use std::sync::Mutex;

use regex_automata::Input;
use regex_automata::dfa::Automaton as _;
use regex_automata::dfa::dense::DFA;
use serde_json::{Map, Value, json};

/// Whether a schema, a part of `root`, takes a value.
pub fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(all) = schema.as_bool() {
        return all;
    }
    // Beside a reference nothing counts (draft 7).
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let part = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return accepts(root, part, value);
    }
    let keywords = schema.as_object().unwrap();
    (keywords.iter()).all(|(keyword, rule)| holds(root, keywords, (keyword.as_str(), rule), value))
}

fn holds(
    root: &Value,
    keywords: &Map<String, Value>,
    (keyword, rule): (&str, &Value),
    value: &Value,
) -> bool {
    let (text, number) = (value.as_str(), value.as_f64());
    let (fields, items) = (value.as_object(), value.as_array());
    let bound = |length: usize| rule.as_u64().unwrap().cmp(&u64::try_from(length).unwrap());
    let schemas = || rule.as_array().unwrap().iter();
    match keyword {
        "$schema" | "title" | "description" | "definitions" => true,
        "type" => is_type(rule.as_str().unwrap(), value),
        "enum" => rule.as_array().unwrap().contains(value),
        "pattern" => text.is_none_or(|text| matches(rule.as_str().unwrap(), text)),
        "maxLength" => text.is_none_or(|text| bound(text.chars().count()).is_ge()),
        "minLength" => text.is_none_or(|text| bound(text.chars().count()).is_le()),
        "minItems" => items.is_none_or(|items| bound(items.len()).is_le()),
        "minimum" => number.is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => number.is_none_or(|number| number <= rule.as_f64().unwrap()),
        "items" => items.is_none_or(|items| items.iter().all(|it| accepts(root, rule, it))),
        "required" => fields.is_none_or(|fields| {
            let mut names = rule.as_array().unwrap().iter();
            names.all(|name| fields.contains_key(name.as_str().unwrap()))
        }),
        "properties" => fields.is_none_or(|fields| {
            let mut known = fields
                .iter()
                .filter_map(|(key, it)| Some((rule.get(key)?, it)));
            known.all(|(rule, it)| accepts(root, rule, it))
        }),
        "additionalProperties" => fields.is_none_or(|fields| {
            let known = keywords.get("properties");
            let is_known = |key: &str| known.is_some_and(|known| known.get(key).is_some());
            let mut others = fields.iter().filter(|(key, _)| !is_known(key));
            others.all(|(_, it)| accepts(root, rule, it))
        }),
        "propertyNames" => {
            fields.is_none_or(|fields| fields.keys().all(|key| accepts(root, rule, &json!(key))))
        }
        "allOf" => schemas().all(|it| accepts(root, it, value)),
        "anyOf" => schemas().any(|it| accepts(root, it, value)),
        "not" => !accepts(root, rule, value),
        other => panic!("the schema has {other}"),
    }
}

/// Whether a pattern matches a text. Each pattern is compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<String, DFA<Vec<u32>>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap();
    let dfa = compiled
        .entry(pattern.to_owned())
        .or_insert_with(|| DFA::new(pattern).unwrap());
    dfa.try_search_fwd(&Input::new(text)).unwrap().is_some()
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the schema has the type {other}"),
    }
}
