//! Zip files with one fault each, built byte by byte.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::{Cursor, Read as _, Seek as _, SeekFrom};

use super::build::{EMPTY_DICT, File, OS_SYSTEM, body, end, zip};
use super::member::Member;
use super::scan;
use crate::scan::{Limits, Report, Verdict, Window, detect};

fn report(bytes: &[u8]) -> Report {
    scan(&mut Cursor::new(bytes), &Limits::default(), detect::scan).unwrap()
}

fn rules(report: &Report) -> Vec<&'static str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.name)
        .collect()
}

/// Whether a file has the verdict, by that rule.
#[track_caller]
fn check(bytes: &[u8], verdict: Verdict, rule: &str) {
    let report = report(bytes);
    assert!(rules(&report).contains(&rule), "{rule}: {report:?}");
    assert_eq!(report.verdict, verdict, "{rule}: {report:?}");
}

/// Weights of PyTorch without storages.
fn weights() -> Vec<File> {
    vec![
        File::stored("a/data.pkl", EMPTY_DICT),
        File::deflated("a/version", b"3\n"),
    ]
}

/// The same with a change of the first member.
fn with(change: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut files = weights();
    change(&mut files[0]);
    zip(&files)
}

/// The same with a change of the second member, which is deflated.
fn with_deflated(change: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut files = weights();
    change(&mut files[1]);
    zip(&files)
}

/// An archive with records of zip64, each number as it should be, then changed.
fn zip64(change: impl FnOnce(&mut [u8], &mut [u8])) -> Vec<u8> {
    let files = weights();
    let (mut bytes, start) = body(&files);
    let at = u64::try_from(bytes.len()).unwrap();
    let length = at - u64::from(start);
    let mut record = b"PK\x06\x06".to_vec();
    record.extend(44_u64.to_le_bytes());
    record.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [2, 2, length, u64::from(start)] {
        record.extend(value.to_le_bytes());
    }
    let mut locator = b"PK\x06\x07\0\0\0\0".to_vec();
    locator.extend(at.to_le_bytes());
    locator.extend(1_u32.to_le_bytes());
    change(&mut record, &mut locator);
    let short = end(2, start, bytes.len());
    for part in [record, locator, short] {
        bytes.extend(part);
    }
    bytes
}

#[test]
fn complete_archives_are_followed() {
    let safe = |bytes: &[u8]| {
        let report = report(bytes);
        assert_eq!(
            (report.format, report.verdict),
            ("torch zip", Verdict::Safe),
            "{report:?}"
        );
    };
    safe(&zip(&weights()));
    safe(&zip64(|_, _| {}));
    // As PyTorch writes: padding, and a descriptor with or without signature.
    for signature in [b"PK\x07\x08".as_slice(), b""] {
        let descriptor = with(|file| {
            file.local_extra = b"FB\x03\0ZZZ".to_vec();
            *file = file.clone().with_descriptor(signature);
        });
        safe(&descriptor);
    }
    // As NumPy writes: a zip64 field beside the sizes.
    safe(&with(|file| {
        file.local_extra = b"\x01\0\x10\0".to_vec();
        for size in [file.size, file.compressed_bytes] {
            file.local_extra.extend(u64::from(size).to_le_bytes());
        }
    }));
    let pickle = with(|file| *file = File::deflated("a/data.pkl", OS_SYSTEM));
    assert_eq!(report(&pickle).verdict, Verdict::Executable);
}

#[test]
fn nothing_precedes_or_follows_an_archive() {
    let bytes = zip(&weights());
    check(
        &[&bytes[..], b"\x80\x04."].concat(),
        Verdict::Malformed,
        "zip-trailing-bytes",
    );
    check(&bytes[..bytes.len() - 1], Verdict::Malformed, "zip-end");
    check(&bytes[..20], Verdict::Malformed, "zip-end");
    check(b"", Verdict::Malformed, "zip-end");
    // Bytes before, with and without offsets that count them.
    check(
        &[OS_SYSTEM, &bytes].concat(),
        Verdict::Malformed,
        "zip-directory",
    );
    let (archive, start) = body(&weights());
    let prefix = 7;
    let mut moved = [b"#######".as_slice(), &archive].concat();
    for entry in [start + prefix, start + prefix + 56] {
        let field = usize::try_from(entry).unwrap() + 42;
        let offset = u32::from_le_bytes(moved[field..field + 4].try_into().unwrap());
        moved[field..field + 4].copy_from_slice(&(offset + prefix).to_le_bytes());
    }
    let record = end(2, start + prefix, moved.len());
    moved.extend(record);
    check(&moved, Verdict::Malformed, "zip-prefix");
    // A comment that holds another end record.
    let mut comment = bytes.clone();
    let length = comment.len();
    comment[length - 2] = 22;
    comment.extend(end(0, 0, 0));
    check(&comment, Verdict::Malformed, "zip-directory");
    let mut comment = bytes;
    comment[length - 2] = 2;
    comment.extend(b"hi");
    check(&comment, Verdict::Unknown, "zip-comment");
    // NumPy writes this for no arrays.
    let empty = report(&end(0, 0, 0));
    assert_eq!(empty.verdict, Verdict::Safe, "{empty:?}");
}

