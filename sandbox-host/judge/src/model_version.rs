//! The name of a model version for operators.

use tensorgate_policy::policy::Model;

/// The name of a model version for operators.
pub fn model_version(model: &Model, version: &str) -> String {
    format!("model {:?} version {version:?}", model.name())
}
