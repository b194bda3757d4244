//! Configures a component with a user's files.
//!
//! The component's own code processes the files once, in wasmtime, without access to anything else
//! on this machine. The result is stored in the component's memory. The configured component has a
//! digest of its own and contains everything that a call needs.
//!
//! There are two runs. The first one computes the result and returns it as bytes. The second one
//! starts fresh and gets only those bytes, so the input files and parse results take no memory in
//! later calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_componentize::{note, noted, part, surface};
use tensorgate_policy::hex;
use wasmtime::{Caller, Config, Engine, Extern, Instance, Linker, Memory, Module, Store};
use wasmtime_wizer::Wizer;

use crate::initialise::{LOGS, MAX_FUEL, State, link_seed, log_write, snapshot, store, with_lines};

/// Exports of the guest crate's `export_configure!`: compute the result, locate it, and allocate
/// memory for it.
const CONFIGURE: &str = "tensorgate-configure";
const MADE: &str = "tensorgate-made";
const KEEP: &str = "tensorgate-keep";

/// The config interface of each version.
const CONFIGS: [&str; 2] = [
    "tensorgate:handler/config@0.1.0",
    "tensorgate:handler/config@0.2.0",
];

/// Name of the custom section that records what a configured component was made from.
const NOTE: &str = "tensorgate-configured";

/// Largest result, bytes: half of a component's maximum size.
const MAX_MADE_BYTES: usize = 32 << 20;

/// Largest custom section that is read, bytes.
const MAX_NOTE_BYTES: usize = 64 << 10;

/// What a configured component was made from, according to itself. The claim is verified only by
/// configuring the original component again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Digest of the original component.
    pub sha256: String,
    /// The input files.
    pub files: Vec<InputFile>,
}

/// An input file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// The name under which the component reads the file.
    pub name: String,
    /// Size in bytes.
    pub bytes: usize,
    /// SHA-256 digest.
    pub sha256: String,
}

/// A configured component.
pub struct Configured {
    /// The component.
    pub component: Vec<u8>,
    /// What the component was made from.
    pub origin: Origin,
    /// Lines that the component logged meanwhile.
    pub lines: Vec<String>,
}

/// The origin recorded in a component, if there is one.
pub fn origin(component: &[u8]) -> Option<Origin> {
    let note = note(component, NOTE)?;
    serde_json::from_slice(note.get(..MAX_NOTE_BYTES).unwrap_or(note)).ok()
}

/// Configures a component.
///
/// # Errors
/// The component cannot be configured at all, or rejects these files; the component's own message
/// is included.
pub fn configure(
    component: &[u8],
    files: BTreeMap<String, Vec<u8>>,
) -> Result<Configured, Failure> {
    let bad = |why: &str| Failure::Input(why.to_owned());
    if let Some((name, _)) = (files.iter()).find(|(_, bytes)| str::from_utf8(bytes).is_err()) {
        return Err(Failure::Input(format!("{name} is not text (UTF-8)")));
    }
    if origin(component).is_some() {
        return Err(bad(
            "the component is already configured: name the component that it was made from",
        ));
    }
    let found = part(component, CONFIGURE).map_err(Failure::Input)?;
    let found = found.ok_or_else(|| bad("the component has nothing to configure"))?;
    let origin = Origin {
        sha256: hex(&Sha256::digest(component)),
        files: (files.iter())
            .map(|(name, bytes)| InputFile {
                name: name.clone(),
                bytes: bytes.len(),
                sha256: hex(&Sha256::digest(bytes)),
            })
            .collect(),
    };
    let (module, lines) = configured_module(found.module(component), files)?;
    let note = serde_json::to_vec(&origin).map_err(|error| failed(&error))?;
    let component = noted(&found.replaced(component, &module), NOTE, &note);
    let surface = surface(&component).map_err(|error| failed(&error))?;
    if !surface.is_handler() {
        return Err(bad("the component is not a handler"));
    }
    Ok(Configured {
        component,
        origin,
        lines,
    })
}

fn failed(cause: &dyn core::fmt::Display) -> Failure {
    Failure::Failed(format!("the component cannot be configured: {cause:#}"))
}

