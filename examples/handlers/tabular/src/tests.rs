//! Valid rows are converted to numbers. Other bodies are rejected as bad input.
#![allow(clippy::unwrap_used, reason = "tests")]

use tensorgate_handler::testing::set_config;
use tensorgate_handler::{Datatype, RawBody};

use super::*;

const COLUMNS: &str = r#"[
  {"name": "age", "number": {"mean": 40, "scale": 10, "missing": 35}},
  {"name": "job", "category": {"values": ["clerk", "nurse"], "unknown": "zeros", "missing": "nurse"}},
  {"name": "plan", "category": {"values": ["a", "b"]}}
]"#;

fn made(rows: &[&str]) -> Result<Vec<Tensor>, Error> {
    let count = u64::try_from(rows.len()).unwrap();
    let rows = Tensor::from_items("rows", &[count], rows)?;
    Tabular::preprocess(Payload::Tensors(vec![rows]))
}

#[test]
fn rows_become_their_numbers_in_the_columns_order() {
    set_config([("columns", COLUMNS)]);
    let made = made(&[
        r#"{"plan": "b", "age": 50, "job": "clerk"}"#,
        r#" {"plan": "a", "job": "smith", "age": null} "#,
        r#"{"plan": "a"}"#,
    ]);
    let made = made.unwrap();
    let features = made.first().unwrap();
    assert_eq!(features.shape, [3, 5]);
    let numbers: Vec<f32> = features.view::<f32>().unwrap().iter().copied().collect();
    assert_eq!(
        numbers,
        [
            1.0, 1.0, 0.0, 0.0, 1.0, //
            -0.5, 0.0, 0.0, 1.0, 0.0, //
            -0.5, 0.0, 1.0, 1.0, 0.0
        ]
    );
}

#[test]
fn every_other_row_is_the_callers_fault() {
    set_config([("columns", COLUMNS), ("max_rows", "2")]);
    let deep = format!(r#"{{"plan": {}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let long = format!(r#"{{"plan": "{}"}}"#, "a".repeat(5000));
    for row in [
        "",
        "[]",
        "{}",
        "null",
        "1",
        r#"{"plan": "c"}"#,
        r#"{"age": 1}"#,
        r#"{"plan": "a", "age": "old"}"#,
        r#"{"plan": 1}"#,
        r#"{"plan": true}"#,
        r#"{"plan": ["a"]}"#,
        r#"{"plan": "a", "age": 1e300}"#,
        r#"{"plan": "a", "age": 1e999}"#,
        r#"{"plan": "a", "age": NaN}"#,
        r#"{"plan": "a", "plan": "b"}"#,
        r#"{"plan": "a", "wage": 1}"#,
        r#"{"plan": "a"} {}"#,
        r#"{"plan": "a""#,
        "{\"plan\": \"\u{0}\"}",
        deep.as_str(),
        long.as_str(),
    ] {
        let refused = made(&[r#"{"plan": "a"}"#, row]);
        assert!(matches!(refused, Err(Error::BadInput(_))), "{row}");
    }
    let good = r#"{"plan": "a"}"#;
    assert!(made(&[good, good]).is_ok());
    assert!(matches!(made(&[good, good, good]), Err(Error::BadInput(_))));
    assert!(matches!(made(&[]), Err(Error::BadInput(_))));
    let raw = RawBody {
        content_type: "text/csv".into(),
        data: Vec::new(),
    };
    let number = Tensor {
        name: "rows".into(),
        datatype: Datatype::Int64,
        shape: vec![1],
        data: vec![0; 8],
    };
    for payload in [
        Payload::Raw(raw),
        Payload::Tensors(Vec::new()),
        Payload::Tensors(vec![number]),
    ] {
        let refused = Tabular::preprocess(payload);
        assert!(matches!(refused, Err(Error::BadInput(_))));
    }
}

#[test]
fn columns_that_cannot_be_kept_to_are_the_policys_fault() {
    for columns in [
        "",
        "[]",
        "{}",
        r#"[{"name": "a"}]"#,
        r#"[{"name": "a", "number": {"scale": 0}}]"#,
        r#"[{"name": "a", "number": {"offset": 0}}]"#,
        r#"[{"name": "a", "category": {"values": []}}]"#,
        r#"[{"name": "a", "category": {"values": ["b"], "unknown": "guess"}}]"#,
        r#"[{"name": "a", "number": {}}, {"name": "a", "number": {}}]"#,
    ] {
        set_config([("columns", columns)]);
        let refused = made(&[r#"{"a": 1}"#]);
        assert!(matches!(refused, Err(Error::Fault(_))), "{columns}");
    }
    set_config([]);
    assert!(matches!(made(&["{}"]), Err(Error::Fault(_))));
}
