//! Pre-initialisation of Rust handlers.
//!
//! The handler's exported initialisation function runs once, at build time, and its memory becomes
//! the initial state of every instance. The tools for Python and JavaScript do the same for
//! module-level code.
//!
//! The function runs in wasmtime without access to this machine: it can only compute and log lines
//! for the author. A hash map that it makes has a fixed seed, so that a build gives the same bytes
//! each time. Fuel and memory are bounded.

use std::collections::BTreeMap;

use tensorgate_cli_common::Failure;
use wasmtime::{
    Caller, Config, Engine, Extern, Instance, Linker, Module, Store, StoreLimits,
    StoreLimitsBuilder, Val,
};
use wasmtime_wizer::{InstanceState, ModuleContext, SnapshotVal, ValType, Wizer};

/// The export of the guest crate's `export_init!`.
const INIT: &str = "tensorgate-init";

/// Maximum number of executed instructions: about a minute.
pub(super) const MAX_FUEL: u64 = 100_000_000_000;

/// Memory limit, bytes. The policy's `memory_bytes` must allow the resulting memory.
const MAX_MEMORY_BYTES: usize = 1 << 30;

/// The log interface of each version.
pub(super) const LOGS: [&str; 2] = [
    "tensorgate:handler/log@0.1.0",
    "tensorgate:handler/log@0.2.0",
];

/// The interface of WASI with the seed of Rust's hash maps, without version; its function; and the
/// seed.
const SEED: &str = "wasi:random/insecure-seed@";
const SEED_FUNCTION: &str = "insecure-seed";
const FIXED_SEED: [u8; 16] = *b"tensorgate-build";

/// Maximum number of log lines, and bytes per line. Later lines are dropped.
const MAX_LINES: usize = 100;
const MAX_LINE_BYTES: usize = 4 << 10;

/// State of a wasmtime store.
pub(super) struct State {
    limits: StoreLimits,
    pub(super) lines: Vec<String>,
    /// Input files by name; empty except while configuring.
    pub(super) inputs: BTreeMap<String, Vec<u8>>,
}

/// A module in the state after its initialisation function, with that function removed. A module
/// without one is returned unchanged.
///
/// # Errors
/// The function fails, calls an import other than the log, or exceeds its limits. The message
/// includes the log lines.
pub fn initialised(core: Vec<u8>) -> Result<Vec<u8>, Failure> {
    within(core, MAX_FUEL)
}

fn within(core: Vec<u8>, fuel: u64) -> Result<Vec<u8>, Failure> {
    // Most modules lack the name and are not compiled. A module that contains the name is compiled,
    // to find out whether it exports the function.
    if !core
        .windows(INIT.len())
        .any(|bytes| bytes == INIT.as_bytes())
    {
        return Ok(core);
    }
    let engine = Engine::new(Config::new().consume_fuel(true)).map_err(|error| failed(&error))?;
    let mut wizer = Wizer::new();
    wizer.init_func(INIT);
    let (context, instrumented) = wizer.instrument(&core).map_err(|error| failed(&error))?;
    let module = Module::new(&engine, instrumented).map_err(|error| failed(&error))?;
    if module.get_export(INIT).is_none() {
        return Ok(core);
    }
    let mut store = store(&engine, fuel, BTreeMap::new()).map_err(|error| failed(&error))?;
    let instance =
        run(&engine, &mut store, &module).map_err(|error| failed(&with_lines(&error, &store)))?;
    snapshot(&wizer, &context, &mut store, instance).map_err(|error| failed(&error))
}

/// A store with the given fuel and input files.
pub(super) fn store(
    engine: &Engine,
    fuel: u64,
    inputs: BTreeMap<String, Vec<u8>>,
) -> wasmtime::Result<Store<State>> {
    let limits = StoreLimitsBuilder::new()
        .memory_size(MAX_MEMORY_BYTES)
        .build();
    let state = State {
        limits,
        lines: Vec::new(),
        inputs,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limits);
    store.set_fuel(fuel)?;
    Ok(store)
}

/// An error, followed by the lines logged before it.
pub(super) fn with_lines(error: &wasmtime::Error, store: &Store<State>) -> String {
    let log = store.data().lines.join("\n");
    format!("{error:#}\n{log}").trim_end().to_owned()
}

/// The module with the memory and globals of an instance.
pub(super) fn snapshot(
    wizer: &Wizer,
    context: &ModuleContext<'_>,
    store: &mut Store<State>,
    instance: Instance,
) -> wasmtime::Result<Vec<u8>> {
    let mut state = InstanceSnapshot { store, instance };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(wizer.snapshot(context, &mut state))
}

fn failed(cause: &dyn core::fmt::Display) -> Failure {
    Failure::Failed(format!(
        "the function of `export_init!` failed. It runs at build time and may only compute and log:\n{cause:#}"
    ))
}

fn run(engine: &Engine, store: &mut Store<State>, module: &Module) -> wasmtime::Result<Instance> {
    let mut linker = Linker::new(engine);
    for log in LOGS {
        linker.func_wrap(log, "write", log_write)?;
    }
    link_seed(&mut linker, module)?;
    linker.define_unknown_imports_as_traps(module)?;
    let instance = linker.instantiate(&mut *store, module)?;
    instance
        .get_typed_func::<(), ()>(&mut *store, INIT)?
        .call(store, ())?;
    Ok(instance)
}

