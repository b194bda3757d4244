//! All functions of ours that a guest can import. The linker has no others, except those of WASI.
//! Limits are checked before data is copied.

use std::time::Instant;

use tensorgate_base::egress_log::ResolveFailure;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList, WasmStr};

use crate::bindings::v0_1::preprocess::tensorgate::handler::log::Level;
use crate::call_state::{CallState, Stop};
use crate::fixed_limits::{
    MAX_CONFIG_KEY_BYTES, MAX_LOOKUP_ITEM_BYTES, MAX_LOOKUP_ITEMS, MAX_URL_BYTES,
};
use crate::guest_log::{GuestLine, longest};
use crate::request_imports;
use crate::resources::{CapabilityRequest, ResolvedResource};
use crate::versions::{COMMON, Common, ERRORS};

/// Adds the imports to a linker.
fn link_capabilities(linker: &mut Linker<CallState>, version: &Common) -> wasmtime::Result<()> {
    linker.instance(version.fetch)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (urls,): (WasmList<WasmStr>,)| {
            store.data_mut().enter_host()?;
            // Limits are checked before data is copied.
            if urls.len() > store.data().capabilities.limits.files {
                return Err(Stop::CapabilityLimit.into());
            }
            let urls = texts(&mut store, &urls, MAX_URL_BYTES)?;
            let asks: Vec<_> = urls.into_iter().map(CapabilityRequest::File).collect();
            let resolved = store.data_mut().ask(&asks)?;
            let files = resolved.into_iter().map(|resolved| match resolved {
                ResolvedResource::File(Ok(file)) => Ok(File {
                    content_type: file.content_type,
                    data: file.data.into(),
                }),
                ResolvedResource::File(Err(missing)) => Err(Failure::from(missing)),
                // The result always has the kind of the request.
                ResolvedResource::Columns(_) => Err(Failure::Refused),
            });
            Ok((files.collect::<Vec<_>>(),))
        },
    )?;
    linker.instance(version.lookup)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>,
         (lookup, features, keys): (WasmStr, WasmList<WasmStr>, WasmList<WasmStr>)| {
            store.data_mut().enter_host()?;
            if features.len() > MAX_LOOKUP_ITEMS || keys.len() > MAX_LOOKUP_ITEMS {
                return Err(Stop::CapabilityLimit.into());
            }
            let ask = CapabilityRequest::Columns {
                lookup: text(&mut store, &lookup, MAX_LOOKUP_ITEM_BYTES)?,
                features: texts(&mut store, &features, MAX_LOOKUP_ITEM_BYTES)?,
                keys: texts(&mut store, &keys, MAX_LOOKUP_ITEM_BYTES)?,
            };
            let resolved = store.data_mut().ask(&[ask])?;
            let columns = match resolved.into_iter().next() {
                Some(ResolvedResource::Columns(Ok(columns))) => Ok(columns
                    .into_iter()
                    .map(|column| Column {
                        feature: column.feature,
                        values: column.values,
                    })
                    .collect::<Vec<_>>()),
                Some(ResolvedResource::Columns(Err(missing))) => Err(Failure::from(missing)),
                _ => Err(Failure::Refused),
            };
            Ok((columns,))
        },
    )
}

/// Copies a guest's string if it is short enough.
fn text(
    store: &mut StoreContextMut<'_, CallState>,
    text: &WasmStr,
    max_bytes: usize,
) -> wasmtime::Result<String> {
    let text = text.to_str(&*store)?;
    if text.len() > max_bytes {
        return Err(Stop::CapabilityLimit.into());
    }
    Ok(text.into_owned())
}

/// Copies a guest's strings. The caller has checked their number.
fn texts(
    store: &mut StoreContextMut<'_, CallState>,
    list: &WasmList<WasmStr>,
    max_bytes: usize,
) -> wasmtime::Result<Vec<String>> {
    let list: Vec<WasmStr> = list.iter(&mut *store)?.collect::<Result<_, _>>()?;
    list.iter()
        .map(|item| text(store, item, max_bytes))
        .collect()
}

/// A fetched file, as the interface defines it.
#[derive(ComponentType, Lower)]
#[component(record)]
struct File {
    #[component(name = "content-type")]
    content_type: String,
    data: Vec<u8>,
}

/// Why there is no result.
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

impl From<ResolveFailure> for Failure {
    fn from(missing: ResolveFailure) -> Self {
        match missing {
            ResolveFailure::Refused => Self::Refused,
            ResolveFailure::Unavailable => Self::Unavailable,
            ResolveFailure::Timeout => Self::Timeout,
            ResolveFailure::TooLarge => Self::TooLarge,
            ResolveFailure::WrongType => Self::WrongType,
            ResolveFailure::NotFound => Self::NotFound,
        }
    }
}

/// The values of a feature.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Column {
    feature: String,
    values: Vec<Option<f64>>,
}

impl CallState {
    /// Returns the results of these requests. Stops the call if one is unresolved, or if it made
    /// too many.
    fn ask(&mut self, asks: &[CapabilityRequest]) -> Result<Vec<ResolvedResource>, Stop> {
        let known = self.capabilities.get(asks);
        if self.capabilities.exceeds_limits() {
            return Err(Stop::CapabilityLimit);
        }
        known.ok_or(Stop::Unresolved)
    }

    /// Logs a line of the guest within its limits. `line` is the [`longest`] part of a message of
    /// `bytes` bytes.
    pub(super) fn log_line(&mut self, level: Level, line: &str, bytes: usize) {
        match self.log.accept(line, bytes, Instant::now()) {
            GuestLine::Logged(line) => write(level, &self.handler, &self.request_id, &line),
            GuestLine::DropNoted => tracing::warn!(
                handler = &*self.handler,
                request_id = self.request_id.as_str(),
                "the handler writes too many log lines: some are dropped and counted"
            ),
            GuestLine::Silent => {}
        }
    }
}

/// Adds the imports of every version to a linker.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    for version in &COMMON {
        link_common(linker, version)?;
    }
    linker.instance(ERRORS)?;
    request_imports::link(linker)
}

/// Adds the imports that have the same functions in every version. Strings are checked in the
/// guest's memory before they are copied.
fn link_common(linker: &mut Linker<CallState>, version: &Common) -> wasmtime::Result<()> {
    linker.instance(version.types)?;
    linker.instance(version.config)?.func_wrap(
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
    linker.instance(version.log)?.func_wrap(
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
            if matches!(level, Level::Error) {
                state.log.keep_error(&line);
            }
            state.log_line(level, &line, bytes);
            Ok(())
        },
    )?;
    link_capabilities(linker, version)
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
