//! The configuration of a filter, as `render` writes it.

use serde::Deserialize;
use tensorgate_policy::{Fault, FilterConfiguration, FilterTarget, HeaderMode, Target};
use tensorgate_policy_compiler::{Version, raw};

/// A policy with its version, as tests write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    generation: String,
    policy: raw::Policy,
    #[serde(default)]
    headers: HeaderMode,
    filter: Option<String>,
    host: Option<bool>,
    #[serde(default)]
    policy_id: String,
}

/// Compiles `{"generation": "…", "policy": {…}}` into the configuration of a filter. `headers`,
/// `filter`, `host` and `policy_id` are optional.
///
/// # Errors
/// The JSON is something else, or the policy has faults.
pub fn configuration(written: impl AsRef<[u8]>) -> Result<String, Vec<Fault>> {
    let written: Written = serde_json::from_slice(written.as_ref())
        .map_err(|cause| error(format!("configuration has no policy: {cause}")))?;
    let target = FilterTarget {
        name: written.filter,
        headers: written.headers,
        host: written.host.unwrap_or(true),
        policy_id: written.policy_id,
    };
    let version = Version::new(written.policy)?.named(&written.generation);
    compile(&version, target)
}

/// Compiles a policy into the configuration of a filter.
///
/// # Errors
/// It is larger than a filter takes.
pub fn compile(version: &Version, target: FilterTarget) -> Result<String, Vec<Fault>> {
    let compiled = version.compile(Target::Filter(target)).to_bytes();
    let encoded = FilterConfiguration::new(&compiled, FilterConfiguration::MAX_PLAIN_BYTES)
        .map_err(|cause| error(format!("the compiled policy {cause}")))?;
    serde_json::to_string(&encoded).map_err(|cause| error(cause.to_string()))
}

/// A fault of the configuration as such.
pub(crate) fn error(message: String) -> Vec<Fault> {
    vec![Fault::error("", message)]
}