#[test]
fn names_are_unique_and_the_same_in_both_headers() {
    for name in ["a/data.pkl", "A/DATA.pkl", "a/data.pkl/"] {
        let mut files = weights();
        files.push(File::stored(name, b""));
        check(&zip(&files), Verdict::Malformed, "zip-duplicate-name");
    }
    let other = with(|file| file.local_name = b"a/data.pk_".to_vec());
    check(&other, Verdict::Malformed, "zip-name-differs");
    for name in [
        "a/../b",
        "/a/b",
        "a/b\0.pkl",
        "a\\b",
        "C:/b",
        "./a/b",
        "a/b.",
        "a/b\n",
    ] {
        let mut files = weights();
        files.push(File::stored(name, EMPTY_DICT));
        let report = report(&zip(&files));
        assert!(rules(&report).contains(&"zip-name"), "{name:?}: {report:?}");
        assert!(report.verdict >= Verdict::Malformed, "{name:?}");
    }
    let name = |bytes: &[u8], flags| {
        let mut files = weights();
        let mut file = File::stored("", b"1");
        file.name = bytes.to_vec();
        file.local_name = bytes.to_vec();
        file.flags = flags;
        files.push(file);
        rules(&report(&zip(&files))).contains(&"zip-name")
    };
    assert!(name(b"a/data/\xff", 1 << 11));
    assert!(name("a/é".as_bytes(), 0));
    assert!(!name("a/é".as_bytes(), 1 << 11));
    // A Unicode name of "b" for the name "a/data.pkl".
    let unicode = with(|file| file.extra = b"up\x06\0\x01\0\0\0\0b".to_vec());
    check(&unicode, Verdict::Malformed, "zip-extra");
    let unknown = with(|file| file.local_extra = b"\xfe\xca\0\0".to_vec());
    check(&unknown, Verdict::Unknown, "zip-extra");
}

#[test]
fn each_byte_belongs_to_one_member() {
    let gap = with(|file| file.after = b"hidden".to_vec());
    check(&gap, Verdict::Malformed, "zip-gap");
    let mut files = weights();
    files[1].offset = Some(0);
    check(&zip(&files), Verdict::Malformed, "zip-overlap");
    let longer = with(|file| {
        file.size += 9;
        file.compressed_bytes += 9;
    });
    check(&longer, Verdict::Malformed, "zip-overlap");
    let outside = with(|file| file.offset = Some(3));
    check(&outside, Verdict::Malformed, "zip-local-header");
    let beyond = with(|file| file.offset = Some(u32::MAX - 1));
    check(&beyond, Verdict::Malformed, "zip-local-header");
    // The first entry is the second member.
    let (bytes, start) = body(&weights());
    let start_at = usize::try_from(start).unwrap();
    let second = start_at + 46 + "a/data.pkl".len();
    let mut bytes = [
        &bytes[..start_at],
        &bytes[second..],
        &bytes[start_at..second],
    ]
    .concat();
    let record = end(2, start, bytes.len());
    bytes.extend(record);
    check(&bytes, Verdict::Malformed, "zip-overlap");
}

