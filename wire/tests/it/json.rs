//! OIP JSON bodies: which are accepted, and which are rejected and why.

use crate::common;

use common::{accepted, json as one, refusal};
use tensorgate_policy::Reason;
use tensorgate_policy::decision::BodyFormat::OipJson;
use tensorgate_policy::tensor::{DataFault, Parameter, ParameterValue};
use tensorgate_wire::decode;

#[test]
fn every_field_is_read_whatever_the_order_of_keys() {
    let body = br#" {"outputs":[{"parameters":{"top":3},"name":"y"}],
        "inputs":[{"data":[[1,2],[3,4]],"parameters":{"a":"\u00e9"},"shape":[2,2],"datatype":"UINT8","name":"x\n"}],
        "parameters":{"b":true,"i":-1,"u":18446744073709551615,"d":1.5,"s":"t"},"id":"\ud83d\ude00"} "#;
    let request = accepted(OipJson, body);
    assert_eq!((request.model, request.version), (None, None));
    assert_eq!(request.id.as_deref(), Some("😀"));
    let parameters: Vec<_> = request
        .parameters
        .iter()
        .map(|parameter| (&*parameter.name, parameter.value.clone()))
        .collect();
    assert_eq!(
        parameters,
        [
            ("b", ParameterValue::Bool(true)),
            ("i", ParameterValue::Int64(-1)),
            ("u", ParameterValue::Uint64(u64::MAX)),
            ("d", ParameterValue::Double(1.5)),
            ("s", ParameterValue::String("t".into())),
        ]
    );
    let input = &request.inputs[0];
    assert_eq!(
        (&*input.name, &*input.datatype, &*input.shape),
        ("x\n", "UINT8", &[2, 2][..])
    );
    assert_eq!(
        input.parameters[0].value,
        ParameterValue::String("é".into())
    );
    assert_eq!(input.data.as_deref(), Ok(&[1, 2, 3, 4][..]));
    assert_eq!(
        (
            &*request.outputs[0].name,
            &request.outputs[0].parameters[0].value
        ),
        ("y", &ParameterValue::Int64(3))
    );
}

