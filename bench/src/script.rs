//! The gate's checks as a script for Envoy's Lua filter. The clients and contracts of a policy are
//! part of the script.

use serde_json::Value;

use crate::models::{FLOATS, LARGE, SMALL, contract};
use crate::policy::key;

const CHECKS: &str = include_str!("../envoy/checks.lua");

/// The script for this many clients.
pub fn script(clients: usize) -> String {
    let clients = (0..clients).map(|number| (key(number), format!("client-{number}").into()));
    let contracts = [SMALL, LARGE, FLOATS].map(|model| (model.to_owned(), contract(model)));
    CHECKS
        .replace("CLIENTS", &literal(&Value::Object(clients.collect())))
        .replace(
            "CONTRACTS",
            &literal(&Value::Object(contracts.into_iter().collect())),
        )
}

/// A value in Lua syntax. Strings are names without characters that need escaping.
fn literal(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("[{}] = {}", Value::from(name.as_str()), literal(value))
            };
            let members: Vec<String> = members.iter().map(member).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Null => "nil".to_owned(),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_written_as_a_table() {
        let value = json!({"a": [1, {"max": 2}, "x"], "b": true, "c": null});
        let expected = r#"{["a"] = {1, {["max"] = 2}, "x"}, ["b"] = true, ["c"] = nil}"#;
        assert_eq!(literal(&value), expected);
    }

    #[test]
    fn a_script_has_its_clients_and_contracts_and_no_place_left_open() {
        let script = script(2);
        assert!(script.contains(&key(1)) && !script.contains(&key(2)));
        assert!(script.contains(r#"["floats"] = {"#));
        assert!(!script.contains("CLIENTS") && !script.contains("CONTRACTS"));
    }
}