#[test]
fn headers_agree_with_each_other_and_with_the_content() {
    let mut bytes = zip(&weights());
    // The local header's flags, method, checksum and sizes.
    for field in [6, 8, 14, 18, 22] {
        bytes[field] ^= 4;
        check(&bytes, Verdict::Malformed, "zip-header-differs");
        bytes[field] ^= 4;
    }
    check(&with(|file| file.crc ^= 1), Verdict::Malformed, "zip-crc");
    check(
        &with_deflated(|file| file.crc ^= 1),
        Verdict::Malformed,
        "zip-crc",
    );
    check(&with(|file| file.size -= 1), Verdict::Malformed, "zip-size");
    for change in [-1, 1] {
        let size = with_deflated(|file| file.size = file.size.checked_add_signed(change).unwrap());
        check(&size, Verdict::Malformed, "zip-content");
    }
    let trailing = with_deflated(|file| {
        file.bytes.push(0);
        file.compressed_bytes += 1;
    });
    check(&trailing, Verdict::Malformed, "zip-content");
    let cut = with_deflated(|file| {
        file.bytes.pop();
        file.compressed_bytes -= 1;
    });
    check(&cut, Verdict::Malformed, "zip-content");
    let descriptor = with(|file| {
        *file = file.clone().with_descriptor(b"PK\x07\x08");
        file.after[5] ^= 1;
    });
    check(&descriptor, Verdict::Malformed, "zip-descriptor");
    let none = with(|file| {
        *file = file.clone().with_descriptor(b"");
        file.after.clear();
    });
    check(&none, Verdict::Malformed, "zip-descriptor");
    let folder = File::stored("b/", b"x");
    check(
        &zip(&[weights(), vec![folder]].concat()),
        Verdict::Malformed,
        "zip-folder",
    );
}

#[test]
fn the_table_of_contents_is_consistent() {
    let bytes = zip(&weights());
    let at = bytes.len() - 22;
    let fields = [
        (4, "zip-disks"),
        (8, "zip-disks"),
        (12, "zip-directory"),
        (16, "zip-directory"),
    ];
    for (field, rule) in fields {
        let mut changed = bytes.clone();
        changed[at + field] ^= 1;
        check(&changed, Verdict::Malformed, rule);
    }
    let mut count = bytes.clone();
    count[at + 8] = 3;
    count[at + 10] = 3;
    check(&count, Verdict::Malformed, "zip-count");
    let mut none = bytes;
    none[at + 16..at + 20].fill(0xff);
    check(&none, Verdict::Malformed, "zip-zip64");
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let report = scan(&mut Cursor::new(zip(&weights())), &limits, detect::scan).unwrap();
    assert_eq!(rules(&report), ["zip-directory-size"]);
}

#[test]
fn records_of_zip64_do_not_lie() {
    // Length of the record, entries here, entries, length and start of the directory.
    for field in [4, 24, 32, 40, 48] {
        let bytes = zip64(|record, _| record[field] ^= 1);
        check(&bytes, Verdict::Malformed, "zip-zip64");
        let bytes = zip64(|record, _| record[field + 7] = 0x80);
        check(&bytes, Verdict::Malformed, "zip-zip64");
    }
    // Disk, offset and disks of the locator.
    for field in [4, 8, 15, 16] {
        let bytes = zip64(|_, locator| locator[field] ^= 1);
        check(&bytes, Verdict::Malformed, "zip-zip64");
    }
    // A length of 2^63 in an entry: the compressed size, and the offset.
    let large = |extra: &[u8], size, offset| {
        with(|file| {
            file.extra = [b"\x01\0\x08\0".as_slice(), extra].concat();
            file.compressed_bytes = size;
            file.offset = offset;
        })
    };
    let extra = (1_u64 << 63).to_le_bytes();
    let length = large(&extra, u32::MAX, None);
    check(&length, Verdict::Malformed, "zip-overlap");
    let offset = large(&extra, 6, Some(u32::MAX));
    check(&offset, Verdict::Malformed, "zip-local-header");
    // A field that no number refers to, and a number without a field.
    check(&large(&extra, 6, None), Verdict::Malformed, "zip-directory");
    let none = with(|file| file.offset = Some(u32::MAX));
    check(&none, Verdict::Malformed, "zip-directory");
}

