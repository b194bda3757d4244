//! The target of a request: its route, and what becomes of a query.
//!
//! No route takes a query, because a server might interpret it. Where a request has no body, a
//! query is ignored: only the path is forwarded. Elsewhere the path with its query is no route.

use std::borrow::Cow;

use tensorgate_policy::request::{Operation, Protocol, Route};

use super::media_type::is_token_byte;
use crate::route;

/// Maximum length of a parameter's name in a rejection, bytes. API keys are longer.
const MAX_PARAMETER_BYTES: usize = 32;

/// A target.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) route: Route<'a>,
    /// The path, with a query only if that is not ignored.
    pub(super) path: Cow<'a, str>,
    /// Whether the path is without a query that is ignored.
    pub(super) query_ignored: bool,
    /// Name of a parameter that an inference does not take; empty if it may not be shown.
    pub(super) refused_query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Resolves a target. `raw_path` is the path as it arrived, `path` the same without the API
    /// key, and `key` the name of the key's parameter.
    pub(super) fn resolve(
        method: &str,
        raw_path: &'a str,
        path: Cow<'a, str>,
        key: Option<&str>,
        unknown: Protocol,
    ) -> Self {
        let (bare, raw_query) = raw_path.split_once('?').unwrap_or((raw_path, ""));
        let route = route::resolve(method, bare, unknown);
        let has_query = path.contains('?');
        if route.takes_no_body() {
            return Self {
                route,
                path: Cow::Borrowed(bare),
                query_ignored: has_query,
                refused_query: None,
            };
        }
        if !has_query {
            return Self {
                route,
                path,
                query_ignored: false,
                refused_query: None,
            };
        }
        let infers = route.operation().is_some_and(Operation::infers);
        let is_named = infers && !route.protocol().is_grpc();
        let protocol = route::refused_in(&path, unknown);
        Self {
            route: Route::Unknown { protocol },
            path,
            query_ignored: false,
            refused_query: is_named.then(|| parameter_name(raw_query, key)),
        }
    }
}

/// Name of the first parameter of a query that is not the API key's; empty if it may not be shown.
/// A text without a value may be a secret.
fn parameter_name<'a>(query: &'a str, key: Option<&str>) -> &'a str {
    query
        .split('&')
        .filter_map(|parameter| parameter.split_once('='))
        .map(|(name, _)| name)
        .find(|name| key != Some(*name))
        .filter(|name| name.len() <= MAX_PARAMETER_BYTES && name.bytes().all(is_token_byte))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(method: &str, path: &'a str) -> Target<'a> {
        Target::resolve(method, path, path.into(), None, Protocol::OipRest)
    }

    #[test]
    fn a_query_is_ignored_where_a_request_has_no_body() {
        for (method, path, expected) in [
            ("GET", "/v1/models?client_version=0.98.0", "/v1/models"),
            ("GET", "/v2/health/ready?verbose", "/v2/health/ready"),
            ("HEAD", "/v2/health/live?", "/v2/health/live"),
            ("GET", "/v2/models/m?a=1&b=%2F..%2Fx", "/v2/models/m"),
            (
                "GET",
                "/v1/models/m/metadata?x=a?b",
                "/v1/models/m/metadata",
            ),
            ("GET", "/ping?x", "/ping"),
        ] {
            let read = target(method, path);
            assert!(read.route.takes_no_body(), "{path}: {:?}", read.route);
            assert_eq!((&*read.path, read.query_ignored), (expected, true));
            assert_eq!(read.refused_query, None, "{path}");
        }
        assert!(!target("GET", "/v2/health/ready").query_ignored);
    }

    #[test]
    fn a_query_on_any_other_path_is_no_route_and_an_inferences_is_named() {
        let long = format!("/v2/models/m/infer?{}=1", "a".repeat(33));
        for (method, path, expected) in [
            ("POST", "/v2/models/m/infer?trace=1", Some("trace")),
            ("POST", "/v2/models/m/infer?", Some("")),
            ("POST", "/v2/models/m/infer?tg_secret", Some("")),
            ("POST", "/v2/models/m/infer?a\u{e9}=1", Some("")),
            ("POST", "/v2/models/m/infer?a b=1", Some("")),
            ("POST", long.as_str(), Some("")),
            ("POST", "/v1/chat/completions?beta=true", Some("beta")),
            (
                "POST",
                "/v1/models/m:predict?signature_name=x",
                Some("signature_name"),
            ),
            ("POST", "/predictions/m?v=1", Some("v")),
            (
                "POST",
                "/inference.GRPCInferenceService/ModelInfer?x=1",
                None,
            ),
            (
                "POST",
                "/inference.GRPCInferenceService/ModelReady?x=1",
                None,
            ),
            ("POST", "/v2/repository/index?x=1", None),
            ("POST", "/v2/health/ready?x=1", None),
            ("GET", "/v2/models/m/infer?x=1", None),
            ("GET", "/v2/models/m/stats?x=1", None),
            ("GET", "/models?url=http://h/m.mar", None),
            ("GET", "/v2/health/ready#?x=1", None),
        ] {
            let read = target(method, path);
            let is_unknown = matches!(read.route, Route::Unknown { .. });
            assert!(is_unknown, "{path}: {:?}", read.route);
            assert_eq!((&*read.path, read.query_ignored), (path, false));
            assert_eq!(read.refused_query, expected, "{path}");
        }
    }

    #[test]
    fn the_parameter_of_an_api_key_is_not_named() {
        let (raw, path) = (
            "/v2/models/m/infer?k=1&trace=1",
            "/v2/models/m/infer?trace=1",
        );
        let path = Cow::Owned(path.to_owned());
        let read = Target::resolve("POST", raw, path, Some("k"), Protocol::OipRest);
        assert_eq!(read.refused_query, Some("trace"));
    }
}
