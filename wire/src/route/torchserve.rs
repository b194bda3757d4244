//! Routes of TorchServe: its gRPC calls and REST paths.

use tensorgate_policy::request::{Operation, Protocol, Route, ServerQuery};

use super::{name, server};

/// TorchServe's inference service.
pub(super) const GRPC: &str = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/";

/// TorchServe's calls. Others are streams.
pub(super) fn grpc_call<'a>(call: &str) -> Option<Route<'a>> {
    let protocol = Protocol::TorchGrpc;
    match call {
        "Ping" => Some(server(protocol, ServerQuery::Ready)),
        "Predictions" => Some(Route::Model {
            protocol,
            operation: Operation::Infer,
            model: None,
            version: None,
        }),
        _ => None,
    }
}

/// TorchServe's predictions: a model and an optional version. Further segments are passed to
/// handlers there, and rejected here.
pub(super) fn rest_path(model_path: &str) -> Option<Route<'_>> {
    let (model, version) = match model_path.split_once('/') {
        Some((model, version)) => (model, Some(name(version)?)),
        None => (model_path, None),
    };
    Some(Route::Model {
        protocol: Protocol::TorchRest,
        operation: Operation::Infer,
        model: Some(name(model)?),
        version,
    })
}
