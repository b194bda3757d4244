//! Tests of paths that look like a route but are not.

use tensorgate_policy::request::management::MANAGEMENT;

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

#[test]
fn no_path_of_a_servers_management_is_a_route() {
    let paths = MANAGEMENT.iter().flat_map(|management| management.paths);
    for path in paths {
        for below in ["", "/m", "/m/load"] {
            let path = format!("{path}{below}");
            for method in ["GET", "POST", "PUT", "DELETE"] {
                for protocol in [Protocol::OipRest, Protocol::OipGrpc] {
                    let route = resolve(method, &path, protocol);
                    let is_none = matches!(route, Route::Unknown { .. });
                    assert!(is_none, "{method} {path}: {route:?}");
                }
            }
        }
    }
}
