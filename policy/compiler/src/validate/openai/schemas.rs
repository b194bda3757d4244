//! Limits of JSON schemas that a server compiles.

use tensorgate_policy::contract::openai::SchemaLimits;
use tensorgate_policy::report::Path;

use crate::raw;

const DEFAULT: SchemaLimits = SchemaLimits::COMPILED;

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
    let max_repetitions = raw.max_repetitions.check(&path.field("max_repetitions"));
    let max_choices = raw.max_choices.check(&path.field("max_choices"));
    let max_definitions = raw.max_definitions.check(&path.field("max_definitions"));
    let max_weight = raw.max_weight.check(&path.field("max_weight"));
    Some(SchemaLimits {
        max_weight: max_weight?,
        max_repetitions: max_repetitions?,
        max_choices: max_choices?,
        max_definitions: max_definitions?,
    })
}
