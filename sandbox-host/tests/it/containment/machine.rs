//! Guests that use only a core module's means: they run on, allocate without end, recurse, trap,
//! and call their host for ever.

use super::table::{Expected, Row, hurried, of, row, starved};
use super::*;

/// A body that answers with no tensors.
const QUIET: &str = "(call $ok (i32.const 0) (i32.const 0))";
/// A body that allocates until it is refused memory, and then aborts as Rust does.
const HOARD: &str =
    "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";

/// A body that repeats something for ever.
fn endless(what: &str) -> String {
    format!("(loop $l {what} (br $l)) (unreachable)")
}

/// Every guest of this file.
pub fn machine_rows() -> Vec<Row> {
    let mut rows = running();
    rows.extend(hoarding());
    rows.extend(trapping());
    rows.extend(calling());
    rows
}

/// Guests that run on.
fn running() -> Vec<Row> {
    let with = |guest, body: &str, fields: &str, cause| {
        of(guest, preprocess_with(body, fields), Expected::Fault(cause))
    };
    let starts = |what: &str| format!("(func $first {what}) (start $first)");
    let tail = "(func $tail (param $n i32) (result i32) (return_call $tail (i32.add (local.get $n) (i32.const 1))))";
    let indirect = "(type $t (func (param i32) (result i32)))
        (func $again (type $t) (return_call_indirect $table (type $t) (local.get 0) (i32.const 0)))
        (elem (table $table) (i32.const 0) func $again)";
    let simd = "(global.set $lanes (i32x4.add (i32x4.mul (global.get $lanes) (v128.const i32x4 3 5 7 11)) (v128.const i32x4 1 1 1 1)))";
    let simd_field = "(global $lanes (mut v128) (v128.const i32x4 1 2 3 4))";
    // No loop and no call: only the work of one instruction, during which it must be stopped.
    let fills = format!(
        "(drop (memory.grow (i32.const 600))) {} {QUIET}",
        "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 33554432))".repeat(2_000)
    );
    let switch = format!(
        "(loop $l (block $a (block $b (br_table $a $b $l (local.get $i)))) (local.set $i (i32.and (i32.add (local.get $i) (i32.const 1)) (i32.const 3))) (br $l)) {QUIET}"
    );
    vec![
        hurried(row("a loop, little time", SPIN, FaultCause::Deadline)),
        starved(row("a loop, little fuel", SPIN, FaultCause::Fuel)),
        hurried(with(
            "a start function that loops",
            QUIET,
            &starts("(loop $l (br $l))"),
            FaultCause::Deadline,
        )),
        starved(with(
            "a start function that loops, little fuel",
            QUIET,
            &starts("(loop $l (br $l))"),
            FaultCause::Fuel,
        )),
        starved(with(
            "tail calls for ever",
            "(call $tail (i32.const 0))",
            tail,
            FaultCause::Fuel,
        )),
        hurried(with(
            "tail calls through a table",
            "(call $again (i32.const 0))",
            indirect,
            FaultCause::Deadline,
        )),
        starved(with(
            "vectors for ever",
            &endless(simd),
            simd_field,
            FaultCause::Fuel,
        )),
        starved(row("jumps by a table", &switch, FaultCause::Fuel)),
        hurried(row(
            "memory filled, little time",
            &fills,
            FaultCause::Deadline,
        )),
        of(
            "memory filled, little fuel",
            preprocess(&fills),
            Expected::Fault(FaultCause::Fuel),
        )
        .with_fuel(1_000_000_000),
        hurried(row(
            "memory copied onto itself",
            &format!(
                "(drop (memory.grow (i32.const 600))) {}",
                endless("(memory.copy (i32.const 65536) (i32.const 131072) (i32.const 33554432))")
            ),
            FaultCause::Deadline,
        )),
        hurried(row(
            "a table filled for ever",
            &format!(
                "(drop (table.grow $table (ref.null func) (i32.const 19999))) {}",
                endless("(table.fill $table (i32.const 0) (ref.null func) (i32.const 20000))")
            ),
            FaultCause::Deadline,
        )),
        hurried(row(
            "memory that grows by nothing",
            &endless("(drop (memory.grow (i32.const 0)))"),
            FaultCause::Deadline,
        )),
    ]
}

