//! Rejections that no rate counts: messages of a stream without a grant, and requests for the paths
//! of models that are not granted.

use crate::support;

use support::{
    NOW, STREAM, bundle, field, grpc_frame, grpc_message, head, json_body, stranger_key,
};
use tensorgate_filter_core::filter::Filter;
use tensorgate_native_proxy::NativeProxy;

/// The usual policy with streams, and with two models that have their own paths and no grant.
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
    let bundle = bundle.replacen(
        r#""infer", "metadata", "ready""#,
        r#""infer", "stream", "metadata", "ready""#,
        1,
    );
    let (before, after) = bundle.split_once(r#""models": {"#).expect("it has models");
    let after = after.trim_start().strip_prefix(r#""m":"#).expect("m first");
    format!("{before}{models}{after}")
}

fn chain(filters: &[Filter]) -> NativeProxy {
    support::chain(filters, policy())
}

/// Log lines of a stream of these messages.
fn lines(filters: &[Filter], messages: &[Vec<u8>]) -> usize {
    let mut headers = head("POST", STREAM);
    headers.extend([
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]);
    let mut stream = chain(filters).open(NOW);
    stream.send_headers(&headers, false);
    stream.send_body(&messages.concat(), true);
    let (_, _, logged) = stream.close();
    let refused =
        |line: &&(_, String)| line.1.contains("not-granted") || line.1.contains("malformed");
    logged.lines.iter().filter(refused).count()
}

#[test]
fn uncharged_rejected_messages_end_their_stream() {
    let of = |model: &str| grpc_frame(&grpc_message(model));
    let nameless = grpc_frame(b"");
    let garbled = grpc_frame(&[0xff; 3]);
    let flood = |frame: &Vec<u8>| vec![frame.clone(); 1_000];
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        assert_eq!(lines(filters, &[of("m"), of("m")]), 0, "{filters:?}");
        let one = lines(filters, std::slice::from_ref(&nameless));
        assert_eq!(lines(filters, &flood(&nameless)), one, "{filters:?}");
        assert_eq!(lines(filters, &flood(&garbled)), one, "{filters:?}");
        assert_eq!(
            lines(filters, &[vec![of("m")], flood(&nameless)].concat()),
            one,
            "{filters:?}"
        );
        // A few rejections do not end the stream, however far apart they are; more do.
        let apart = |times| vec![[of("classify"), of("m")]; times].concat();
        assert_eq!(lines(filters, &apart(2)), 2 * one, "{filters:?}");
        assert_eq!(lines(filters, &apart(500)), 4 * one, "{filters:?}");
        assert_eq!(
            lines(filters, &flood(&of("nowhere"))),
            4 * one,
            "{filters:?}"
        );
    }
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
                    let mut stream = chain(&[Filter::Gate]).open(NOW);
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
