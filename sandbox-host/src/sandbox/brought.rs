//! What a guest can ask the host to bring. Bounds come before copies.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList, WasmStr};

use super::asks::{Ask, Brought, Missing};
use super::bounds::{MAX_ASK_BYTES, MAX_ASK_ITEM_BYTES, MAX_ASK_ITEMS};
use super::imports::{FETCH, LOOKUP};
use super::state::{CallState, Stop};

/// Fills a linker.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.instance(FETCH)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (urls,): (WasmList<WasmStr>,)| {
            store.data_mut().enter_host()?;
            // Bounds come before copies.
            if urls.len() > store.data().asked.may.files {
                return Err(Stop::Asks.into());
            }
            let urls = texts(&mut store, &urls, MAX_ASK_BYTES)?;
            let asks: Vec<_> = urls.into_iter().map(Ask::File).collect();
            let brought = store.data_mut().ask(&asks)?;
            let files = brought.into_iter().map(|brought| match brought {
                Brought::File(Ok(file)) => Ok(File {
                    content_type: file.content_type,
                    data: file.data.into(),
                }),
                Brought::File(Err(missing)) => Err(Failure::from(missing)),
                // An ask is answered in kind.
                Brought::Columns(_) => Err(Failure::Refused),
            });
            Ok((files.collect::<Vec<_>>(),))
        },
    )?;
    linker.instance(LOOKUP)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>,
         (lookup, features, keys): (WasmStr, WasmList<WasmStr>, WasmList<WasmStr>)| {
            store.data_mut().enter_host()?;
            if features.len() > MAX_ASK_ITEMS || keys.len() > MAX_ASK_ITEMS {
                return Err(Stop::Asks.into());
            }
            let ask = Ask::Columns {
                lookup: text(&mut store, &lookup, MAX_ASK_ITEM_BYTES)?,
                features: texts(&mut store, &features, MAX_ASK_ITEM_BYTES)?,
                keys: texts(&mut store, &keys, MAX_ASK_ITEM_BYTES)?,
            };
            let brought = store.data_mut().ask(&[ask])?;
            let columns = match brought.into_iter().next() {
                Some(Brought::Columns(Ok(columns))) => Ok(columns
                    .into_iter()
                    .map(|column| Column {
                        feature: column.feature,
                        values: column.values,
                    })
                    .collect::<Vec<_>>()),
                Some(Brought::Columns(Err(missing))) => Err(Failure::from(missing)),
                _ => Err(Failure::Refused),
            };
            Ok((columns,))
        },
    )
}

/// A guest's text, copied if it is short enough.
fn text(
    store: &mut StoreContextMut<'_, CallState>,
    text: &WasmStr,
    max_bytes: usize,
) -> wasmtime::Result<String> {
    let text = text.to_str(&*store)?;
    if text.len() > max_bytes {
        return Err(Stop::Asks.into());
    }
    Ok(text.into_owned())
}

/// A guest's texts. How many, whoever calls has looked at.
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

/// A feature's values.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Column {
    feature: String,
    values: Vec<Option<f64>>,
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