/// `log.write` in the canonical ABI: a level, and the address and length of a text.
pub(super) fn log_write(mut caller: Caller<'_, State>, _level: i32, at: i32, bytes: i32) {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return;
    };
    let (data, state) = memory.data_and_store_mut(&mut caller);
    let address = |value: i32| usize::try_from(value.cast_unsigned()).unwrap_or(usize::MAX);
    let text = data
        .get(address(at)..)
        .and_then(|rest| rest.get(..address(bytes).min(MAX_LINE_BYTES)));
    if let (Some(text), true) = (text, state.lines.len() < MAX_LINES) {
        state.lines.push(String::from_utf8_lossy(text).into_owned());
    }
}

/// Links the seed of hash maps, if the module imports it.
pub(super) fn link_seed(linker: &mut Linker<State>, module: &Module) -> wasmtime::Result<()> {
    let mut imports = module.imports();
    let found =
        imports.find(|import| import.module().starts_with(SEED) && import.name() == SEED_FUNCTION);
    if let Some(import) = found {
        linker.func_wrap(import.module(), SEED_FUNCTION, seed_write)?;
    }
    Ok(())
}

/// `insecure-seed` in the canonical ABI: the address of the answer, two numbers of 64 bits.
fn seed_write(mut caller: Caller<'_, State>, at: i32) -> wasmtime::Result<()> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Ok(());
    };
    let address = usize::try_from(at.cast_unsigned()).unwrap_or(usize::MAX);
    memory.write(&mut caller, address, &FIXED_SEED)?;
    Ok(())
}

/// An instance after its function has run.
struct InstanceSnapshot<'s> {
    store: &'s mut Store<State>,
    instance: Instance,
}

impl InstanceState for InstanceSnapshot<'_> {
    #[expect(
        clippy::panic,
        reason = "wizer exports each global that it asks for, and takes no module with another kind"
    )]
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut *self.store, name);
        match global.map(|global| global.get(&mut *self.store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            other => panic!("no global {name}: {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name);
        contents(memory.map_or(&[], |memory| memory.data(&*self.store)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn module(body: &str) -> Vec<u8> {
        wat::parse_str(format!("(module {body})")).unwrap()
    }

    #[test]
    fn an_instance_starts_with_the_state_after_initialisation() {
        let core = module(
            r#"(memory (export "memory") 1) (global $sum (mut i32) (i32.const 1))
            (func (export "tensorgate-init")
                (drop (memory.grow (i32.const 2)))
                (global.set $sum (i32.const 41))
                (i32.store (i32.const 131072) (i32.const 7)))
            (func (export "sum") (result i32) (i32.add (global.get $sum) (i32.load (i32.const 131072))))"#,
        );
        let made = initialised(core).unwrap();
        let engine = Engine::default();
        let module = Module::new(&engine, &made).unwrap();
        assert!(module.get_export(INIT).is_none());
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let sum = instance
            .get_typed_func::<(), i32>(&mut store, "sum")
            .unwrap();
        assert_eq!(sum.call(&mut store, ()).unwrap(), 48);
        assert_eq!(initialised(made.clone()).unwrap(), made);
    }

    #[test]
    fn a_module_without_the_function_is_unchanged() {
        for body in ["", r#"(memory 1) (data (i32.const 0) "tensorgate-init")"#] {
            let core = module(body);
            assert_eq!(initialised(core.clone()).unwrap(), core);
        }
    }

    #[test]
    fn hash_maps_have_the_same_seed_in_each_build() {
        let core = module(
            r#"(import "wasi:random/insecure-seed@0.2.4" "insecure-seed" (func $seed (param i32)))
            (memory (export "memory") 1)
            (func (export "tensorgate-init") (call $seed (i32.const 32)))"#,
        );
        let made = initialised(core.clone()).unwrap();
        assert!(
            made.windows(FIXED_SEED.len())
                .any(|bytes| bytes == FIXED_SEED)
        );
        assert_eq!(initialised(core).unwrap(), made);
    }

    #[test]
    fn failures_include_their_cause() {
        for (body, expected) in [
            (
                r#"(func (export "tensorgate-init") unreachable)"#,
                "unreachable",
            ),
            (r#"(func (export "tensorgate-init") (loop (br 0)))"#, "fuel"),
            (r#"(func (export "tensorgate-init") (param i32))"#, "type"),
            (
                r#"(import "tensorgate:handler/config@0.1.0" "get" (func $get)) (func (export "tensorgate-init") (call $get))"#,
                "config",
            ),
            (
                r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $out (result i32))) (func (export "tensorgate-init") (drop (call $out)))"#,
                "wasi:cli/stdout",
            ),
            (
                r#"(import "tensorgate:handler/log@0.1.0" "write" (func $log (param i32 i32 i32))) (memory (export "memory") 1)
                (data (i32.const 8) "no such file")
                (func (export "tensorgate-init") (call $log (i32.const 3) (i32.const 8) (i32.const 12)) (call $log (i32.const 3) (i32.const -1) (i32.const -1)) unreachable)"#,
                "no such file",
            ),
        ] {
            let error = within(module(body), 1_000_000).unwrap_err().to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }
}
