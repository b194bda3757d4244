//! Dimensions: each is bounded, and each named one is bound once per model and equal everywhere.

use std::collections::BTreeMap;

use tensorgate_policy::contract::{DimRule, MAX_RANK};
use tensorgate_policy::report::{Path, quote};

use super::names;
use crate::raw::{self, Dim};

/// Maximum size: the protocols use signed 64-bit dimensions.
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();
/// Default minimum size.
const DEFAULT_MIN: u64 = 1;

/// Named dimensions of one model.
#[derive(Debug, Default)]
pub(super) struct Symbols<'a> {
    by_name: BTreeMap<&'a str, Symbol>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    /// Bounds where the name first occurs; `None` if they are invalid.
    bounds: Option<(u64, u64)>,
}

impl<'a> Symbols<'a> {
    /// Collects the names that a model binds; the first occurrence counts.
    pub(super) fn of(model: &'a raw::Model) -> Self {
        let inputs = model
            .inputs
            .iter()
            .chain(model.accepts.iter().flat_map(|accepts| &accepts.inputs));
        let outputs = model
            .outputs
            .iter()
            .chain(model.returns.iter().flat_map(|returns| &returns.outputs));
        let shapes = inputs
            .map(|input| &input.shape)
            .chain(outputs.map(|output| &output.shape));
        let mut by_name = BTreeMap::new();
        for dim in shapes.flatten().flatten() {
            if let Dim::Bounded {
                name: Some(name),
                min,
                max,
            } = dim
            {
                let id = u32::try_from(by_name.len()).unwrap_or(u32::MAX);
                by_name.entry(name.as_str()).or_insert(Symbol {
                    id,
                    bounds: bounds(*min, *max).ok(),
                });
            }
        }
        Self { by_name }
    }
}

/// Why bounds are invalid: message and fix.
type Unbounded = (String, &'static str);

fn bounds(min: Option<u64>, max: Option<u64>) -> Result<(u64, u64), Unbounded> {
    let Some(max) = max else {
        return Err(("has no maximum size".into(), "{max: N}"));
    };
    let min = min.unwrap_or(DEFAULT_MIN);
    if max == 0 {
        return Err(("a dim of 0 makes the tensor empty".into(), "at least 1"));
    }
    if max > MAX_SIZE {
        return Err((
            format!("max {max} is larger than any dim of a request"),
            "at most 9223372036854775807",
        ));
    }
    if min > max {
        return Err((
            format!("min {min} is greater than max {max}"),
            "min at most max",
        ));
    }
    Ok((min, max))
}

/// Rules of a shape.
pub(super) fn shape(path: &Path, dims: &[Dim], symbols: &Symbols<'_>) -> Option<Vec<DimRule>> {
    if dims.len() > MAX_RANK {
        return path.fail(format!(
            "has {} dims, at most {MAX_RANK} are allowed",
            dims.len()
        ));
    }
    path.each(dims, |path, rule| dim(path, rule, symbols))
}

fn dim(path: &Path, raw: &Dim, symbols: &Symbols<'_>) -> Option<DimRule> {
    match raw {
        Dim::Fixed(size) => match bounds(Some(*size), Some(*size)) {
            Ok((min, max)) => Some(DimRule {
                min,
                max,
                symbol: None,
            }),
            Err((message, fix)) => path.fail_with_fix(message, fix),
        },
        Dim::Same(name) => {
            let Some(symbol) = symbols.by_name.get(name.as_str()) else {
                let message = format!("no dim of this model is named {}", quote(name));
                return path.fail_with_fix(
                    message,
                    format!("{{name: {name}, max: N}} at one of its dims"),
                );
            };
            // If the binding is invalid, its own location has an error.
            let (min, max) = symbol.bounds?;
            Some(DimRule {
                min,
                max,
                symbol: Some(symbol.id),
            })
        }
        Dim::Bounded { name, min, max } => {
            let named = match name {
                Some(name) => names::tensor_name(&path.field("name"), name),
                None => Some(()),
            };
            let (min, max) = match bounds(*min, *max) {
                Ok(bounds) => bounds,
                Err((message, fix)) => {
                    return path.fail_with_fix(message, fix);
                }
            };
            let symbol = name.as_deref().and_then(|name| symbols.by_name.get(name));
            if let Some((first_min, first_max)) = symbol.and_then(|symbol| symbol.bounds)
                && (first_min, first_max) != (min, max)
            {
                let name = name.as_deref().unwrap_or_default();
                return path.fail_with_fix(
                    format!(
                        "dim {} has other bounds elsewhere: {first_min} to {first_max}",
                        quote(name)
                    ),
                    String::from(name),
                );
            }
            named?;
            Some(DimRule {
                min,
                max,
                symbol: symbol.map(|symbol| symbol.id),
            })
        }
    }
}
