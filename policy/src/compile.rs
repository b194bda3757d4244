//! Compiles the written policy for its enforcement points.

use alloc::vec::Vec;

use crate::compiled::Compiled;
use crate::raw::bundle::Bundle;
use crate::validate::validate;
use crate::values::HeaderMode;
use crate::values::fault::Fault;

/// Maximum number of warnings for the log of each worker. `check` shows all.
const MAX_WARNINGS: usize = 20;

/// Compiles a bundle for a filter. `headers` and `filter` replace those of the bundle, because each
/// filter of a chain has its own.
///
/// # Errors
/// Every fault of the policy, warnings included.
pub fn compile_for_filter(
    bundle: &Bundle,
    headers: HeaderMode,
    filter: Option<&str>,
) -> Result<Compiled, Vec<Fault>> {
    let (policy, mut warnings) = validate(&bundle.policy)?;
    warnings.truncate(MAX_WARNINGS);
    Ok(Compiled {
        generation: bundle.generation.clone(),
        headers,
        filter: filter.map(Into::into),
        host: bundle.host,
        warnings,
        policy: policy.filter_part(),
    })
}
