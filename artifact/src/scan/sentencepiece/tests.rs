//! Tests of the scan of SentencePiece's models.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::Cursor;

use crate::scan::charsmap::table as charsmap;
use crate::scan::protobuf::write::{bytes, number};
use crate::scan::{Limits, Report, Verdict, detect};

/// A piece with a score and a type.
fn piece(text: &str, kind: u64) -> Vec<u8> {
    let score = [&[0x15][..], &0.5_f32.to_le_bytes()].concat();
    bytes(1, [bytes(1, text), score, number(3, kind)].concat())
}

fn scanned(name: &str, file: &[u8]) -> Report {
    detect::scan(&mut Cursor::new(file), name, &Limits::default()).unwrap()
}

/// The verdict for a model of one piece and further fields.
fn verdict(rest: &[u8]) -> Verdict {
    let report = scanned("tokenizer.model", &[&piece("<unk>", 2), rest].concat());
    assert_eq!(report.format, "sentencepiece");
    report.verdict
}

#[test]
fn pieces_and_notes_are_data() {
    let trainer = [
        bytes(1, "corpora/corpus.txt"),
        bytes(2, "m"),
        number(3, 2),
        number(4, 32_000),
        number(43, u64::MAX),
        bytes(44, " \u{2047} "),
        // Numbers of other releases, also where another kind of field was.
        number(60, 1),
        number(15, 32),
        number(36, 1),
    ];
    let normalizer = [bytes(1, "nmt_nfkc"), bytes(2, charsmap(2)), number(3, 1)];
    let self_test = bytes(1, [bytes(1, "a"), bytes(2, "b")].concat());
    let rest = [
        piece("\u{2581}the", 1),
        bytes(2, trainer.concat()),
        bytes(3, normalizer.concat()),
        bytes(4, self_test),
        bytes(5, bytes(2, "")),
    ];
    assert_eq!(verdict(&rest.concat()), Verdict::Safe);
}

#[test]
fn what_a_reader_does_not_have_is_not_safe() {
    for (rest, expected) in [
        (bytes(6, "new"), Verdict::Unknown),
        (bytes(200, "extension"), Verdict::Unknown),
        (bytes(2, bytes(200, "extension")), Verdict::Unknown),
        (piece("a", 7), Verdict::Unknown),
        (bytes(2, number(3, 5)), Verdict::Unknown),
        (bytes(2, bytes(10, b"\0\0\0\0")), Verdict::Unknown),
        (bytes(1, bytes(1, b"\xff")), Verdict::Malformed),
        (b"\x0a\x05ab".to_vec(), Verdict::Malformed),
        (b"behind".to_vec(), Verdict::Unknown),
    ] {
        let found = verdict(&rest);
        assert!(found >= expected, "{rest:?}: {found:?}");
    }
}

#[test]
fn a_table_that_leads_beyond_its_end_is_malformed() {
    let table = charsmap(2);
    let with = |at: usize, bytes: [u8; 4]| {
        let mut table = table.clone();
        table[at..at + 4].copy_from_slice(&bytes);
        table
    };
    let array_bytes = u32::try_from(table.len()).unwrap();
    for broken in [
        b"abc".to_vec(),
        with(0, array_bytes.to_le_bytes()),
        with(0, 2_047_u32.to_le_bytes()),
        with(0, 0_u32.to_le_bytes()),
        // The root leads behind the array, also by the bit for long distances.
        with(4, (512_u32 << 10).to_le_bytes()),
        with(4, ((2_u32 << 10) | (1 << 9)).to_le_bytes()),
        // A step of a text does.
        with(4 + 4 * (256 + 97), ((0xffff_u32 << 10) | 97).to_le_bytes()),
        charsmap(4),
        charsmap(0x7fff_ffff),
        table[..table.len() - 1].to_vec(),
    ] {
        let verdict = verdict(&bytes(3, bytes(2, &broken)));
        assert_eq!(verdict, Verdict::Malformed, "{} bytes", broken.len());
    }
    assert_eq!(verdict(&bytes(3, bytes(2, &table))), Verdict::Safe);
    let long = vec![0_u8; 5 << 20];
    assert_eq!(verdict(&bytes(3, bytes(2, long))), Verdict::Unknown);
}

#[test]
fn a_name_makes_it_only_worse() {
    let file = piece("<unk>", 2);
    for (name, expected) in [
        ("spiece.model", Verdict::Safe),
        ("source.spm", Verdict::Safe),
        ("model.onnx", Verdict::Malformed),
        ("model.pt", Verdict::Malformed),
        ("model.py", Verdict::Executable),
        ("model.php", Verdict::Executable),
    ] {
        assert_eq!(scanned(name, &file).verdict, expected, "{name}");
    }
    // The first node of a frozen graph begins alike.
    let node = bytes(1, [bytes(1, "name"), bytes(2, "ReadFile")].concat());
    assert_eq!(scanned("graph.pb", &node).verdict, Verdict::Executable);
    assert_eq!(scanned("tokenizer.model", &node).verdict, Verdict::Unknown);
}

#[test]
fn a_large_vocabulary_is_read_to_its_end() {
    let pieces: Vec<u8> = (0..262_144)
        .flat_map(|id| piece(&format!("p{id}"), 1))
        .collect();
    assert_eq!(verdict(&pieces), Verdict::Safe);
}
