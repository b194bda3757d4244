//! Gates that are loaded as control planes load them: one policy, whose bodies are larger than what
//! these control planes have Envoy buffer.

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// The policy, but for the folder of models.
const POLICY: &str = include_str!("meshes/policy.yaml");

/// Writes the policy into a folder, and gives its path. `models`: the folder of the models.
pub fn policy(folder: &Path, models: &Path) -> Result<PathBuf> {
    create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join("gate.yaml");
    let text = POLICY.replace("MODELS", &json!(models).to_string());
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
