//! Tests of GGUF files, each with one rule of the format broken.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use std::io::Cursor;

/// A file in the making.
#[derive(Clone)]
struct File {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    let length = u64::try_from(text.len()).unwrap();
    [&length.to_le_bytes()[..], text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name)[..], &kind.to_le_bytes(), value].concat()
}

fn tensor(name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut info = text(name);
    let rank = u32::try_from(dimensions.len()).unwrap();
    info.extend_from_slice(&rank.to_le_bytes());
    for dimension in dimensions {
        info.extend_from_slice(&dimension.to_le_bytes());
    }
    info.extend_from_slice(&kind.to_le_bytes());
    info.extend_from_slice(&offset.to_le_bytes());
    info
}

fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

impl File {
    /// Two tensors, of 8 and 34 bytes.
    fn new() -> Self {
        Self {
            keys: vec![
                key("general.architecture", STRING, &text("llama")),
                key("general.flag", BOOL, &[1]),
                key(
                    "tokens",
                    ARRAY,
                    &array(STRING, 2, &[text("a"), text("b")].concat()),
                ),
                key("scores", ARRAY, &array(6, 2, &[0; 8])),
            ],
            tensors: vec![tensor("a", &[2], 0, 0), tensor("b", &[32, 1], 8, 32)],
            data: [&[1_u8; 8][..], &[0; 24], &[2; 34], &[0; 30]].concat(),
        }
    }

    fn with_key(mut self, key: Vec<u8>) -> Self {
        self.keys.push(key);
        self
    }

    fn with_tensor(mut self, index: usize, tensor: Vec<u8>) -> Self {
        self.tensors[index] = tensor;
        self
    }

    fn bytes(&self, alignment: usize) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        for count in [self.tensors.len(), self.keys.len()] {
            file.extend_from_slice(&u64::try_from(count).unwrap().to_le_bytes());
        }
        for part in self.keys.iter().chain(&self.tensors) {
            file.extend_from_slice(part);
        }
        file.resize(file.len().next_multiple_of(alignment), 0);
        file.extend_from_slice(&self.data);
        file
    }

    fn verdict(&self) -> Verdict {
        verdict(self.bytes(32))
    }
}

fn verdict(bytes: Vec<u8>) -> Verdict {
    scan(&mut Cursor::new(bytes), &Limits::default())
        .unwrap()
        .verdict
}

#[test]
fn tensors_one_after_the_other_are_safe() {
    assert_eq!(File::new().verdict(), Verdict::Safe);
    let mut vocabulary = File::new();
    vocabulary.tensors.clear();
    vocabulary.data.clear();
    assert_eq!(verdict(vocabulary.bytes(1)), Verdict::Safe);
    let alignment = key("general.alignment", U32, &[64, 0, 0, 0]);
    let mut aligned = File::new().with_key(alignment);
    aligned = aligned.with_tensor(1, tensor("b", &[32, 1], 8, 64));
    aligned.data = [&[1_u8; 8][..], &[0; 56], &[2; 34]].concat();
    assert_eq!(verdict(aligned.bytes(64)), Verdict::Safe);
    // One bit an element, in blocks of 18 bytes.
    let mut small = File::new().with_tensor(1, tensor("b", &[128], 41, 32));
    small.data = [&[1_u8; 8][..], &[0; 24], &[2; 18]].concat();
    assert_eq!(small.verdict(), Verdict::Safe);
    // Two bits an element.
    small = small.with_tensor(1, tensor("b", &[64], 42, 32));
    assert_eq!(small.verdict(), Verdict::Safe);
}

