//! Tests of paths that look like a route but are not.

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
    let by_post = resolve("POST", CALL, call);
    assert!(matches!(by_post, Route::Model { .. }), "{by_post:?}");
}
