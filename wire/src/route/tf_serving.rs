//! Routes of TF Serving: its gRPC calls and REST paths.

use tensorgate_policy::request::{Operation, Protocol, Route};

use super::name;

/// Whether a version is a number and not a label.
pub(crate) fn is_number(version: &str) -> bool {
    !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
}

/// TF Serving's calls for a model. Others concern several models (MultiInference), examples
/// (Classify, Regress) or management (HandleReloadConfigRequest).
pub(super) fn grpc_call<'a>(call: &str) -> Option<Route<'a>> {
    let operation = match call {
        "PredictionService/Predict" => Operation::Infer,
        "PredictionService/GetModelMetadata" => Operation::Metadata,
        "ModelService/GetModelStatus" => Operation::Ready,
        _ => return None,
    };
    Some(Route::Model {
        protocol: Protocol::TfGrpc,
        operation,
        model: None,
        version: None,
    })
}

/// TF Serving's paths in their canonical form; TF Serving itself ignores case.
pub(super) fn rest_path(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/v1/models/")?;
    let (model_path, infer) = match rest.strip_suffix(":predict") {
        Some(model_path) => (model_path, true),
        None => (rest, false),
    };
    let mut segments = model_path.split('/');
    let model = name(segments.next()?)?;
    let (version, question) = match (segments.next(), segments.next(), segments.next()) {
        (Some("versions"), Some(version), question) if is_version(version) => {
            (Some(name(version)?), question)
        }
        // A numeric label would be another spelling of a version.
        (Some("labels"), Some(label), question) if !is_number(label) => {
            (Some(name(label)?), question)
        }
        (question, None, None) => (None, question),
        _ => return None,
    };
    let operation = match (infer, question) {
        (true, None) => Operation::Infer,
        (false, None) => Operation::Ready,
        (false, Some("metadata")) => Operation::Metadata,
        _ => return None,
    };
    if segments.next().is_some() {
        return None;
    }
    Some(Route::Model {
        protocol: Protocol::TfRest,
        operation,
        model: Some(model),
        version,
    })
}

/// A version number of TF Serving in canonical form.
fn is_version(text: &str) -> bool {
    is_number(text) && (text == "0" || !text.starts_with('0'))
}
