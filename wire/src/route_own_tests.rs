//! Tests of paths that no protocol has: who they are refused for, and which a model may have of its own.

use tensorgate_policy::policy::is_taken;

use super::*;

#[test]
fn no_template_can_have_a_path_of_a_protocol() {
    for path in [
        "/v2",
        "/v2/health/ready",
        "/v2/models/m/infer",
        "/v1/models",
        "/v1/models/m:predict",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/ping",
        "/predictions/m/1",
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ModelInfer",
        "/tensorflow.serving.PredictionService/Predict",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
    ] {
        let known = resolve("POST", path, Protocol::OipRest);
        assert!(!matches!(known, Route::Unknown { .. }), "{path}");
        assert!(is_taken(path), "{path}");
    }
    for path in [
        "/classify",
        "/v1/digits",
        "/v20",
        "/pings",
        "/predict",
        "/api/v2",
    ] {
        let known = resolve("POST", path, Protocol::OipRest);
        assert!(matches!(known, Route::Unknown { .. }), "{path}");
        assert!(!is_taken(path), "{path}");
    }
}

#[test]
fn a_path_that_leads_nowhere_is_refused_as_its_clients_read_it() {
    use Protocol::{OipGrpc, OipRest, OpenAi};
    for (path, unknown, expected) in [
        ("/v1/files", OipRest, OpenAi),
        ("/v1/", OipRest, OpenAi),
        ("/v1/chat/completions/1", OipRest, OpenAi),
        ("/v1/files", OipGrpc, OipGrpc),
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
