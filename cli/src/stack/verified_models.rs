//! The digests that the model files of an embedded backend must have, from the manifests that the
//! policy trusts. The backend hashes the bytes that it loads.

use std::ffi::OsString;
use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::printable;
use tensorgate_policy::{Policy, hex};
use tensorgate_verified_models::trusted_files;

/// The only file of a version, as the backend loads it.
const MODEL_FILE: &str = "model.onnx";

/// The arguments of an embedded backend that serves the models below `models`. Other file names
/// are relative to `root`.
///
/// # Errors
/// A manifest is not trusted, or does not list the file that the backend loads.
pub fn arguments(
    policy: &Policy,
    backend: &str,
    models: &Path,
    root: &Path,
) -> Result<Vec<OsString>, Failure> {
    let mut arguments = Vec::new();
    for (model, version, artifact) in policy.artifacts() {
        if model.backend() != backend {
            continue;
        }
        let fault = |cause: &str| {
            let name = model.name();
            Failure::Input(format!("model {name:?}, version {version:?}: {cause}"))
        };
        let name = model.backend_model();
        let file = models.join(name).join(version).join(MODEL_FILE);
        let trusted = trusted_files(root, artifact).map_err(|cause| fault(&cause))?;
        let digest = trusted.get(&file).ok_or_else(|| {
            let file = printable(&file.to_string_lossy());
            fault(&format!(
                "its backend loads {file}, which `artifact` does not cover: let `artifact.path` be a folder that holds it"
            ))
        })?;
        arguments.push("--sha256".into());
        arguments.push(format!("{name}/{version}={}", hex(digest)).into());
    }
    Ok(arguments)
}
