//! Parses responses of feature services into numbers.

use tensorgate_policy::json::{Members, Value};
use tensorgate_sandbox::FeatureColumn;

/// A response of Feast's feature server: names in `metadata.feature_names`, and for each of them
/// values in `results`, one for each key.
pub(super) fn from_feast(
    members: &Members<'_>,
    features: &[String],
    keys: usize,
) -> Result<Vec<FeatureColumn>, String> {
    let member = |name: &str| {
        let found = members.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    };
    let names = member("metadata").and_then(|metadata| metadata.get("feature_names"));
    let names = names.and_then(Value::as_array).ok_or("no feature_names")?;
    let results = member("results").and_then(Value::as_array);
    let results = results.ok_or("no results")?;
    features
        .iter()
        .map(|feature| {
            // Full feature names are joined by two underscores in a response.
            let whole = feature.replace(':', "__");
            let place = names.iter().position(|name| name.as_str() == Some(&whole));
            let column = place.and_then(|place| results.get(place));
            let values = column.and_then(|column| column.get("values"));
            let values = values.and_then(Value::as_array);
            let values = values.ok_or_else(|| format!("no values of {feature}"))?;
            if values.len() != keys {
                return Err(format!(
                    "{} values of {feature} for {keys} keys",
                    values.len()
                ));
            }
            let values = values.iter().map(|value| number(value, feature));
            Ok(FeatureColumn {
                feature: feature.clone(),
                values: values.collect::<Result<_, _>>()?,
            })
        })
        .collect()
}

/// A response with one object of features, for one key.
pub(super) fn from_object(
    members: &Members<'_>,
    features: &[String],
) -> Result<Vec<FeatureColumn>, String> {
    features
        .iter()
        .map(|feature| {
            let found = members.iter().find(|(known, _)| known == feature);
            let value = found.map_or(Ok(None), |(_, value)| number(value, feature))?;
            Ok(FeatureColumn {
                feature: feature.clone(),
                values: vec![value],
            })
        })
        .collect()
}

fn number(value: &Value<'_>, feature: &str) -> Result<Option<f64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(f64::from(u8::from(*value)))),
        #[expect(clippy::cast_precision_loss, reason = "a number of JSON is a double's")]
        Value::Int(value) => Ok(Some(*value as f64)),
        Value::Float(value) => Ok(Some(*value)),
        Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("{feature} is not a number"))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tensorgate_wire::json_members;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn feasts_answer_is_read_by_names_and_held_to_the_keys() {
        let read = |text: &str| {
            let members = json_members(text.as_bytes()).unwrap();
            from_feast(&members, &names(&["v:a", "b"]), 2)
        };
        let columns = read(
            r#"{"metadata": {"feature_names": ["id", "b", "v__a"]}, "results": [
                {"values": [1, 2], "statuses": ["PRESENT", "PRESENT"]}, {"values": [null, true]}, {"values": [1.5, -2]}]}"#,
        );
        let column = |feature: &str, values: [Option<f64>; 2]| FeatureColumn {
            feature: feature.to_owned(),
            values: values.to_vec(),
        };
        assert_eq!(
            columns.unwrap(),
            [
                column("v:a", [Some(1.5), Some(-2.0)]),
                column("b", [None, Some(1.0)])
            ]
        );
        for text in [
            r"{}",
            r#"{"metadata": {"feature_names": ["b"]}, "results": [{"values": [1, 2]}]}"#,
            r#"{"metadata": {"feature_names": ["v__a", "b"]}, "results": [{"values": [1, 2]}, {"values": [1]}]}"#,
            r#"{"metadata": {"feature_names": ["v__a", "b"]}, "results": [{"values": [1, 2]}, {"values": [1, "x"]}]}"#,
            r#"{"metadata": {"feature_names": ["v__a", "b"]}, "results": [{"values": [1, 2]}]}"#,
            r#"{"metadata": [], "results": {}}"#,
        ] {
            read(text).unwrap_err();
        }
    }

    #[test]
    fn an_object_gives_what_it_has() {
        let members = json_members(br#"{"a": 1, "b": null, "c": [1], "model": 2}"#).unwrap();
        let read = |name: &str| from_object(&members, &names(&[name]));
        for (name, value) in [
            ("a", Some(1.0)),
            ("b", None),
            ("d", None),
            ("model", Some(2.0)),
        ] {
            let columns = read(name).unwrap();
            let values = columns.first().map(|column| &*column.values);
            assert_eq!(values, Some(&[value][..]), "{name}");
        }
        read("c").unwrap_err();
    }
}
