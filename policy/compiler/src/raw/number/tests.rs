//! Numbers with bounds are read, written, checked and described by their type.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, from_value, json, to_value};
use tensorgate_policy::report::Report;

use super::*;

type Wait = Number<2, 60, 5, Seconds>;
type Size = Number<1, 4096, 1024, Bytes>;

#[test]
fn what_is_absent_has_the_default() {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Section {
        wait_s: Wait,
        max_bytes: Size,
    }
    for (written, wait_s, max_bytes) in [
        (json!({}), 5, 1024),
        (json!({"wait_s": null, "max_bytes": null}), 5, 1024),
        (json!({"wait_s": 7, "max_bytes": "2KiB"}), 7, 2048),
        // Out of bounds, which the check reports.
        (json!({"wait_s": 0, "max_bytes": "1GiB"}), 0, 1 << 30),
    ] {
        let section: Section = from_value(written).unwrap();
        assert_eq!((section.wait_s.0, section.max_bytes.0), (wait_s, max_bytes));
    }
    for malformed in [json!(-1), json!(1.5), json!("7"), json!([])] {
        assert!(from_value::<Wait>(malformed).is_err());
    }
    assert!(Wait::default().is_default() && !Wait::from(6).is_default());
    assert_eq!(to_value(Size::from(2048)).unwrap(), json!(2048));
}

#[test]
fn a_fault_names_the_bound_and_the_unit() {
    let check = |number: u64| {
        let report = Report::default();
        let checked: Option<u32> = Wait::from(number).check(&report.root().field("wait_s"));
        let faults = report.into_faults();
        (checked, faults.first().map(ToString::to_string))
    };
    assert_eq!(check(2), (Some(2), None));
    assert_eq!(check(60), (Some(60), None));
    let fault = |number| check(number).1.unwrap();
    assert_eq!(fault(1), "wait_s: 1 s is below the minimum (at least 2)");
    assert_eq!(fault(61), "wait_s: 61 s is above the maximum (at most 60)");
    assert_eq!(check(u64::MAX).0, None);
}

#[cfg(feature = "schema")]
#[test]
fn the_schema_has_the_bounds() {
    let schema = |value: schemars::Schema| Value::from(value);
    let bounded = json!({"type": ["integer", "null"], "minimum": 2, "maximum": 60, "default": 5});
    let mut generator = schemars::SchemaGenerator::default();
    let wait = <Wait as schemars::JsonSchema>::json_schema(&mut generator);
    assert_eq!(schema(wait), bounded);
    let size = <Size as schemars::JsonSchema>::json_schema(&mut generator);
    assert_eq!(schema(size).pointer("/anyOf/0/maximum"), Some(&json!(4096)));
    let required = <Within<2, 60, Seconds> as schemars::JsonSchema>::json_schema(&mut generator);
    assert_eq!(required.get("default"), None);
}
