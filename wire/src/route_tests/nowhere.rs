//! Tests of what is no route although it looks like one, and of what nobody may make one.

use super::*;

#[test]
fn statistics_by_another_method_or_in_another_form_are_no_route() {
    const CALL: &str = "/inference.GRPCInferenceService/ModelStatistics";
    let (rest, call) = (Protocol::OipRest, Protocol::OipGrpc);
    for (method, path, protocol) in [
        ("POST", "/v2/models/m/stats", rest),
        ("HEAD", "/v2/models/m/versions/1/stats", rest),
        ("GET", "/v2/models/m/stats", call),
        ("GET", CALL, call),
        ("POST", CALL, rest),
    ] {
        let route = resolve(method, path, protocol);
        assert_eq!(route, Route::Unknown { protocol }, "{method} {path}");
    }
    let asked = resolve("POST", CALL, call);
    assert!(matches!(asked, Route::Model { .. }), "{asked:?}");
}

#[test]
fn no_template_can_have_a_path_of_a_protocol() {
    use tensorgate_policy::policy::is_taken;
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
