//! The filter's configuration as an object of a control plane carries it: the bundle as one string.

use tensorgate_policy::{Bundle, EncodedBundle, FilterConfiguration, HeaderMode};

use crate::render::Unrenderable;
use crate::render::node::Node;

/// The configuration of the filter `gate` for a control plane that cannot hold headers while a body
/// is checked.
///
/// # Errors
/// The policy is too large for a filter's configuration.
pub fn filter_configuration(bundle: &Bundle) -> Result<Node, Unrenderable> {
    let other = |error: serde_json::Error| Unrenderable::Other(error.to_string());
    let json = serde_json::to_string(&FilterConfiguration {
        bundle,
        headers: HeaderMode::Forward,
        filter: None,
    });
    let encoded = EncodedBundle::from_json(&json.map_err(other)?)
        .map_err(|fault| Unrenderable::Other(format!("the filter's configuration {fault}")))?;
    let value = serde_json::to_value(&encoded).map_err(other)?;
    Ok(Node::from(&value))
}
