//! `data` in JSON: every datatype, every nesting, and texts that are not numbers.

use crate::common;

use common::{accepted, json as one, refusal};
use tensorgate_policy::Reason;
use tensorgate_policy::TensorData;
use tensorgate_policy::decision::BodyFormat::OipJson;
use tensorgate_policy::tensor::DataFault;

fn data(datatype: &str, shape: &str, data: &str) -> Result<Vec<u8>, DataFault> {
    let body = one(datatype, shape, data);
    let input = accepted(OipJson, body.as_bytes()).inputs.remove(0);
    input.data.map(|bytes| bytes.into_vec())
}

#[test]
fn texts_that_are_not_numbers_are_malformed() {
    for number in [
        "01",
        "-01",
        "+1",
        ".5",
        "1.",
        "-.5",
        "1.e2",
        "1e",
        "1e+",
        "-",
        "--1",
        "0x10",
        "1_000",
        "1,",
        ",1",
        "1 2",
        "NaN",
        "Infinity",
        "-Infinity",
        "inf",
        "nul",
        "True",
        "1f",
        "٣",
        "{}",
        "{\"b64\":\"AA==\"}",
        "[{}]",
    ] {
        for datatype in ["FP32", "INT64", "NONE"] {
            let body = one(datatype, "[1]", &format!("[{number}]"));
            assert_eq!(
                refusal(OipJson, body.as_bytes()).0,
                Reason::Malformed,
                "{body}"
            );
        }
    }
    for data in ["1", "\"1\"", "null", "{}", "true"] {
        assert_eq!(
            refusal(OipJson, one("FP32", "[1]", data).as_bytes()).0,
            Reason::Malformed,
            "{data}"
        );
    }
}

#[test]
fn elements_become_exactly_what_their_datatype_specifies() {
    let kind = |index| Err(DataFault::Kind { index });
    let overflow = |index| Err(DataFault::Overflow { index });
    let not_finite = |index| Err(DataFault::NotFinite { index });
    let le32 = |values: &[f32]| {
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    };
    let le64 = |values: &[f64]| {
        Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect())
    };
    for (datatype, list, expected) in [
        ("BOOL", "[true,false]", Ok(vec![1, 0])),
        ("BOOL", "[true,1]", kind(1)),
        ("BOOL", "[null]", kind(0)),
        ("BOOL", "[\"true\"]", kind(0)),
        ("UINT8", "[0,255]", Ok(vec![0, 255])),
        ("UINT8", "[0,256]", overflow(1)),
        ("UINT8", "[-1]", overflow(0)),
        ("UINT8", "[-0]", kind(0)),
        ("INT8", "[-128,127]", Ok(vec![128, 127])),
        ("INT8", "[-129]", overflow(0)),
        ("INT16", "[-32768]", Ok(vec![0, 128])),
        ("INT16", "[32768]", overflow(0)),
        ("UINT16", "[65535]", Ok(vec![255, 255])),
        ("UINT16", "[65536]", overflow(0)),
        ("INT32", "[-2147483648]", Ok(vec![0, 0, 0, 128])),
        ("INT32", "[2147483648]", overflow(0)),
        ("UINT32", "[4294967295]", Ok(vec![255; 4])),
        ("UINT32", "[4294967296]", overflow(0)),
        (
            "INT64",
            "[9223372036854775807]",
            Ok(i64::MAX.to_le_bytes().to_vec()),
        ),
        (
            "INT64",
            "[9007199254740993]",
            Ok(9_007_199_254_740_993_i64.to_le_bytes().to_vec()),
        ),
        ("INT64", "[9223372036854775808]", overflow(0)),
        ("INT64", "[1.0]", kind(0)),
        ("INT64", "[1e2]", kind(0)),
        ("INT64", "[\"1\"]", kind(0)),
        ("INT64", "[true]", kind(0)),
        ("UINT64", "[18446744073709551615]", Ok(vec![255; 8])),
        ("UINT64", "[18446744073709551616]", overflow(0)),
        (
            "FP32",
            "[1, -0, 0.1, 1e-50,3.4028235e38]",
            le32(&[1.0, -0.0, 0.1, 0.0, f32::MAX]),
        ),
        // Rounded once: rounding through a double would give the next float up.
        (
            "FP32",
            "[1.00000017881393432617187499]",
            le32(&[1.000_000_1]),
        ),
        ("FP32", "[0,1e39]", not_finite(1)),
        ("FP32", "[1e400]", not_finite(0)),
        ("FP32", "[null]", kind(0)),
        ("FP32", "[\"NaN\"]", kind(0)),
        ("FP64", "[0.1,1E+2,-1.5e-3]", le64(&[0.1, 100.0, -0.0015])),
        ("FP64", "[-1e400]", not_finite(0)),
        ("FP64", "[false]", kind(0)),
        (
            "BYTES",
            "[\"ab\",\"\",\"\\u00e9\\n\"]",
            Ok(b"\x02\0\0\0ab\0\0\0\0\x03\0\0\0\xc3\xa9\n".to_vec()),
        ),
        ("BYTES", "[\"a\",1]", kind(1)),
        ("FP16", "[1]", kind(0)),
        ("BF16", "[1]", kind(0)),
        ("FP8", "[1]", kind(0)),
        ("fp32", "[1]", kind(0)),
        ("FP32", "[]", Ok(vec![])),
    ] {
        assert_eq!(data(datatype, "[1]", list), expected, "{datatype} {list}");
    }
}

