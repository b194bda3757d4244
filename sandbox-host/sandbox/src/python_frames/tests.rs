//! Frames in memories that a test has written, and the lines of instructions.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::*;

/// The table of this function, as CPython 3.11 makes it, whose format is the same:
/// `def f(values):`, `total = 0`, `for value in values:`, `total += value`, three empty lines,
/// `while total >= 0:`, `total += (`, `1)`, `return total`.
const LINES: [u8; 76] = [
    128, 0, 216, 12, 13, 128, 69, 216, 17, 23, 240, 0, 1, 5, 23, 240, 0, 1, 5, 23, 136, 5, 216, 8,
    13, 144, 21, 137, 14, 136, 5, 136, 5, 240, 8, 0, 11, 16, 144, 49, 138, 42, 136, 42, 216, 8, 13,
    216, 12, 13, 241, 3, 1, 9, 15, 136, 5, 240, 3, 0, 11, 16, 144, 49, 138, 42, 136, 42, 240, 6, 0,
    12, 17, 128, 76, 248,
];

#[test]
fn each_instruction_has_its_line() {
    for (offset, expected) in [
        (0, Some(1)),
        (2, Some(2)),
        (6, Some(3)),
        (25, Some(4)),
        (26, Some(8)),
        (38, Some(9)),
        (40, Some(10)),
        (46, Some(9)),
        (48, Some(8)),
        (62, Some(11)),
        // Code of the compiler's own, and no code.
        (64, None),
        (1_000, None),
    ] {
        assert_eq!(line_at(&LINES, 1, offset), expected, "{offset}");
    }
}

/// Addresses of objects in the memory of a test.
const TABLE: usize = 64;
const INTERPRETER: usize = 0x1000;
const THREAD: usize = 0x1100;
const OUTER: usize = 0x1200;
const INNER: usize = 0x1300;

fn put(memory: &mut [u8], address: usize, number: usize) {
    let number = u32::try_from(number).unwrap().to_le_bytes();
    memory[address..address + 4].copy_from_slice(&number);
}

fn put_text(memory: &mut [u8], address: usize, text: &str) {
    put(memory, address, text.len());
    put(memory, address + 4, ASCII);
    memory[address + 8..address + 8 + text.len()].copy_from_slice(text.as_bytes());
}

/// A frame of a function `name` of a file, and its code after it.
fn put_frame(memory: &mut [u8], frame: usize, previous: usize, file: &str, name: &str) {
    let code = frame + 0x20;
    put(memory, frame, previous);
    put(memory, frame + 4, code | 1);
    put(memory, frame + 8, code + 0x10 + 24);
    put(memory, code, frame + 0x40);
    put(memory, code + 4, frame + 0x80);
    put(memory, code + 8, 0x2000);
    put(memory, code + 12, 1);
    put_text(memory, frame + 0x40, file);
    put_text(memory, frame + 0x80, name);
}

/// A memory with an interpreter that runs two frames.
fn memory() -> Vec<u8> {
    let mut memory = vec![0; 0x4000];
    memory[TABLE..TABLE + 8].copy_from_slice(&COOKIE);
    for (index, value) in [
        (VERSION, RELEASE * 0x1_0000 + 0xf0),
        (FIRST_INTERPRETER, 0x400),
        (FIRST_THREAD, 4),
        (CURRENT_FRAME, 8),
        (EXECUTABLE, 4),
        (INSTRUCTION, 8),
        (OWNER, 12),
        (FUNCTION_NAME, 4),
        (LINE_TABLE, 8),
        (FIRST_LINE, 12),
        (INSTRUCTIONS, 16),
        (BYTES_LENGTH + 1, 4),
        (TEXT_STATE, 4),
        (TEXT_STATE + 2, 8),
    ] {
        put(&mut memory, TABLE + 8 * index, value);
    }
    put(&mut memory, TABLE + 0x400, INTERPRETER);
    put(&mut memory, INTERPRETER + 4, THREAD);
    put(&mut memory, THREAD + 8, INNER);
    put_frame(&mut memory, OUTER, 0, "/0/handler.py", "preprocess");
    put_frame(&mut memory, INNER, OUTER, "/0/lib/scale.py", "scale\u{7f}");
    put(&mut memory, 0x2000, LINES.len());
    memory[0x2004..0x2004 + LINES.len()].copy_from_slice(&LINES);
    memory
}

fn found(memory: &[u8]) -> Option<String> {
    Interpreter::find(memory, MAX_PYTHON_SEARCH_BYTES)?.frames()
}

#[test]
fn the_authors_frames_are_shown_and_no_others() {
    let both = memory();
    let inner = "scale.py:4 in scale\\u{7f}";
    let expected = format!("handler.py:4 in preprocess, {inner}");
    assert_eq!(found(&both), Some(expected));
    let mut own = memory();
    put_text(&mut own, OUTER + 0x40, "/1/tensorgate_entry.py");
    assert_eq!(found(&own).unwrap(), inner);
    let mut entry_frame = memory();
    entry_frame[OUTER + 12] = INTERPRETER_OWNED;
    assert_eq!(found(&entry_frame).unwrap(), inner);
    let mut later = memory();
    put(&mut later, TABLE + 8, 0x0310_00f0);
    assert_eq!(found(&later), None);
}

#[test]
fn a_guest_that_writes_its_own_frames_costs_little_and_breaks_nothing() {
    let mut circle = memory();
    put(&mut circle, OUTER, INNER);
    let frames = found(&circle).unwrap();
    assert_eq!(frames.split(", ").count(), MAX_PYTHON_FRAMES);
    let mut silent = circle.clone();
    for frame in [OUTER, INNER] {
        silent[frame + 12] = INTERPRETER_OWNED;
    }
    assert_eq!(found(&silent), None);
    // Each number in turn is an address or a length beyond the memory.
    let memory = memory();
    for address in (TABLE + 8..0x2080).step_by(4) {
        let mut wild = memory.clone();
        wild[address..address + 4].fill(0xff);
        let _ = found(&wild);
    }
}
