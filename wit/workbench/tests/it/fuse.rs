//! Fusing a component's modules into one. Small components are written by hand, and each rule fuses
//! them or leaves them alone. Their behaviour stays the same either way.

use tensorgate_componentize::{Kept, fused, surface};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, Trap};

/// The environment of libraries: a memory, a table, where each library's part of them is, and what
/// libraries know of each other.
const ENV: &str = r#"(core module $env
    (memory (export "memory") 1)
    (table (export "table") 8 funcref)
    (global (export "base") i32 (i32.const 2))
    (global (export "known") (mut i32) (i32.const 40))
    (global (export "sum") (mut i32) (i32.const 5))
    (global (export "half") f64 (f64.const 0.5))
    (data (i32.const 0) "\07\00\00\00"))
  (core instance $env (instantiate $env))"#;

/// A library: two functions in the table, one of which calls the host, and one exported by name.
const LIBRARY: &str = r#"(core module $library
    (type $unary (func (param i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "env" "table" (table 4 funcref))
    (import "env" "base" (global $base i32))
    (import "env" "sum" (global $sum (mut i32)))
    (import "host" "double" (func $double (type $unary)))
    (global $place i32 (i32.add (global.get $base) (i32.const 1)))
    (elem (global.get $base) func $count $ask)
    (data (global.get $base) "\09")
    (func $count (type $unary)
      (global.set $sum (i32.add (global.get $sum) (local.get 0))) (global.get $sum))
    (func $ask (type $unary) (call $double (local.get 0)))
    (func $relocate (export "relocate") (i32.store (global.get $place) (i32.const -1)))
    (func (export "through") (type $unary) (call_indirect (type $unary) (local.get 0) (global.get $place)))
    (export "again" (func $double)))
  (core instance $host (export "double" (func $lowered)))
  (core instance $library (instantiate $library (with "env" (instance $env)) (with "host" (instance $host))))"#;

/// The main module, which calls both. `run` selects by its argument, and one choice traps.
const MAIN: &str = r#"(core module $main
    (type $unused (func (param f32)))
    (type $unary (func (param i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "env" "table" (table 0 funcref))
    (import "env" "base" (global $base i32))
    (import "env" "known" (global $known (mut i32)))
    (import "env" "sum" (global $sum (mut i32)))
    (import "env" "half" (global $half f64))
    (import "library" "through" (func $through (type $unary)))
    (import "library" "again" (func $double (type $unary)))
    (func $never (global.set $known (i32.const 1)))
    (func (export "run") (type $unary)
      (block (block (block (block (block (block (block
        (br_table 0 1 2 3 4 5 6 (local.get 0)))
        (return (call $through (i32.const 21))))
        (return (call_indirect (type $unary) (i32.const 3) (global.get $base))))
        (return (i32.add (global.get $known) (i32.load (i32.const 0)))))
        (return (i32.trunc_f64_s (f64.mul (global.get $half) (f64.const 9)))))
        (return (call_indirect (type $unary) (i32.const 3) (i32.const 7))))
        (return (i32.load (i32.const 65533))))
      (i32.add (call $double (local.get 0)) (global.get $sum))))
  (core instance $main (instantiate $main (with "env" (instance $env)) (with "library" (instance $library))))"#;

const LOWERED: &str = "(core func $lowered (canon lower (func $double)))";

const RUN: &str =
    r#"(func (export "run") (param "x" s32) (result s32) (canon lift (core func $main "run")))"#;

fn component(parts: &[&str]) -> Vec<u8> {
    let text = format!(
        r#"(component (import "double" (func $double (param "x" s32) (result s32))) {})"#,
        parts.join("\n")
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The result of each of some calls, alone in a fresh instance and before another one: a number, or
/// a trap.
fn outcomes(engine: &Engine, bytes: &[u8]) -> Vec<String> {
    let component = Component::new(engine, bytes).unwrap();
    let mut linker = Linker::new(engine);
    linker
        .root()
        .func_wrap("double", |_, (x,): (i32,)| Ok((x.wrapping_mul(2),)))
        .unwrap();
    let trap = |error: wasmtime::Error| format!("{:?}", error.downcast_ref::<Trap>());
    let mut all = Vec::new();
    for argument in 0..8 {
        let mut store = Store::new(engine, ());
        store.set_fuel(FUEL).unwrap();
        let instance = match linker.instantiate(&mut store, &component) {
            Ok(instance) => instance,
            Err(error) => return vec![trap(error)],
        };
        let run = instance.get_typed_func::<(i32,), (i32,)>(&mut store, "run");
        let Ok(run) = run else {
            return vec!["no such function".to_owned()];
        };
        let results = [argument, 1].map(|argument| match run.call(&mut store, (argument,)) {
            Ok((number,)) => number.to_string(),
            Err(error) => trap(error),
        });
        all.push(format!("{argument}: {}", results.join(", ")));
    }
    all
}

/// More fuel than any of these calls burns that ends.
const FUEL: u64 = 100_000;

fn engine() -> Engine {
    Engine::new(wasmtime::Config::new().consume_fuel(true)).unwrap()
}

/// Sections of a component's binary format.
const CORE_MODULE: u8 = 1;
pub(super) const COMPONENT: u8 = 4;

/// The core modules at a component's outermost level.
pub(super) fn modules(component: &[u8]) -> usize {
    sections(component)
        .iter()
        .filter(|(id, _)| *id == CORE_MODULE)
        .count()
}

/// Each section's id and content.
pub(super) fn sections(component: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut found, mut rest) = (Vec::new(), &component[8..]);
    while let [id, tail @ ..] = rest {
        let end = tail.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let length = tail[..=end]
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 7) | usize::from(byte & 0x7f));
        let content = &tail[end + 1..];
        found.push((*id, &content[..length]));
        rest = &content[length..];
    }
    found
}

/// Checks that fusing leaves so many modules. The result behaves the same, has the same imports,
/// and is the same bytes each time.
fn fuses(parts: &[&str], left: usize) -> Vec<u8> {
    let engine = engine();
    let before = component(parts);
    let after = fused(&before).unwrap();
    assert_eq!(modules(&after), left, "{parts:?}");
    assert_eq!(
        outcomes(&engine, &after),
        outcomes(&engine, &before),
        "{parts:?}"
    );
    assert_eq!(surface(&after).unwrap(), surface(&before).unwrap());
    assert_eq!(fused(&before).unwrap(), after);
    after
}

#[test]
fn libraries_become_one_module_that_does_the_same() {
    let before = component(&[ENV, LOWERED, LIBRARY, MAIN, RUN]);
    // A sum with one module's global, a call through the table into another module, a number that
    // was never set, half a float, and two traps.
    let expected = [
        "0: 42, 8",
        "1: 8, 11",
        "2: 589871, 8",
        "3: 4, 8",
        r#"4: Some(IndirectCallToNull), None"#,
        "5: Some(MemoryOutOfBounds), None",
        "6: 17, 8",
        "7: 19, 8",
    ];
    let found = outcomes(&engine(), &before);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let expected = expected.split(',').next().unwrap();
        assert!(found.starts_with(expected), "{found} {expected}");
    }
    let after = fuses(&[ENV, LOWERED, LIBRARY, MAIN, RUN], 1);
    assert!(after.len() < before.len());
    // A component with a single module is left alone.
    assert_eq!(fused(&after), Err(Kept::Few));
}

