//! Tests of the index of tensor bundles, with tables that are built here.

#![allow(
    clippy::single_range_in_vec_init,
    clippy::unwrap_used,
    reason = "tests"
)]
use std::io::Cursor;

use super::*;
use crate::scan::detect;
use crate::scan::protobuf::write::{bytes, number, varint};

/// An entry that shares nothing with the key before.
fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| varint(u64::try_from(bytes.len()).unwrap());
    [&length(b"")[..], &length(key), &length(value), key, value].concat()
}

/// A block of entries, as it is stored.
fn block(entries: &[Vec<u8>]) -> Vec<u8> {
    stored(&[&entries.concat()[..], b"\0\0\0\0\x01\0\0\0"].concat(), 0)
}

fn stored(block: &[u8], compression: u8) -> Vec<u8> {
    let checksum = crc32c::masked(block, compression).to_le_bytes();
    [block, &[compression], &checksum].concat()
}

/// The position of a stored block.
fn handle(offset: usize, block: &[u8]) -> Vec<u8> {
    let length = block.len().checked_sub(5).unwrap();
    let number = |value: usize| varint(u64::try_from(value).unwrap());
    [number(offset), number(length)].concat()
}

/// A table of these blocks, each with its key in the index.
fn table(blocks: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut index = Vec::new();
    for (key, block) in blocks {
        index.push(item(key, &handle(file.len(), block)));
        file.extend_from_slice(block);
    }
    let (extra, mut index) = (block(&[]), index.concat());
    let mut footer = handle(file.len(), &extra);
    file.extend_from_slice(&extra);
    index.extend_from_slice(b"\0\0\0\0\x01\0\0\0");
    let index = stored(&index, 0);
    footer.extend(handle(file.len(), &index));
    file.extend_from_slice(&index);
    footer.resize(40, 0);
    footer.extend_from_slice(&table::MAGIC);
    [file, footer].concat()
}

fn header(shards: u64) -> Vec<u8> {
    item(b"", &[number(1, shards), bytes(3, number(1, 1))].concat())
}

/// The fields of a tensor: its type, its only dimension, and where it is.
fn tensor(data_type: u64, size: u64, position: (u64, u64, u64)) -> Vec<u8> {
    let shape = bytes(2, bytes(2, number(1, size)));
    let (shard, offset, length) = position;
    let position = [number(3, shard), number(4, offset), number(5, length)].concat();
    [
        number(1, data_type),
        shape,
        position,
        vec![0x35, 1, 2, 3, 4],
    ]
    .concat()
}

/// A bundle of two data files with these tensors, in the order of their names.
fn bundle(tensors: &[Vec<u8>]) -> Vec<u8> {
    let names = [b"a", b"b", b"c"];
    let named = names.iter().zip(tensors);
    let entries = named.map(|(name, tensor)| item(*name, tensor));
    let entries: Vec<Vec<u8>> = [header(2)].into_iter().chain(entries).collect();
    table(&[(b"x", block(&entries))])
}

fn verdict(file: &[u8]) -> Verdict {
    let mut file = Cursor::new(file.to_vec());
    let report = detect::scan(&mut file, "variables.index", &Limits::default()).unwrap();
    assert_eq!(report.format, "tensor bundle");
    report.verdict
}

#[test]
fn tensors_of_plain_data_are_safe_and_name_their_bytes() {
    let file = bundle(&[
        tensor(1, 3, (0, 8, 12)),
        tensor(7, 2, (0, 0, 8)),
        tensor(9, 1, (1, 0, 8)),
    ]);
    assert_eq!(verdict(&file), Verdict::Safe);
    let ranges = |name: &str| {
        let mut index = Cursor::new(file.clone());
        let tensors = tensors(&mut index, &Limits::default()).unwrap();
        tensors.unwrap().in_file(name)
    };
    let first = ranges("variables.data-00000-of-00002");
    assert_eq!(first, Some(vec![0..8, 8..20]));
    assert_eq!(ranges("ckpt.data-00001-of-00002"), Some(vec![0..8]));
    for name in [
        "variables.data-00000-of-00001",
        "variables.data-00002-of-00002",
        "variables.data-0-of-2",
        "variables.data-+0000-of-00002",
        "variables.index",
    ] {
        assert_eq!(ranges(name), None, "{name}");
    }
}

