//! The names of formats, in reports and in policies.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Cursor;

use tensorgate_values::ModelFormat;

use super::zip::build::{EMPTY_DICT, File};
use super::{Limits, detect, external_data, tar, zip};

/// A zip file with one member.
fn zipped(member: &str, content: &[u8]) -> Vec<u8> {
    zip::build::zip(&[File::stored(member, content)])
}

/// A tar file with one member.
fn tarred(member: &str, content: &[u8]) -> Vec<u8> {
    tar::build::archive(&[tar::build::member(member, content)])
}

/// The name and the beginning of a file of each format. Many are malformed, which changes no name.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a.gguf", b"GGUF".to_vec()),
        ("a.h5", b"\x89HDF\r\n\x1a\n".to_vec()),
        ("a.json", b"{}".to_vec()),
        ("a.keras", zipped("config.json", b"{}")),
        ("a.txt", b"tree\nversion=v4\n".to_vec()),
        ("a.mar", zipped("MAR-INF/MANIFEST.json", b"{}")),
        ("a.npy", b"\x93NUMPY".to_vec()),
        ("a.npz", zipped("a.npy", b"\x93NUMPY")),
        ("a.onnx", b"\x08\x08\x12\x00".to_vec()),
        ("a.pkl", EMPTY_DICT.to_vec()),
        ("a.gif", b"GIF89a".to_vec()),
        ("tokenizer.model", b"\x0a\x05\x0a\x01a\x18\x02".to_vec()),
        ("config.pbtxt", b"name: \"a\"\n".to_vec()),
        ("graph.pbtxt", b"input_stream: \"a\"\n".to_vec()),
        ("a.xml", b"<net version=\"11\"/>".to_vec()),
        ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}".to_vec()),
        ("fingerprint.pb", b"\x08\x02".to_vec()),
        ("a.tar", tarred("a.md", b"# A\n")),
        ("a.index", b"\0\0\x57\xfb\x80\x8b\x24\x75\x47\xdb".to_vec()),
        ("a.pb", b"\x08\x01\x12\x00".to_vec()),
        ("a.md", b"# A\n".to_vec()),
        ("a.tflite", b"\0\0\0\0TFL3".to_vec()),
        (
            "a.pt",
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(),
        ),
        ("a.pt", zipped("a/.data/extern_modules", b"")),
        ("a.pt2", zipped("a/archive_format", b"pt2")),
        ("a.pt", tarred("pickle", EMPTY_DICT)),
        ("a.pt", zipped("a/data.pkl", EMPTY_DICT)),
        ("a.pt", zipped("a/constants.pkl", EMPTY_DICT)),
        ("a.json", b"{\"learner\": {}}".to_vec()),
        ("a.json", b"{\"oblivious_trees\": []}".to_vec()),
        ("a.ubj", b"{L\0\0\0\0\0\0\0\0".to_vec()),
        ("a.yaml", b"a: 1\n".to_vec()),
        ("a.zip", zipped("a.md", b"# A\n")),
    ]
}

#[test]
fn a_policy_names_formats_as_reports_do() {
    let mut reported = BTreeSet::new();
    for (name, content) in samples() {
        let report = detect::scan(&mut Cursor::new(content), name, &Limits::default()).unwrap();
        let is_new = reported.insert(report.format);
        assert!(is_new, "{name}: {report:?}");
    }
    // A file of tensors has its format by the index beside it.
    assert!(reported.insert(external_data::ONNX_DATA));
    assert!(reported.insert(external_data::OPENVINO_DATA));
    let named = ModelFormat::ALL.map(ModelFormat::name);
    assert_eq!(reported, BTreeSet::from(named));
}
