//! `audit verify` and `audit query` on copies that another program has converted.

use super::{log, run_on};
use crate::program::{Scratch, run_with};

#[test]
fn a_converted_copy_is_named_as_what_it_is_and_is_not_intact() {
    let scratch = Scratch::new();
    let original = std::fs::read_to_string(log(scratch.path())).unwrap();
    let utf16 = |mark: &[u8]| {
        let units = original.encode_utf16().flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(units).collect::<Vec<u8>>()
    };
    let blanks = original.replace("\":", "\": ").replace(",\"", ", \"");
    let gzip = [b"\x1f\x8b\x08\0".as_slice(), &[0x5a; 99]].concat();
    for (name, bytes, form, is_readable) in [
        (
            "crlf",
            original.replace('\n', "\r\n").into_bytes(),
            "CRLF line ends",
            true,
        ),
        (
            "bom",
            format!("\u{feff}{original}").into_bytes(),
            "a byte order mark",
            true,
        ),
        (
            "blanks",
            blanks.into_bytes(),
            "written anew by a program for JSON",
            true,
        ),
        (
            "list",
            format!("[{}]", original.trim_end().replace('\n', ",")).into_bytes(),
            "written anew by a program for JSON",
            false,
        ),
        ("utf16", utf16(b"\xff\xfe"), "encoded in UTF-16", false),
        ("unmarked", utf16(b""), "encoded in UTF-16", false),
        ("gzip", gzip, "compressed with gzip", false),
    ] {
        let copy = scratch.file(name, &bytes);
        let verified = run_on(&["audit", "verify", "LOG"], &copy);
        assert_eq!(verified.code, 1, "{name}: {}", verified.stderr);
        for piece in [
            form,
            "converted: this copy is",
            "not verified",
            "verify the original",
        ] {
            assert!(
                verified.stdout.contains(piece),
                "{name}: {piece}: {}",
                verified.stdout
            );
        }
        for untrue in ["not intact", "edited", "removed"] {
            assert!(
                !verified.stdout.contains(untrue),
                "{name}: {}",
                verified.stdout
            );
        }
        // Nothing is listed from what cannot be read, and that is said.
        let listed = run_on(&["audit", "query", "LOG"], &copy);
        let (code, lines) = (listed.code, listed.stdout.lines().count());
        assert_eq!(
            (code, lines > 0),
            (if is_readable { 0 } else { 2 }, is_readable),
            "{name}"
        );
        assert_eq!(
            listed.stderr.contains(form),
            !is_readable,
            "{name}: {}",
            listed.stderr
        );
    }
    // Blanks between members, as Python's `json.dumps` writes them.
    let spaced = original.replace("\":", "\": ");
    let copy = scratch.file("spaced", spaced.as_bytes());
    let verified = run_on(&["audit", "verify", "LOG"], &copy);
    assert_eq!(verified.code, 1, "{}", verified.stderr);
    for (piece, is_shown) in [
        (
            "converted: this copy is written anew by a program for JSON",
            true,
        ),
        ("verify the original", true),
        ("no hashes", false),
        ("not intact", false),
    ] {
        let shown = verified.stdout.contains(piece);
        assert_eq!(shown, is_shown, "{piece}: {}", verified.stdout);
    }
    let piped = run_with(&["audit", "verify", "-"], "\0{\0\"");
    assert!(
        piped.code == 2 && piped.stderr.contains("UTF-16"),
        "{}",
        piped.stderr
    );
}
