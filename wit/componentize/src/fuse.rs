//! Fuses the linked core modules of a component into one. componentize-qjs makes modules of
//! `QuickJS`, of its bindings and of the memory after its start. For each fresh instance, an engine
//! resolves all their imports and fills the table. With one module it does both at compile time,
//! and code need not load the address of another module's memory.
//!
//! A module is fused if each of its imports comes from another fused module, or is an outside
//! function that does not depend on fused modules. A host function that reads their memory stays
//! behind `wit-component`'s indirection table. The component's imports and exports do not change.
//! Globals that are never set become constants.
//!
//! Fusing changes no result of a call. If that is not certain (a start function, an unknown segment
//! offset, two memories), it returns an error and the component stays unchanged. It adds no
//! imports.

mod items;
mod live;
mod merge;
mod module;
mod plan;
mod value;
mod write;

use wasm_encoder::{Component, RawSection};
use wasmparser::{Validator, WasmFeatures};

use crate::parts::sections;
use plan::Plan;

/// The section of nested components.
const COMPONENT: u8 = 4;

/// Why a component stays unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// It is not a component, or not a valid one.
    #[error("not a component: {0}")]
    Malformed(String),
    /// It has an unsupported part.
    #[error("it has {0}")]
    Unknown(&'static str),
    /// There are not enough modules to fuse.
    #[error("fewer than two of its modules can be fused")]
    Few,
    /// A module with a start function, which must run in its original order.
    #[error("one of its modules has a start function")]
    Start,
    /// A module that is not fused depends on fused ones, and later fused ones may depend on it.
    #[error("a module that is not fused depends on them")]
    Between,
    /// A segment with a computed offset, or one that may be out of bounds.
    #[error("the offset of a segment is not known")]
    SegmentOffset,
    /// The modules have more than one memory or table. An engine accesses only the first memory
    /// fast, and its pool has one table for each instance.
    #[error("its modules have more than one memory or table")]
    Several,
}

impl From<wasmparser::Error> for Kept {
    fn from(error: wasmparser::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<wasm_encoder::reencode::Error<Kept>> for Kept {
    fn from(error: wasm_encoder::reencode::Error<Kept>) -> Self {
        match error {
            wasm_encoder::reencode::Error::UserError(kept) => kept,
            other => Self::Malformed(other.to_string()),
        }
    }
}

/// The WebAssembly features that are supported. Tools for handlers use no others, and the host
/// supports all of them.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY);

/// The most levels of nested components. Tools generate fewer.
const MAX_NESTING: u32 = 16;

/// The component with fused modules, including those of nested components.
///
/// # Errors
/// [`Kept`], if nothing was fused: the component stays unchanged.
pub fn fused(component: &[u8]) -> Result<Vec<u8>, Kept> {
    nested(component, 0)
}

fn nested(component: &[u8], depth: u32) -> Result<Vec<u8>, Kept> {
    // The component is valid, so all indices and types below are too.
    valid(component)?;
    let within = within(component, depth)?;
    let current = within.as_deref().unwrap_or(component);
    let made = Plan::of(current).and_then(|plan| write::component(&plan));
    let made = match (made, within) {
        (Ok(made), _) => made,
        (Err(_), Some(within)) => within,
        (Err(kept), None) => return Err(kept),
    };
    valid(&made)?;
    Ok(made)
}

/// The component with its nested components fused; `None` if none was. A nested component that
/// refers to outer items is not valid by itself, and stays unchanged.
fn within(component: &[u8], depth: u32) -> Result<Option<Vec<u8>>, Kept> {
    if depth >= MAX_NESTING {
        return Ok(None);
    }
    let mut made = Component::new();
    let mut any = false;
    for (id, _, content) in sections(component).map_err(Kept::Malformed)? {
        let data = component.get(content).unwrap_or_default();
        let inner = (id == COMPONENT)
            .then(|| nested(data, depth.saturating_add(1)).ok())
            .flatten();
        any |= inner.is_some();
        made.section(&RawSection {
            id,
            data: inner.as_deref().unwrap_or(data),
        });
    }
    Ok(any.then(|| made.finish()))
}

fn valid(component: &[u8]) -> Result<(), Kept> {
    if !wasmparser::Parser::is_component(component) {
        return Err(Kept::Malformed("a core module".to_owned()));
    }
    Validator::new_with_features(FEATURES).validate_all(component)?;
    Ok(())
}
