//! Method and path to a route. Only exact paths lead anywhere: nothing is decoded, folded or normalised here, so that no
//! server behind can read a path in another way than this.

use std::borrow::Cow;

use tensorgate_policy::request::{Operation, Protocol, Route, ServerQuestion};

use crate::limits::MAX_NAME_BYTES;

/// Where a method and a path lead. `unknown` is the protocol in which to refuse a path that leads nowhere.
///
/// A query string leads nowhere either: no route takes one, and what nobody reads here may be read behind.
pub(crate) fn resolve<'a>(method: &str, path: &'a str, unknown: Protocol) -> Route<'a> {
    let (route, allow) = if let Some(call) = path.strip_prefix("/inference.GRPCInferenceService/") {
        (grpc_call(call), "POST")
    } else if path == "/grpc.health.v1.Health/Check" {
        (
            Some(server(Protocol::OipGrpc, ServerQuestion::Health)),
            "POST",
        )
    } else {
        let route = rest_path(path);
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
        // Methods are case-sensitive (RFC 9110, 9.1).
        Some(route) if method == allow => route,
        Some(route) => Route::WrongMethod {
            protocol: route.protocol(),
            allow,
        },
        None => Route::Unknown { protocol: unknown },
    }
}

const fn server<'a>(protocol: Protocol, question: ServerQuestion) -> Route<'a> {
    Route::Server { protocol, question }
}