#[test]
fn broken_tensors_are_malformed() {
    for info in [
        tensor("a", &[2], 8, 32),
        tensor("b", &[32, 0], 8, 32),
        tensor("b", &[], 8, 32),
        tensor("b", &[32, 1, 1, 1, 1], 8, 32),
        tensor("b", &[31], 8, 32),
        tensor("b", &[1 << 32, 1 << 32], 8, 32),
        tensor("b", &[1 << 63], 24, 32),
        tensor("b", &[32, 2], 8, 32),
        // Overlapping, not aligned, with a hole, beyond the end.
        tensor("b", &[32], 8, 0),
        tensor("b", &[32], 8, 33),
        tensor("b", &[32], 8, 64),
        tensor("b", &[32], 8, u64::MAX - 31),
    ] {
        let file = File::new().with_tensor(1, info.clone());
        assert_eq!(file.verdict(), Verdict::Malformed, "{info:?}");
    }
    let unknown = File::new().with_tensor(1, tensor("b", &[32], 4, 32));
    assert_eq!(unknown.verdict(), Verdict::Unknown);
    let mut ranks = tensor("b", &[32], 8, 32);
    ranks[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        File::new().with_tensor(1, ranks).verdict(),
        Verdict::Malformed
    );
}

#[test]
fn bytes_outside_tensors_are_zero_and_few() {
    for index in [8, 31, 66, 95] {
        let mut file = File::new();
        file.data[index] = 1;
        assert_eq!(file.verdict(), Verdict::Malformed, "{index}");
    }
    let mut file = File::new();
    file.data.extend_from_slice(&[0; 32]);
    assert_eq!(file.verdict(), Verdict::Malformed);
    file.data.truncate(65);
    assert_eq!(file.verdict(), Verdict::Malformed);
}