#[test]
fn other_types_and_places_are_not_safe() {
    for (tensors, expected) in [
        // A variant, a resource, and a type that is not known.
        (vec![tensor(21, 1, (0, 0, 8))], Verdict::Unknown),
        (vec![tensor(20, 1, (0, 0, 8))], Verdict::Unknown),
        (vec![tensor(101, 1, (0, 0, 4))], Verdict::Unknown),
        (vec![tensor(0, 1, (0, 0, 4))], Verdict::Unknown),
        // More or less than the shape has.
        (vec![tensor(1, 3, (0, 0, 16))], Verdict::Malformed),
        (vec![tensor(7, 2, (0, 0, 5))], Verdict::Malformed),
        (vec![tensor(1, 1 << 62, (0, 0, 4))], Verdict::Malformed),
        (vec![tensor(1, 1, (0, u64::MAX, 4))], Verdict::Malformed),
        (vec![tensor(1, 1, (2, 0, 4))], Verdict::Malformed),
        // Bytes that two tensors share.
        (
            vec![tensor(1, 2, (0, 0, 8)), tensor(1, 2, (0, 4, 8))],
            Verdict::Malformed,
        ),
        (
            vec![tensor(1, 2, (0, 0, 8)), tensor(1, 2, (1, 4, 8))],
            Verdict::Safe,
        ),
        (vec![b"\x08".to_vec()], Verdict::Malformed),
        (vec![bytes(9, "a")], Verdict::Malformed),
        (
            vec![[tensor(21, 1, (0, 0, 8)), number(1, 9)].concat()],
            Verdict::Malformed,
        ),
    ] {
        assert_eq!(verdict(&bundle(&tensors)), expected, "{tensors:?}");
    }
    let slices = bytes(7, bytes(1, number(2, 2)));
    let complete = [number(1, 1), bytes(2, bytes(2, number(1, 4))), slices].concat();
    let with_bytes = [&complete[..], &number(5, 16)].concat();
    assert_eq!(verdict(&bundle(&[complete])), Verdict::Safe);
    assert_eq!(verdict(&bundle(&[with_bytes])), Verdict::Malformed);
}

#[test]
fn each_byte_of_a_table_is_followed() {
    let valid = bundle(&[tensor(1, 1, (0, 0, 4))]);
    assert_eq!(verdict(&valid), Verdict::Safe);
    let entry = |key: &[u8]| item(key, &tensor(1, 0, (0, 0, 0)));
    let first = || block(&[header(1), entry(b"b")]);
    let second = block(&[entry(b"d")]);
    let two = [(&b"c"[..], first()), (&b"d"[..], second.clone())];
    assert_eq!(verdict(&table(&two)), Verdict::Safe);
    let cases = [
        // Keys out of order, in a block and between blocks; a key twice.
        table(&[(b"x", block(&[header(1), entry(b"b"), entry(b"a")]))]),
        table(&[(b"x", block(&[header(1), entry(b"b"), entry(b"b")]))]),
        table(&[(b"d", first()), (b"d", second.clone())]),
        table(&[(b"a", first())]),
        table(&[(b"x", first()), (b"y", block(&[]))]),
        table(&[]),
        // Bytes before the first block, in a block and behind the index.
        [&b"x"[..], &valid].concat(),
        table(&[(b"x", block(&[header(1), entry(b"b"), b"\0".to_vec()]))]),
    ];
    for (index, file) in cases.iter().enumerate() {
        assert_eq!(verdict(file), Verdict::Malformed, "{index}");
    }
    let mut changed = valid.clone();
    if let Some(byte) = changed.get_mut(5) {
        *byte ^= 1;
    }
    assert_eq!(verdict(&changed), Verdict::Malformed, "the checksum");
    // Other tables of LevelDB's format: without a header, and a checkpoint of version 1.
    assert_eq!(verdict(&table(&[(b"x", second)])), Verdict::Unknown);
    let old = item(b"", &bytes(1, bytes(1, bytes(1, b"w"))));
    assert_eq!(verdict(&table(&[(b"x", block(&[old]))])), Verdict::Unknown);
    let trailing = [&valid[..], b"x"].concat();
    let mut file = Cursor::new(trailing);
    let report = detect::scan(&mut file, "variables.index", &Limits::default()).unwrap();
    assert_eq!(report.verdict, Verdict::Unknown);
}

#[test]
fn compressed_blocks_are_not_followed() {
    let entries = [header(1), item(b"b", &tensor(1, 0, (0, 0, 0)))].concat();
    let plain = [&entries[..], b"\0\0\0\0\x01\0\0\0"].concat();
    let file = |compression| table(&[(b"x", stored(&plain, compression))]);
    assert_eq!(verdict(&file(0)), Verdict::Safe);
    assert_eq!(verdict(&file(1)), Verdict::Unknown);
}

#[test]
fn another_name_does_not_hide_a_table() {
    let file = bundle(&[tensor(1, 1, (0, 0, 4))]);
    for name in ["model.onnx", "model.pb", "model.safetensors"] {
        let mut file = Cursor::new(file.clone());
        let report = detect::scan(&mut file, name, &Limits::default()).unwrap();
        assert_eq!(report.verdict, Verdict::Malformed, "{name}");
    }
    let mut file = Cursor::new([&b"GGUF"[..], &file].concat());
    let report = detect::scan(&mut file, "variables.index", &Limits::default()).unwrap();
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.rule == "polyglot")
    );
}