/// The module with the result in its memory, and the lines that it logged.
fn configured_module(
    core: &[u8],
    files: BTreeMap<String, Vec<u8>>,
) -> Result<(Vec<u8>, Vec<String>), Failure> {
    let engine = Engine::new(Config::new().consume_fuel(true)).map_err(|error| failed(&error))?;
    let mut wizer = Wizer::new();
    wizer.init_func(CONFIGURE);
    let (context, instrumented) = wizer.instrument(core).map_err(|error| failed(&error))?;
    let module = Module::new(&engine, instrumented).map_err(|error| failed(&error))?;
    let mut first = store(&engine, MAX_FUEL, files).map_err(|error| failed(&error))?;
    let outcome = computed(&engine, &mut first, &module)
        .map_err(|error| failed(&with_lines(&error, &first)))?;
    let made = outcome.map_err(Failure::Input)?;
    let lines = core::mem::take(&mut first.data_mut().lines);
    drop(first);
    let mut second = store(&engine, MAX_FUEL, BTreeMap::new()).map_err(|error| failed(&error))?;
    let instance = instance_with_result(&engine, &mut second, &module, &made)
        .map_err(|error| failed(&error))?;
    let module =
        snapshot(&wizer, &context, &mut second, instance).map_err(|error| failed(&error))?;
    Ok((module, lines))
}

fn instance(
    engine: &Engine,
    store: &mut Store<State>,
    module: &Module,
) -> wasmtime::Result<Instance> {
    let mut linker = Linker::new(engine);
    for log in LOGS {
        linker.func_wrap(log, "write", log_write)?;
    }
    for config in CONFIGS {
        linker.func_wrap(config, "get", config_get)?;
    }
    link_seed(&mut linker, module)?;
    linker.define_unknown_imports_as_traps(module)?;
    linker.instantiate(store, module)
}

/// Runs the computation: its result, or the component's own error message.
fn computed(
    engine: &Engine,
    store: &mut Store<State>,
    module: &Module,
) -> wasmtime::Result<Result<Vec<u8>, String>> {
    let instance = instance(engine, store, module)?;
    (instance.get_typed_func::<(), ()>(&mut *store, CONFIGURE)?).call(&mut *store, ())?;
    let result = instance.get_typed_func::<(), i32>(&mut *store, MADE)?;
    let result = result.call(&mut *store, ())?;
    let memory = memory(&instance, store)?;
    let [success, at, bytes] = [0, 4, 8].map(|offset| {
        let mut word = [0; 4];
        let read = memory.read(&*store, address(result).saturating_add(offset), &mut word);
        read.map(|()| i32::from_le_bytes(word))
    });
    let (at, bytes) = (address(at?), address(bytes?));
    if bytes > MAX_MADE_BYTES {
        wasmtime::bail!("the result has {bytes} bytes, at most {MAX_MADE_BYTES} are allowed");
    }
    let mut made = vec![0; bytes];
    memory.read(&*store, at, &mut made)?;
    Ok(match success? {
        0 => Err(tensorgate_cli_common::ui::printable(
            &String::from_utf8_lossy(&made),
        )),
        _ => Ok(made),
    })
}

/// A fresh instance whose memory contains the result.
fn instance_with_result(
    engine: &Engine,
    store: &mut Store<State>,
    module: &Module,
    made: &[u8],
) -> wasmtime::Result<Instance> {
    let instance = instance(engine, store, module)?;
    let keep = instance.get_typed_func::<i32, i32>(&mut *store, KEEP)?;
    let room = keep.call(&mut *store, i32::try_from(made.len())?)?;
    memory(&instance, store)?.write(&mut *store, address(room), made)?;
    Ok(instance)
}

fn memory(instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Memory> {
    let found = instance.get_memory(store, "memory");
    found.ok_or_else(|| wasmtime::format_err!("the component exports no memory"))
}

fn address(value: i32) -> usize {
    usize::try_from(value.cast_unsigned()).unwrap_or(usize::MAX)
}

/// `config.get` in the canonical ABI: the arguments are the address and length of a key, and the
/// address of the result. The result is an option flag, an address and a length.
fn config_get(
    mut caller: Caller<'_, State>,
    at: i32,
    bytes: i32,
    answer: i32,
) -> wasmtime::Result<()> {
    let no_memory = || wasmtime::format_err!("the component exports no memory");
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(no_memory)?;
    let (data, state) = memory.data_and_store_mut(&mut caller);
    let key = data
        .get(address(at)..)
        .and_then(|rest| rest.get(..address(bytes)));
    let key = key.and_then(|key| str::from_utf8(key).ok());
    let Some(found) = key.and_then(|key| state.inputs.get(key)).cloned() else {
        return Ok(memory.write(&mut caller, address(answer), &[0])?);
    };
    let allocate = caller
        .get_export("cabi_realloc")
        .and_then(Extern::into_func);
    let allocate =
        allocate.ok_or_else(|| wasmtime::format_err!("the component exports no allocator"))?;
    let allocate = allocate.typed::<(i32, i32, i32, i32), i32>(&caller)?;
    let length = i32::try_from(found.len())?;
    let room = allocate.call(&mut caller, (0, 0, 1, length))?;
    memory.write(&mut caller, address(room), &found)?;
    let words = [1, room, length].map(i32::to_le_bytes);
    Ok(memory.write(&mut caller, address(answer), words.as_flattened())?)
}