#[test]
fn absent_and_empty_values_are_absent() {
    let request = accepted(
        OipJson,
        br#"{"inputs":[{"name":"","datatype":"","shape":[]}],"id":""}"#,
    );
    assert_eq!(request.id, None);
    assert_eq!(request.inputs[0].data, Err(DataFault::Missing));
    assert!(accepted(OipJson, br#"{"inputs":[]}"#).inputs.is_empty());
}

#[test]
fn null_is_absent_where_a_field_is_optional() {
    let request = accepted(
        OipJson,
        br#"{"id":null,"parameters":null,"outputs":null,
            "inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1],"parameters":null}]}"#,
    );
    assert_eq!((request.id, request.parameters), (None, vec![]));
    assert!(request.outputs.is_empty() && request.inputs[0].parameters.is_empty());
    let request = accepted(
        OipJson,
        br#"{"parameters":{"content_type":"np","headers":null},"outputs":[{"name":"y","parameters":null}],
            "inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1],
                "parameters":{"headers":null,"content_type":"str"}}]}"#,
    );
    let names = |parameters: &[Parameter<'_>]| {
        let names = parameters
            .iter()
            .map(|parameter| parameter.name.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&request.parameters), ["content_type"]);
    assert_eq!(names(&request.inputs[0].parameters), ["content_type"]);
    assert!(request.outputs[0].parameters.is_empty());
    for twice in [
        r#"{"inputs":[],"id":null,"id":"a"}"#,
        r#"{"inputs":[],"parameters":null,"parameters":{}}"#,
        r#"{"inputs":[],"parameters":{"a":null,"a":1}}"#,
        r#"{"inputs":[],"parameters":{"a":1,"a":null}}"#,
        r#"{"inputs":[],"parameters":{"a":null,"a":null}}"#,
    ] {
        let denial = decode(OipJson, twice.as_bytes(), &[]).unwrap_err();
        assert_eq!(denial.reason, Reason::DuplicateKey, "{twice}");
    }
    for wrong in ["nul", "nullx", "NULL", "[null]"] {
        let body = format!(r#"{{"inputs":[],"id":{wrong}}}"#);
        let denial = decode(OipJson, body.as_bytes(), &[]).unwrap_err();
        assert_eq!(denial.reason, Reason::Malformed, "{wrong}");
    }
    let version = accepted(OipJson, br#"{"inputs":[],"model_version":"1"}"#).version;
    assert_eq!(version.as_deref(), Some("1"));
}

#[test]
fn non_standard_json_is_malformed() {
    for body in [
        "",
        " ",
        "{",
        "}",
        "{}x",
        "null",
        "1",
        "\"\"",
        "[]",
        "{\"inputs\":[]}{}",
        "{\"inputs\":[]}\0",
        "{\"inputs\":[],}",
        "{,\"inputs\":[]}",
        "{\"inputs\" []}",
        "{inputs:[]}",
        "{'inputs':[]}",
        "{\"inputs\":[]",
        "{\"inputs\":[}",
        "{\"inputs\":[],\"id\":}",
        "{\"id\":\"a}",
        "\u{feff}{\"inputs\":[]}",
        "{\"inputs\":[]} // x",
        "/**/{\"inputs\":[]}",
        "{\"inputs\":[]\u{a0}}",
        "{\"inputs\":[]\u{c}}",
        "{\"inputs\":[],\"id\":\"\\ud800\"}",
        "{\"inputs\":[],\"id\":\"\\udc00\\ud800\"}",
        "{\"inputs\":[],\"id\":\"\\ud800x\"}",
        "{\"inputs\":[],\"id\":\"\\udc00\\udc00\"}",
        "{\"inputs\":[],\"id\":\"\\ud800\\n\"}",
        "{\"inputs\":[],\"id\":\"\\ud800\\u0041\"}",
        "{\"inputs\":[],\"id\":\"\\x\"}",
        "{\"inputs\":[],\"id\":\"\\u12\"}",
        "{\"inputs\":[],\"id\":\"\\u+123\"}",
        "{\"inputs\":[],\"id\":\"\\",
        "{\"inputs\":[],\"id\":\"a\tb\"}",
        "{\"inputs\":[],\"id\":\"a\nb\"}",
        "{\"inputs\":[],\"id\":\"\\n\u{1}\"}",
        "{\"inputs\":[],\"id\":7}",
        "{\"inputs\":null}",
        "{\"inputs\":{}}",
        "{\"inputs\":[[]]}",
        "{\"inputs\":[1]}",
        "{\"inputs\":[],\"outputs\":[{}]}",
        "{\"inputs\":[],\"outputs\":[\"y\"]}",
        "{\"inputs\":[],\"parameters\":[]}",
        "{\"inputs\":[],\"parameters\":{\"a\":[1]}}",
        "{\"inputs\":[],\"parameters\":{\"a\":{}}}",
        "{\"inputs\":[],\"parameters\":{\"a\":18446744073709551616}}",
        "{\"inputs\":[],\"parameters\":{\"a\":1e400}}",
        "{\"inputs\":[],\"parameters\":{\"a\":NaN}}",
    ] {
        assert_eq!(
            refusal(OipJson, body.as_bytes()).0,
            Reason::Malformed,
            "{body}"
        );
    }
    assert_eq!(
        refusal(OipJson, b"{\"inputs\":[],\"id\":\"\xff\"}").0,
        Reason::Malformed
    );
    assert_eq!(
        refusal(OipJson, b"{\"inputs\":[],\"id\":\"\xed\xa0\x80\"}").0,
        Reason::Malformed
    );
    assert_eq!(
        refusal(OipJson, b"{\"inputs\":[],\"id\":\"\xc0\x80\"}").0,
        Reason::Malformed
    );
}

#[test]
fn a_fault_names_the_callers_field() {
    let deep = "x".repeat(100);
    for (body, reason, field) in [
        (
            r#"{"inputs":[],"model":"m"}"#.to_owned(),
            Reason::Malformed,
            "\"model\"",
        ),
        (
            r#"{"inputs":[],"Inputs":[]}"#.to_owned(),
            Reason::Malformed,
            "\"Inputs\"",
        ),
        (
            r#"{"inputs":[{"contents":{"a":[{"b":1}]}}]}"#.to_owned(),
            Reason::Malformed,
            "\"contents\" of an input",
        ),
        (
            r#"{"inputs":[],"outputs":[{"data":[]}]}"#.to_owned(),
            Reason::Malformed,
            "\"data\" of an output",
        ),
        (r#"{"id":"a"}"#.to_owned(), Reason::Malformed, "inputs"),
        (
            r#"{"inputs":[{"datatype":"FP32","shape":[1]}]}"#.to_owned(),
            Reason::Malformed,
            "name of an input",
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1]}]}"#.to_owned(),
            Reason::Malformed,
            "datatype of an input",
        ),
        (
            r#"{"inputs":[{"name":"x","datatype":"FP32"}]}"#.to_owned(),
            Reason::Malformed,
            "shape of an input",
        ),
        (
            r#"{"inputs":[{"name":7}]}"#.to_owned(),
            Reason::Malformed,
            "name of an input",
        ),
        (
            r#"{"inputs":[],"outputs":[{}]}"#.to_owned(),
            Reason::Malformed,
            "name of an output",
        ),
        (
            r#"{"inputs":[],"parameters":{"a":[]}}"#.to_owned(),
            Reason::Malformed,
            "parameter \"a\"",
        ),
        (
            format!(r#"{{"inputs":[],"{deep}":0}}"#),
            Reason::Malformed,
            &format!("\"{}…\"", "x".repeat(64)),
        ),
        (
            r#"{"inputs":[],"inputs":[]}"#.to_owned(),
            Reason::DuplicateKey,
            "inputs",
        ),
        (
            r#"{"inputs":[],"id":"a","\u0069d":"b"}"#.to_owned(),
            Reason::DuplicateKey,
            "id",
        ),
        (
            r#"{"inputs":[{"name":"x","na\u006de":"y"}]}"#.to_owned(),
            Reason::DuplicateKey,
            "name of an input",
        ),
        (
            r#"{"inputs":[{"shape":[1],"shape":[2]}]}"#.to_owned(),
            Reason::DuplicateKey,
            "shape of an input",
        ),
        (
            r#"{"inputs":[{"data":[1],"data":[2]}]}"#.to_owned(),
            Reason::DuplicateKey,
            "data of an input",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","name":"y"}]}"#.to_owned(),
            Reason::DuplicateKey,
            "name of an output",
        ),
        (
            r#"{"inputs":[],"parameters":{"a":1,"\u0061":1}}"#.to_owned(),
            Reason::DuplicateKey,
            "parameter \"a\"",
        ),
    ] {
        assert_eq!(
            refusal(OipJson, body.as_bytes()),
            (reason, Some(field.to_owned())),
            "{body}"
        );
    }
}

