//! Requests for the management of an inference server: those that load models, change settings or
//! map memory.
//!
//! The gate routes exact paths only, so any other spelling of such a path is rejected. It is an
//! attempt all the same: a server may decode escapes, merge slashes and resolve dot segments. So
//! what counts is the path that such a server would read.

use tensorgate_audit::record::lenient_path;
use tensorgate_policy::request::management::managed_server;

/// The kind of server whose management a request with this method and path is for.
pub(super) fn server(method: Option<&str>, path: &str) -> Option<&'static str> {
    managed_server(method, &lenient_path(path))
}

#[cfg(test)]
mod tests {
    use tensorgate_audit::record::path;

    use super::*;

    fn is_management(method: Option<&str>, path: &str) -> bool {
        server(method, path).is_some()
    }

    #[test]
    fn a_request_for_management_is_one_in_each_protocol() {
        for (method, path) in [
            ("POST", "/v2/repository/models/m/load"),
            (
                "POST",
                "/inference.GRPCInferenceService/RepositoryModelLoad",
            ),
            ("POST", "/v2/cudasharedmemory/region/r/register"),
            ("POST", "/v2/models/m/trace/setting"),
            ("DELETE", "/models/second"),
            ("POST", "/models"),
            (
                "POST",
                "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
            ),
            ("POST", "/v1/load_lora_adapter"),
            ("POST", "/flush_cache"),
            ("POST", "/api/pull"),
            ("GET", "/api/serve/applications/"),
        ] {
            assert!(is_management(Some(method), path), "{method} {path}");
        }
        for (method, path) in [
            ("POST", "/v2/models/repository/infer"),
            ("GET", "/models"),
            ("POST", "/modelsort"),
            ("GET", "/metrics"),
            ("POST", "/v2/repository/../models/m/infer"),
        ] {
            assert!(!is_management(Some(method), path), "{method} {path}");
        }
    }

    #[test]
    fn another_spelling_of_the_path_is_the_same_attempt() {
        for path in [
            "//V2/Repository/index",
            "/v2//repository///index",
            "/v2/%72epository/index",
            "/v2%2Frepository%2findex",
            "/v2/%2572epository/index",
            "/%56%32/REPOSITORY/index",
            "/v2/models/../repository/index",
            "/x/%2e%2e/v2/./repository/index",
            "/v2\\repository\\index",
            "/v2;a=b/repository;c/index",
            "/v2/models/m/%74race//setting",
            "/V1/load%5Flora_adapter",
            "/api//Pull/",
        ] {
            assert!(is_management(Some("POST"), path), "{path}");
        }
        for path in ["/%2F/%6dodels/m", "//models", "/./models;x/m"] {
            assert!(is_management(Some("DELETE"), path), "{path}");
            assert!(!is_management(Some("GET"), path), "{path}");
        }
        for path in ["%", "/%zz/%2", "/%+2f", "", "/../.."] {
            assert!(!is_management(Some("POST"), path), "{path}");
        }
    }

    #[test]
    fn the_record_of_a_long_path_hides_no_attempt() {
        let name = "n".repeat(600);
        for padding in [
            format!("/{name}/.."),
            format!("/{name}/%252E%252e"),
            format!("/;{name}"),
            "/.".repeat(300),
            "/".repeat(600),
            "\\".repeat(600),
        ] {
            let recorded = path(&format!("{padding}/V2/Repository/index"));
            assert!(is_management(Some("POST"), &recorded), "{recorded}");
        }
        let recorded = path(&format!("/{name}/v2/repository/.."));
        assert!(!is_management(Some("POST"), &recorded), "{recorded}");
    }
}