#[test]
fn what_cannot_be_followed_is_named() {
    for (flags, rule) in [
        (1, "zip-encrypted"),
        (1 << 6, "zip-encrypted"),
        (1 << 5, "zip-flags"),
    ] {
        check(&with(|file| file.flags = flags), Verdict::Unknown, rule);
    }
    // As Info-ZIP writes it: twelve bytes of its cipher before a stored member.
    let encrypt = |file: &mut File| {
        file.flags = 1;
        drop(file.bytes.splice(0..0, [7; 12]));
        file.compressed_bytes += 12;
    };
    check(&with(encrypt), Verdict::Unknown, "zip-encrypted");
    let [mut secret, open] = [EMPTY_DICT, OS_SYSTEM].map(|it| File::stored("a.pkl", it));
    encrypt(&mut secret);
    secret.name = b"../b".to_vec();
    secret.local_name = b"../b".to_vec();
    let alone = zip(std::slice::from_ref(&secret));
    check(&alone, Verdict::Malformed, "zip-name");
    let beside = zip(&[secret, open]);
    check(&beside, Verdict::Executable, "zip-encrypted");
    check(
        &with(|file| file.method = 12),
        Verdict::Unknown,
        "zip-method",
    );
    let link = with(|file| file.attributes = 0o120_777 << 16);
    check(&link, Verdict::Executable, "zip-link");
    let pipe = with(|file| file.attributes = 0o010_777 << 16);
    check(&pipe, Verdict::Malformed, "zip-file-type");
    // A file of Keras that PyTorch loads, too.
    let both = [weights(), vec![File::stored("config.json", b"{}")]].concat();
    check(&zip(&both), Verdict::Malformed, "zip-ambiguous");
}

#[test]
fn expansion_is_bounded() {
    let bomb = File::deflated("a/data/0", &vec![0; 4 << 20]);
    let bytes = zip(&[weights(), vec![bomb.clone()]].concat());
    // It is followed: all that is left to say is that no tensor uses it.
    assert_eq!(rules(&report(&bytes)), ["torch-storage"]);
    let mut lie = bomb;
    lie.size = u32::MAX - 1;
    let declared = zip(&[weights(), vec![lie]].concat());
    check(&declared, Verdict::Unknown, "zip-expansion");
    let scan_within =
        |limits: Limits| rules(&scan(&mut Cursor::new(&bytes), &limits, detect::scan).unwrap());
    let ratio = Limits {
        expansion: 100,
        ..Limits::default()
    };
    assert!(scan_within(ratio).contains(&"zip-expansion"));
    let total = Limits {
        expanded_bytes: 4 << 20,
        ..Limits::default()
    };
    assert!(scan_within(total).contains(&"zip-expanded-bytes"));
}

#[test]
fn levels_of_archives_are_bounded() {
    let mut bytes = zip(&weights());
    for level in 1..=5 {
        let report = report(&bytes);
        let too_deep = level > 4;
        assert_eq!(
            rules(&report).contains(&"zip-nesting"),
            too_deep,
            "{level}: {report:?}"
        );
        assert_eq!(
            report.verdict == Verdict::Safe,
            !too_deep,
            "{level}: {report:?}"
        );
        bytes = zip(&[File::deflated("inner.zip", &bytes)]);
    }
}

#[test]
fn a_member_can_be_read_at_any_position() {
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = File::deflated("a", &content);
    let size = u64::from(file.size);
    let compressed = u64::from(file.compressed_bytes);
    let mut stored = Cursor::new(content.clone());
    let mut deflated = Cursor::new(file.bytes);
    let members = [
        Member::stored(Window::new(&mut stored, 0, size), size),
        Member::deflated(Window::new(&mut deflated, 0, compressed), compressed, size),
    ];
    for mut member in members {
        for at in [500_000, 100, 799_990, 0] {
            let mut read = [0; 8];
            member.seek(SeekFrom::Start(at)).unwrap();
            member.read_exact(&mut read).unwrap();
            let at = usize::try_from(at).unwrap();
            assert_eq!(read, content[at..at + 8]);
        }
        assert_eq!(member.seek(SeekFrom::End(0)).unwrap(), size);
        assert_eq!(member.finish().unwrap(), Ok(file.crc));
    }
}

#[test]
fn a_scanner_that_jumps_about_ends() {
    let content = vec![7; 1 << 20];
    let file = File::deflated("a", &content);
    let size = u64::from(file.size);
    let compressed = u64::from(file.compressed_bytes);
    let mut bytes = Cursor::new(file.bytes);
    let mut member = Member::deflated(Window::new(&mut bytes, 0, compressed), compressed, size);
    let mut reads = 0;
    for _ in 0..100 {
        for at in [size - 1, 0] {
            member.seek(SeekFrom::Start(at)).unwrap();
            reads += member.read(&mut [0]).unwrap();
        }
    }
    // 16 passes, and 16 MiB beyond them.
    assert!((60..=70).contains(&reads), "{reads}");
    assert!(member.finish().unwrap().is_err());
}