/// Guests that allocate without end.
fn hoarding() -> Vec<Row> {
    let with = |guest, body: &str, fields: &str, expected| {
        of(guest, preprocess_with(body, fields), expected)
    };
    let frames = format!(
        "(func $wide (param $n i32) (result i32) {} (i32.add (i32.const 1) (call $wide (i32.add (local.get $n) (i32.const 1)))))",
        "(local v128)".repeat(1_000)
    );
    let mutual = "(type $t (func (param i32) (result i32)))
        (func $one (type $t) (i32.add (i32.const 1) (call_indirect $table (type $t) (local.get 0) (i32.const 0))))
        (elem (table $table) (i32.const 0) func $one)";
    let memory = Expected::Fault(FaultCause::Memory);
    vec![
        row("memory", HOARD, FaultCause::Memory),
        row(
            "memory, all of it at once",
            "(drop (memory.grow (i32.const 65535))) (unreachable)",
            FaultCause::Memory,
        ),
        with(
            "memory in a start function",
            QUIET,
            &format!("(func $first {HOARD}) (start $first)"),
            memory,
        ),
        row(
            "a table",
            "(drop (table.grow $table (ref.null func) (i32.const 1000000))) (unreachable)",
            FaultCause::Memory,
        ),
        row(
            "a table, bit by bit",
            "(loop $l (br_if $l (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1)))) (unreachable)",
            FaultCause::Memory,
        ),
        row(
            "deep recursion",
            "(call $recurse (i32.const 0))",
            FaultCause::Stack,
        ),
        with(
            "recursion with wide frames",
            "(call $wide (i32.const 0))",
            &frames,
            Expected::Fault(FaultCause::Stack),
        ),
        with(
            "recursion through a table",
            "(call $one (i32.const 0))",
            mutual,
            Expected::Fault(FaultCause::Stack),
        ),
        with(
            "recursion in a start function",
            QUIET,
            "(func $first (call $first)) (start $first)",
            Expected::Fault(FaultCause::Stack),
        ),
    ]
}

/// Guests that trap.
fn trapping() -> Vec<Row> {
    let trap = |guest, body: &str| row(guest, body, FaultCause::Trap);
    let with = |guest, body: &str, fields: &str| {
        of(
            guest,
            preprocess_with(body, fields),
            Expected::Fault(FaultCause::Trap),
        )
    };
    vec![
        trap("unreachable", "(unreachable)"),
        trap(
            "a division by zero",
            "(i32.div_u (i32.const 1) (local.get $i))",
        ),
        trap(
            "a division that overflows",
            "(i32.div_s (i32.const 0x80000000) (i32.sub (local.get $i) (i32.const 1)))",
        ),
        trap(
            "a NaN made an integer",
            "(i32.trunc_f32_s (f32.const nan:0x200001))",
        ),
        trap("a read past memory", "(i32.load (i32.const -4))"),
        trap(
            "a write past memory",
            "(i64.store offset=0xffffffff (i32.const -1) (i64.const 1)) (unreachable)",
        ),
        trap(
            "a fill past memory",
            "(memory.fill (i32.const 0) (i32.const 1) (i32.const -1)) (unreachable)",
        ),
        trap(
            "a table read past its end",
            "(drop (table.get $table (i32.const -1))) (unreachable)",
        ),
        with(
            "a call of nothing",
            "(call_indirect $table (type $none) (i32.const 0)) (unreachable)",
            "(type $none (func))",
        ),
        with(
            "a call by another type",
            "(call_indirect $table (type $none) (i32.const 0)) (unreachable)",
            "(type $none (func)) (func $other (param i64)) (elem (table $table) (i32.const 0) func $other)",
        ),
        with(
            "a start function that traps",
            QUIET,
            "(func $first (unreachable)) (start $first)",
        ),
        with(
            "data past memory at its start",
            QUIET,
            "(data (i32.const 131071) \"past the end\")",
        ),
        with(
            "elements past the table at its start",
            QUIET,
            "(func $f) (elem (table $table) (i32.const 1) func $f)",
        ),
        with(
            "data that was dropped",
            "(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (unreachable)",
            "(data $d \"x\")",
        ),
    ]
}