/// Host functions, and functions that read a library's memory, are called through a table that is
/// filled last.
#[test]
fn functions_that_need_library_memory_are_called_through_a_table() {
    let shim = r#"(core module $shim
        (table (export "shims") 1 funcref)
        (func (export "0") (param i32) (result i32) (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))
      (core instance $shim (instantiate $shim))
      (alias core export $shim "0" (core func $lowered))
      (alias core export $shim "shims" (core table $shims))"#;
    let fixup = r#"(alias core export $env "memory" (core memory $memory))
      (core func $real (canon lower (func $double) (memory $memory)))
      (core instance $given (export "table" (table $shims)) (export "0" (func $real)))
      (core module $fixup
        (import "" "table" (table 1 funcref)) (import "" "0" (func $real (param i32) (result i32)))
        (import "env" "memory" (memory 1)) (import "env" "half" (global f64))
        (elem (i32.const 0) func $real))
      (core instance (instantiate $fixup (with "" (instance $given)) (with "env" (instance $env))))"#;
    // A module instantiated after the table is filled fills another one.
    let last = r#"(core module $last (import "env" "table" (table 0 funcref)) (elem (i32.const 6) func $one) (func $one (param i32) (result i32) (i32.const 1)))
      (core instance (instantiate $last (with "env" (instance $env))))"#;
    fuses(&[ENV, shim, LIBRARY, MAIN, fixup, RUN], 3);
    fuses(&[ENV, shim, LIBRARY, MAIN, fixup, last, RUN], 3);
    fuses(&[shim, ENV, LIBRARY, fixup, MAIN, last, RUN], 3);
    // The same table, filled by a module that would come earlier.
    let other = fixup.replace(
        "(export \"table\" (table $shims))",
        "(export \"table\" (table $own))",
    );
    let own = r#"(alias core export $env "table" (core table $own))"#;
    let before = component(&[shim, ENV, LIBRARY, own, &other, MAIN, last, RUN]);
    assert_eq!(fused(&before), Err(Kept::Between));
    fuses(&[shim, ENV, LIBRARY, own, &other, MAIN, RUN], 3);
}

