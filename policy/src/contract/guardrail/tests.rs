//! Answers that the router applies as a whole, and each way in which one is not.
#![allow(clippy::unwrap_used, reason = "tests")]

use alloc::vec::Vec;

use super::*;

fn texts(name: &'static str, items: &[&[u8]]) -> Tensor<'static> {
    let mut data = Vec::new();
    for item in items {
        data.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
        data.extend(*item);
    }
    tensor(name, "BYTES", items.len(), data)
}

fn offsets(name: &'static str, values: &[i64]) -> Tensor<'static> {
    let data = values.iter().flat_map(|value| value.to_le_bytes());
    tensor(name, "INT64", values.len(), data.collect())
}

fn tensor(
    name: &'static str,
    datatype: &'static str,
    len: usize,
    data: Vec<u8>,
) -> Tensor<'static> {
    Tensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: [i64::try_from(len).unwrap()].into(),
        parameters: Vec::new(),
        data: Ok(data.into()),
    }
}

/// The answer to a text of five characters.
fn answer(action: &str, others: &[Tensor<'static>]) -> Result<(), String> {
    let mut answer = Vec::from([texts(ACTION, &[action.as_bytes()])]);
    answer.extend_from_slice(others);
    check_answer(5, &answer)
}

#[test]
fn characters_are_code_points() {
    for (text, characters) in [
        ("", 0),
        ("abc", 3),
        ("h\u{e9}llo", 5),
        ("\u{1f600}!", 2),
        ("e\u{301}", 2),
    ] {
        assert_eq!(
            text_characters(&[texts(TEXT, &[text.as_bytes()])]),
            characters,
            "{text}"
        );
    }
}

#[test]
fn every_action_has_an_answer() {
    let none: &[Tensor<'static>] = &[];
    let (start, end) = (offsets(START, &[0, 4]), offsets(END, &[2, 5]));
    for (action, others) in [
        ("allow", none),
        ("block", &[]),
        ("block", &[start.clone(), end.clone()]),
        ("modify", &[texts(REPLACEMENT, &[b""])]),
        (
            "modify",
            &[start.clone(), end.clone(), texts(TYPE, &[b"A", b"B"])],
        ),
        ("block", &[offsets(START, &[]), offsets(END, &[])]),
    ] {
        assert_eq!(answer(action, others), Ok(()), "{action} {others:?}");
    }
}

#[test]
fn what_the_router_would_not_apply_is_a_fault() {
    let none: &[Tensor<'static>] = &[];
    let both = |start, end| [offsets(START, &[start]), offsets(END, &[end])];
    for (action, others, text) in [
        (
            "quarantine",
            none,
            "\"quarantine\"; return one of allow, block, modify",
        ),
        ("ALLOW", &[], "return one of"),
        ("modify", &[], "return a replacement or findings"),
        (
            "modify",
            &[offsets(START, &[]), offsets(END, &[])],
            "return a replacement",
        ),
        ("block", &[offsets(START, &[0])], "both start and end"),
        ("block", &[offsets(END, &[1])], "both start and end"),
        ("block", &[texts(TYPE, &[b"A"])], "both start and end"),
        ("block", &both(0, 6), "from 0 to 6"),
        ("block", &both(-1, 2), "from -1 to 2"),
        ("block", &both(2, 2), "from 2 to 2"),
        ("block", &both(3, 2), "from 3 to 2"),
        ("allow", &both(i64::MIN, i64::MAX), "within the text of 5"),
    ] {
        let fault = answer(action, others).unwrap_err();
        assert!(fault.contains(text), "{action} {others:?}: {fault}");
    }
}
