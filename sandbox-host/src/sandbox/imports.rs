//! The whole of what a guest can call. Nothing else is in the linker, so nothing else can be linked.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use super::bindings::preprocess::tensorgate::handler::log::Level;
use super::bounds::MAX_CONFIG_KEY_BYTES;
use super::logbook::longest;
use super::state::CallState;

/// The interfaces that exist, versions included. `types` has no functions.
pub(super) const INTERFACES: [&str; 5] =
    ["tensorgate:handler/types@0.1.0", CONFIG, LOG, FETCH, LOOKUP];

const CONFIG: &str = "tensorgate:handler/config@0.1.0";
const LOG: &str = "tensorgate:handler/log@0.1.0";
/// For those handlers alone whose policy says what may be fetched.
pub(super) const FETCH: &str = "tensorgate:handler/fetch@0.1.0";
/// For those alone whose policy names lookups.
pub(super) const LOOKUP: &str = "tensorgate:handler/lookup@0.1.0";

/// Fills a linker. Strings are read where they lie: bounds come before copies.
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
            // Owned, because the logbook lies in the same store, and no more of it than a line can have; the store's hostcall fuel bounds
            // what is looked at.
            let (line, bytes) = {
                let message = message.to_str(&store)?;
                (longest(&message).to_owned(), message.len())
            };
            let state = store.data_mut();
            if let Some(line) = state.logbook.accept(&line, bytes) {
                write(level, &state.handler, &state.request_id, &line);
            }
            Ok(())
        },
    )?;
    super::brought::link(linker)
}

/// One line, at the level that the handler gave it.
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
