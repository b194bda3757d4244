//! Guests that never become handlers. They import what no handler gets, use features that the
//! engine rejects, or are too large to be compiled.

use super::table::{Expected, Row, of};
use super::*;

/// A component of one core module, which is not instantiated.
fn module(fields: &str) -> Vec<u8> {
    text(&format!(
        "(core module $m {fields}) (core instance (instantiate $m))"
    ))
}

fn text(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {fields})")).unwrap()
}

/// Foreign interfaces, and functions that ours do not have.
const IMPORTS: [&str; 14] = [
    "wasi:filesystem/types@0.2.0",
    "wasi:filesystem/preopens@0.2.0",
    "wasi:sockets/tcp@0.2.0",
    "wasi:sockets/udp@0.2.0",
    "wasi:sockets/ip-name-lookup@0.2.0",
    "wasi:sockets/instance-network@0.2.0",
    "wasi:http/types@0.2.0",
    "wasi:http/incoming-handler@0.2.0",
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:cli/environment@0.2.0",
    "wasi:random/random@0.2.0",
    "wasi:clocks/wall-clock@0.2.0",
    "tensorgate:handler/socket@0.1.0",
    "evil:corp/anything@1.0.0",
];

/// Every guest of this file.
pub fn refused_rows() -> Vec<Row> {
    let mut rows: Vec<_> = (IMPORTS.iter())
        .map(|import| {
            let asks = text(&format!(
                r#"(import "{import}" (instance (export "f" (func (result u64)))))"#
            ));
            of(import, asks, Expected::Refused(import))
        })
        .collect();
    let refused = |guest, component, text| of(guest, component, Expected::Refused(text));
    // Each type is a pair of the one before: 2^30 of the first.
    let doubling: String = (1..30)
        .map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1))
        .collect();
    rows.extend([
        refused("nothing", Vec::new(), "not a valid component"),
        refused("noise", vec![0x5a; 4_096], "not a valid component"),
        refused("a core module", wat::parse_str("(module)").unwrap(), "not a valid component"),
        refused("half a component", honest_half(), "not a valid component"),
        refused("a function that ours do not have", own("set"), "does not implement world"),
        refused("a function of ours by another type", own("get"), "does not implement world"),
        refused("a bare function", text(r#"(import "now" (func (result u64)))"#), "imports now"),
        refused("a module from its host", text(r#"(import "m" (core module))"#), "imports m"),
        refused("a component from its host", text(r#"(import "c" (component))"#), "not a valid component"),
        refused("no export", text(""), "does not implement world"),
        refused(
            "an export of another type",
            text(r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m)) (func (export "preprocess") (canon lift (core func $i "f")))"#),
            "does not implement world",
        ),
        refused("128 MB at its start", module("(memory 2000)"), "131072000 bytes of memory at its start"),
        refused("64-bit memory", module("(memory i64 1)"), "not a valid component"),
        refused("shared memory", module("(memory 1 1 shared)"), "not a valid component"),
        refused("four memories", module("(memory 1) (memory 1) (memory 1) (memory 1)"), "memories count of 4"),
        refused("seventeen tables", module(&"(table 1 funcref)".repeat(17)), "tables"),
        refused("a table of millions", module("(table 5000000 funcref)"), "table"),
        refused(
            "forty-one instances",
            text(&format!("(core module $m) {}", "(core instance (instantiate $m))".repeat(41))),
            "instances",
        ),
        refused("vectors whose results differ by machine", module("(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))"), "not a valid component"),
        refused("garbage collection", module("(type (struct (field i32)))"), "not a valid component"),
        refused("a task of its own", text("(core func (canon task.cancel))"), "not a valid component"),
        refused("a waitable set", text("(core func (canon waitable-set.new))"), "not a valid component"),
        refused("a type of a thousand million parts", text(&format!("(type $t0 (tuple u8 u8)) {doubling}")), "not a valid component"),
        refused("components in components in components", nested(1_200), "not a valid component"),
    ]);
    rows
}

/// The first half of a valid component.
fn honest_half() -> Vec<u8> {
    let mut component = preprocess("(unreachable)");
    component.truncate(component.len() / 2);
    component
}

/// A component that imports a function of our own interface with a number as its parameter. No such
/// function exists, or it has another type.
fn own(function: &str) -> Vec<u8> {
    text(&format!(
        r#"(import "tensorgate:handler/config@0.1.0" (instance (export "{function}" (func (param "key" u32)))))"#
    ))
}

/// Nested components, deeper than any text can be.
fn nested(depth: usize) -> Vec<u8> {
    let empty = text("");
    (0..depth).fold(empty.clone(), |inner, _| {
        let mut outer = empty.clone();
        outer.push(4);
        let mut rest = inner.len();
        while rest > 0x7f {
            outer.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        outer.push(u8::try_from(rest).unwrap());
        outer.extend(inner);
        outer
    })
}
