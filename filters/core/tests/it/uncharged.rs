//! Rejections that no rate counts: requests for the paths of models that are not granted.

use crate::support;

use support::{NOW, bundle, field, head, json_body, stranger_key};
use tensorgate_filter_core::filter::Filter;

/// The usual policy with two models that have their own paths and no grant.
fn policy() -> String {
    let own = r#"{"backend": "cpu", "versions": ["1"], "protocols": ["json"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}], "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],
        "json": {"route": "ROUTE", "inputs": {"x": "/x"}, "outputs": {"y": "/y"}}}"#;
    let (classify, scored) = (
        own.replace("ROUTE", "/classify"),
        own.replace("ROUTE", "/v1/score"),
    );
    let models = format!(r#""models": {{"classify": {classify}, "scored": {scored}, "m":"#);
    let bundle = bundle();
    let (before, after) = bundle.split_once(r#""models": {"#).expect("it has models");
    let after = after.trim_start().strip_prefix(r#""m":"#).expect("m first");
    format!("{before}{models}{after}")
}

#[test]
fn an_ungranted_model_path_is_answered_like_an_unknown_path() {
    let ways = [
        vec![],
        vec![field("content-type", "application/json")],
        vec![field("content-type", "application/grpc")],
        vec![field("content-type", "text/plain")],
        vec![field("content-type", "nothing")],
        vec![field("content-encoding", "gzip")],
        vec![field("content-encoding", "unheard-of")],
        vec![field("inference-header-content-length", "1")],
        vec![field("content-length", "0")],
    ];
    let callers = [None, Some(support::key()), Some(stranger_key())];
    for (own, nowhere) in [("/classify", "/nowhere"), ("/v1/score", "/v1/nowhere")] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "post"] {
            for (way, caller) in ways
                .iter()
                .flat_map(|way| callers.iter().map(move |caller| (way, caller)))
            {
                let answer = |path: &str, last: bool| {
                    let mut headers = head(method, path);
                    headers.retain(|(name, _)| name != b"x-api-key");
                    headers.extend(caller.iter().map(|key| field("x-api-key", key)));
                    headers.extend(way.clone());
                    let mut stream = support::chain(&[Filter::Gate], policy()).open(NOW);
                    stream.send_headers(&headers, last);
                    if !last {
                        stream.send_body(&json_body(), true);
                    }
                    stream.close().0.map(|outcome| format!("{outcome:?}"))
                };
                for last in [true, false] {
                    assert_eq!(
                        answer(own, last),
                        answer(nowhere, last),
                        "{method} {own} {way:?} {caller:?}"
                    );
                }
            }
        }
    }
}