#[test]
fn data_is_flat_or_nested_exactly_as_its_shape() {
    let six = Ok(vec![1, 2, 3, 4, 5, 6]);
    let nesting = Err(DataFault::Nesting);
    for (shape, list, expected) in [
        ("[2,3]", "[1,2,3,4,5,6]", six.clone()),
        ("[2,3]", " [ [1, 2,3 ],\n[4,5,6] ] ", six.clone()),
        ("[1,2,3]", "[[[1,2,3],[4,5,6]]]", six.clone()),
        ("[3,2]", "[[1,2],[3,4],[5,6]]", six.clone()),
        // The contract compares a flat list with the shape.
        ("[2,2]", "[1,2,3,4,5,6]", six.clone()),
        ("[]", "[1,2,3,4,5,6]", six),
        ("[2,3]", "[[1,2],[3,4],[5,6]]", nesting.clone()),
        ("[2,3]", "[[1,2,3],[4,5]]", nesting.clone()),
        ("[2,3]", "[[1,2,3],[4,5,6,7]]", nesting.clone()),
        ("[2,3]", "[[1,2,3],[4,5,6],[]]", nesting.clone()),
        ("[2,3]", "[[1,2,3],4,5,6]", nesting.clone()),
        ("[2,3]", "[1,2,3,[4,5,6]]", nesting.clone()),
        ("[2,3]", "[[[1,2,3],[4,5,6]]]", nesting.clone()),
        ("[2,3]", "[[1,2,3],4]", nesting.clone()),
        ("[2]", "[1,[]]", nesting.clone()),
        ("[6]", "[[1,2,3,4,5,6]]", nesting.clone()),
        ("[]", "[[1]]", nesting.clone()),
        ("[1,6]", "[[1,2,3,[4],5,6]]", nesting.clone()),
        ("[2,-1]", "[[1],[2]]", nesting.clone()),
        ("[0,3]", "[]", Ok(vec![])),
        ("[2,0]", "[[],[]]", Ok(vec![])),
        ("[2,0]", "[[]]", nesting),
        (
            "[9223372036854775807,9223372036854775807]",
            "[1]",
            Ok(vec![1]),
        ),
    ] {
        assert_eq!(data("UINT8", shape, list), expected, "{shape} {list}");
    }
}

#[test]
fn only_so_many_numbers_may_have_more_digits_than_a_float_needs() {
    let long = "4.45014771701440227211481959341826395e307";
    let most = tensorgate_wire::limits::MAX_LONG_NUMBERS;
    let body = |count: usize, number: &str| {
        one(
            "FP64",
            &format!("[{count}]"),
            &format!("[{}]", vec![number; count].join(",")),
        )
    };
    accepted(OipJson, body(most, long).as_bytes());
    assert_eq!(
        refusal(OipJson, body(most + 1, long).as_bytes()).0,
        Reason::Malformed
    );
    // Insignificant digits do not count, and the digits that a float needs are always allowed.
    for plain in [
        "0.000000000000000000000000000001",
        "-1.7976931348623157e308",
        "1234567890123456789",
    ] {
        accepted(OipJson, body(most + 1, plain).as_bytes());
    }
}

#[test]
fn any_number_of_integers_may_have_the_digits_of_their_datatype() {
    let count = tensorgate_wire::limits::MAX_LONG_NUMBERS + 1;
    let shape = format!("[{count}]");
    let list = |number: &str| format!("[{}]", vec![number; count].join(","));
    let long = list("12345678901234567890");
    let expected = 12_345_678_901_234_567_890_u64.to_le_bytes().repeat(count);
    assert_eq!(data("UINT64", &shape, &long), Ok(expected.clone()));
    let body = format!(
        r#"{{"inputs":[{{"data":{long},"name":"x","datatype":"UINT64","shape":{shape}}}]}}"#
    );
    let input = accepted(OipJson, body.as_bytes()).inputs.remove(0);
    assert_eq!(input.data.as_deref(), Ok(expected.as_slice()), "data first");
    // A value beyond the datatype is reported as such, however many digits it has.
    assert_eq!(
        data("UINT64", &shape, &list("123456789012345678901")),
        Err(DataFault::Overflow { index: 0 })
    );
}

#[test]
fn a_list_is_judged_alike_before_and_after_its_datatype_and_shape() {
    let lists = [
        "[]",
        "[1]",
        "[1,2]",
        "[ 1 ,\n2 ]",
        "[1,,2]",
        "[,1]",
        "[1,]",
        "[1 2]",
        "[1,2",
        "[1,2]]",
        "[[1,2]]",
        "[[1],[2]]",
        "[[1][2]]",
        "[[1],,[2]]",
        "[[1],[2],]",
        "[,[1]]",
        "[[1,]]",
        "[[],[]]",
        "[[1],2]",
        "[1,[2]]",
        "[null]",
        "[true,false]",
        "[true false]",
        "[\"a\",\"b\"]",
        "[\"a\"\"b\"]",
        "[1e999]",
        "[-0]",
        "[01]",
        "[300]",
        "[1.5]",
        "[{}]",
        "[[{}]]",
        "{}",
        "1",
        "null",
        "[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]",
    ];
    for datatype in [
        "FP32", "FP64", "UINT8", "INT64", "BOOL", "BYTES", "FP16", "NONE",
    ] {
        for shape in ["[2]", "[1]", "[2,1]", "[1,2]", "[0]", "[2,0]", "[1,1]"] {
            for list in lists {
                let known = format!(
                    r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{list}}}]}}"#
                );
                let unknown = format!(
                    r#"{{"inputs":[{{"data":{list},"shape":{shape},"datatype":"{datatype}","name":"x"}}]}}"#
                );
                let read = |body: &str| match tensorgate_wire::decode(OipJson, body.as_bytes(), &[])
                {
                    Ok(request) => Ok(request.inputs[0].data.clone().map(TensorData::into_vec)),
                    Err(denial) => Err((denial.reason, denial.field)),
                };
                assert_eq!(read(&known), read(&unknown), "{known}");
            }
        }
    }
}