/// Guests that call their host.
fn calling() -> Vec<Row> {
    let log = |level: &str, at: &str, bytes: &str| {
        format!("(call $log (i32.const {level}) (i32.const {at}) (i32.const {bytes}))")
    };
    let get = |at: &str, bytes: &str, into: &str| {
        format!("(call $get (i32.const {at}) (i32.const {bytes}) (i32.const {into}))")
    };
    let once = |what: &str| format!("{what} {QUIET}");
    let realloc = |guest, realloc: &str, cause| {
        of(
            guest,
            preprocess_with_realloc(QUIET, realloc),
            Expected::Fault(cause),
        )
    };
    vec![
        row(
            "a log flood",
            &endless(&log("1", "0", "1")),
            FaultCause::HostCalls,
        ),
        row(
            "a flood of questions",
            &endless(&get("0", "1", "1024")),
            FaultCause::HostCalls,
        ),
        hurried(row(
            "a log of megabytes",
            &format!(
                "(drop (memory.grow (i32.const 900))) {}",
                endless(&log("1", "65536", "50000000"))
            ),
            FaultCause::Deadline,
        )),
        row(
            "a line past memory",
            &once(&log("1", "-16", "100")),
            FaultCause::Trap,
        ),
        row(
            "a line whose size overflows",
            &once(&log("1", "65536", "-1")),
            FaultCause::Trap,
        ),
        row(
            "a line that is no UTF-8",
            &format!(
                "(i32.store8 (i32.const 0) (i32.const 0xff)) {}",
                once(&log("1", "0", "1"))
            ),
            FaultCause::Trap,
        ),
        row(
            "a level that is none",
            &once(&log("9", "0", "1")),
            FaultCause::Trap,
        ),
        row(
            "a key past memory",
            &once(&get("-16", "100", "1024")),
            FaultCause::Trap,
        ),
        row(
            "an answer to be put past memory",
            &once(&get("0", "1", "-4")),
            FaultCause::Trap,
        ),
        row(
            "an answer to be put askew",
            &once(&get("0", "1", "1025")),
            FaultCause::Trap,
        ),
        of(
            "a key of a megabyte",
            preprocess(&format!(
                "(drop (memory.grow (i32.const 20))) {}",
                once(&get("65536", "1048576", "1024"))
            )),
            Expected::Answers,
        ),
        realloc(
            "an allocator that points past memory",
            "(i32.const -16)",
            FaultCause::BadOutput,
        ),
        realloc(
            "an allocator that points askew",
            "(i32.const 65537)",
            FaultCause::BadOutput,
        ),
        hurried(realloc(
            "an allocator that loops",
            "(loop $l (br $l)) (unreachable)",
            FaultCause::Deadline,
        )),
        realloc("an allocator that traps", "(unreachable)", FaultCause::Trap),
        realloc(
            "an allocator that recurses",
            "(call $recurse (i32.const 0))",
            FaultCause::Stack,
        ),
        realloc("an allocator that hoards", HOARD, FaultCause::Memory),
        realloc(
            "an allocator that calls its host",
            "(call $log (i32.const 1) (i32.const 0) (i32.const 1)) (i32.const 65536)",
            FaultCause::Trap,
        ),
        // The guest overwrites its own input: it alone sees the change, and no other call does.
        of(
            "an allocator that gives one place to all",
            preprocess_with_realloc(QUIET, "(i32.const 65536)"),
            Expected::Answers,
        ),
    ]
}
