//! All functions that a guest can import. The linker has no others.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use super::bindings::preprocess::tensorgate::handler::log::Level;
use super::bounds::MAX_CONFIG_KEY_BYTES;
use super::guest_log::longest;
use super::state::CallState;

/// The interfaces that exist, with versions. `types` has no functions.
pub(super) const INTERFACES: [&str; 5] =
    ["tensorgate:handler/types@0.1.0", CONFIG, LOG, FETCH, LOOKUP];

const CONFIG: &str = "tensorgate:handler/config@0.1.0";
const LOG: &str = "tensorgate:handler/log@0.1.0";
/// Only for handlers with `fetch` in their policy.
pub(super) const FETCH: &str = "tensorgate:handler/fetch@0.1.0";
/// Only for handlers with `lookups` in their policy.
pub(super) const LOOKUP: &str = "tensorgate:handler/lookup@0.1.0";

/// Adds the imports to a linker. Strings are checked in the guest's memory before they are copied.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    for interface in INTERFACES {
        linker.instance(interface)?;
    }
    linker.instance(CONFIG)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (key,): (WasmStr,)| {
            store.data_mut().enter_host()?;
            let key = key.to_str(&store)?;
            let known = key.len() <= MAX_CONFIG_KEY_BYTES;
            Ok((known
                .then(|| store.data().config.get(&*key).cloned())
                .flatten(),))
        },
    )?;
    linker.instance(LOG)?.func_wrap(
        "write",
        |mut store: StoreContextMut<'_, CallState>, (level, message): (Level, WasmStr)| {
            store.data_mut().enter_host()?;
            // Copied because the log is in the same store, and only as much as a line may have. The
            // store's hostcall fuel limits what is read.
            let (line, bytes) = {
                let message = message.to_str(&store)?;
                (longest(&message).to_owned(), message.len())
            };
            let state = store.data_mut();
            if let Some(line) = state.log.accept(&line, bytes) {
                write(level, &state.handler, &state.request_id, &line);
            }
            Ok(())
        },
    )?;
    super::capability_imports::link(linker)
}

/// Writes one line at the level that the handler chose.
fn write(level: Level, handler: &str, request_id: &str, line: &str) {
    match level {
        Level::Debug => {
            tracing::debug!(target: "tensorgate::handler", handler, request_id, "{line}")
        }
        Level::Info => tracing::info!(target: "tensorgate::handler", handler, request_id, "{line}"),
        Level::Warn => tracing::warn!(target: "tensorgate::handler", handler, request_id, "{line}"),
        Level::Error => {
            tracing::error!(target: "tensorgate::handler", handler, request_id, "{line}")
        }
    }
}
