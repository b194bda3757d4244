//! Wraps a core module, as `cargo build --target wasm32-unknown-unknown` makes it, into a handler component, and says of
//! any component what it imports and exports. It also puts the tensor kit inside a handler that imports it, one module of a component in another's place, and one in that of many.
//!
//! What it never does: it adds no adapter. A module that wants WASI is refused, not satisfied with a stand-in.
//! The output depends on the input alone, byte for byte.

mod blocks;
mod compose;
mod filler;
mod fuse;
mod imports;
mod parts;

pub use compose::compose;
pub use fuse::{Kept, fused};
pub use imports::{BLOCKS, KIT, Surface, surface};
pub use parts::{Part, note, noted, part};

use wit_component::ComponentEncoder;

/// What can go wrong. Each text says what to do about it where there is one thing to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A crate that forgot its export macro.
    #[error(
        "exports neither preprocess nor postprocess: call export_preprocess! or export_postprocess! once"
    )]
    Export,
    /// No module, or one that is no handler's.
    #[error("not a core module with tensorgate-handler's exports: {0}")]
    Encode(String),
    /// It wants something from its host that there is none of.
    #[error(
        "imports {0}, which no handler gets: only tensorgate:handler/{{types,config,log}} exist. Build with --target wasm32-unknown-unknown, and without crates that want a clock, random numbers or files"
    )]
    Imports(String),
}

/// The component of a core module: a handler's, or the tensor kit's.
///
/// # Errors
/// [`Fault`], each for the author to read.
pub fn componentize(core: &[u8]) -> Result<Vec<u8>, Fault> {
    // The module's own imports first: the encoder's text on an unknown one names no remedy.
    only_handler(core)?;
    let component = encode(core).map_err(Fault::Encode)?;
    only_handler(&component)?;
    let surface = surface(&component).map_err(Fault::Encode)?;
    if surface.is_handler() || surface.is_kit() {
        Ok(component)
    } else {
        Err(Fault::Export)
    }
}

/// Refuses what imports anything that is not a handler's.
fn only_handler(wasm: &[u8]) -> Result<(), Fault> {
    let foreign = surface(wasm).map_err(Fault::Encode)?.foreign().join(", ");
    if foreign.is_empty() {
        Ok(())
    } else {
        Err(Fault::Imports(foreign))
    }
}

/// Wraps, and validates what came of it.
fn encode(core: &[u8]) -> Result<Vec<u8>, String> {
    ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}