fn grpc_call<'a>(call: &str) -> Option<Route<'a>> {
    let protocol = Protocol::OipGrpc;
    let operation = match call {
        "ServerLive" => return Some(server(protocol, ServerQuestion::Live)),
        "ServerReady" => return Some(server(protocol, ServerQuestion::Ready)),
        "ServerMetadata" => return Some(server(protocol, ServerQuestion::Metadata)),
        "ModelReady" => Operation::Ready,
        "ModelMetadata" => Operation::Metadata,
        "ModelInfer" => Operation::Infer,
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
        "/v2" => return Some(server(protocol, ServerQuestion::Metadata)),
        "/v2/health/live" => return Some(server(protocol, ServerQuestion::Live)),
        "/v2/health/ready" => return Some(server(protocol, ServerQuestion::Ready)),
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

/// A name as a path may hold it: no escapes, no separators, no way up.
fn name(segment: &str) -> Option<Cow<'_, str>> {
    let plain = segment
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let dots = segment.bytes().all(|byte| byte == b'.');
    (plain && !dots && segment.len() <= MAX_NAME_BYTES).then_some(Cow::Borrowed(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(
        operation: Operation,
        model: &'static str,
        version: Option<&'static str>,
    ) -> Route<'static> {
        Route::Model {
            protocol: Protocol::OipRest,
            operation,
            model: Some(model.into()),
            version: version.map(Into::into),
        }
    }

    #[test]
    fn every_route_of_the_protocol_is_known_by_its_exact_path() {
        let grpc = |operation| Route::Model {
            protocol: Protocol::OipGrpc,
            operation,
            model: None,
            version: None,
        };
        for (method, path, expected) in [
            (
                "GET",
                "/v2",
                server(Protocol::OipRest, ServerQuestion::Metadata),
            ),
            (
                "GET",
                "/v2/health/live",
                server(Protocol::OipRest, ServerQuestion::Live),
            ),
            (
                "GET",
                "/v2/health/ready",
                server(Protocol::OipRest, ServerQuestion::Ready),
            ),
            (
                "GET",
                "/v2/models/digits",
                rest(Operation::Metadata, "digits", None),
            ),
            (
                "GET",
                "/v2/models/digits/ready",
                rest(Operation::Ready, "digits", None),
            ),
            (
                "POST",
                "/v2/models/digits/infer",
                rest(Operation::Infer, "digits", None),
            ),
            (
                "GET",
                "/v2/models/digits/versions/1",
                rest(Operation::Metadata, "digits", Some("1")),
            ),
            (
                "GET",
                "/v2/models/digits/versions/1/ready",
                rest(Operation::Ready, "digits", Some("1")),
            ),
            (
                "POST",
                "/v2/models/digits/versions/1/infer",
                rest(Operation::Infer, "digits", Some("1")),
            ),
            (
                "GET",
                "/v2/models/versions/versions/ready",
                rest(Operation::Metadata, "versions", Some("ready")),
            ),
            (
                "GET",
                "/v2/models/a.b_c-D9",
                rest(Operation::Metadata, "a.b_c-D9", None),
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ServerLive",
                server(Protocol::OipGrpc, ServerQuestion::Live),
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ServerReady",
                server(Protocol::OipGrpc, ServerQuestion::Ready),
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ServerMetadata",
                server(Protocol::OipGrpc, ServerQuestion::Metadata),
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ModelReady",
                grpc(Operation::Ready),
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ModelMetadata",
                grpc(Operation::Metadata),
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ModelInfer",
                grpc(Operation::Infer),
            ),
            (
                "POST",
                "/grpc.health.v1.Health/Check",
                server(Protocol::OipGrpc, ServerQuestion::Health),
            ),
        ] {
            assert_eq!(
                resolve(method, path, Protocol::OipRest),
                expected,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn a_known_path_with_another_method_names_the_one_it_allows() {
        for (method, path, protocol, allow) in [
            ("POST", "/v2", Protocol::OipRest, "GET"),
            ("HEAD", "/v2/health/live", Protocol::OipRest, "GET"),
            ("get", "/v2/health/live", Protocol::OipRest, "GET"),
            ("GET", "/v2/models/m/infer", Protocol::OipRest, "POST"),
            ("PUT", "/v2/models/m/infer", Protocol::OipRest, "POST"),
            ("POST ", "/v2/models/m/infer", Protocol::OipRest, "POST"),
            ("DELETE", "/v2/models/m", Protocol::OipRest, "GET"),
            (
                "GET",
                "/inference.GRPCInferenceService/ModelInfer",
                Protocol::OipGrpc,
                "POST",
            ),
            (
                "PUT",
                "/grpc.health.v1.Health/Check",
                Protocol::OipGrpc,
                "POST",
            ),
        ] {
            assert_eq!(
                resolve(method, path, Protocol::OipRest),
                Route::WrongMethod { protocol, allow },
                "{method} {path}"
            );
        }
    }

    #[test]
    fn every_other_path_leads_nowhere() {
        let long = format!("/v2/models/{}", "m".repeat(MAX_NAME_BYTES + 1));
        for path in [
            "",
            "*",
            "/",
            "//",
            "/v2/",
            "/V2",
            "v2",
            "/v2?",
            "/v2#x",
            "/v2/health",
            "/v2/health/live/",
            "/v2/Health/live",
            "http://host/v2/models/m",
            "/./v2",
            "/v2/../v2/models/m",
            "/v2/models",
            "/v2/models/",
            "/v2/models//infer",
            "/v2/models/m/",
            "/v2/models/m/infer/",
            "/v2/models/m/infer?x=1",
            "/v2/models/m/infer?",
            "/v2/models/m/infer#x",
            "/v2/models/m/Infer",
            "/v2/models/m//infer",
            "/v2/models/m/infer;x",
            "/v2/models/m;x/infer",
            "/v2/models/m%2Finfer",
            "/v2/models/%6d/infer",
            "/v2/models/../infer",
            "/v2/models/./infer",
            "/v2/models/.../infer",
            "/v2/models/m\\x/infer",
            "/v2/models/m:predict",
            "/v2/models/m /infer",
            "/v2/models/é/infer",
            "/v2/models/m/versions",
            "/v2/models/m/versions/",
            "/v2/models/m/versions//infer",
            "/v2/models/m/versions/../infer",
            "/v2/models/m/versions/1/infer/x",
            "/v2/models/m/generate",
            "/v2/models/m/generate_stream",
            "/v2/models/m/config",
            "/v2/models/m/stats",
            "/v2/models/m/trace/setting",
            "/v2/trace/setting",
            "/v2/logging",
            "/v2/repository/index",
            "/v2/repository/models/m/load",
            "/v2/repository/models/m/unload",
            "/v2/systemsharedmemory/status",
            "/v2/systemsharedmemory/region/r/register",
            "/v2/cudasharedmemory/register",
            "/ping",
            "/invocations",
            "/models",
            "/models?url=http://h/m.mar",
            "/predictions/m",
            "/v1/models/m:predict",
            "/metrics",
            "/api/jobs/",
            "inference.GRPCInferenceService/ModelInfer",
            "//inference.GRPCInferenceService/ModelInfer",
            "/inference.GRPCInferenceService/",
            "/inference.GRPCInferenceService/modelinfer",
            "/inference.GRPCInferenceService/ModelInfer/",
            "/inference.GRPCInferenceService/ModelInfer?",
            "/inference.GRPCInferenceService/ModelStreamInfer",
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            "/inference.GRPCInferenceService/SystemSharedMemoryRegister",
            "/inference.model_repository.ModelRepositoryService/RepositoryModelLoad",
            "/tensorflow.serving.PredictionService/Predict",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            &long,
        ] {
            for method in ["GET", "POST"] {
                let expected = Route::Unknown {
                    protocol: Protocol::OipGrpc,
                };
                assert_eq!(
                    resolve(method, path, Protocol::OipGrpc),
                    expected,
                    "{method} {path}"
                );
            }
        }
    }
}
