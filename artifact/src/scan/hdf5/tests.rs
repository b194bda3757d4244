//! Tests of HDF5 files, which are built from messages.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::Cursor;

use super::UNDEFINED;
use super::build::*;
use crate::scan::{Limits, Report, Verdict, keras};

fn report(file: &[u8]) -> Report {
    keras::h5::scan(&mut Cursor::new(file), &Limits::default()).unwrap()
}

/// The verdict and the rule of the first finding.
fn verdict(file: &[u8]) -> (Verdict, &'static str) {
    let report = report(file);
    let rule = report
        .findings
        .first()
        .map_or("", |finding| finding.rule.name);
    (report.verdict, rule)
}

fn check(file: &[u8], expected: Verdict, rule: &str) {
    assert_eq!(verdict(file), (expected, rule), "{:?}", report(file));
}

/// A file with a dataset, names and a configuration.
fn plain() -> Vec<u8> {
    let mut writer = Writer::new();
    let data = writer.put(&[1; 8]);
    writer
        .dataset(contiguous(data, 8), &[attribute("dtype", "bfloat16")])
        .root(attribute("layer_names12", "dense"))
        .root(attribute("keras_version", "2.15.0\0\0"))
        .root(attribute(
            "model_config",
            r#"{"class_name": "Sequential", "config": {"layers": [
                {"class_name": "Dense", "config": {"units": 2, "activation": "relu"}}]}}"#,
        ))
        .root(attribute("training_config", r#"{"loss": "mse"}"#))
        .file()
}

#[test]
fn data_and_builtin_classes_are_safe() {
    check(&plain(), Verdict::Safe, "");
    check(&Writer::new().file(), Verdict::Safe, "");
    let compact = [3, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8].to_vec();
    check(
        &Writer::new().dataset(compact, &[]).file(),
        Verdict::Safe,
        "",
    );
    let deflate = (FILTERS, b"\x02\x01\x01\0\0\0\x01\0\x06\0\0\0".to_vec());
    let chunks = Writer::new().dataset(chunked(2), &[deflate]).file();
    check(&chunks, Verdict::Safe, "");
    let mut writer = Writer::new();
    let root = writer.old_object(&[
        link_info(UNDEFINED, UNDEFINED, None),
        (0, vec![7; 16]),
        attribute("name", "model"),
    ]);
    check(&writer.file_with_root(root), Verdict::Safe, "");
}

#[test]
fn data_in_other_files_is_executable() {
    let external = other_link("d", 64, b"\0/etc/passwd\0/d\0");
    let file = Writer::new().root(external).file();
    check(&file, Verdict::Executable, "hdf5-external-link");
    assert!(report(&file).findings[0].detail.contains("/etc/passwd"));
    let files = [(EXTERNAL_FILES, vec![1; 40])];
    let file = Writer::new()
        .dataset(contiguous(UNDEFINED, 8), &files)
        .file();
    check(&file, Verdict::Executable, "hdf5-external");
    let mut other = vec![4, 3];
    other.extend([0; 12]);
    let file = Writer::new().dataset(other, &[]).file();
    check(&file, Verdict::Executable, "hdf5-external");
}

#[test]
fn links_lead_to_one_object_each() {
    for kind in [1, 65] {
        let file = Writer::new().root(other_link("a", kind, b"/a")).file();
        check(&file, Verdict::Unknown, "hdf5-link");
    }
    // The root group comes first here, and links to itself.
    let group = link_info(UNDEFINED, UNDEFINED, None);
    let mut writer = Writer::new();
    let root = writer.object(&[group.clone(), link("a", 48)]);
    check(&writer.file_with_root(root), Verdict::Unknown, "hdf5-link");
    let mut writer = Writer::new();
    let mut root = writer.object(std::slice::from_ref(&group));
    for _ in 0..100 {
        root = writer.object(&[group.clone(), link("a", root)]);
    }
    check(&writer.file_with_root(root), Verdict::Unknown, "hdf5-limit");
    for name in ["", "..", "a/b"] {
        let file = Writer::new().root(link(name, 48)).file();
        check(&file, Verdict::Malformed, "hdf5-structure");
    }
    let twice = Writer::new().root(link("a", 48)).root(link("a", 49)).file();
    check(&twice, Verdict::Malformed, "hdf5-structure");
}

#[test]
fn configurations_are_followed() {
    let lambda = r#"{"class_name": "Sequential", "config": [{"class_name": "Lambda"}]}"#;
    let with = |message| Writer::new().root(message).file();
    let file = with(attribute("model_config", lambda));
    check(&file, Verdict::Executable, "keras-code");
    let file = with(attribute("training_config", lambda));
    check(&file, Verdict::Executable, "keras-code");
    let file = with(attribute("model_config", r#"{"units": 1}"#));
    check(&file, Verdict::Unknown, "keras-config");
    // The text is in a global heap, behind another one.
    let mut writer = Writer::new();
    let size = u64::try_from(lambda.len()).unwrap();
    let mut heap = b"GCOL\x01\0\0\0".to_vec();
    let padded = lambda.len().next_multiple_of(8);
    heap.extend(words(&[16 + 24 + 16 + u64::try_from(padded).unwrap()]));
    heap.extend(words(&[1, 5, u64::MAX, 2, size]));
    heap.extend(lambda.as_bytes());
    heap.resize(heap.len().next_multiple_of(8), 0);
    let heap = writer.put(&heap);
    let reference = |index: u32| {
        let mut reference = u32::try_from(size).unwrap().to_le_bytes().to_vec();
        reference.extend(heap.to_le_bytes());
        reference.extend(index.to_le_bytes());
        attribute_of("model_config", &text_reference(), &reference)
    };
    let second = reference(2);
    let first = reference(1);
    let bytes = writer.root(second).file();
    check(&bytes, Verdict::Executable, "keras-code");
    let mut writer = Writer::new();
    writer.put(&bytes[48..usize::try_from(heap).unwrap() + 56 + padded]);
    // It is longer than the object of this index.
    check(
        &writer.root(first).file(),
        Verdict::Malformed,
        "hdf5-structure",
    );
}

#[test]
fn free_space_ends_a_global_heap() {
    // One object, free space of so many bytes, and 16 bytes behind it.
    let with = |free_bytes: u64, text_bytes: u32| {
        let mut writer = Writer::new();
        let mut heap = b"GCOL\x01\0\0\0".to_vec();
        heap.extend(words(&[72, 1, 5]));
        heap.extend(b"dense\0\0\0");
        heap.extend(words(&[0, free_bytes, 1, 0]));
        let heap = writer.put(&heap);
        let mut reference = text_bytes.to_le_bytes().to_vec();
        reference.extend(heap.to_le_bytes());
        reference.extend(1_u32.to_le_bytes());
        let name = attribute_of("name", &text_reference(), &reference);
        writer.root(name).file()
    };
    check(&with(32, 5), Verdict::Safe, "");
    for file in [with(16, 5), with(0, 5), with(u64::MAX, 5), with(32, 4)] {
        check(&file, Verdict::Malformed, "hdf5-structure");
    }
}

#[test]
fn attributes_of_other_libraries_are_unknown() {
    for (message, rule) in [
        (
            attribute("PYTABLES_FORMAT_VERSION", "2.1"),
            "hdf5-attribute",
        ),
        (
            attribute("weight_names", "cos\nsystem\n(S'id'\ntR."),
            "hdf5-attribute",
        ),
        // A text whose characters have two bytes.
        (
            attribute_of(
                "name",
                &[&text_reference()[..12], &[2, 0, 0, 0]].concat(),
                &[0; 16],
            ),
            "hdf5-structure",
        ),
        // A value of bytes without a type.
        (
            attribute_of("name", &[0x15, 0, 0, 0, 1, 0, 0, 0], b"x"),
            "hdf5-structure",
        ),
    ] {
        check(&Writer::new().root(message).file(), Verdict::Unknown, rule);
    }
    // A configuration is one of the root group only.
    let file = Writer::new()
        .dataset(contiguous(UNDEFINED, 8), &[attribute("model_config", "{}")])
        .file();
    check(&file, Verdict::Unknown, "hdf5-attribute");
    let file = Writer::new()
        .root(attribute("name", "a"))
        .root(attribute("name", "b"))
        .file();
    check(&file, Verdict::Malformed, "hdf5-structure");
}

#[test]
fn data_lies_in_the_file_and_is_not_shared() {
    for layout in [
        contiguous(1 << 40, 8),
        contiguous(UNDEFINED - 7, 8),
        contiguous(48, 4),
        chunked(1 << 31),
        chunked(0),
    ] {
        let file = Writer::new().dataset(layout, &[]).file();
        check(&file, Verdict::Malformed, "hdf5-structure");
    }
    let file = Writer::new().dataset(chunked(1 << 29), &[]).file();
    check(&file, Verdict::Unknown, "hdf5-expansion");
    let lzf = (FILTERS, b"\x02\x01\x00\x7d\0\0\0\0\0\0".to_vec());
    let file = Writer::new().dataset(chunked(2), &[lzf]).file();
    check(&file, Verdict::Safe, "");
    let plugin = (FILTERS, b"\x02\x01\x01\x7d\0\0\0\0\0\0".to_vec());
    let file = Writer::new().dataset(chunked(2), &[plugin]).file();
    check(&file, Verdict::Unknown, "hdf5-filter");
    let twice = (FILTERS, b"\x02\x02\x01\0\0\0\0\0\x01\0\0\0\0\0".to_vec());
    let file = Writer::new().dataset(chunked(2), &[twice]).file();
    check(&file, Verdict::Unknown, "hdf5-filter");
    let mut writer = Writer::new();
    let data = writer.put(&[0; 12]);
    let parts = |start| {
        [
            (SPACE, space(&[2])),
            (DATATYPE, float()),
            (LAYOUT, contiguous(start, 8)),
        ]
    };
    let first = writer.object(&parts(data));
    let second = writer.object(&parts(data + 4));
    let file = writer.root(link("a", first)).root(link("b", second)).file();
    check(&file, Verdict::Malformed, "hdf5-structure");
}

#[test]
fn structures_that_readers_understand_differently_are_not_safe() {
    let cases = [
        Writer::new().root((SPACE, space(&[1]))).file(),
        Writer::new()
            .root(link_info(UNDEFINED, UNDEFINED, None))
            .file(),
        Writer::new().root((SYMBOL_TABLE, words(&[48, 48]))).file(),
        Writer::with_root(vec![link("a", 48)]).file(),
        Writer::new().root((24, vec![0; 8])).file(),
        Writer::new().root((CONTINUATION, words(&[48, 64]))).file(),
    ];
    for file in cases {
        assert!(report(&file).verdict > Verdict::Safe);
    }
    let mut longer = plain();
    longer.push(0);
    check(&longer, Verdict::Malformed, "hdf5-structure");
}

#[test]
fn no_cut_or_changed_file_panics_and_none_that_is_cut_is_safe() {
    let complete = plain();
    for length in 0..complete.len() {
        assert!(
            report(&complete[..length]).verdict > Verdict::Safe,
            "{length}"
        );
    }
    for file in [complete, dense(false), old_group(true)] {
        for at in 0..file.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = file.clone();
                changed[at] = byte;
                report(&changed);
            }
        }
    }
}

/// A file whose root group has two links in a fractal heap, one of which opens another file.
fn dense(lists_one: bool) -> Vec<u8> {
    let mut writer = Writer::new();
    let group = writer.object(&[link_info(UNDEFINED, UNDEFINED, None)]);
    let (_, first) = link("a", group);
    let (_, second) = other_link("b", 64, b"\0c\0/d\0");
    // The header of the heap comes first, and its only block behind it.
    let heap = writer.put(&[]);
    let block = heap + 146;
    let mut header = b"FRHP\0\x07\0\0\0\0\0\x10\0\0".to_vec();
    header.extend([0; 96]);
    header.extend(4_u16.to_le_bytes());
    header.extend(words(&[512, 65_536]));
    header.extend([32, 0, 1, 0]);
    header.extend(words(&[block]));
    header.resize(146, 0);
    writer.put(&header);
    let mut content = b"FHDB\0".to_vec();
    content.extend(words(&[heap]));
    content.extend([0; 4]);
    let mut ids = Vec::new();
    for object in [first, second] {
        let mut id = vec![0];
        id.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        id.extend(u16::try_from(object.len()).unwrap().to_le_bytes());
        ids.push(id);
        content.extend(object);
    }
    content.resize(512, 0);
    writer.put(&content);
    let mut tree = |kind: u8, key_bytes: usize, ids: &[Vec<u8>]| {
        let count = u16::try_from(ids.len()).unwrap();
        let mut leaf = b"BTLF\0".to_vec();
        leaf.push(kind);
        for id in ids {
            leaf.extend(vec![0; key_bytes]);
            leaf.extend_from_slice(id);
        }
        leaf.resize(512, 0);
        let leaf = writer.put(&leaf);
        let mut header = b"BTHD\0".to_vec();
        header.push(kind);
        header.extend(512_u32.to_le_bytes());
        header.extend(u16::try_from(key_bytes + 7).unwrap().to_le_bytes());
        header.extend([0, 0, 100, 40]);
        header.extend(words(&[leaf]));
        header.extend(count.to_le_bytes());
        header.extend(words(&[u64::from(count)]));
        header.extend([0; 4]);
        writer.put(&header)
    };
    let by_name = tree(5, 4, &ids);
    let by_order = tree(6, 8, &ids[..if lists_one { 1 } else { 2 }]);
    let root = writer.object(&[link_info(heap, by_name, Some(by_order))]);
    writer.file_with_root(root)
}

#[test]
fn links_in_a_heap_are_followed() {
    check(&dense(false), Verdict::Executable, "hdf5-external-link");
    check(&dense(true), Verdict::Malformed, "hdf5-structure");
}

/// A file of the oldest format, whose root group has a symbol table.
fn old_group(is_cached: bool) -> Vec<u8> {
    let mut writer = Writer::new();
    // The superblock is longer than the one that the writer leaves room for.
    writer.put(&[0; 48]);
    let data = writer.put(b"\0d\0\0\0\0\0\0");
    let mut heap = b"HEAP\0\0\0\0".to_vec();
    heap.extend(words(&[8, 1, data]));
    let heap = writer.put(&heap);
    let elements = writer.put(&[0; 8]);
    let dataset = writer.old_object(&[
        (SPACE, space(&[2])),
        (DATATYPE, float()),
        (LAYOUT, contiguous(elements, 8)),
    ]);
    let mut table = b"SNOD\x01\0\x01\0".to_vec();
    table.extend(words(&[1, dataset, 0, 0, 0]));
    let table = writer.put(&table);
    let mut tree = b"TREE\0\0\x01\0".to_vec();
    tree.extend(words(&[UNDEFINED, UNDEFINED, 0, table, 1]));
    let tree = writer.put(&tree);
    let root = writer.old_object(&[(SYMBOL_TABLE, words(&[tree, heap]))]);
    let cached = if is_cached {
        (tree, heap)
    } else {
        (tree, data)
    };
    writer.old_file(root, cached)
}

#[test]
fn symbol_tables_are_followed() {
    check(&old_group(true), Verdict::Safe, "");
    check(&old_group(false), Verdict::Malformed, "hdf5-structure");
}

#[test]
fn a_walk_is_bounded() {
    let mut writer = Writer::new();
    let group = writer.object(&[link_info(UNDEFINED, UNDEFINED, None)]);
    let file = writer.root(link("a", group)).file();
    let scan = |limits: &Limits| {
        let report = keras::h5::scan(&mut Cursor::new(&file), limits).unwrap();
        report.findings.first().map(|finding| finding.rule.name)
    };
    let limits = Limits::default();
    assert_eq!(scan(&limits), None);
    let few_objects = Limits {
        entries: 2,
        ..limits.clone()
    };
    assert_eq!(scan(&few_objects), Some("hdf5-limit"));
    let few_bytes = Limits {
        header_bytes: 64,
        ..limits
    };
    assert_eq!(scan(&few_bytes), Some("hdf5-limit"));
}