#[test]
fn broken_metadata_is_malformed() {
    let map = "tokenizer.ggml.precompiled_charsmap";
    for value in [
        key("general.flag", BOOL, &[0]),
        key("x", BOOL, &[2]),
        key("x", 13, &[0; 8]),
        key("", BOOL, &[0]),
        key("x\n", BOOL, &[0]),
        key(&"x".repeat(0x1_0000), BOOL, &[0]),
        key("general.alignment", U32, &[0; 4]),
        key("general.alignment", U32, &[48, 0, 0, 0]),
        key("general.alignment", U32, &[0, 0, 0, 0x80]),
        key("general.alignment", 10, &[32, 0, 0, 0, 0, 0, 0, 0]),
        key("x", STRING, &u64::MAX.to_le_bytes()),
        key("x", ARRAY, &array(ARRAY, 1, &array(0, 1, &[0]))),
        key("x", ARRAY, &array(10, 1 << 61, &[])),
        key("x", ARRAY, &array(STRING, u64::MAX, &[])),
        key("x", ARRAY, &array(BOOL, u64::MAX, &[])),
        key(
            map,
            ARRAY,
            &array(0, 8, &[0xfc, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        ),
        key(map, ARRAY, &array(0, 8, &[4, 0, 0, 0, 0, 0, 0, 0])),
        key(map, ARRAY, &array(0, 2, &[0, 0])),
    ] {
        let file = File::new().with_key(value.clone());
        assert_eq!(
            file.verdict(),
            Verdict::Malformed,
            "{:?}",
            &value[..value.len().min(80)]
        );
    }
    let table = charsmap::table(2);
    let count = u64::try_from(table.len()).unwrap();
    let tree = key(map, ARRAY, &array(0, count, &table));
    assert_eq!(File::new().with_key(tree).verdict(), Verdict::Safe);
    // A step to a text behind all texts, as a signed array.
    let tree = key(map, ARRAY, &array(1, count, &charsmap::table(4)));
    assert_eq!(File::new().with_key(tree).verdict(), Verdict::Malformed);
}

#[test]
fn arrays_of_a_tokenizer_have_the_type_and_length_that_readers_take_them_for() {
    let texts = |count: u64| array(STRING, count, &text("a").repeat(count.try_into().unwrap()));
    let words = |kind, count: u64| array(kind, count, &[0_u8; 4].repeat(count.try_into().unwrap()));
    let tokens = key("tokenizer.ggml.tokens", ARRAY, &texts(3));
    for (name, value, expected) in [
        ("tokenizer.ggml.scores", words(6, 3), Verdict::Safe),
        ("tokenizer.ggml.scores", words(5, 3), Verdict::Safe),
        ("tokenizer.ggml.scores", words(6, 4), Verdict::Safe),
        ("tokenizer.ggml.scores", words(6, 2), Verdict::Malformed),
        (
            "tokenizer.ggml.scores",
            array(0, 3, &[0; 3]),
            Verdict::Malformed,
        ),
        (
            "tokenizer.ggml.scores",
            array(12, 3, &[0; 24]),
            Verdict::Malformed,
        ),
        ("tokenizer.ggml.scores", texts(3), Verdict::Malformed),
        ("tokenizer.ggml.token_type", words(5, 3), Verdict::Safe),
        ("tokenizer.ggml.token_type", words(5, 0), Verdict::Malformed),
        (
            "tokenizer.ggml.token_type",
            array(1, 3, &[0; 3]),
            Verdict::Malformed,
        ),
        ("tokenizer.ggml.merges", texts(1), Verdict::Safe),
        ("tokenizer.ggml.merges", words(5, 1), Verdict::Malformed),
        ("tokenizer.ggml.suppress_tokens", words(5, 1), Verdict::Safe),
        (
            "tokenizer.ggml.suppress_tokens",
            array(0, 1, &[0]),
            Verdict::Malformed,
        ),
        ("clip.vision.image_mean", words(6, 3), Verdict::Safe),
        ("clip.vision.image_mean", words(6, 2), Verdict::Malformed),
        (
            "clip.vision.feature_layer",
            array(11, 1, &[0; 8]),
            Verdict::Malformed,
        ),
        (
            "clip.vision.is_deepstack_layers",
            array(BOOL, 2, &[0, 1]),
            Verdict::Safe,
        ),
        ("other.scores", array(0, 1, &[0]), Verdict::Safe),
    ] {
        let value = key(name, ARRAY, &value);
        // Keys stand in any order.
        let before = File::new().with_key(value.clone()).with_key(tokens.clone());
        let behind = File::new().with_key(tokens.clone()).with_key(value);
        assert_eq!(before.verdict(), expected, "{name}");
        assert_eq!(behind.verdict(), expected, "{name}");
    }
    let number = key("tokenizer.ggml.scores", 6, &[0; 4]);
    assert_eq!(File::new().with_key(number).verdict(), Verdict::Malformed);
    let numbers = key("tokenizer.ggml.tokens", ARRAY, &words(5, 1));
    assert_eq!(File::new().with_key(numbers).verdict(), Verdict::Malformed);
}

#[test]
fn counts_and_versions_are_bounded() {
    for (at, byte, expected) in [
        (0, b'X', Verdict::Malformed),
        (4, 1, Verdict::Unknown),
        (4, 4, Verdict::Unknown),
        (15, 0x80, Verdict::Malformed),
        (23, 0x80, Verdict::Malformed),
        (10, 1, Verdict::Malformed),
    ] {
        let mut bytes = File::new().bytes(32);
        bytes[at] = byte;
        assert_eq!(verdict(bytes), expected, "{at}");
    }
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let report = scan(&mut Cursor::new(File::new().bytes(32)), &limits).unwrap();
    assert_eq!(report.verdict, Verdict::Unknown);
    let limits = Limits {
        operations: 1,
        ..Limits::default()
    };
    let report = scan(&mut Cursor::new(File::new().bytes(32)), &limits).unwrap();
    assert_eq!(report.verdict, Verdict::Unknown);
}

#[test]
fn a_chat_template_that_reaches_beyond_data_is_executable() {
    for (name, template, expected) in [
        (
            "tokenizer.chat_template",
            "{{ messages[0]['role'] }}",
            Verdict::Safe,
        ),
        (
            "tokenizer.chat_template",
            "{{ ''.__class__ }}",
            Verdict::Executable,
        ),
        (
            "tokenizer.chat_template.tool",
            "{{ ''.__class__ }}",
            Verdict::Executable,
        ),
        ("general.name", "{{ ''.__class__ }}", Verdict::Safe),
    ] {
        let file = File::new().with_key(key(name, STRING, &text(template)));
        assert_eq!(file.verdict(), expected, "{name} {template}");
    }
    let several = array(STRING, 1, &text("{{ ''.__class__ }}"));
    let file = File::new().with_key(key("tokenizer.chat_template", ARRAY, &several));
    assert_eq!(file.verdict(), Verdict::Unknown);
}
