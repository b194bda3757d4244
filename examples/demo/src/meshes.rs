//! Gates that are loaded as control planes load them: one policy with a body limit above the buffer
//! limit that these control planes set in Envoy.

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// The policy, with a placeholder for the folder of models.
const POLICY: &str = include_str!("meshes/policy.yaml");

/// Writes the policy into a folder, and returns its path. `models`: the folder of the models.
pub fn policy(folder: &Path, models: &Path) -> Result<PathBuf> {
    create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join("gate.yaml");
    let text = POLICY.replace("MODELS", &json!(models).to_string());
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
