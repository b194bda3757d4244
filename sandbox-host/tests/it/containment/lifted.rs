//! Guests whose component is written by hand: other string encodings, a post-return function,
//! resources, nested components that call each other.

use super::table::{Expected, Row, hurried, of, starved};
use super::*;

/// The parts of a hand-written component.
#[derive(Clone, Copy)]
struct Parts<'a> {
    /// The encoding of its strings, as canonical options.
    encoding: &'a str,
    /// Further canonical options of its export.
    options: &'a str,
    /// Definitions between its imports and its modules.
    fields: &'a str,
    /// What its main module imports from the instance `more`, and that instance.
    imports: &'a str,
    more: &'a str,
    /// Functions of its main module.
    functions: &'a str,
    /// The body of `preprocess`: it leaves the address of its answer. `$ok` answers with no
    /// tensors.
    body: &'a str,
}

const PLAIN: Parts<'_> = Parts {
    encoding: "string-encoding=utf8",
    options: "",
    fields: "",
    imports: "",
    more: "",
    functions: "",
    body: "(call $ok)",
};

/// The component: its types and imports as in the world, a module with the memory, a module with
/// the code.
fn lifted(parts: Parts<'_>) -> Vec<u8> {
    let Parts {
        encoding,
        options,
        fields,
        imports,
        more,
        functions,
        body,
    } = parts;
    let text = format!(
        r#"(component
    (import "tensorgate:handler/types@0.1.0" (instance $types
        (type $d (enum "bool" "uint8" "uint16" "uint32" "uint64" "int8" "int16" "int32" "int64" "fp16" "bf16" "fp32" "fp64" "bytes"))
        (export "datatype" (type $datatype (eq $d)))
        (type $t (record (field "name" string) (field "datatype" $datatype) (field "shape" (list u64)) (field "data" (list u8))))
        (export "tensor" (type $tensor (eq $t)))
        (type $r (record (field "content-type" string) (field "data" (list u8))))
        (export "raw-body" (type $raw (eq $r)))
        (type $e (variant (case "bad-input" string) (case "fault" string)))
        (export "error" (type $error (eq $e)))))
    (alias export $types "tensor" (type $tensor))
    (alias export $types "raw-body" (type $raw))
    (alias export $types "error" (type $error))
    (type $p (variant (case "tensors" (list $tensor)) (case "raw" $raw)))
    (import "payload" (type $payload (eq $p)))
    (import "tensorgate:handler/log@0.1.0" (instance $log
        (type $l (enum "debug" "info" "warn" "error"))
        (export "level" (type $level (eq $l)))
        (export "write" (func (param "level" $level) (param "message" string)))))
    (import "tensorgate:handler/config@0.1.0" (instance $config
        (export "get" (func (param "key" string) (result (option string))))))
    (core module $libc
        (memory (export "memory") 2)
        (global $next (mut i32) (i32.const 65536))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (local.get 3)))))
    (core instance $libc (instantiate $libc))
    (core func $write (canon lower (func $log "write") (memory (core memory $libc "memory")) {encoding}))
    (core func $get (canon lower (func $config "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")) {encoding}))
    {fields}
    (core module $main
        (import "libc" "memory" (memory 2))
        (import "host" "write" (func $log (param i32 i32 i32)))
        (import "host" "get" (func $get (param i32 i32 i32)))
        {imports}
        (func $ok (result i32)
            (i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store (i32.const 1032) (i32.const 0))
            (i32.const 1024))
        {functions}
        (func (export "preprocess") (param i32 i32 i32 i32 i32) (result i32) (local $i i32)
            {body}))
    (core instance $main (instantiate $main
        (with "libc" (instance $libc))
        (with "host" (instance (export "write" (func $write)) (export "get" (func $get))))
        {more}))
    (func $preprocess (param "input" $payload) (result (result (list $tensor) (error $error)))
        (canon lift (core func $main "preprocess") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")) {encoding} {options}))
    (export "preprocess" (func $preprocess)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Every guest of this file.
pub fn lifted_rows() -> Vec<Row> {
    let mut rows = vec![of("a component by hand", lifted(PLAIN), Expected::Answers)];
    rows.extend(texts());
    rows.extend(afterwards());
    rows.extend(resources());
    rows
}

/// Strings in the other two encodings.
fn texts() -> Vec<Row> {
    let in_utf16 = |guest, body: &str, expected| {
        let parts = Parts {
            encoding: "string-encoding=utf16",
            body,
            ..PLAIN
        };
        of(guest, lifted(parts), expected)
    };
    let in_latin1 = |guest, body: &str, expected| {
        let parts = Parts {
            encoding: "string-encoding=latin1+utf16",
            body,
            ..PLAIN
        };
        of(guest, lifted(parts), expected)
    };
    let log = |units: u32, at: i32, count: u32| {
        format!(
            "(i32.store (i32.const 2048) (i32.const {units})) (call $log (i32.const 1) (i32.const {at}) (i32.const {count})) (call $ok)"
        )
    };
    // The highest bit of a length selects one of the two encodings.
    let tagged = 1 | 1 << 31;
    vec![
        in_utf16(
            "a line in UTF-16",
            &log(0x0061_00e9, 2048, 2),
            Expected::Answers,
        ),
        in_utf16(
            "half of a surrogate pair",
            &log(0xd800, 2048, 1),
            Expected::Fault(FaultCause::Trap),
        ),
        in_utf16(
            "a line in UTF-16 that lies askew",
            &log(0x61, 2049, 1),
            Expected::Fault(FaultCause::Trap),
        ),
        in_utf16(
            "a line in UTF-16 past memory",
            &log(0x61, 131_070, 2),
            Expected::Fault(FaultCause::Trap),
        ),
        in_utf16(
            "a line in UTF-16 whose bytes overflow",
            &log(0x61, 2048, 1 << 31),
            Expected::Fault(FaultCause::Trap),
        ),
        in_latin1("a line in Latin-1", &log(0xff, 2048, 1), Expected::Answers),
        in_latin1(
            "half of a surrogate pair, tagged",
            &log(0xdc00, 2048, tagged),
            Expected::Fault(FaultCause::Trap),
        ),
        in_latin1(
            "a tagged line past memory",
            &log(0x61, 131_070, 5 | 1 << 31),
            Expected::Fault(FaultCause::Trap),
        ),
    ]
}

/// Code that runs after the answer was read.
fn afterwards() -> Vec<Row> {
    let after = |guest, what: &str, cause| {
        let functions = format!(
            "(func $recurse (param i32) (result i32) (i32.add (i32.const 1) (call $recurse (local.get 0)))) (func (export \"after\") (param i32) {what})"
        );
        let parts = Parts {
            options: "(post-return (core func $main \"after\"))",
            functions: &functions,
            ..PLAIN
        };
        of(guest, lifted(parts), Expected::Fault(cause))
    };
    let spin = "(loop $l (br $l))";
    let hoard =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    vec![
        hurried(after("a loop after the answer", spin, FaultCause::Deadline)),
        starved(after(
            "a loop after the answer, little fuel",
            spin,
            FaultCause::Fuel,
        )),
        after("a trap after the answer", "(unreachable)", FaultCause::Trap),
        after("a hoard after the answer", hoard, FaultCause::Memory),
        after(
            "recursion after the answer",
            "(drop (call $recurse (i32.const 0)))",
            FaultCause::Stack,
        ),
        after(
            "a line after the answer",
            "(call $log (i32.const 1) (i32.const 0) (i32.const 1))",
            FaultCause::Trap,
        ),
    ]
}

/// A resource of the guest: handles that it forges, drops twice, or creates without end.
fn resources() -> Vec<Row> {
    let with = |guest, body: &str, expected| {
        let parts = Parts {
            fields: "(type $r (resource (rep i32)))
                (core func $new (canon resource.new $r)) (core func $rep (canon resource.rep $r)) (core func $drop (canon resource.drop $r))",
            imports: r#"(import "more" "new" (func $new (param i32) (result i32)))
                (import "more" "rep" (func $rep (param i32) (result i32)))
                (import "more" "drop" (func $drop (param i32)))"#,
            more: r#"(with "more" (instance (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))"#,
            body,
            ..PLAIN
        };
        of(guest, lifted(parts), expected)
    };
    let trap = Expected::Fault(FaultCause::Trap);
    vec![
        with(
            "a resource of its own",
            "(call $drop (call $new (i32.const 1))) (call $ok)",
            Expected::Answers,
        ),
        with(
            "a handle out of thin air",
            "(drop (call $rep (i32.const 77))) (call $ok)",
            trap,
        ),
        with(
            "a handle of zero",
            "(call $drop (i32.const 0)) (call $ok)",
            trap,
        ),
        with(
            "a handle that is dropped twice",
            "(call $drop (local.tee $i (call $new (i32.const 1)))) (call $drop (local.get $i)) (call $ok)",
            trap,
        ),
        with(
            "handles for ever",
            "(loop $l (drop (call $new (i32.const 1))) (br $l)) (unreachable)",
            trap,
        ),
        hurried(with(
            "handles made and dropped for ever",
            "(loop $l (call $drop (call $new (i32.const 1))) (br $l)) (unreachable)",
            Expected::Fault(FaultCause::Deadline),
        )),
    ]
}
