//! Texts are split into words, and words are converted to IDs. Bodies that are not texts are bad
//! input.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use tensorgate_handler::testing::set_config;
use tensorgate_handler::{Datatype, RawBody};

use super::*;

fn made(texts: &[&[u8]]) -> Result<Vec<Tensor>, Error> {
    let count = u64::try_from(texts.len()).unwrap();
    let tensor = Tensor::from_items("text", &[count], texts)?;
    TextTokens::preprocess(Payload::Tensors(vec![tensor]))
}

fn words(text: &str) -> Vec<String> {
    Words::new(text).collect()
}

#[test]
fn words_are_berts() {
    for (text, expected) in [
        ("", [].as_slice()),
        (" \t\n ", &[]),
        ("Hello, World!", &["hello", ",", "world", "!"]),
        ("Crème BRÛLÉE", &["creme", "brulee"]),
        ("a\u{0}b\u{200b}c\u{fffd}d", &["abcd"]),
        ("东京tower", &["东", "京", "tower"]),
        ("it's $5.00", &["it", "'", "s", "$", "5", ".", "00"]),
        ("¿qué?", &["¿", "que", "?"]),
        ("[SEP]", &["[", "sep", "]"]),
        ("a\u{a0}b\u{2003}c", &["a", "b", "c"]),
    ] {
        assert_eq!(words(text), expected, "{text:?}");
    }
}

#[test]
fn a_caller_cannot_write_a_special_token() {
    set_config([("max_length", "16")]);
    let ids = made(&[b"[SEP] [CLS] [PAD]"]).unwrap()[0]
        .view::<i64>()
        .unwrap()
        .into_owned();
    let ends = ids
        .iter()
        .filter(|one| **one == id("[SEP]").unwrap())
        .count();
    let begins = ids
        .iter()
        .filter(|one| **one == id("[CLS]").unwrap())
        .count();
    assert_eq!((begins, ends), (1, 1), "{ids}");
}

#[test]
fn texts_are_cut_off_or_padded_to_one_length() {
    set_config([("max_length", "8")]);
    let tensors = made(&[b"a", b"a b c d e f g h i j k"]).unwrap();
    for (tensor, name) in tensors
        .iter()
        .zip(["input_ids", "attention_mask", "token_type_ids"])
    {
        assert_eq!(
            (tensor.name.as_str(), tensor.shape.as_slice()),
            (name, [2, 8].as_slice())
        );
    }
    let mask: Vec<i64> = tensors[1].view::<i64>().unwrap().iter().copied().collect();
    assert_eq!(mask, [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    set_config([("padding", "longest")]);
    assert_eq!(made(&[b"a", b"a b"]).unwrap()[0].shape, [2, 4]);
}

#[test]
fn a_long_word_costs_little_and_is_unknown() {
    set_config([("max_length", "4")]);
    let long = "z".repeat(16_384);
    let ids: Vec<i64> = made(&[long.as_bytes()]).unwrap()[0]
        .view::<i64>()
        .unwrap()
        .iter()
        .copied()
        .collect();
    assert_eq!(ids[1], id("[UNK]").unwrap());
    assert_eq!(words(&long)[0].len(), 101);
    assert!(pieces(&"a".repeat(100)).is_some());
    assert!(pieces(&"a".repeat(101)).is_none());
}

#[test]
fn what_is_no_text_is_the_callers_fault() {
    set_config([("max_text_bytes", "10"), ("max_texts", "2")]);
    let bad = |texts: &[&[u8]]| matches!(made(texts), Err(Error::BadInput(_)));
    assert!(bad(&[]));
    assert!(bad(&[b"\xff\xfe"]));
    assert!(bad(&[b"\xed\xa0\x80"]));
    assert!(bad(&[b"eleven byte"]));
    assert!(bad(&[b"a", b"b", b"c"]));
    let torn = Tensor {
        name: "text".into(),
        datatype: Datatype::Bytes,
        shape: vec![1],
        data: vec![9, 0, 0, 0, 1],
    };
    let raw = RawBody {
        content_type: "text/plain".into(),
        data: Vec::new(),
    };
    for payload in [
        Payload::Tensors(vec![torn]),
        Payload::Tensors(Vec::new()),
        Payload::Raw(raw),
    ] {
        assert!(matches!(
            TextTokens::preprocess(payload),
            Err(Error::BadInput(_))
        ));
    }
}
