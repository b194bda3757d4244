//! The whole of what a guest can call. Nothing else is in the linker, so nothing else can be linked.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList, WasmStr};

use super::asks::{Ask, Brought, Missing};
use super::bindings::preprocess::tensorgate::handler::log::Level;
use super::bounds::{MAX_ASK_BYTES, MAX_CONFIG_KEY_BYTES};
use super::state::{CallState, Stop};

/// The interfaces that exist, versions included. `types` has no functions.
pub(super) const INTERFACES: [&str; 4] = ["tensorgate:handler/types@0.1.0", CONFIG, LOG, FETCH];

const CONFIG: &str = "tensorgate:handler/config@0.1.0";
const LOG: &str = "tensorgate:handler/log@0.1.0";
/// For those handlers alone whose policy says what may be fetched.
pub(super) const FETCH: &str = "tensorgate:handler/fetch@0.1.0";

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
            // Owned, because the logbook lies in the same store; the store's hostcall fuel bounds it.
            let message = message.to_str(&store)?.into_owned();
            let state = store.data_mut();
            if let Some(line) = state.logbook.accept(&message) {
                write(level, &state.handler, &state.request_id, &line);
            }
            Ok(())
        },
    )?;
    linker.instance(FETCH)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (urls,): (WasmList<WasmStr>,)| {
            store.data_mut().enter_host()?;
            // Bounds come before copies.
            if urls.len() > store.data().asked.may.files {
                return Err(Stop::Asks.into());
            }
            let urls: Vec<WasmStr> = urls.iter(&mut store)?.collect::<Result<_, _>>()?;
            let mut asks = Vec::with_capacity(urls.len());
            for url in urls {
                let url = url.to_str(&store)?;
                if url.len() > MAX_ASK_BYTES {
                    return Err(Stop::Asks.into());
                }
                asks.push(Ask::File(url.into_owned()));
            }
            let brought = store.data_mut().ask(&asks)?;
            let files = brought.into_iter().map(|brought| match brought {
                Brought::File(Ok(file)) => Ok(File {
                    content_type: file.content_type,
                    data: file.data.into(),
                }),
                Brought::File(Err(missing)) => Err(Failure::from(missing)),
            });
            Ok((files.collect::<Vec<_>>(),))
        },
    )
}

/// A fetched file, as the interface has it.
#[derive(ComponentType, Lower)]
#[component(record)]
struct File {
    #[component(name = "content-type")]
    content_type: String,
    data: Vec<u8>,
}

/// Why there is none.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum Failure {
    #[component(name = "refused")]
    Refused,
    #[component(name = "unavailable")]
    Unavailable,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "wrong-type")]
    WrongType,
    #[component(name = "not-found")]
    NotFound,
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Refused => Self::Refused,
            Missing::Unavailable => Self::Unavailable,
            Missing::Timeout => Self::Timeout,
            Missing::TooLarge => Self::TooLarge,
            Missing::WrongType => Self::WrongType,
            Missing::NotFound => Self::NotFound,
        }
    }
}

impl CallState {
    /// What was brought for these; stops the call if anything is still to be brought, or was asked for in excess.
    fn ask(&mut self, asks: &[Ask]) -> Result<Vec<Brought>, Stop> {
        let known = self.asked.get(asks);
        if self.asked.is_beyond() {
            return Err(Stop::Asks);
        }
        known.ok_or(Stop::Wants)
    }
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
