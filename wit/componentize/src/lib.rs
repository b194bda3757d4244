//! Converts a core module, as `cargo build` links it for wasm32-unknown-unknown or wasm32-wasip2,
//! to a handler component. It also lists the imports and exports of a component, composes a handler
//! with the tensor kit, replaces a module in a component, and fuses a component's modules.
//!
//! It adds no adapter: a module that imports WASI 0.1 is rejected. The output depends only on the
//! input, byte for byte.

mod blocks;
mod compose;
mod filler;
mod fuse;
mod imports;
mod parts;
pub mod python;

pub use compose::compose;
pub use fuse::{Kept, fused};
pub use imports::{BLOCKS, KIT, Surface, refusal, surface};
pub use parts::{Part, note, noted, part};

use wit_component::ComponentEncoder;

/// Why a module was rejected. Each text names the remedy if there is exactly one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The crate does not use an export macro.
    #[error(
        "exports neither preprocess nor postprocess: call export_preprocess! or export_postprocess! once"
    )]
    Export,
    /// It is not a module, or not a handler's.
    #[error("not a core module with tensorgate-handler's exports: {0}")]
    Encode(String),
    /// It has imports that no host provides. The text names them, and says what to do.
    #[error("{0}")]
    Imports(String),
}

/// Converts a core module of a handler, or of the tensor kit, to a component.
///
/// # Errors
/// [`Fault`], for the author.
pub fn componentize(core: &[u8]) -> Result<Vec<u8>, Fault> {
    // The module's imports are checked first, because the encoder's error names no remedy.
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

/// Rejects imports that no host provides.
fn only_handler(wasm: &[u8]) -> Result<(), Fault> {
    let surface = surface(wasm).map_err(Fault::Encode)?;
    let foreign = surface.foreign();
    if foreign.is_empty() {
        Ok(())
    } else {
        Err(Fault::Imports(refusal(&foreign)))
    }
}

/// Encodes a component and validates it.
fn encode(core: &[u8]) -> Result<Vec<u8>, String> {
    ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}
