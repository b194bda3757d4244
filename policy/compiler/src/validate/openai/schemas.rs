//! Limits of JSON schemas that a server compiles.

use tensorgate_policy::contract::openai::SchemaLimits;
use tensorgate_policy::report::{Bounds, Path, bounds};

use crate::raw;

const DEFAULT: SchemaLimits = SchemaLimits::COMPILED;

/// Maximum count: a grammar has a state for each repetition.
const REPETITIONS: Bounds = bounds(1, 1_000_000, DEFAULT.max_repetitions, "repetitions");
/// Maximum values of an `enum`.
const CHOICES: Bounds = bounds(1, 65_536, DEFAULT.max_choices as u64, "values");
/// Maximum definitions.
const DEFINITIONS: Bounds = bounds(0, 4_096, DEFAULT.max_definitions as u64, "definitions");
/// Maximum weight.
const WEIGHT: Bounds = bounds(1, 10_000_000, DEFAULT.max_weight, "schemas and characters");

/// The limits of a section; the defaults without one. `compiles`: whether a schema is allowed.
pub(super) fn limits(
    path: &Path,
    raw: Option<&raw::Schemas>,
    compiles: bool,
) -> Option<SchemaLimits> {
    let Some(raw) = raw else {
        return Some(DEFAULT);
    };
    if !compiles {
        let fix = "tools, or response_format: [json_schema]";
        return path.fail_with_fix("has no effect without schemas", fix);
    }
    let max_repetitions = path.number("max_repetitions", raw.max_repetitions, &REPETITIONS);
    let max_choices = path.number("max_choices", raw.max_choices, &CHOICES);
    let max_definitions = path.number("max_definitions", raw.max_definitions, &DEFINITIONS);
    let max_weight = path.number("max_weight", raw.max_weight, &WEIGHT);
    Some(SchemaLimits {
        max_weight: max_weight?,
        max_repetitions: max_repetitions?,
        max_choices: max_choices?,
        max_definitions: max_definitions?,
    })
}
