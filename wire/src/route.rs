//! Resolves method and path to a route. Only exact paths match: nothing is decoded or normalised,
//! so no server can read an accepted path differently.

use std::borrow::Cow;

use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::{Api, Operation, Protocol, Route, ServerQuery};

use crate::limits::MAX_NAME_BYTES;

/// Whether a version is a number and not a label.
pub(crate) fn is_number(version: &str) -> bool {
    !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
}

/// Route of a method and path. `unknown` is the protocol for rejecting unknown paths.
///
/// A path with a query has no route, because servers might interpret the query.
pub(crate) fn resolve<'a>(method: &str, path: &'a str, unknown: Protocol) -> Route<'a> {
    let (route, allow) = if let Some(call) = path.strip_prefix("/inference.GRPCInferenceService/") {
        (grpc_call(call), "POST")
    } else if path == "/grpc.health.v1.Health/Check" {
        (Some(server(Protocol::OipGrpc, ServerQuery::Health)), "POST")
    } else if let Some(call) = path.strip_prefix("/tensorflow.serving.") {
        (tf_grpc_call(call), "POST")
    } else if let Some(call) = path.strip_prefix(TORCH_GRPC) {
        (torch_grpc_call(call), "POST")
    } else if path == "/ping" {
        let question = ServerQuery::Ready;
        (Some(server(Protocol::TorchRest, question)), "GET")
    } else if let Some(place) = path.strip_prefix("/predictions/") {
        // curl's `-T` uses PUT, and the server accepts any method.
        (torch_rest_path(place), "POST, PUT")
    } else if path == "/v1/models" {
        let question = ServerQuery::Models;
        (Some(server(Protocol::OpenAi, question)), "GET")
    } else if let Some(api) = Api::ALL.into_iter().find(|api| api.path() == path) {
        (Some(Route::OpenAi { api }), "POST")
    } else {
        let route = rest_path(path).or_else(|| tf_rest_path(path));
        let infer = matches!(
            route,
            Some(Route::Model {
                operation: Operation::Infer,
                ..
            })
        );
        (route, if infer { "POST" } else { "GET" })
    };
    match route {
        // Most callers must not learn that these routes exist, so no other method or type is
        // distinguished.
        Some(Route::Model {
            protocol,
            operation: Operation::Statistics,
            ..
        }) if allow != method || protocol != unknown => Route::Unknown {
            protocol: refused_in(path, unknown),
        },
        // Methods are case-sensitive (RFC 9110, 9.1).
        Some(route) if allow.split(", ").any(|allowed| allowed == method) => route,
        Some(route) => Route::WrongMethod {
            protocol: route.protocol(),
            allow,
        },
        None => Route::Unknown {
            protocol: refused_in(path, unknown),
        },
    }
}

/// Protocol for rejecting unknown paths and custom routes. Below `/v1/`, except for model routes,
/// it is OpenAI's, whose clients expect an object. Both kinds of paths are rejected alike.
pub fn refused_in(path: &str, unknown: Protocol) -> Protocol {
    let of_openai = path.starts_with("/v1/") && !path.starts_with("/v1/models/");
    if of_openai && matches!(unknown, Protocol::OipRest | Protocol::Json) {
        Protocol::OpenAi
    } else {
        unknown
    }
}

/// A custom route of a model, or `unknown`. Another method or gRPC's type must not reveal that a
/// custom route exists.
pub(crate) fn own<'a>(
    method: &str,
    path: &str,
    templates: &Templates,
    unknown: Protocol,
) -> Route<'a> {
    match templates.model(path) {
        Some(model) if method == "POST" && !unknown.is_grpc() => Route::Model {
            protocol: Protocol::Json,
            operation: Operation::Infer,
            model: Some(Cow::Owned(model.to_owned())),
            version: None,
        },
        Some(_) | None => Route::Unknown { protocol: unknown },
    }
}

const fn server<'a>(protocol: Protocol, question: ServerQuery) -> Route<'a> {
    Route::Server { protocol, question }
}

fn grpc_call<'a>(call: &str) -> Option<Route<'a>> {
    let protocol = Protocol::OipGrpc;
    let operation = match call {
        "ServerLive" => return Some(server(protocol, ServerQuery::Live)),
        "ServerReady" => return Some(server(protocol, ServerQuery::Ready)),
        "ServerMetadata" => return Some(server(protocol, ServerQuery::Metadata)),
        "ModelReady" => Operation::Ready,
        "ModelMetadata" => Operation::Metadata,
        "ModelInfer" => Operation::Infer,
        "ModelStreamInfer" => Operation::Stream,
        // Triton's extension.
        "ModelStatistics" => Operation::Statistics,
        _ => return None,
    };
    Some(Route::Model {
        protocol,
        operation,
        model: None,
        version: None,
    })
}

/// TF Serving's calls for a model. Others concern several models (MultiInference), examples
/// (Classify, Regress) or management (HandleReloadConfigRequest).
fn tf_grpc_call<'a>(call: &str) -> Option<Route<'a>> {
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

/// TorchServe's inference service.
const TORCH_GRPC: &str = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/";

/// TorchServe's calls. Others are streams.
fn torch_grpc_call<'a>(call: &str) -> Option<Route<'a>> {
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
fn torch_rest_path(place: &str) -> Option<Route<'_>> {
    let (model, version) = match place.split_once('/') {
        Some((model, version)) => (model, Some(name(version)?)),
        None => (place, None),
    };
    Some(Route::Model {
        protocol: Protocol::TorchRest,
        operation: Operation::Infer,
        model: Some(name(model)?),
        version,
    })
}

/// TF Serving's paths in their canonical form; TF Serving itself ignores case.
fn tf_rest_path(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/v1/models/")?;
    let (place, infer) = match rest.strip_suffix(":predict") {
        Some(place) => (place, true),
        None => (rest, false),
    };
    let mut segments = place.split('/');
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

fn rest_path(path: &str) -> Option<Route<'_>> {
    let protocol = Protocol::OipRest;
    match path {
        "/v2" => return Some(server(protocol, ServerQuery::Metadata)),
        "/v2/health/live" => return Some(server(protocol, ServerQuery::Live)),
        "/v2/health/ready" => return Some(server(protocol, ServerQuery::Ready)),
        _ => {}
    }
    let mut segments = path.strip_prefix("/v2/models/")?.split('/');
    let model = name(segments.next()?)?;
    let (version, verb) = match (segments.next(), segments.next(), segments.next()) {
        (Some("versions"), Some(version), verb) => (Some(name(version)?), verb),
        (verb, None, None) => (None, verb),
        _ => return None,
    };
    let operation = match verb {
        None => Operation::Metadata,
        Some("ready") => Operation::Ready,
        Some("infer") => Operation::Infer,
        Some("stats") => Operation::Statistics,
        Some(_) => return None,
    };
    if segments.next().is_some() {
        return None;
    }
    Some(Route::Model {
        protocol,
        operation,
        model: Some(model),
        version,
    })
}

/// A name in a path: no escapes, separators or dot segments.
fn name(segment: &str) -> Option<Cow<'_, str>> {
    let plain = segment
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let dots = segment.bytes().all(|byte| byte == b'.');
    (plain && !dots && segment.len() <= MAX_NAME_BYTES).then_some(Cow::Borrowed(segment))
}

#[cfg(test)]
mod own_tests;
#[cfg(test)]
mod tests;
