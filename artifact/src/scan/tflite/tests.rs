//! Tests of TensorFlow Lite models, which are built from values.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::*;
use crate::scan::detect;
use crate::scan::zip::build::{File, OS_SYSTEM, body, end};
use std::io::Cursor;

/// A value of a FlatBuffer.
#[derive(Clone)]
enum Value {
    Absent,
    Byte(u8),
    Word(u32),
    Long(u64),
    Text(&'static str),
    Words(Vec<u32>),
    Tables(Vec<Vec<Value>>),
}

use Value::{Absent, Byte, Long, Tables, Text, Word, Words};

fn length(values: usize) -> [u8; 4] {
    u32::try_from(values).unwrap().to_le_bytes()
}

/// Writes the distance from a reference to the end of the file, where its target comes next.
fn refer(file: &mut [u8], reference: usize) {
    let distance = length(file.len() - reference);
    file[reference..reference + 4].copy_from_slice(&distance);
}

/// Appends a table, and after it all that it refers to.
fn table(file: &mut Vec<u8>, values: &[Value]) {
    let mut offsets = Vec::new();
    let mut fields = vec![0; 4];
    for value in values {
        let bytes = match value {
            Absent => vec![],
            Byte(byte) => vec![*byte],
            Word(word) => word.to_le_bytes().to_vec(),
            Long(long) => long.to_le_bytes().to_vec(),
            Text(_) | Words(_) | Tables(_) => vec![0; 4],
        };
        let offset = if bytes.is_empty() { 0 } else { fields.len() };
        offsets.push(u16::try_from(offset).unwrap());
        fields.extend_from_slice(&bytes);
    }
    // The description of the table lies behind it.
    let position = file.len();
    let back = -i32::try_from(fields.len()).unwrap();
    fields[..4].copy_from_slice(&back.to_le_bytes());
    file.extend_from_slice(&fields);
    for number in [offsets.len() * 2 + 4, fields.len()] {
        file.extend_from_slice(&u16::try_from(number).unwrap().to_le_bytes());
    }
    for offset in &offsets {
        file.extend_from_slice(&offset.to_le_bytes());
    }
    for (value, offset) in values.iter().zip(offsets) {
        let reference = position + usize::from(offset);
        match value {
            Text(text) => {
                refer(file, reference);
                file.extend_from_slice(&length(text.len()));
                file.extend_from_slice(text.as_bytes());
            }
            Words(words) => {
                refer(file, reference);
                file.extend_from_slice(&length(words.len()));
                file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            }
            Tables(tables) => {
                refer(file, reference);
                file.extend_from_slice(&length(tables.len()));
                let first = file.len();
                file.resize(first + 4 * tables.len(), 0);
                for (index, values) in tables.iter().enumerate() {
                    refer(file, first + 4 * index);
                    table(file, values);
                }
            }
            Absent | Byte(_) | Word(_) | Long(_) => {}
        }
    }
}

fn file(model: &[Value]) -> Vec<u8> {
    let mut file = b"\x08\0\0\0TFL3".to_vec();
    table(&mut file, model);
    file
}

/// A model with an operator, a buffer, a tensor and a node.
fn model(
    operator: Vec<Value>,
    buffer: Vec<Value>,
    tensor: Vec<Value>,
    node: Vec<Value>,
) -> Vec<u8> {
    let subgraph = vec![
        Tables(vec![tensor]),
        Words(vec![0]),
        Words(vec![0]),
        Tables(vec![node]),
    ];
    file(&[
        Word(3),
        Tables(vec![operator]),
        Tables(vec![subgraph]),
        Text("model"),
        Tables(vec![buffer]),
    ])
}

fn add() -> Vec<Value> {
    vec![Byte(0)]
}

fn tensor(buffer: u32) -> Vec<Value> {
    vec![Words(vec![1, 2]), Byte(0), Word(buffer), Text("t")]
}

fn node(operator: u32, input: u32) -> Vec<Value> {
    vec![Word(operator), Words(vec![input, u32::MAX]), Words(vec![0])]
}

fn verdict(file: Vec<u8>) -> Verdict {
    scan(&mut Cursor::new(file), &Limits::default())
        .unwrap()
        .verdict
}

#[test]
fn operators_of_the_runtime_are_safe() {
    let buffer = vec![Words(vec![7]), Long(1), Long(2)];
    assert_eq!(
        verdict(model(add(), buffer, tensor(0), node(0, 0))),
        Verdict::Safe
    );
}

#[test]
fn operators_of_others_are_not() {
    for (operator, expected) in [
        (vec![Byte(32), Text("Mine")], Verdict::Unknown),
        (vec![Byte(32), Text("FlexMatMul")], Verdict::Unknown),
        (vec![Byte(32), Text("FlexReadFile")], Verdict::Executable),
        (vec![Byte(0), Absent, Absent, Word(32)], Verdict::Unknown),
        (
            vec![Byte(128), Text("FlexReadFile"), Absent, Word(32)],
            Verdict::Malformed,
        ),
        (vec![Byte(51)], Verdict::Unknown),
        (
            vec![Byte(127), Absent, Absent, Word(9_999)],
            Verdict::Unknown,
        ),
        (vec![Byte(127), Absent, Absent, Word(130)], Verdict::Safe),
    ] {
        let file = model(operator, vec![], tensor(0), node(0, 0));
        assert_eq!(verdict(file), expected);
    }
}

#[test]
fn what_is_out_of_range_is_malformed() {
    for file in [
        model(add(), vec![], tensor(1), node(0, 0)),
        model(add(), vec![], tensor(0), node(1, 0)),
        model(add(), vec![], tensor(0), node(0, 1)),
        model(add(), vec![], tensor(0), node(0, u32::MAX - 1)),
        model(
            add(),
            vec![Absent, Long(9), Long(1 << 40)],
            tensor(0),
            node(0, 0),
        ),
        model(
            add(),
            vec![Absent, Long(u64::MAX), Long(2)],
            tensor(0),
            node(0, 0),
        ),
        b"\x08\0\0\0TFL3".to_vec(),
        b"\x08\0\0\0TFL2".to_vec(),
        b"\xff\xff\xff\xffTFL3".to_vec(),
        b"\0\0\0\0TFL3".to_vec(),
        b"".to_vec(),
    ] {
        assert_eq!(verdict(file.clone()), Verdict::Malformed, "{file:?}");
    }
    let original = model(add(), vec![], tensor(0), node(0, 0));
    assert_eq!(verdict(original.clone()), Verdict::Safe);
    for end in 0..original.len() {
        assert_eq!(
            verdict(original[..end].to_vec()),
            Verdict::Malformed,
            "{end}"
        );
    }
    // No byte that is changed makes the scan fail or run long.
    for index in 0..original.len() {
        let mut changed = original.clone();
        changed[index] ^= 0xff;
        verdict(changed);
    }
}

#[test]
fn names_of_a_signature_stand_for_tensors() {
    for (graph, input, output, expected) in [
        (0, 0, 0, Verdict::Safe),
        (1, 0, 0, Verdict::Malformed),
        (0, 1, 0, Verdict::Malformed),
        (0, 0, u32::MAX, Verdict::Malformed),
    ] {
        let names = |tensor| Tables(vec![vec![Text("x"), Word(tensor)]]);
        let signature = vec![
            names(input),
            names(output),
            Text("serve"),
            Absent,
            Word(graph),
        ];
        let subgraph = vec![Tables(vec![tensor(0)]), Words(vec![0]), Words(vec![0])];
        let bytes = file(&[
            Word(3),
            Absent,
            Tables(vec![subgraph]),
            Absent,
            Tables(vec![vec![]]),
            Absent,
            Absent,
            Tables(vec![signature]),
        ]);
        assert_eq!(verdict(bytes), expected, "{graph} {input} {output}");
    }
}

#[test]
fn weights_in_other_files_are_unknown() {
    for fields in [7, 8] {
        let mut model = vec![Word(3)];
        model.extend(vec![Absent; fields]);
        model.push(Tables(vec![vec![Text("../weights")]]));
        assert_eq!(verdict(file(&model)), Verdict::Unknown);
    }
    let mut model = vec![Word(3)];
    model.extend(vec![Absent; 7]);
    model.push(Tables(vec![]));
    assert_eq!(verdict(file(&model)), Verdict::Safe);
}

#[test]
fn versions_and_work_are_bounded() {
    assert_eq!(verdict(file(&[Word(2)])), Verdict::Unknown);
    let limits = Limits {
        operations: 5,
        ..Limits::default()
    };
    let mut file = Cursor::new(model(add(), vec![], tensor(0), node(0, 0)));
    assert_eq!(scan(&mut file, &limits).unwrap().verdict, Verdict::Unknown);
}

/// A model with one file behind it, whose header is said to be at `offset`.
fn packed(model: &[u8], mut file: File, offset: usize) -> Vec<u8> {
    file.offset = Some(u32::try_from(offset).unwrap());
    let (archive, directory) = body(&[file]);
    let mut bytes = [model, archive.as_slice()].concat();
    let start = u32::try_from(model.len()).unwrap() + directory;
    let record = end(1, start, bytes.len());
    bytes.extend(record);
    bytes
}

#[test]
fn files_behind_a_model_are_scanned() {
    let model = model(add(), vec![], tensor(0), node(0, 0));
    let scan = |bytes: Vec<u8>| {
        let report = detect::scan(&mut Cursor::new(bytes), "a.tflite", &Limits::default());
        report.unwrap()
    };
    for (name, content, expected) in [
        ("labels.txt", b"cat\ndog\n".as_slice(), Verdict::Safe),
        ("labels.bin", b"\x01\x02\x03", Verdict::Unknown),
        ("../labels.txt", b"cat\n", Verdict::Malformed),
        ("labels.pkl", OS_SYSTEM, Verdict::Executable),
        ("labels.txt", OS_SYSTEM, Verdict::Executable),
        ("run.py", b"import os\n", Verdict::Executable),
    ] {
        let report = scan(packed(&model, File::stored(name, content), model.len()));
        assert_eq!(report.verdict, expected, "{name}: {report:?}");
        assert_eq!(report.format, "tflite");
    }
    let labels = || File::stored("labels.txt", b"cat\ndog\n");
    // An archive that begins within the model, or in which other bytes stand.
    for offset in [0, 10, model.len() - 1, model.len() + 1] {
        let report = scan(packed(&model, labels(), offset));
        assert_eq!(report.verdict, Verdict::Malformed, "{offset}: {report:?}");
    }
    let mut gap = labels();
    gap.after = b"x".to_vec();
    let report = scan(packed(&model, gap, model.len()));
    assert_eq!(report.verdict, Verdict::Malformed, "{report:?}");
    // Offsets from the beginning of the archive, as if it had been joined to the model.
    let (mut archive, start) = body(&[labels()]);
    let record = end(1, start, archive.len());
    archive.extend(record);
    let report = scan([model, archive].concat());
    assert_eq!(report.verdict, Verdict::Malformed, "{report:?}");
}

#[test]
fn an_archive_without_files_behind_a_model_is_no_fault() {
    let model = model(add(), vec![], tensor(0), node(0, 0));
    let verdict = |bytes: Vec<u8>| {
        let report = detect::scan(&mut Cursor::new(bytes), "a.tflite", &Limits::default());
        report.unwrap().verdict
    };
    let behind = |between: &[u8], distance: u32| {
        let start = u32::try_from(model.len() + between.len()).unwrap();
        let offset = start.checked_sub(distance).unwrap().to_le_bytes();
        let record = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0";
        [&model[..], between, &record[..], &offset, b"\0\0"].concat()
    };
    let valid = behind(b"", 0);
    assert_eq!(verdict(valid.clone()), Verdict::Safe);
    assert_ne!(verdict(behind(b"", 1)), Verdict::Safe, "another offset");
    assert_ne!(
        verdict([&valid[..], b"x"].concat()),
        Verdict::Safe,
        "a tail"
    );
    let mut commented = valid.clone();
    *commented.last_mut().unwrap() = 1;
    assert_ne!(verdict(commented), Verdict::Safe, "a comment");
    // Python's `zipfile` goes to the table of 64 bits, if there is a locator.
    let locator = [&b"PK\x06\x07"[..], &[0; 16]].concat();
    assert_ne!(verdict(behind(&locator, 0)), Verdict::Safe, "64 bits");
    let another = &valid[model.len()..];
    assert_ne!(verdict(behind(another, 0)), Verdict::Safe, "two records");
}
