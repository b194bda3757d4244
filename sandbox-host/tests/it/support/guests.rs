//! Guests for the containment tests: those that `make components` builds, and hand-written ones
//! that no toolchain would produce. Each of the latter is a core module in text around one body.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tensorgate_base::payload::Role;
use tensorgate_policy::policy::Policy;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::{LoadFault, LoadedHandler, Sandbox};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A guest's limits.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub fuel: u64,
    pub memory_bytes: u64,
    pub timeout_ms: u64,
}

/// Enough for every honest guest, and short enough to wait for.
pub const BUDGET: Budget = Budget {
    fuel: 1_000_000_000_000,
    memory_bytes: 64 << 20,
    timeout_ms: 250,
};

/// A body that never ends.
pub const SPIN: &str = "(loop $l (br $l)) (unreachable)";

/// A component that `make components` builds.
pub fn built(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("TENSORGATE_COMPONENTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/components"),
        PathBuf::from,
    );
    let path = folder.join(format!("{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make components` first", path.display()))
}

/// A policy with one handler of this digest, budget and config.
pub fn policy(sha256: &[u8], budget: Budget, config: &[(&str, &str)]) -> Policy {
    let sha256 = tensorgate_policy::hex(sha256);
    let config: serde_json::Map<String, serde_json::Value> = config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    let document = serde_json::json!({
        "version": 1,
        "handlers": {"h": {
            "component": "h.wasm",
            "sha256": sha256,
            "fuel": budget.fuel,
            "memory_bytes": budget.memory_bytes,
            "timeout_ms": budget.timeout_ms,
            "config": config,
        }},
    });
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    validate::validate(&raw).unwrap().0
}

/// Loads a component under a policy that names its digest.
pub fn load(
    sandbox: &Sandbox,
    name: &str,
    component: &[u8],
    role: Role,
    budget: Budget,
    config: &[(&str, &str)],
) -> Result<LoadedHandler, LoadFault> {
    let policy = policy(&Sha256::digest(component), budget, config);
    sandbox.load(name, &policy.handlers()["h"], role, component)
}

/// Wraps a core module in text into a component of a world; `wit` replaces the package's own text.
pub fn component(module: &str, world: &str, wit: Option<&str>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve
        .push_str(
            "handler.wit",
            wit.unwrap_or(include_str!("../../../../wit/0.1/handler.wit")),
        )
        .unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut core = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&core)
        .unwrap()
        .encode()
        .unwrap()
}

/// A preprocess guest around a body, which its export executes. The body leaves the address of the
/// answer, and has locals `$i` and `$kind` (0 tensors, 1 raw). `$ok` answers with the tensors at an
/// address; a tensor has 28 bytes.
pub fn preprocess(body: &str) -> Vec<u8> {
    component(&module(body, "", PLAIN_REALLOC), "preprocess", None)
}

/// The same with more module fields: a start function, another memory.
pub fn preprocess_with(body: &str, fields: &str) -> Vec<u8> {
    component(&module(body, fields, PLAIN_REALLOC), "preprocess", None)
}

/// The same with so many pages of memory from its start.
pub fn preprocess_with_pages(body: &str, pages: u32) -> Vec<u8> {
    let two = r#"(memory $memory (export "memory") 2)"#;
    let module = module(body, "(elem declare func $recurse)", PLAIN_REALLOC);
    let module = module.replace(two, &two.replace(" 2)", &format!(" {pages})")));
    component(&module, "preprocess", None)
}

/// The same with more imports, of a world in this text.
pub fn preprocess_with_imports(body: &str, imports: &str, wit: &str) -> Vec<u8> {
    let module = module(body, "", PLAIN_REALLOC);
    let memory = "(memory $memory (export";
    let module = module.replace(memory, &format!("{imports}\n    {memory}"));
    component(&module, "preprocess", Some(wit))
}

/// The same with an allocator of its own.
pub fn preprocess_with_realloc(body: &str, realloc: &str) -> Vec<u8> {
    component(&module(body, "", realloc), "preprocess", None)
}

/// Allocates upwards from the second page, and grows the memory as needed.
const PLAIN_REALLOC: &str = "
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
        (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16))))))
    (local.get $at)";

fn module(body: &str, fields: &str, realloc: &str) -> String {
    format!(
        r#"(module
    (import "tensorgate:handler/config@0.1.0" "get" (func $get (param i32 i32 i32)))
    (import "tensorgate:handler/log@0.1.0" "write" (func $log (param i32 i32 i32)))
    (memory $memory (export "memory") 2)
    (table $table 1 funcref)
    (global $next (mut i32) (i32.const 65536))
    (global $calls (mut i32) (i32.const 0))
    (data (i32.const 0) "x")
    (func (export "cabi_realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
        {realloc})
    (func $recurse (param $n i32) (result i32)
        (i32.add (i32.const 1) (call $recurse (i32.add (local.get $n) (i32.const 1)))))
    (func $ok (param $tensors i32) (param $count i32) (result i32)
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1028) (local.get $tensors))
        (i32.store (i32.const 1032) (local.get $count))
        (i32.const 1024))
    (func $tensor (param $at i32) (param $datatype i32) (param $data i32) (param $bytes i32)
        (i32.store (local.get $at) (i32.const 0))
        (i32.store offset=4 (local.get $at) (i32.const 1))
        (i32.store8 offset=8 (local.get $at) (local.get $datatype))
        (i32.store offset=12 (local.get $at) (i32.const 8))
        (i32.store offset=16 (local.get $at) (i32.const 0))
        (i32.store offset=20 (local.get $at) (local.get $data))
        (i32.store offset=24 (local.get $at) (local.get $bytes)))
    {fields}
    (func (export "preprocess") (param $kind i32) (param i32 i32 i32 i32) (result i32) (local $i i32)
        {body})
)"#
    )
}
