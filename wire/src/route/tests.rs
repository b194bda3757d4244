//! Tests of routing by method and path.

use super::*;

mod nowhere;

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
    let call = |protocol, operation| Route::Model {
        protocol,
        operation,
        model: None,
        version: None,
    };
    let grpc = |operation| call(Protocol::OipGrpc, operation);
    let tf_grpc = |operation| call(Protocol::TfGrpc, operation);
    let tf = |operation, version: Option<&'static str>| Route::Model {
        protocol: Protocol::TfRest,
        operation,
        model: Some("digits".into()),
        version: version.map(Into::into),
    };
    let torch = |version: Option<&'static str>| Route::Model {
        protocol: Protocol::TorchRest,
        operation: Operation::Infer,
        model: Some("digits".into()),
        version: version.map(Into::into),
    };
    for (method, path, expected) in [
        (
            "GET",
            "/v2",
            server(Protocol::OipRest, ServerQuery::Metadata),
        ),
        (
            "GET",
            "/v1/models",
            server(Protocol::OpenAi, ServerQuery::Models),
        ),
        (
            "POST",
            "/v1/chat/completions",
            Route::OpenAi { api: Api::Chat },
        ),
        (
            "POST",
            "/v1/completions",
            Route::OpenAi {
                api: Api::Completions,
            },
        ),
        (
            "POST",
            "/v1/embeddings",
            Route::OpenAi {
                api: Api::Embeddings,
            },
        ),
        (
            "GET",
            "/v2/health/live",
            server(Protocol::OipRest, ServerQuery::Live),
        ),
        (
            "HEAD",
            "/v2/health/ready",
            server(Protocol::OipRest, ServerQuery::Ready),
        ),
        (
            "HEAD",
            "/ping",
            server(Protocol::TorchRest, ServerQuery::Ready),
        ),
        (
            "GET",
            "/v2/health/ready",
            server(Protocol::OipRest, ServerQuery::Ready),
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
            "/v2/models/digits/stats",
            rest(Operation::Statistics, "digits", None),
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
            server(Protocol::OipGrpc, ServerQuery::Live),
        ),
        (
            "POST",
            "/inference.GRPCInferenceService/ServerReady",
            server(Protocol::OipGrpc, ServerQuery::Ready),
        ),
        (
            "POST",
            "/inference.GRPCInferenceService/ServerMetadata",
            server(Protocol::OipGrpc, ServerQuery::Metadata),
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
            server(Protocol::OipGrpc, ServerQuery::Health),
        ),
        ("GET", "/v1/models/digits", tf(Operation::Ready, None)),
        (
            "GET",
            "/v1/models/digits/versions/12",
            tf(Operation::Ready, Some("12")),
        ),
        (
            "GET",
            "/v1/models/digits/metadata",
            tf(Operation::Metadata, None),
        ),
        (
            "GET",
            "/v1/models/digits/labels/stable/metadata",
            tf(Operation::Metadata, Some("stable")),
        ),
        (
            "POST",
            "/v1/models/digits:predict",
            tf(Operation::Infer, None),
        ),
        (
            "POST",
            "/v1/models/digits/versions/0:predict",
            tf(Operation::Infer, Some("0")),
        ),
        (
            "POST",
            "/v1/models/digits/labels/stable:predict",
            tf(Operation::Infer, Some("stable")),
        ),
        (
            "POST",
            "/tensorflow.serving.PredictionService/Predict",
            tf_grpc(Operation::Infer),
        ),
        (
            "POST",
            "/tensorflow.serving.PredictionService/GetModelMetadata",
            tf_grpc(Operation::Metadata),
        ),
        (
            "POST",
            "/tensorflow.serving.ModelService/GetModelStatus",
            tf_grpc(Operation::Ready),
        ),
        (
            "GET",
            "/ping",
            server(Protocol::TorchRest, ServerQuery::Ready),
        ),
        ("POST", "/predictions/digits", torch(None)),
        ("PUT", "/predictions/digits", torch(None)),
        ("POST", "/predictions/digits/1.0", torch(Some("1.0"))),
        (
            "POST",
            "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping",
            server(Protocol::TorchGrpc, ServerQuery::Ready),
        ),
        (
            "POST",
            "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
            call(Protocol::TorchGrpc, Operation::Infer),
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
fn a_configuration_is_metadata_in_another_form() {
    const CALL: &str = "/inference.GRPCInferenceService/";
    for (method, path, version, config) in [
        ("GET", "/v2/models/m/config", None, true),
        ("GET", "/v2/models/m/versions/1/config", Some("1"), true),
        // A model of that name, and a version.
        ("GET", "/v2/models/m", None, false),
        ("GET", "/v2/models/m/versions/config", Some("config"), false),
    ] {
        let expected = Route::Model {
            protocol: Protocol::OipRest,
            operation: Operation::Metadata,
            model: Some("m".into()),
            version: version.map(Into::into),
        };
        assert_eq!(resolve(method, path, Protocol::OipRest), expected, "{path}");
        assert_eq!(asks_config(path), config, "{path}");
    }
    for (call, config) in [("ModelConfig", true), ("ModelMetadata", false)] {
        let path = format!("{CALL}{call}");
        let route = resolve("POST", &path, Protocol::OipGrpc);
        assert_eq!(route.operation(), Some(Operation::Metadata), "{path}");
        assert_eq!(asks_config(&path), config, "{path}");
    }
    for path in [
        "/v2/models/config",
        "/v2/models/m/stats",
        "/v1/models/m/config",
        "",
    ] {
        assert!(!asks_config(path), "{path}");
    }
    assert!(asks_config("/v2/models/versions/config"));
}

#[test]
fn a_known_path_with_another_method_names_the_one_it_allows() {
    for (method, path, protocol, allow) in [
        ("POST", "/v2", Protocol::OipRest, "GET"),
        ("HEAD", "/v2", Protocol::OipRest, "GET"),
        ("HEAD", "/v2/models/m/ready", Protocol::OipRest, "GET"),
        ("HEAD", "/v1/models", Protocol::OpenAi, "GET"),
        ("POST", "/v2/health/live", Protocol::OipRest, "GET, HEAD"),
        ("head", "/v2/health/live", Protocol::OipRest, "GET, HEAD"),
        ("get", "/v2/health/live", Protocol::OipRest, "GET, HEAD"),
        ("GET", "/v2/models/m/infer", Protocol::OipRest, "POST"),
        ("PUT", "/v2/models/m/infer", Protocol::OipRest, "POST"),
        ("POST ", "/v2/models/m/infer", Protocol::OipRest, "POST"),
        ("DELETE", "/v2/models/m", Protocol::OipRest, "GET"),
        ("POST", "/v2/models/m/config", Protocol::OipRest, "GET"),
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
        ("GET", "/v1/models/m:predict", Protocol::TfRest, "POST"),
        ("POST", "/v1/models/m", Protocol::TfRest, "GET"),
        ("POST", "/v1/models", Protocol::OpenAi, "GET"),
        ("GET", "/v1/chat/completions", Protocol::OpenAi, "POST"),
        ("PUT", "/v1/embeddings", Protocol::OpenAi, "POST"),
        ("DELETE", "/v1/models/m/versions/1", Protocol::TfRest, "GET"),
        ("GET", "/predictions/m", Protocol::TorchRest, "POST, PUT"),
        (
            "OPTIONS",
            "/predictions/m/1",
            Protocol::TorchRest,
            "POST, PUT",
        ),
        (
            "POST, PUT",
            "/predictions/m",
            Protocol::TorchRest,
            "POST, PUT",
        ),
        ("put", "/predictions/m", Protocol::TorchRest, "POST, PUT"),
        ("POST", "/ping", Protocol::TorchRest, "GET, HEAD"),
        (
            "GET",
            "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping",
            Protocol::TorchGrpc,
            "POST",
        ),
        (
            "GET",
            "/tensorflow.serving.PredictionService/Predict",
            Protocol::TfGrpc,
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
fn every_other_path_is_no_route() {
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
        "/v2/models/m/config/",
        "/v2/models/m/Config",
        "/v2/models/m/config/x",
        "/v2/models/m/versions/1/config/x",
        "/v2/models/m/stats/",
        "/v2/models/m/trace/setting",
        "/v2/trace/setting",
        "/v2/logging",
        "/v2/repository/index",
        "/v2/repository/models/m/load",
        "/v2/repository/models/m/unload",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/r/register",
        "/v2/cudasharedmemory/register",
        "/ping/",
        "/Ping",
        "/ping?",
        "/invocations",
        "/invocations?model_name=m",
        "/models",
        "/models?url=http://h/m.mar",
        "/models/m/invoke",
        "/m/predict",
        "/m/1/predict",
        "/predictions",
        "/predictions/",
        "/predictions//",
        "/predictions/m/",
        "/predictions/m/1/",
        "/predictions/m/1/x",
        "/predictions/m//1",
        "/predictions/m?version=1",
        "/predictions/%6d",
        "/predictions/..",
        "/predictions/m/..",
        "/Predictions/m",
        "//predictions/m",
        "/explanations/m",
        "/explanations/m/1",
        "/api-description",
        "/token?type=inference",
        "/workflows",
        "/wfpredict/m",
        "/v1",
        "/v1/models/",
        "/v1/models/:predict",
        "/v1/models/m:",
        "/v1/models/m:Predict",
        "/v1/Models/m:predict",
        "/v1/models/m:classify",
        "/v1/models/m:regress",
        "/v1/models/m:explain",
        "/v1/models/m:predict:predict",
        "/v1/models/m:predict/",
        "/v1/models/m:predict?x=1",
        "/v1/models/m%3Apredict",
        "/v1/models/m%3apredict",
        "/v1/models/%6d:predict",
        "/v1/models/m/:predict",
        "/v1/models/m/metadata:predict",
        "/v1/models/m/versions:predict",
        "/v1/models/m/versions/:predict",
        "/v1/models/m/versions/01:predict",
        "/v1/models/m/versions/+1:predict",
        "/v1/models/m/versions/latest:predict",
        "/v1/models/m/labels/1:predict",
        "/v1/models/m/labels/:predict",
        "/v1/models/m/labels/../labels/a:predict",
        "/v1/models/m/versions/1/labels/a:predict",
        "/v1/models/m/load",
        "/v1/models/m/unload",
        "/v1/models/..:predict",
        "/v1/models//m:predict",
        "//v1/models/m:predict",
        "/v1/models/m;x:predict",
        "/metrics",
        "/api/jobs/",
        "inference.GRPCInferenceService/ModelInfer",
        "//inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/",
        "/inference.GRPCInferenceService/modelinfer",
        "/inference.GRPCInferenceService/ModelInfer/",
        "/inference.GRPCInferenceService/ModelInfer?",
        "/inference.GRPCInferenceService/modelStreamInfer",
        "/inference.GRPCInferenceService/ModelStreamInfer/",
        "/inference.GRPCInferenceService/ModelStreamInfer?x=1",
        "//inference.GRPCInferenceService/ModelStreamInfer",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/inference.GRPCInferenceService/SystemSharedMemoryRegister",
        "/inference.model_repository.ModelRepositoryService/RepositoryModelLoad",
        "/tensorflow.serving.PredictionService/predict",
        "/tensorflow.serving.PredictionService/Predict/",
        "/tensorflow.serving.PredictionService/Classify",
        "/tensorflow.serving.PredictionService/Regress",
        "/tensorflow.serving.PredictionService/MultiInference",
        "/tensorflow.serving.PredictionService/",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        "/tensorflow.serving.SessionService/SessionRun",
        "/tensorflow.serving.",
        "tensorflow.serving.PredictionService/Predict",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/predictions",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions/",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions2",
        "/org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel",
        "/org.pytorch.serve.grpc.management.ManagementAPIsService/Predictions",
        "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/ModelInfer",
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

#[test]
fn an_unknown_path_is_rejected_in_its_clients_protocol() {
    use Protocol::{OipGrpc, OipRest, OpenAi};
    for (path, unknown, expected) in [
        ("/v1/files", OipRest, OpenAi),
        ("/v1/", OipRest, OpenAi),
        ("/v1/chat/completions/1", OipRest, OpenAi),
        ("/v1/files", OipGrpc, OipGrpc),
        (
            "/openai/deployments/m/chat/completions?api-version=1",
            OipRest,
            OpenAi,
        ),
        ("/openai/v1/models", OipGrpc, OipGrpc),
        ("/openais", OipRest, OipRest),
        ("/v1", OipRest, OipRest),
        ("/v1/models/", OipRest, OipRest),
        ("/v1/models/m:classify", OipRest, OipRest),
        ("/V1/files", OipRest, OipRest),
        ("/x", OipRest, OipRest),
    ] {
        let route = resolve("GET", path, unknown);
        let protocol = expected;
        assert_eq!(route, Route::Unknown { protocol }, "{path}");
    }
}
