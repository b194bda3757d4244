//! What `tensorgate up` does with a change that would make ready models unready.

use serde::{Deserialize, Serialize};

/// Changes of the policy while the gate runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reload {
    /// What `tensorgate up` does with a change that would make a ready model unready. It is read
    /// from the changed policy. Hosts that `render` deploys hold nothing.
    pub hold: ReloadHold,
}

/// What happens to a change that would make a ready model unready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ReloadHold {
    /// It is held until the models are ready, the files change again, or `tensorgate reload
    /// --accept` accepts it. What it only takes away takes effect at once.
    #[default]
    On,
    /// It comes into force.
    Off,
}
