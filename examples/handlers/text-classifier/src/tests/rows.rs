//! Rows have the layout that the policy and the file specify together.

use tensorgate_handler::testing::{set_config, set_configured};
use tensorgate_handler::{Datatype, RawBody};

use super::*;

fn made(texts: &[&[u8]]) -> Result<Vec<Tensor>, Error> {
    let count = u64::try_from(texts.len()).unwrap();
    let tensor = Tensor::from_items("text", &[count, 1], texts)?;
    TextClassifier::preprocess(Payload::Tensors(vec![tensor]))
}

fn rows(tensor: &Tensor) -> Vec<i64> {
    tensor.view::<i64>().unwrap().iter().copied().collect()
}

#[test]
fn rows_are_as_policy_and_file_say() {
    let mut file = wordpiece();
    set_configured(compiled(&file).unwrap());
    set_config([("max_length", "6")]);
    let tensors = made(&[b"a", b"a good film! a good film!"]).unwrap();
    assert_eq!(rows(&tensors[0]), [2, 4, 3, 0, 0, 0, 2, 4, 5, 6, 9, 3]);
    assert_eq!(rows(&tensors[1]), [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(tensors[2].name, "token_type_ids");
    set_config([
        ("padding", "longest"),
        ("token_type_ids", ""),
        ("datatype", "int32"),
        ("input_ids", "ids"),
    ]);
    let tensors = made(&[b"a", b"a a"]).unwrap();
    let said: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.datatype, tensor.shape.clone()))
        .collect();
    assert_eq!(
        said,
        [
            ("ids", Datatype::Int32, vec![2, 4]),
            ("attention_mask", Datatype::Int32, vec![2, 4])
        ]
    );
    file["truncation"] =
        json!({"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = json!({"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 1, "pad_type_id": 7, "pad_token": "[UNK]"});
    set_configured(compiled(&file).unwrap());
    set_config([]);
    let tensors = made(&[b"a good film!"]).unwrap();
    assert_eq!(rows(&tensors[0]), [1, 1, 1, 1, 2, 6, 9, 3]);
    assert_eq!(rows(&tensors[2]), [7, 7, 7, 7, 0, 0, 0, 0]);
    let body = RawBody {
        content_type: "text/plain".into(),
        data: b"a".to_vec(),
    };
    let tensors = TextClassifier::preprocess(Payload::Raw(body)).unwrap();
    assert_eq!(tensors[0].shape, [1, 8]);
}

#[test]
fn a_file_without_padding_needs_the_policys() {
    set_configured(compiled(&byte_level()).unwrap());
    set_config([("padding", "longest")]);
    assert!(made(&[b"ab", b"cd"]).is_ok());
    assert!(matches!(made(&[b"ab", b"c"]), Err(Error::Fault(_))));
    set_config([("padding", "longest"), ("pad_id", "0")]);
    assert_eq!(rows(&made(&[b"ab", b"c"]).unwrap()[0]), [97, 98, 99, 0]);
}

#[test]
fn what_is_no_text_is_the_callers_fault() {
    let bad = |texts: &[&[u8]]| matches!(made(texts), Err(Error::BadInput(_)));
    set_config([("max_text_bytes", "10"), ("max_texts", "2")]);
    assert!(
        matches!(made(&[b"a"]), Err(Error::Fault(_))),
        "not configured"
    );
    set_configured(compiled(&wordpiece()).unwrap());
    assert!(bad(&[]));
    assert!(bad(&[b"\xff\xfe"]));
    assert!(bad(&[b"\xed\xa0\x80"]));
    assert!(bad(&[b"eleven byte"]));
    assert!(bad(&[b"a", b"b", b"c"]));
    let raw = RawBody {
        content_type: "text/plain".into(),
        data: vec![0xff],
    };
    for payload in [Payload::Tensors(Vec::new()), Payload::Raw(raw)] {
        assert!(matches!(
            TextClassifier::preprocess(payload),
            Err(Error::BadInput(_))
        ));
    }
}
