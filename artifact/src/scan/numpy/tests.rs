//! Headers that numpy writes, and those that it does not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::Cursor;

use super::super::finding::{Report, Verdict};
use super::super::limits::Limits;
use super::{MAGIC, PlainArray, plain_array, scan};

/// A file of version 1.0.
fn file(header: &str, elements: &[u8]) -> Vec<u8> {
    let size = u16::try_from(header.len()).unwrap().to_le_bytes();
    [
        MAGIC.as_slice(),
        &[1, 0],
        size.as_slice(),
        header.as_bytes(),
        elements,
    ]
    .concat()
}

fn report(file: &[u8]) -> Report {
    scan(&mut Cursor::new(file), &Limits::default()).unwrap()
}

/// The verdict for a file with a dtype and a shape.
fn verdict(descr: &str, shape: &str, elements: &[u8]) -> Verdict {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}   \n");
    report(&file(&header, elements)).verdict
}

#[test]
fn the_elements_fill_the_file() {
    assert_eq!(verdict("'<f8'", "(2,)", &[0; 16]), Verdict::Safe);
    assert_eq!(verdict("'|b1'", "()", &[0]), Verdict::Safe);
    assert_eq!(verdict("'<U3'", "(2, 1)", &[0; 24]), Verdict::Safe);
    assert_eq!(verdict("'<M8[25s]'", "(1,)", &[0; 8]), Verdict::Safe);
    let fields = "[('a', '<i4'), (('title', 'b'), '|S3', (2,)), ('', '|V2')]";
    assert_eq!(verdict(fields, "(2,)", &[0; 24]), Verdict::Safe);
    let inner = "[('a', [('b', '<i2'), ('c', '<f4')])]";
    assert_eq!(verdict(inner, "(0, 3)", &[]), Verdict::Safe);
    assert_eq!(verdict("'<f8'", "(2,)", &[0; 15]), Verdict::Malformed);
    assert_eq!(verdict("'<f8'", "(2,)", &[0; 17]), Verdict::Malformed);
    let large = "(4294967296, 4294967296)";
    assert_eq!(verdict("'<f8'", large, &[]), Verdict::Malformed);
    assert_eq!(
        verdict("'<f8'", "(2305843009213693952,)", &[]),
        Verdict::Malformed
    );
}

/// As Equinox writes them. `numpy.load` of the path reads the first one.
#[test]
fn arrays_in_a_row_are_all_followed() {
    let array = |descr: &str, elements: &[u8]| {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}\n");
        file(&header, elements)
    };
    let first = array("'<f4'", &[0; 8]);
    let behind = |second: &[u8]| report(&[&first[..], second].concat());
    let second = array("'|u1'", &[1; 2]);
    assert_eq!(behind(&second).verdict, Verdict::Safe);
    assert_eq!(
        behind(&second[..second.len() - 1]).verdict,
        Verdict::Malformed
    );
    assert_eq!(behind(b"\x80\x04.").verdict, Verdict::Malformed);
    let objects = array("'|O'", b"\x80\x04cos\nsystem\n.");
    let found = behind(&objects);
    assert_eq!(found.verdict, Verdict::Executable);
    assert!(found.findings[0].offset > u64::try_from(first.len()).unwrap());
    let few = Limits {
        entries: 1,
        ..Limits::default()
    };
    let both = [&first[..], &second].concat();
    let found = scan(&mut Cursor::new(both), &few).unwrap();
    assert_eq!(found.verdict, Verdict::Unknown);
}

