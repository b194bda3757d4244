//! Tar files with one fault each.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::Cursor;

use super::build::{archive, header, member, with_checksum};
use super::header::{self, BLOCK_BYTES};
use super::scan;
use crate::scan::zip::build::{EMPTY_DICT, OS_SYSTEM};
use crate::scan::{Limits, Report, Verdict, detect};

fn report(bytes: Vec<u8>) -> Report {
    scan(&mut Cursor::new(bytes), &Limits::default(), detect::scan).unwrap()
}

/// Whether a file has the verdict, by that rule.
fn check(bytes: Vec<u8>, verdict: Verdict, rule: &str) {
    let report = report(bytes);
    let rules: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.rule.name)
        .collect();
    assert!(rules.contains(&rule), "{rule}: {report:?}");
    assert_eq!(report.verdict, verdict, "{rule}: {report:?}");
}

#[test]
fn members_of_old_pytorch_files_are_followed_as_far_as_they_are_pickles() {
    let safe = report(archive(&[member("pickle", EMPTY_DICT)]));
    assert_eq!((safe.format, safe.verdict), ("torch tar", Verdict::Safe));
    let members = [member("sys_info", EMPTY_DICT), member("pickle", OS_SYSTEM)];
    assert_eq!(report(archive(&members)).verdict, Verdict::Executable);
    let bytes = archive(&[member("storages", EMPTY_DICT)]);
    check(bytes, Verdict::Unknown, "torch-tar");
}

#[test]
fn a_header_has_its_checksum_and_a_size_within_the_file() {
    let bytes = archive(&[member("pickle", EMPTY_DICT)]);
    let mut changed = bytes.clone();
    changed[0] = b'q';
    check(changed, Verdict::Malformed, "tar-header");
    for size in [
        b"77777777777\0".as_slice(),
        b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
        b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let large = archive(&[header("pickle", size, b'0')]);
        check(large, Verdict::Malformed, "tar-cut");
    }
    for size in [b"-0000000001\0".as_slice(), b"8\0", b"\0", b"\x80\x01"] {
        let wrong = archive(&[header("pickle", size, b'0')]);
        check(wrong, Verdict::Malformed, "tar-header");
    }
    let cut = bytes[..700].to_vec();
    check(cut, Verdict::Malformed, "tar-cut");
    let no_end = bytes[..1_024].to_vec();
    check(no_end, Verdict::Malformed, "tar-header");
    let one_block = bytes[..1_536].to_vec();
    check(one_block, Verdict::Malformed, "tar-cut");
}

#[test]
fn a_large_number_of_gnu_is_a_size() {
    let mut block = header("pickle", b"\x80\0\0\0\0\0\0\0\0\0\0\x05", b'0');
    assert_eq!(header::parse(&block).unwrap().size, 5);
    block.truncate(511);
    assert!(header::parse(&block).is_err());
    assert_eq!(u64::try_from(block.len()).unwrap() + 1, BLOCK_BYTES);
}

#[test]
fn links_devices_and_extensions_are_not_data() {
    let with_kind = |kind| archive(&[header("a", b"00000000000\0", kind)]);
    for (kind, verdict, rule) in [
        (b'1', Verdict::Executable, "tar-link"),
        (b'2', Verdict::Executable, "tar-link"),
        (b'3', Verdict::Malformed, "tar-device"),
        (b'6', Verdict::Malformed, "tar-device"),
        (b'L', Verdict::Unknown, "tar-type"),
        (b'g', Verdict::Unknown, "tar-type"),
    ] {
        check(with_kind(kind), verdict, rule);
    }
    let extended = |record: &[u8]| {
        let size = format!("{:011o}\0", record.len());
        let mut bytes = header("PaxHeader", size.as_bytes(), b'x');
        bytes.extend(record);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        archive(&[bytes, member("pickle", EMPTY_DICT)])
    };
    let harmless = report(extended(b"13 mtime=1.5\n9 uid=10\n"));
    assert_eq!(harmless.verdict, Verdict::Safe, "{harmless:?}");
    for record in [
        b"12 path=a/b\n".as_slice(),
        b"11 mtime=1\n ",
        b"99 mtime=1\n",
        b"x",
    ] {
        check(extended(record), Verdict::Unknown, "tar-extended");
    }
}

#[test]
fn names_are_unique_and_stay_in_the_folder() {
    for name in ["../a", "/a", "a\\b", "a/./b"] {
        let bytes = archive(&[member(name, EMPTY_DICT)]);
        let found = report(bytes);
        assert!(found.verdict >= Verdict::Malformed, "{name}");
        assert!(
            found
                .findings
                .iter()
                .any(|finding| finding.rule == "tar-name"),
            "{name}"
        );
    }
    let twice = archive(&[member("pickle", EMPTY_DICT), member("Pickle", EMPTY_DICT)]);
    check(twice, Verdict::Malformed, "tar-duplicate-name");
    // A prefix is a part of the name.
    let mut block = member("a", EMPTY_DICT);
    block[345..347].copy_from_slice(b"..");
    let block = [with_checksum(block[..512].to_vec()), block[512..].to_vec()].concat();
    check(archive(&[block]), Verdict::Malformed, "tar-name");
    // A name that ends twice.
    let mut block = member("a", EMPTY_DICT);
    block[2] = b'b';
    let block = [with_checksum(block[..512].to_vec()), block[512..].to_vec()].concat();
    check(archive(&[block]), Verdict::Malformed, "tar-header");
}

#[test]
fn nothing_hides_between_members_or_after_them() {
    let mut bytes = archive(&[member("pickle", EMPTY_DICT)]);
    bytes[512 + EMPTY_DICT.len()] = 1;
    check(bytes, Verdict::Malformed, "tar-padding");
    let mut bytes = archive(&[member("pickle", EMPTY_DICT)]);
    bytes.extend(OS_SYSTEM);
    check(bytes, Verdict::Malformed, "tar-trailing-bytes");
    let mut bytes = archive(&[member("pickle", EMPTY_DICT)]);
    bytes.resize(bytes.len() + (2 << 20), 0);
    check(bytes, Verdict::Unknown, "tar-end");
}

#[test]
fn members_and_levels_are_bounded() {
    let bytes = archive(&[member("pickle", EMPTY_DICT), member("tensors", EMPTY_DICT)]);
    for (limits, rule) in [
        (
            Limits {
                entries: 1,
                ..Limits::default()
            },
            "tar-entries",
        ),
        (
            Limits {
                nesting: 0,
                ..Limits::default()
            },
            "tar-nesting",
        ),
    ] {
        let report = scan(&mut Cursor::new(bytes.clone()), &limits, detect::scan).unwrap();
        let last = report.findings.last().map(|finding| finding.rule.name);
        assert_eq!((report.verdict, last), (Verdict::Unknown, Some(rule)));
    }
}
