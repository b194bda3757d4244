//! Lists that are read before the rest of the document: the result is the same as reading them
//! after it, and each is read once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::*;
use crate::json::number::walked;

const DATATYPES: [&str; 8] = [
    "FP32", "FP64", "UINT8", "INT64", "BOOL", "BYTES", "FP16", "NONE",
];
const SHAPES: [&[i64]; 8] = [
    &[2],
    &[4],
    &[2, 2],
    &[2, 1],
    &[1, 2],
    &[0],
    &[2, 2, 2],
    &[-1, 2],
];
/// Lists, each with every character once left out and once replaced.
const LISTS: [&str; 14] = [
    "[]",
    "[1,2]",
    "[ 1 ,\n-2.5e3, 300 ]",
    "[[1,2],[3,4]]",
    "[[[1,2],[3,4]],[[5,6],[7,8]]]",
    "[[1,2],[3,{\"a\":[1]}]]",
    "[true,false]",
    "[\"a\\n\",\"\\u00e9\"]",
    "[1,\"a\",2,1e999,[3]]",
    "[4.45014771701440227211481959341826395e307,1]",
    "[null,[[],[{}]]]",
    "[1,2,3,[1,2],{\"b\":1}]",
    "[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]",
    "[[1],{},[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[2]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
];

/// The result of a list and the scanner's position after it: the fault of the document at once,
/// or the fault of the values later.
type Outcome = Result<(Result<Vec<u8>, DataFault>, usize, Budget), BodyFault>;

/// Reads a list after some text, either early or after all of it is scanned.
fn read(early: bool, datatype: &str, shape: &[i64], list: &str, budget: Budget) -> Outcome {
    let text = format!("{{\"data\":{list},1]");
    let mut scanner = Scanner::new(&text);
    scanner.at = 8;
    let mut budget = budget;
    let known = early.then_some(Known {
        datatype,
        shape,
        rule: None,
    });
    let data = elements(&mut scanner, known, &mut budget)?;
    assert!(early || matches!(data, Data::Text(_)));
    let input = Input {
        name: Cow::Borrowed("x"),
        datatype: Cow::Borrowed(datatype),
        shape: shape.to_vec(),
        parameters: Vec::new(),
        data: Some(data),
    };
    let tensor = input.convert(&mut budget)?;
    Ok((
        tensor.data.map(TensorData::into_vec),
        scanner.at,
        budget.after_failure(),
    ))
}

#[test]
fn a_list_that_is_read_once_is_judged_as_one_that_was_scanned_before() {
    let mut faults = 0;
    let mut check = |list: &str, budget: Budget| {
        for datatype in DATATYPES {
            for shape in SHAPES {
                let once = read(true, datatype, shape, list, budget);
                let twice = read(false, datatype, shape, list, budget);
                assert_eq!(once, twice, "{datatype} {shape:?} {list}");
                faults += usize::from(matches!(once, Ok((Err(_), ..))));
            }
        }
    };
    for list in LISTS {
        check(list, Budget::new());
        let mut little = Budget::new();
        little.take(little.elements() - 2).unwrap();
        check(list, little);
        for at in 0..list.len() {
            let (before, after) = (&list[..at], &list[at + 1..]);
            check(&format!("{before}{after}"), Budget::new());
            for other in ["[", "]", ",", "1", "\"", "{", " ", "-", "t", "x"] {
                check(&format!("{before}{other}{after}"), Budget::new());
            }
        }
    }
    assert!(
        faults > 10_000,
        "{faults} lists with a fault of their values"
    );
}

#[test]
fn a_list_with_a_fault_is_read_once() {
    const NUMBERS: usize = 1_000;
    let body = |at: usize, fault: &str| {
        let list: Vec<_> = (0..NUMBERS)
            .map(|index| if index == at { fault } else { "1" })
            .collect();
        let list = list.join(",");
        format!(
            r#"{{"inputs":[{{"name":"x","datatype":"UINT8","shape":[1000],"data":[{list}]}}]}}"#
        )
    };
    // One dimension and the elements. The number that ends a run of plain numbers is read by the
    // general parser.
    let most = 1 + NUMBERS + 1;
    for at in [0, 1, NUMBERS / 2, NUMBERS - 1] {
        for (fault, expected) in [
            ("300", DataFault::Overflow { index: at }),
            ("\"a\"", DataFault::Kind { index: at }),
            ("1.5", DataFault::Kind { index: at }),
            ("[1]", DataFault::Nesting),
        ] {
            let body = body(at, fault);
            let before = walked();
            let request = infer(body.as_bytes(), &[]).unwrap();
            let numbers = walked() - before;
            assert_eq!(request.inputs[0].data, Err(expected), "{fault} at {at}");
            assert!(numbers <= most, "{fault} at {at}: {numbers} numbers read");
        }
        let before = walked();
        infer(body(at, "1 2").as_bytes(), &[]).unwrap_err();
        assert!(walked() - before <= most, "no JSON at {at}");
    }
}

#[test]
fn after_a_list_that_failed_none_is_converted_before_the_document_is_read() {
    let input =
        |data: &str| format!(r#"{{"name":"x","datatype":"FP32","shape":[1],"data":{data}}}"#);
    let body = format!(
        r#"{{"inputs":[{},{},{},{}]}}"#,
        input("[1]"),
        input("[\"a\"]"),
        input("[1]"),
        input("[\"a\"]")
    );
    let mut budget = Budget::new();
    let inputs = document(body.as_bytes(), &[], &mut budget).unwrap().inputs;
    let early: Vec<_> = inputs
        .iter()
        .map(|input| matches!(input.data, Some(Data::Read(_))))
        .collect();
    assert_eq!(early, [true, false, false, false]);
    let read: Vec<_> = inputs
        .into_iter()
        .map(|input| input.convert(&mut budget).unwrap().data.is_ok())
        .collect();
    assert_eq!(read, [true, false, true, false]);
}
