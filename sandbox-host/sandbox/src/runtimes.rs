//! Runtimes: the code of an interpreter that many handlers share.
//!
//! A runtime is a component that only exports one core module, in a file named by its digest, with
//! the interpreter's library in a last custom section. It is compiled once. A handler imports the
//! module by the digest of the file, and brings nothing but its memory: so no handler compiles an
//! interpreter, and all of them share one copy of its code.
//!
//! A handler names the bytes that it runs on, so who can write to a folder of runtimes can only
//! withhold one. A runtime runs within the limits of the call, as any guest.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;
use tensorgate_settings::folders::MAX_COMPONENT_BYTES;
use wasmtime::component::{Component, Linker, WasmList};
use wasmtime::{Engine, Error, Module, Store, StoreContextMut};

use crate::call_state::{CallState, Stop};
use crate::development;
use crate::fixed_limits::{MAX_RUNTIME_BYTES, MAX_TABLE_ELEMENTS, MAX_WASI_BYTES};
use crate::memory_account::MemoryShare;
use crate::structure::is_wasm;
use crate::written_pages::WrittenPages;

/// The interface that reads the library, and tells where the memory is.
pub(super) const LIBRARY: &str = "tensorgate:runtime/library@0.1.0";

/// The custom section with the library.
const LIBRARY_SECTION: &str = "tensorgate-library";

/// The export of a runtime.
const CODE: &str = "code";

/// A runtime that is ready to be linked into components.
pub(super) struct Runtime {
    pub(super) digest: [u8; 32],
    pub(super) module: Module,
    /// The library, which instances read.
    pub(super) library: Arc<[u8]>,
    /// The bytes of both in the account of the host.
    pub(super) share: MemoryShare,
}

impl Runtime {
    /// Adds the runtime to a linker, under the name of the import. `written` are the pages of the
    /// component's memory.
    pub(super) fn link(
        &self,
        linker: &mut Linker<CallState>,
        import: &str,
        written: Arc<WrittenPages>,
    ) -> wasmtime::Result<()> {
        linker.root().module(import, &self.module)?;
        let library = Arc::clone(&self.library);
        let mut functions = linker.instance(LIBRARY)?;
        // Empty lists at the start and at the end of a memory. The engine has checked that both
        // are in it. It has no other way to the memory of a component.
        functions.func_wrap(
            "memory",
            move |mut store: StoreContextMut<'_, CallState>,
                  (start, end): (WasmList<u8>, WasmList<u8>)| {
                store.data_mut().enter_host()?;
                let address = |list: WasmList<u8>| list.as_le_slice(&store).as_ptr().addr();
                let memory = address(start)..address(end);
                written.populate(&memory);
                store.data_mut().memory = Some(memory);
                Ok(())
            },
        )?;
        functions.func_wrap(
            "read",
            move |mut store: StoreContextMut<'_, CallState>, (at, count): (u64, u32)| {
                store.data_mut().enter_host()?;
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                if count > MAX_WASI_BYTES {
                    return Err(Stop::WasiBytes.into());
                }
                let rest = usize::try_from(at).ok().and_then(|at| library.get(at..));
                let rest = rest.unwrap_or_default();
                Ok((rest.get(..count).unwrap_or(rest).to_vec(),))
            },
        )
    }
}

/// The digest of the runtime that an import names.
pub(super) fn digest_of(import: &str) -> Option<[u8; 32]> {
    let hash = import
        .strip_prefix("integrity=<sha256-")?
        .strip_suffix('>')?;
    STANDARD.decode(hash).ok()?.try_into().ok()
}

/// The component and the library in the file of a runtime.
///
/// # Errors
/// The file is missing, or is not the one that is asked for.
pub(super) fn read(folders: &[PathBuf], digest: &[u8; 32]) -> Result<(Vec<u8>, Arc<[u8]>), String> {
    let name = format!("{}.wasm", hex(digest));
    let paths = folders.iter().map(|folder| folder.join(&name));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
        return Err(format!(
            "{name} is not installed: copy it from the folder `runtimes` of the cache where the handler was built (~/.cache/tensorgate) into the folder `runtimes` of the host's builtins"
        ));
    };
    let most = u64::try_from(MAX_RUNTIME_BYTES).unwrap_or(u64::MAX);
    let mut file =
        tensorgate_settings::bundle::read(&path, most).map_err(|fault| fault.to_string())?;
    if <[u8; 32]>::from(Sha256::digest(&file)) != *digest {
        return Err(format!(
            "{} has another sha256 than its name",
            path.display()
        ));
    }
    // Other files can have the digest of a code whose functions are kept.
    let parts = development::split(&file, LIBRARY_SECTION)
        .filter(|(code, _)| is_wasm(code) && code.len() <= MAX_COMPONENT_BYTES);
    let (code, library) = parts.ok_or_else(|| format!("{} is not a runtime", path.display()))?;
    let (library, code_bytes) = (library.into(), code.len());
    file.truncate(code_bytes);
    Ok((file, library))
}

/// The module that a runtime's component exports.
pub(super) fn module(engine: &Engine, component: &Component) -> wasmtime::Result<Module> {
    let mut store = Store::new(engine, ());
    // An instance of the component runs no code.
    store.set_fuel(0)?;
    let instance = Linker::new(engine).instantiate(&mut store, component)?;
    let module = instance.get_module(&mut store, CODE);
    // A component's own modules are checked against the bounds of the pool, but not this one.
    module
        .filter(|module| {
            let needs = module.resources_required();
            let elements = needs.max_initial_table_size.unwrap_or(0);
            needs.num_memories == 0
                && usize::try_from(elements).is_ok_and(|it| it <= MAX_TABLE_ELEMENTS)
        })
        .ok_or_else(|| Error::msg("it exports no code, or code with a memory or a larger table"))
}
