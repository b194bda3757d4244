//! Valid archives as `torch-model-archiver` writes them, and malformed ones.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::*;

const HANDLER: &[u8] = b"import json\n";

fn manifest(handler: &str) -> Vec<u8> {
    format!(r#"{{"createdOn": "x", "model": {{"modelName": "m", "handler": "{handler}"}}}}"#)
        .into_bytes()
}

/// An archive of deflated files. `change` may modify a file's central directory entry.
fn archive(files: &[(&str, &[u8])], change: impl Fn(&str, &mut Vec<u8>)) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(content);
        let at = bytes.len() as u32;
        // Versions, flags, method, times, checksum and sizes.
        let mut shared = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
        for number in [crc.sum(), packed.len() as u32, content.len() as u32] {
            shared.extend(number.to_le_bytes());
        }
        shared.extend((name.len() as u16).to_le_bytes());
        shared.extend([0, 0]);
        bytes.extend(LOCAL);
        bytes.extend(&shared);
        bytes.extend(name.as_bytes());
        bytes.extend(packed);
        let mut head = LISTED.to_vec();
        head.extend([20, 0]);
        head.extend(&shared);
        head.extend([0; 10]);
        head.extend(at.to_le_bytes());
        assert_eq!(head.len(), LISTED_BYTES);
        change(name, &mut head);
        list.extend(head);
        list.extend(name.as_bytes());
    }
    let (at, count) = (bytes.len() as u32, files.len() as u16);
    bytes.extend(&list);
    bytes.extend(END);
    bytes.extend([0; 4]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn read(bytes: Vec<u8>) -> Result<Source, String> {
    handler(Cursor::new(bytes), 1 << 20)
}

fn good() -> Vec<u8> {
    let manifest = manifest("h.py");
    archive(
        &[
            (MANIFEST, &manifest),
            ("h.py", HANDLER),
            ("model.pt", &[0; 500]),
        ],
        |_, _| {},
    )
}

#[test]
fn the_handler_that_the_manifest_names_is_read() {
    for named in ["h.py", "h", "h.py:handle", "h:handle"] {
        let manifest = manifest(named);
        let files = [
            (MANIFEST, manifest.as_slice()),
            ("h.py", HANDLER),
            ("w.pt", b""),
        ];
        let source = read(archive(&files, |_, _| {})).unwrap();
        assert_eq!(
            (source.file.as_str(), source.text.as_bytes()),
            ("h.py", HANDLER)
        );
        assert_eq!(source.beside, ["w.pt"]);
    }
    let manifest = manifest("image_classifier");
    let source = read(archive(&[(MANIFEST, &manifest)], |_, _| {})).unwrap();
    assert!(source.text.contains("ts.torch_handler.image_classifier"));
}

#[test]
fn a_malformed_archive_is_refused() {
    let listed = |change: fn(&mut Vec<u8>)| {
        let manifest = manifest("h.py");
        let files = [(MANIFEST, manifest.as_slice()), ("h.py", HANDLER)];
        archive(&files, |name, head| {
            if name == "h.py" {
                change(head);
            }
        })
    };
    let bomb = vec![b'#'; 3 << 20];
    let manifest = manifest("h.py");
    let with = |second: (&str, &[u8])| archive(&[(MANIFEST, &manifest), second], |_, _| {});
    for (name, bytes, says) in [
        ("nothing", Vec::new(), "zip archive"),
        ("text", b"import os\n".repeat(100), "zip archive"),
        ("no handler", with(("other.py", HANDLER)), "holds no h.py"),
        (
            "a folder above",
            with(("../h.py", HANDLER)),
            "holds no h.py",
        ),
        ("a bomb", with(("h.py", &bomb)), "larger than"),
        ("not text", with(("h.py", b"\xff\xfe")), "not text"),
        (
            "an invalid manifest",
            archive(&[(MANIFEST, b"[]")], |_, _| {}),
            "MANIFEST",
        ),
        (
            "no manifest",
            archive(&[("h.py", HANDLER)], |_, _| {}),
            "holds no MAR-INF",
        ),
        (
            "a file twice",
            archive(
                &[(MANIFEST, &manifest), ("h.py", HANDLER), ("h.py", b"evil")],
                |_, _| {},
            ),
            "twice",
        ),
        (
            "a wrong size",
            listed(|head| head[24] = 1),
            "archive's directory",
        ),
        (
            "a larger size",
            listed(|head| head[24] = 200),
            "archive's directory",
        ),
        (
            "a wrong checksum",
            listed(|head| head[16] ^= 1),
            "archive's directory",
        ),
        (
            "a bomb with a small declared size",
            {
                archive(&[(MANIFEST, &manifest), ("h.py", &bomb)], |name, head| {
                    if name == "h.py" {
                        head[24..28].copy_from_slice(&9_u32.to_le_bytes());
                    }
                })
            },
            "archive's directory",
        ),
        (
            "an unknown method",
            listed(|head| head[10] = 99),
            "differs between",
        ),
        ("encrypted", listed(|head| head[8] = 1), "encrypted"),
        (
            "another file's bytes",
            listed(|head| head[42..46].fill(0)),
            "differs between",
        ),
        (
            "bytes behind the end",
            listed(|head| head[42..46].fill(0xff)),
            "ends early",
        ),
        (
            "a packed size beyond the list",
            listed(|head| head[21] = 9),
            "outside",
        ),
    ] {
        match read(bytes) {
            Err(fault) => assert!(fault.contains(says), "{name}: {fault}"),
            Ok(source) => unreachable!("{name}: {source:?}"),
        }
    }
    assert!(handler(Cursor::new(good()), 100).is_err());
}

#[test]
fn truncated_and_corrupted_archives_are_handled() {
    let good = good();
    for length in 0..good.len() {
        assert!(read(good[..length].to_vec()).is_err(), "{length}");
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(source) = read(bytes) {
            assert_eq!(source.text.as_bytes(), HANDLER, "bit {bit}");
        }
    }
}
