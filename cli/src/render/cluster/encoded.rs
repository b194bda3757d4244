//! The filter's configuration as an object of a control plane carries it.

use tensorgate_policy::{FilterConfiguration, FilterTarget, Target};
use tensorgate_policy_compiler::Version;

use super::workload::Workload;
use crate::render::Unrenderable;
use crate::render::node::Node;

/// The configuration of the filter `gate` for a control plane that cannot hold headers while a body
/// is checked. Gates of several namespaces may have their filters in one gateway, so the gate's
/// namespace and name are the policy's id there.
///
/// # Errors
/// The policy is too large for a filter's configuration.
pub fn filter_configuration(version: &Version, workload: &Workload) -> Result<Node, Unrenderable> {
    let compiled = version.compile(Target::Filter(FilterTarget {
        policy_id: workload.qualified_name(),
        ..FilterTarget::default()
    }));
    let limit = FilterConfiguration::MAX_RESOURCE_BYTES;
    let encoded = FilterConfiguration::new(&compiled.to_bytes(), limit)
        .map_err(|fault| Unrenderable::Other(format!("the filter's configuration {fault}")))?;
    let value =
        serde_json::to_value(&encoded).map_err(|error| Unrenderable::Other(error.to_string()))?;
    Ok(Node::from(&value))
}
