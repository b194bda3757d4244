//! Tests of a model's own paths.

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