#[test]
fn segments_and_references_named_by_code_are_renumbered() {
    let passive = r#"(core module $passive
        (type $unary (func (param i32) (result i32)))
        (import "env" "memory" (memory 1))
        (import "env" "table" (table 4 funcref))
        (global $at i32 (i32.const 100))
        (data $unused "\01\02") (data $used "\0b\00\00\00\00\00\00\00")
        (elem $few func $eleven)
        (func $eleven (type $unary) (i32.const 11))
        (func $named (export "named") (type $unary) (i32.const 12))
        (func (export "run") (type $unary)
          (memory.init $used (global.get $at) (i32.const 0) (i32.const 4))
          (table.init $few (i32.const 5) (i32.const 0) (i32.const 1))
          (table.set (i32.const 6) (ref.func $named))
          (i32.load (i32.const 100))
          (block $both (param i32) (result i32)
            (i32.add (call_indirect (type $unary) (i32.const 0) (i32.const 5)) (call_indirect (type $unary) (i32.const 0) (i32.const 6)))
            (i32.add)
            (br_if $both (i32.const 0)))))
      (core instance $main (instantiate $passive (with "env" (instance $env))))"#;
    let after = fuses(&[ENV, LOWERED, LIBRARY, passive, RUN], 1);
    assert_eq!(outcomes(&engine(), &after)[0], "0: 34, 34");
}

#[test]
fn unsupported_components_are_not_fused() {
    let kept = |parts: &[&str], why: Kept| {
        let before = component(parts);
        assert_eq!(fused(&before), Err(why), "{parts:?}");
    };
    let env = |from: &str, to: &str| {
        assert!(ENV.contains(from));
        ENV.replacen(from, to, 1)
    };
    let rest = [LOWERED, LIBRARY, MAIN, RUN];
    let with = |env: &str, why| kept(&[&[env], rest.as_slice()].concat(), why);
    with(&env("(data", "(func $f) (start $f) (data"), Kept::Start);
    with(
        &env("(data (i32.const 0)", "(data (i32.const 65535)"),
        Kept::SegmentOffset,
    );
    with(
        &env("i32 (i32.const 2)", "i32 (i32.const 7)"),
        Kept::SegmentOffset,
    );
    let second = LIBRARY.replace("(global $place", "(memory 1) (global $place");
    kept(&[ENV, LOWERED, &second, MAIN, RUN], Kept::Several);
    let tag = LIBRARY.replace("(global $place", "(tag) (global $place");
    // The host rejects these.
    let parts = [ENV, LOWERED, &tag, MAIN, RUN];
    assert!(matches!(fused(&component(&parts)), Err(Kept::Malformed(_))));
    kept(&[ENV, RUN_ALONE], Kept::Few);
    // A resource's destructor is a core function that a type names.
    let resource = r#"(alias core export $library "relocate" (core func $end))
      (core module $dtor (func (export "end") (param i32))) (core instance $dtor (instantiate $dtor))
      (type (resource (rep i32) (dtor (func $dtor "end"))))"#;
    let parts = [ENV, LOWERED, LIBRARY, MAIN, resource, RUN];
    assert!(matches!(fused(&component(&parts)), Err(Kept::Unknown(_))));
    // A module that another component imports or exports.
    let inside =
        "(component (alias outer 1 0 (core module $taken)) (core instance (instantiate $taken)))";
    let parts = [ENV, LOWERED, LIBRARY, MAIN, inside, RUN];
    assert!(matches!(fused(&component(&parts)), Err(Kept::Unknown(_))));
    let passed = r#"(export "env" (core module $env))"#;
    let parts = [ENV, LOWERED, LIBRARY, MAIN, passed, RUN];
    assert!(matches!(fused(&component(&parts)), Err(Kept::Unknown(_))));
}

