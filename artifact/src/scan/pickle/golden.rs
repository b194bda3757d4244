//! The walker against operations that `pickletools.genops` found in the same pickles.
//!
//! `tests/artifact/pickle_ops.py` writes the file: random pickles, with those that are cut.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::reader::Reader;
use super::opcodes::Opcode;
use super::operation::read;

/// A pickle in base64, its operations, and whether it ends with STOP.
type Row = (String, String, bool);

#[test]
fn operations_are_those_of_pickletools() {
    let rows = include_str!("../../../../tests/artifact/pickle_ops.json");
    let rows: Vec<Row> = serde_json::from_str(rows).unwrap();
    assert!(rows.len() > 300);
    for (pickle, expected, expected_complete) in rows {
        let mut input = Cursor::new(STANDARD.decode(&pickle).unwrap());
        let mut reader = Reader::new(&mut input).unwrap();
        let mut found = String::new();
        let mut complete = false;
        while let Ok(operation) = read(&mut reader) {
            let name = operation.opcode.name();
            write!(found, " {} {name}", operation.offset).unwrap();
            if operation.opcode == Opcode::Stop {
                complete = true;
                break;
            }
        }
        assert_eq!(found.trim_start(), expected, "{pickle}");
        assert_eq!(complete, expected_complete, "{pickle}");
    }
}
