//! `schema`: accepts what `check` accepts, and rejects unknown keys at their position.

use serde_json::{Map, Value};

use tensorgate_policy_load::load::load;

use crate::program::{digits, run, tree};

/// Checks a value against the part of JSON Schema that the policy's schema uses. Any other keyword
/// is a defect of this test.
fn accepts(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else {
        return if schema == &Value::Bool(true) {
            Ok(())
        } else {
            Err("refused".into())
        };
    };
    for (keyword, argument) in keywords {
        let fine = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
            "$ref" => {
                let target = root
                    .pointer(argument.as_str().unwrap().trim_start_matches('#'))
                    .unwrap();
                accepts(root, target, value)?;
                true
            }
            "type" => kinds(argument).iter().any(|kind| is(kind, value)),
            "enum" => argument.as_array().unwrap().contains(value),
            "const" => argument == value,
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= argument.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= argument.as_f64().unwrap()),
            "pattern" => matches!(argument.as_str().unwrap(), "^[0-9]+([KMG]iB)?$"),
            "required" => value.as_object().is_none_or(|object| {
                argument
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= argument.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 <= argument.as_u64().unwrap()),
            "anyOf" | "oneOf" => argument
                .as_array()
                .unwrap()
                .iter()
                .any(|option| accepts(root, option, value).is_ok()),
            "items" => {
                for item in value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .skip(prefix(keywords).len())
                {
                    accepts(root, argument, item)?;
                }
                true
            }
            "prefixItems" => {
                for (item, option) in value.as_array().into_iter().flatten().zip(prefix(keywords)) {
                    accepts(root, option, item)?;
                }
                true
            }
            "properties" => {
                for (key, option) in argument.as_object().unwrap() {
                    if let Some(member) = value.get(key) {
                        accepts(root, option, member).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let named = keywords.get("properties").and_then(Value::as_object);
                for (key, member) in value.as_object().into_iter().flatten() {
                    if named.is_none_or(|named| !named.contains_key(key)) {
                        accepts(root, argument, member).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
                true
            }
            other => panic!("this test does not know {other}"),
        };
        if !fine {
            return Err(format!("{keyword} refuses {value}"));
        }
    }
    Ok(())
}

fn prefix(keywords: &Map<String, Value>) -> &[Value] {
    keywords
        .get("prefixItems")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn kinds(argument: &Value) -> Vec<&str> {
    argument.as_array().map_or_else(
        || vec![argument.as_str().unwrap()],
        |kinds| kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
    )
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("this test does not know the type {other}"),
    }
}

fn schema() -> Value {
    serde_json::from_str(&run(&["schema"]).stdout).unwrap()
}

fn policy_of(file: &std::path::Path) -> Value {
    let loaded = load(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::to_value(&loaded.version.raw).unwrap()
}

#[test]
fn the_shipped_policies_are_accepted() {
    let ensemble = tree().join("examples/policies/ensemble/gate.yaml");
    for file in [digits(), tree().join("envoy/gate.yaml"), ensemble] {
        let schema = schema();
        assert_eq!(
            accepts(&schema, &schema, &policy_of(&file)),
            Ok(()),
            "{}",
            file.display()
        );
    }
}

#[test]
fn unknown_keys_and_wrong_kinds_are_refused_at_every_depth() {
    let (schema, good) = (schema(), policy_of(&digits()));
    for (pointer, key, value) in [
        ("", "extra", Value::from(1)),
        ("/listen", "adress", Value::from("x")),
        ("/listen/limits", "headers", Value::from("many")),
        ("/listen/limits", "headers", Value::from(0)),
        ("/listen/limits", "body_bytes", Value::from(2_u64 << 30)),
        ("/models/digits/inputs/0", "datatypes", Value::from("FP32")),
        ("/models/digits/inputs/0/shape/0", "maxx", Value::from(1)),
        ("/grants/0/rate", "quota", Value::from("six")),
        ("/backends/cpu", "kind", Value::from("pickle")),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(pointer)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .insert(key.to_owned(), value);
        assert!(accepts(&schema, &schema, &bad).is_err(), "{pointer}/{key}");
    }
}

#[test]
fn every_property_of_the_schema_has_a_description() {
    let schema = schema();
    for pointer in [
        "/properties/listen",
        "/properties/grants",
        "/$defs/Limits/properties/body_bytes",
        "/$defs/Rate/properties/quota",
    ] {
        assert!(
            schema.pointer(pointer).unwrap()["description"].is_string(),
            "{pointer}"
        );
    }
}
