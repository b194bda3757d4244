//! Makes one core module of those that a component links with each other: a language whose runtime is a set of libraries (CPython) comes as forty of them around
//! one memory and one table. In each fresh instance an engine looks up what they give each other and fills the table from all of them; of one module it knows
//! both when it compiles.
//!
//! A module is fused if each thing that it imports is another fused one's, or a function from outside that needs none of them: a function that the host gives
//! and that reads their memory stays behind the table that `wit-component` links with. What is around them, imports and exports of the component above all,
//! stays as it is. Globals that nothing ever sets become constants.
//!
//! What it never does: it changes nothing that a call could tell. Where it is not sure (a module that runs code when it is instantiated, a place that is not known, two memories)
//! it says so, and the component stays as it was. It gives a component nothing: what comes out imports what went in.

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

/// A component's section of components.
const COMPONENT: u8 = 4;

/// Why a component stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// Not a component, or not a valid one.
    #[error("not a component: {0}")]
    Malformed(String),
    /// Something of which it is not known what fusing would do to it.
    #[error("it has {0}")]
    Unknown(&'static str),
    /// There is nothing to fuse.
    #[error("fewer than two of its modules can be fused")]
    Few,
    /// A module that runs code while it is instantiated: what runs before it would have to stay before it.
    #[error("a module of it has a start function")]
    Start,
    /// A module outside that needs fused ones, and that later ones may need.
    #[error("a module that is not fused stands between them")]
    Between,
    /// A segment whose place is computed, or may be out of bounds.
    #[error("the place of a segment is not known")]
    Place,
    /// The modules have more than one memory, or one table: an engine reaches any memory but the first in longer ways, and its pool has room for one table in each instance.
    #[error("its modules have more than one memory, or one table")]
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

/// What a component may be made of, and be made into: no more than any tool of handlers makes, all of which the host runs.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY);

/// Components in each other that are looked into: more than any tool makes.
const MAX_NESTING: u32 = 16;

/// The component with its modules fused, and those of each component within it.
///
/// # Errors
/// [`Kept`], if nothing is: then it is used as it is.
pub fn fused(component: &[u8]) -> Result<Vec<u8>, Kept> {
    nested(component, 0)
}

fn nested(component: &[u8], depth: u32) -> Result<Vec<u8>, Kept> {
    // Whatever is read below has been found valid: each index is one, and types fit.
    valid(component)?;
    let within = within(component, depth)?;
    let whole = within.as_deref().unwrap_or(component);
    let made = Plan::of(whole).and_then(|plan| write::component(&plan));
    let made = match (made, within) {
        (Ok(made), _) => made,
        (Err(_), Some(within)) => within,
        (Err(kept), None) => return Err(kept),
    };
    valid(&made)?;
    Ok(made)
}

/// The component with those within it fused; `None` if none is. One that needs what is around it is not valid by itself, and stays as it is.
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
