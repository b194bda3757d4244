//! All functions that a guest can import. The linker has no others. Limits are checked before data
//! is copied.

use std::fmt::Write;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList, WasmStr};

use super::bindings::preprocess::tensorgate::handler::log::Level;
use super::call::{CallState, Stop};
use super::capabilities::{CapabilityRequest, ResolveFailure, ResolvedResource};
use super::limits::{
    MAX_CONFIG_KEY_BYTES, MAX_LOG_BYTES, MAX_LOG_LINE_BYTES, MAX_LOG_LINES, MAX_LOOKUP_ITEM_BYTES,
    MAX_LOOKUP_ITEMS, MAX_URL_BYTES,
};

/// Adds the imports to a linker.
fn link_capabilities(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.instance(FETCH)?.func_wrap(
        "get",
        |mut store: StoreContextMut<'_, CallState>, (urls,): (WasmList<WasmStr>,)| {
            store.data_mut().enter_host()?;
            // Limits are checked before data is copied.
            if urls.len() > store.data().capabilities.limits.files {
                return Err(Stop::CapabilityLimit.into());
            }
            let urls = texts(&mut store, &urls, MAX_URL_BYTES)?;
            let asks: Vec<_> = urls.into_iter().map(CapabilityRequest::File).collect();
            let brought = store.data_mut().ask(&asks)?;
            let files = brought.into_iter().map(|brought| match brought {
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
    linker.instance(LOOKUP)?.func_wrap(
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
            let brought = store.data_mut().ask(&[ask])?;
            let columns = match brought.into_iter().next() {
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
}

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
    link_capabilities(linker)
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

// Log lines of a handler: limited in number and length, and escaped. Lines beyond the limits are
// counted. A guest chooses its lines, so they must not look like the host's own or control a
// terminal.

/// The log of one call.
#[derive(Debug, Default)]
pub(super) struct GuestLog {
    lines: u32,
    bytes: usize,
    dropped: u64,
    /// The number of lines that an earlier run of the same call has written.
    already_logged: u32,
}

impl GuestLog {
    /// The log of a call whose earlier run has written this many lines. This run repeats them
    /// first.
    pub(super) fn resume_after(told: u32) -> Self {
        Self {
            already_logged: told,
            ..Self::default()
        }
    }

    /// The number of lines so far.
    pub(super) const fn lines(&self) -> u32 {
        self.lines
    }

    /// Returns the line to log, or `None` if it exceeds the limits or was logged before. `message`
    /// is the [`longest`] part of a message of `whole_bytes`.
    pub(super) fn accept(&mut self, message: &str, whole_bytes: usize) -> Option<String> {
        let line = longest(message);
        let bytes = self.bytes.saturating_add(line.len());
        if self.lines >= MAX_LOG_LINES || bytes > MAX_LOG_BYTES {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.lines = self.lines.saturating_add(1);
        self.bytes = bytes;
        if self.lines <= self.already_logged {
            return None;
        }
        let mut escaped = escape(line);
        if line.len() < whole_bytes {
            // Writing to a string cannot fail.
            let _ = write!(escaped, " … (cut from {whole_bytes} bytes)");
        }
        Some(escaped)
    }

    /// The number of lines beyond the limits.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The part of a message that fits in a line.
pub(super) fn longest(message: &str) -> &str {
    cut(message, MAX_LOG_LINE_BYTES)
}

/// The longest prefix of at most `max` bytes that ends at a character boundary.
pub(super) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max))
        .unwrap_or_default()
}

/// Escapes control characters, line separators and bidirectional controls.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Line and paragraph separators, and the bidirectional controls of CVE-2021-42574.
const fn is_invisible(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn accept(logbook: &mut GuestLog, message: &str) -> Option<String> {
        logbook.accept(longest(message), message.len())
    }

    #[test]
    fn a_line_cannot_pose_as_another() {
        for (message, expected) in [
            ("plain: ünïcödé 数", "plain: ünïcödé 数"),
            ("a\nERROR forged", "a\\nERROR forged"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{202e}drawkcab", "\\u{202e}drawkcab"),
            ("a\u{2028}b\0", "a\\u{2028}b\\u{0}"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(accept(&mut GuestLog::default(), message).unwrap(), expected);
        }
    }

    #[test]
    fn lines_that_an_earlier_run_has_written_are_not_written_again() {
        let mut logbook = GuestLog::resume_after(2);
        let written = ["a", "b", "c"].map(|line| accept(&mut logbook, line).is_some());
        assert_eq!(written, [false, false, true]);
        assert_eq!((logbook.lines(), logbook.dropped()), (3, 0));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = accept(&mut GuestLog::default(), &"ü".repeat(MAX_LOG_LINE_BYTES)).unwrap();
        assert!(line.starts_with(&"ü".repeat(MAX_LOG_LINE_BYTES / 2)));
        assert!(line.ends_with("(cut from 8192 bytes)"), "{line}");
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
    }

    #[test]
    fn lines_past_the_bound_are_dropped_and_counted() {
        let mut logbook = GuestLog::default();
        let kept = (0..MAX_LOG_LINES + 5)
            .filter(|_| accept(&mut logbook, "x").is_some())
            .count();
        assert_eq!(
            (u32::try_from(kept).unwrap(), logbook.dropped()),
            (MAX_LOG_LINES, 5)
        );

        let mut logbook = GuestLog::default();
        let long = "x".repeat(MAX_LOG_LINE_BYTES);
        let kept = (0..20)
            .filter(|_| accept(&mut logbook, &long).is_some())
            .count();
        assert_eq!(
            (kept, logbook.dropped()),
            (MAX_LOG_BYTES / MAX_LOG_LINE_BYTES, 4)
        );
    }
}