const RUN_ALONE: &str = r#"(core module $m (func (export "run") (param i32) (result i32) (local.get 0)))
  (core instance $a (instantiate $m)) (core instance $b (instantiate $m))
  (func (export "run") (param "x" s32) (result s32) (canon lift (core func $a "run")))"#;

/// Tools nest one component in another.
#[test]
fn a_nested_component_is_fused_inside_its_parent() {
    let inner = [ENV, LOWERED, LIBRARY, MAIN, RUN].concat();
    let import = r#"(import "double" (func $double (param "x" s32) (result s32)))"#;
    let outer = format!(
        r#"(component $inner {import} {inner})
        (instance $inner (instantiate $inner (with "double" (func $double))))
        (export "run" (func $inner "run"))"#
    );
    let after = fuses(&[&outer], 0);
    let (_, within) = sections(&after)
        .into_iter()
        .find(|(id, _)| *id == COMPONENT)
        .unwrap();
    assert_eq!(modules(within), 1);
    // Deeper nesting than any tool makes: the innermost components stay as they are.
    let wrapped = |inner: Vec<u8>| {
        let length = u32::try_from(inner.len()).unwrap();
        let leb = [0, 7, 14, 21].map(|shift| u8::try_from(length >> shift & 0x7f).unwrap());
        let leb = [leb[0] | 0x80, leb[1] | 0x80, leb[2] | 0x80, leb[3]];
        [b"\0asm\x0d\0\x01\0", &[COMPONENT][..], &leb, &inner].concat()
    };
    let inner = component(&[ENV, LOWERED, LIBRARY, MAIN, RUN]);
    let few = (0..8).fold(inner.clone(), |inner, _| wrapped(inner));
    assert!(fused(&few).is_ok());
    let many = (0..40).fold(inner, |inner, _| wrapped(inner));
    assert_eq!(fused(&many), Err(Kept::Few));
}

/// Two instances of one module each have their own state. Neither is fused; the modules around them
/// are.
#[test]
fn a_module_with_two_instances_keeps_them() {
    let counter = r#"(core module $counter
        (global $n (mut i32) (i32.const 0))
        (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))
      (core instance $one (instantiate $counter)) (core instance $two (instantiate $counter))
      (alias core export $one "next" (core func $one)) (alias core export $two "next" (core func $two))
      (core instance $both (export "one" (func $one)) (export "two" (func $two)))
      (core module $counts
        (import "both" "one" (func $one (result i32))) (import "both" "two" (func $two (result i32)))
        (func (export "run") (param i32) (result i32)
          (drop (call $one)) (i32.add (i32.mul (call $one) (i32.const 10)) (call $two))))
      (core instance $main (instantiate $counts (with "both" (instance $both))))"#;
    let after = fuses(&[ENV, LOWERED, LIBRARY, counter, RUN], 2);
    assert_eq!(outcomes(&engine(), &after)[0], "0: 21, 42");
}

/// Arbitrary bytes cause no panic, and what is fused behaves the same.
#[test]
fn broken_components_are_rejected_or_left_unchanged() {
    let original = component(&[ENV, LOWERED, LIBRARY, MAIN, RUN]);
    for end in 0..original.len() {
        let _ = fused(&original[..end]);
    }
    let engine = engine();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let mut valid = 0;
    for _ in 0..20_000 {
        let mut broken = original.clone();
        for _ in 0..=next(3) {
            let at = next(broken.len());
            broken[at] = u8::try_from(next(256)).unwrap();
        }
        if let Ok(after) = fused(&broken) {
            valid += 1;
            if valid % 8 == 0 {
                let (before, after) = (outcomes(&engine, &broken), outcomes(&engine, &after));
                assert_eq!(before, after, "{broken:?}");
            }
        }
    }
    assert!(valid > 500, "{valid}");
}
