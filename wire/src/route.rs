//! Resolves method and path to a route. Only exact paths match: nothing is decoded or normalised,
//! so no server can read an accepted path differently. Escapes are decoded in the name of a model's
//! card alone, which no server reads.

mod model_card;
pub(crate) mod tf_serving;
mod torchserve;

use std::borrow::Cow;

use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::{Api, Operation, Protocol, Route, ServerQuery};

use crate::limits::MAX_NAME_BYTES;
use crate::percent::without_query;
use crate::unserved::UnservedApi;
pub(crate) use model_card::model_card;

/// Methods of liveness and readiness. Load balancers probe with HEAD.
const PROBE: &str = "GET, HEAD";

/// Route of a method and path. `unknown` is the protocol for rejecting unknown paths.
///
/// A path with a query has no route, because servers might interpret the query.
pub(crate) fn resolve<'a>(method: &str, path: &'a str, unknown: Protocol) -> Route<'a> {
    let (route, allow) = if let Some(call) = path.strip_prefix("/inference.GRPCInferenceService/") {
        (grpc_call(call), "POST")
    } else if path == "/grpc.health.v1.Health/Check" {
        (Some(server(Protocol::OipGrpc, ServerQuery::Health)), "POST")
    } else if let Some(call) = path.strip_prefix("/tensorflow.serving.") {
        (tf_serving::grpc_call(call), "POST")
    } else if let Some(call) = path.strip_prefix(torchserve::GRPC) {
        (torchserve::grpc_call(call), "POST")
    } else if path == "/ping" {
        let question = ServerQuery::Ready;
        (Some(server(Protocol::TorchRest, question)), PROBE)
    } else if let Some(model_path) = path.strip_prefix("/predictions/") {
        // curl's `-T` uses PUT, and the server accepts any method.
        (torchserve::rest_path(model_path), "POST, PUT")
    } else if path == "/v1/models" {
        let question = ServerQuery::Models;
        (Some(server(Protocol::OpenAi, question)), "GET")
    } else if let Some(api) = Api::ALL.into_iter().find(|api| api.path() == path) {
        (Some(Route::OpenAi { api }), "POST")
    } else {
        let route = rest_path(path).or_else(|| tf_serving::rest_path(path));
        let allow = match route {
            Some(Route::Model {
                operation: Operation::Infer,
                ..
            }) => "POST",
            Some(Route::Server {
                question: ServerQuery::Live | ServerQuery::Ready,
                ..
            }) => PROBE,
            _ => "GET",
        };
        (route, allow)
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
/// and at the paths of Azure it is OpenAI's, whose clients expect an object. Both kinds of paths
/// are rejected alike.
pub fn refused_in(path: &str, unknown: Protocol) -> Protocol {
    let of_openai = (path.starts_with("/v1/") && !path.starts_with("/v1/models/"))
        || UnservedApi::of_path(path).is_some();
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
        // Triton's configuration is metadata in another form ([`asks_config`]).
        "ModelMetadata" | "ModelConfig" => Operation::Metadata,
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

fn rest_path(path: &str) -> Option<Route<'_>> {
    let protocol = Protocol::OipRest;
    match path {
        "/v2" => return Some(server(protocol, ServerQuery::Metadata)),
        "/v2/health/live" => return Some(server(protocol, ServerQuery::Live)),
        "/v2/health/ready" => return Some(server(protocol, ServerQuery::Ready)),
        _ => {}
    }
    let (model, version, verb) = model_path(path)?;
    let operation = match verb {
        None | Some("config") => Operation::Metadata,
        Some("ready") => Operation::Ready,
        Some("infer") => Operation::Infer,
        Some("stats") => Operation::Statistics,
        Some(_) => return None,
    };
    Some(Route::Model {
        protocol,
        operation,
        model: Some(model),
        version,
    })
}

/// A model's name, its version, and the verb.
type ModelPath<'p> = (Cow<'p, str>, Option<Cow<'p, str>>, Option<&'p str>);

/// Model, version and verb of a path below `/v2/models/`.
fn model_path(path: &str) -> Option<ModelPath<'_>> {
    let mut segments = path.strip_prefix("/v2/models/")?.split('/');
    let model = name(segments.next()?)?;
    let (version, verb) = match (segments.next(), segments.next(), segments.next()) {
        (Some("versions"), Some(version), verb) => (Some(name(version)?), verb),
        (verb, None, None) => (None, verb),
        _ => return None,
    };
    segments.next().is_none().then_some((model, version, verb))
}

/// Whether a path of a [`Operation::Metadata`] route asks for Triton's model configuration: REST's
/// `config` or gRPC's ModelConfig.
pub fn asks_config(path: &str) -> bool {
    let path = without_query(path);
    path == "/inference.GRPCInferenceService/ModelConfig"
        || model_path(path).is_some_and(|(.., verb)| verb == Some("config"))
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
