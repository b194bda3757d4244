//! Fits a component to its user: what it makes of the user's files is made now, in wasmtime and with nothing of this machine but those files, and put into
//! its memory. The component that comes out is another one, with a digest of its own, and holds all that a call needs.
//!
//! It is made in two runs. The first computes, and gives its result away as bytes; the second, fresh, gets those bytes and nothing else, so that what
//! the first left behind (the files, what was parsed of them) takes none of a call's memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_componentize::{note, noted, part, surface};
use tensorgate_policy::hex;
use wasmtime::{Caller, Config, Engine, Extern, Instance, Linker, Memory, Module, Store};
use wasmtime_wizer::Wizer;

use super::initialise::{LOG, MAX_FUEL, State, left, logged, store, with_lines};
use crate::Failure;

/// Exports that the guest crate's `export_configure!` makes: computes; where the result lies; room for what is kept.
const CONFIGURE: &str = "tensorgate-configure";
const MADE: &str = "tensorgate-made";
const KEEP: &str = "tensorgate-keep";

const CONFIG: &str = "tensorgate:handler/config@0.1.0";

/// What a component of this name's note was made of.
const NOTE: &str = "tensorgate-configured";

/// Bytes that may be kept: half of what a component may have.
const MAX_MADE_BYTES: usize = 32 << 20;

/// Bytes of a note that is read.
const MAX_NOTE_BYTES: usize = 64 << 10;

/// What a configured component says of itself. Whoever makes it writes this; only making it again shows that it is true.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The digest of the component that was configured.
    pub sha256: String,
    /// The files that it was given.
    pub files: Vec<Given>,
}

/// A file that was given.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// As the component asks for it.
    pub name: String,
    /// Its size.
    pub bytes: usize,
    /// Its digest.
    pub sha256: String,
}

/// A component that was configured.
pub struct Configured {
    /// It.
    pub component: Vec<u8>,
    /// What it was made of.
    pub origin: Origin,
    /// What it said meanwhile.
    pub lines: Vec<String>,
}

/// What a component's note says, if it has one.
pub fn origin(component: &[u8]) -> Option<Origin> {
    let note = note(component, NOTE)?;
    serde_json::from_slice(note.get(..MAX_NOTE_BYTES).unwrap_or(note)).ok()
}

/// Configures.
///
/// # Errors
/// If it is not to be configured, or cannot be with these files: with what it says.
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
            "it is configured already: name the component that it was made of",
        ));
    }
    let found = part(component, CONFIGURE).map_err(Failure::Input)?;
    let found = found.ok_or_else(|| bad("there is nothing to configure in this component"))?;
    let origin = Origin {
        sha256: hex(&Sha256::digest(component)),
        files: (files.iter())
            .map(|(name, bytes)| Given {
                name: name.clone(),
                bytes: bytes.len(),
                sha256: hex(&Sha256::digest(bytes)),
            })
            .collect(),
    };
    let (module, lines) = fitted(found.module(component), files)?;
    let note = serde_json::to_vec(&origin).map_err(|error| failed(&error))?;
    let component = noted(&found.replaced(component, &module), NOTE, &note);
    let surface = surface(&component).map_err(|error| failed(&error))?;
    if !surface.is_handler() {
        return Err(bad("it is no handler"));
    }
    Ok(Configured {
        component,
        origin,
        lines,
    })
}

fn failed(cause: &dyn core::fmt::Display) -> Failure {
    Failure::Failed(format!("it cannot be configured: {cause:#}"))
}

/// The module with what it made in its memory, and what it said.
fn fitted(
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
    let instance = kept(&engine, &mut second, &module, &made).map_err(|error| failed(&error))?;
    let module = left(&wizer, &context, &mut second, instance).map_err(|error| failed(&error))?;
    Ok((module, lines))
}

fn instance(
    engine: &Engine,
    store: &mut Store<State>,
    module: &Module,
) -> wasmtime::Result<Instance> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(LOG, "write", logged)?;
    linker.func_wrap(CONFIG, "get", answered)?;
    linker.define_unknown_imports_as_traps(module)?;
    linker.instantiate(store, module)
}

/// What it makes, or why it does not.
fn computed(
    engine: &Engine,
    store: &mut Store<State>,
    module: &Module,
) -> wasmtime::Result<Result<Vec<u8>, String>> {
    let instance = instance(engine, store, module)?;
    (instance.get_typed_func::<(), ()>(&mut *store, CONFIGURE)?).call(&mut *store, ())?;
    let told = instance.get_typed_func::<(), i32>(&mut *store, MADE)?;
    let told = told.call(&mut *store, ())?;
    let memory = memory(&instance, store)?;
    let [good, at, bytes] = [0, 4, 8].map(|offset| {
        let mut word = [0; 4];
        let read = memory.read(&*store, place(told).saturating_add(offset), &mut word);
        read.map(|()| i32::from_le_bytes(word))
    });
    let (at, bytes) = (place(at?), place(bytes?));
    if bytes > MAX_MADE_BYTES {
        wasmtime::bail!("it makes {bytes} bytes, at most {MAX_MADE_BYTES} are kept");
    }
    let mut made = vec![0; bytes];
    memory.read(&*store, at, &mut made)?;
    Ok(match good? {
        0 => Err(crate::ui::printable(&String::from_utf8_lossy(&made))),
        _ => Ok(made),
    })
}

/// A fresh instance that holds what was made.
fn kept(
    engine: &Engine,
    store: &mut Store<State>,
    module: &Module,
    made: &[u8],
) -> wasmtime::Result<Instance> {
    let instance = instance(engine, store, module)?;
    let keep = instance.get_typed_func::<i32, i32>(&mut *store, KEEP)?;
    let room = keep.call(&mut *store, i32::try_from(made.len())?)?;
    memory(&instance, store)?.write(&mut *store, place(room), made)?;
    Ok(instance)
}

fn memory(instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<Memory> {
    let found = instance.get_memory(store, "memory");
    found.ok_or_else(|| wasmtime::format_err!("it exports no memory"))
}

fn place(value: i32) -> usize {
    usize::try_from(value.cast_unsigned()).unwrap_or(usize::MAX)
}

/// `config.get` as the canonical ABI has it: where a key lies, and where the answer goes: whether there is one, its place, its bytes.
fn answered(
    mut caller: Caller<'_, State>,
    at: i32,
    bytes: i32,
    answer: i32,
) -> wasmtime::Result<()> {
    let no_memory = || wasmtime::format_err!("it exports no memory");
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(no_memory)?;
    let (held, state) = memory.data_and_store_mut(&mut caller);
    let key = held
        .get(place(at)..)
        .and_then(|rest| rest.get(..place(bytes)));
    let key = key.and_then(|key| str::from_utf8(key).ok());
    let Some(found) = key.and_then(|key| state.given.get(key)).cloned() else {
        return Ok(memory.write(&mut caller, place(answer), &[0])?);
    };
    let allocate = caller
        .get_export("cabi_realloc")
        .and_then(Extern::into_func);
    let allocate = allocate.ok_or_else(|| wasmtime::format_err!("it exports no allocator"))?;
    let allocate = allocate.typed::<(i32, i32, i32, i32), i32>(&caller)?;
    let length = i32::try_from(found.len())?;
    let room = allocate.call(&mut caller, (0, 0, 1, length))?;
    memory.write(&mut caller, place(room), &found)?;
    let words = [1, room, length].map(i32::to_le_bytes);
    Ok(memory.write(&mut caller, place(answer), words.as_flattened())?)
}