#[test]
fn an_array_of_plain_elements_is_read() {
    let header = |descr: &str, order: &str| {
        format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': (2, 1), }}")
    };
    let read = |header: &str, elements: &[u8]| {
        let file = file(header, elements);
        plain_array(&file, &Limits::default())
            .map(|array| (array.descr, array.is_fortran_order, array.data.to_vec()))
    };
    let expected = ("<i2".to_owned(), true, vec![1, 0, 2, 0]);
    assert_eq!(read(&header("'<i2'", "True"), &[1, 0, 2, 0]), Ok(expected));
    let content = file(&header("'|u1'", "False"), &[3, 4]);
    let array = PlainArray {
        descr: "|u1".to_owned(),
        is_fortran_order: false,
        shape: vec![2, 1],
        data: &[3, 4],
    };
    assert_eq!(plain_array(&content, &Limits::default()), Ok(array));
    for (descr, elements, text) in [
        ("'|u1'", &[3][..], "fewer elements"),
        ("'|u1'", &[3, 4, 5], "more or fewer"),
        ("'|O'", &[], "objects"),
        ("[('a', '<i2')]", &[0; 4], "records"),
    ] {
        let fault = read(&header(descr, "False"), elements).unwrap_err();
        assert!(fault.contains(text), "{descr}: {fault}");
    }
}

#[test]
fn only_headers_of_numpy_are_read() {
    let shapes = [
        "(2)", "[2]", "2", "(-2,)", "(02,)", "(2.0,)", "('2',)", "(2,,)",
    ];
    for shape in shapes {
        assert_eq!(
            verdict("'|u1'", shape, &[0; 2]),
            Verdict::Malformed,
            "{shape}"
        );
    }
    let dtypes = [
        "'u1'",
        "'|u3'",
        "'|u'",
        "u1",
        "'|u1",
        "[]",
        "('|u1',)",
        "'|u' '1'",
        "'|\\x751'",
        "[('a', '|u1', 1)]",
        "[(1, '|u1')]",
        "[['a', '|u1']]",
        "{}",
        "'|u+1'",
    ];
    for descr in dtypes {
        assert_eq!(
            verdict(descr, "(2,)", &[0; 2]),
            Verdict::Malformed,
            "{descr}"
        );
    }
    let start = "'descr': '|u1', 'fortran_order': False, ";
    let headers = [
        format!("{{{start}}}"),
        format!("{{{start}'shape': (2,), 'shape': (2,)}}"),
        format!("{{{start}'shape': (2,), 'more': 1}}"),
        format!("{{{start}'shape': (2,)}} 1"),
        format!("{{{start}'shape': (2,)"),
        format!("{start}'shape': (2,)"),
        format!("{{{start}'shape': {}", "(".repeat(10_000)),
        String::new(),
    ];
    for header in headers {
        let found = report(&file(&header, &[0; 2])).verdict;
        assert_eq!(found, Verdict::Malformed, "{header}");
    }
    let complete = format!("{{{start}'shape': (2,)}}");
    assert_eq!(report(&file(&complete, &[0; 2])).verdict, Verdict::Safe);
}

#[test]
fn objects_are_pickles() {
    let pickle = b"\x80\x04cos\nsystem\n.";
    assert_eq!(verdict("'|O'", "(1,)", pickle), Verdict::Executable);
    assert_eq!(
        verdict("[('a', '<i4'), ('b', '|O')]", "(1,)", pickle),
        Verdict::Executable
    );
    assert_eq!(verdict("'|O'", "(1,)", b"\x80\x04]."), Verdict::Unknown);
    assert_eq!(verdict("'|O'", "(1,)", b"\x80\x04].x"), Verdict::Malformed);
}

#[test]
fn the_size_of_a_header_depends_on_the_version() {
    let header = b"{'descr': '|u1', 'fortran_order': True, 'shape': (1,)}\n";
    let size = u32::try_from(header.len()).unwrap().to_le_bytes();
    let with = |version: [u8; 2], size: &[u8]| {
        let file = [MAGIC.as_slice(), version.as_slice(), size, header, &[7]].concat();
        report(&file).verdict
    };
    assert_eq!(with([2, 0], &size), Verdict::Safe);
    assert_eq!(with([3, 0], &size), Verdict::Safe);
    assert_eq!(with([4, 0], &size), Verdict::Unknown);
    assert_eq!(with([2, 1], &size), Verdict::Unknown);
    assert_eq!(with([2, 0], &[0xff; 4]), Verdict::Malformed);
    assert_eq!(report(b"\x93NUMPY\x01\x00").verdict, Verdict::Malformed);
    assert_eq!(
        report(b"\x93NUMPX\x01\x00\x00\x00").verdict,
        Verdict::Malformed
    );
}