#[test]
fn nesting_is_bounded_at_every_position() {
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    let objects = "{\"a\":".repeat(200);
    for body in [
        format!("{open}{close}"),
        open.clone(),
        objects.clone(),
        format!("{{\"a\":{open}{close}}}"),
        format!("{{\"id\":{open}"),
        format!("{{\"inputs\":{open}"),
        format!("{{\"inputs\":[{{\"a\":{objects}"),
        format!("{{\"parameters\":{{\"a\":{open}"),
        one("FP32", "[1]", &format!("{open}1{close}")),
        one("FP32", "[1]", &open),
        one("FP32", &open, "[1]"),
        "[".repeat(1_000_000),
    ] {
        assert_eq!(
            refusal(OipJson, body.as_bytes()).0,
            Reason::TooDeep,
            "{body:.60}"
        );
    }
    let (at, above) = (21, 22);
    let nested = |levels: usize| {
        one(
            "FP32",
            "[1]",
            &format!("{}{}", "[".repeat(levels), "]".repeat(levels)),
        )
    };
    assert_eq!(
        accepted(OipJson, nested(at).as_bytes()).inputs[0].data,
        Err(DataFault::Nesting)
    );
    assert_eq!(
        refusal(OipJson, nested(above).as_bytes()).0,
        Reason::TooDeep
    );
}

#[test]
fn every_count_and_length_has_a_bound() {
    let times = |unit: &str, times: usize| vec![unit; times].join(",");
    let parameters = |count: usize| {
        (0..count)
            .map(|index| format!("\"p{index}\":0"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let input = r#"{"name":"x","datatype":"FP32","shape":[]}"#;
    for (body, accepts) in [
        (format!("{{\"inputs\":[{}]}}", times(input, 512)), true),
        (format!("{{\"inputs\":[{}]}}", times(input, 513)), false),
        (
            format!(
                "{{\"inputs\":[],\"outputs\":[{}]}}",
                times(r#"{"name":"y"}"#, 512)
            ),
            true,
        ),
        (
            format!(
                "{{\"inputs\":[],\"outputs\":[{}]}}",
                times(r#"{"name":"y"}"#, 513)
            ),
            false,
        ),
        (
            format!("{{\"inputs\":[],\"parameters\":{{{}}}}}", parameters(32)),
            true,
        ),
        (
            format!("{{\"inputs\":[],\"parameters\":{{{}}}}}", parameters(33)),
            false,
        ),
        (
            format!("{{\"inputs\":[],\"id\":\"{}\"}}", "i".repeat(256)),
            true,
        ),
        (
            format!("{{\"inputs\":[],\"id\":\"{}\"}}", "i".repeat(257)),
            false,
        ),
        (
            format!(
                "{{\"inputs\":[],\"parameters\":{{\"a\":\"{}\"}}}}",
                "i".repeat(4096)
            ),
            true,
        ),
        (
            format!(
                "{{\"inputs\":[],\"parameters\":{{\"a\":\"{}\"}}}}",
                "i".repeat(4097)
            ),
            false,
        ),
        (
            format!(
                "{{\"inputs\":[],\"parameters\":{{\"{}\":0}}}}",
                "i".repeat(257)
            ),
            false,
        ),
        (one("FP32", &format!("[{}]", times("1", 16)), "[1]"), true),
        (one("FP32", &format!("[{}]", times("1", 17)), "[1]"), false),
        (
            one("FP32", "[9223372036854775807,-9223372036854775808]", "[1]"),
            true,
        ),
        (one("FP32", "[9223372036854775808]", "[1]"), false),
        (one("FP32", "[1.0]", "[1]"), false),
        (one("FP32", "[1e0]", "[1]"), false),
        (one("FP32", "[-0]", "[1]"), false),
        (one("FP32", "[\"1\"]", "[1]"), false),
        (one("FP32", "[[1]]", "[1]"), false),
        (one("FP32", "1", "[1]"), false),
    ] {
        let decoded = decode(OipJson, body.as_bytes(), &[]);
        assert_eq!(
            decoded.as_ref().map(drop).map_err(|denial| denial.reason),
            if accepts {
                Ok(())
            } else {
                Err(Reason::Malformed)
            },
            "{body:.120}"
        );
    }
}
