//! A key in a cookie or a query: no later data of the proxy contains it, whatever the outcome is.
//! Also claim headers: which filter sets them, and which one removes a client's own.

use crate::support;

use serde_json::{Value, json};
use support::{NOW, chain, field, json_body, key, stranger_key};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::Field;
use tensorgate_in_memory_proxy::{InMemoryProxy, Stream};
use tensorgate_policy::hex;

fn policy() -> Value {
    json!({
        "version": 1,
        "listen": {"api_key": {"cookie": "tg-key", "query": "api_key"}},
        "issuers": {"corp": {
            "issuer": "https://login.example.com", "audiences": ["gate"], "algorithms": ["EdDSA"], "max_lifetime_s": 60,
            "jwks": {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]},
            "claim_to_headers": [{"claim": "sub", "header": "x-user"}]
        }},
        "clients": {"scorer": {
            "api_keys": [{"sha256": hex(&tensorgate_identity::digest(&key()))}],
            "metadata": {"filter": "f", "claim": "sub"}
        }},
        "backends": {"cpu": {"kind": "embedded", "models": "models/", "max_in_flight": 8, "queue": 8, "timeout_ms": 1000}},
        "models": {"m": {
            "backend": "cpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 64}, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [{"max": 64}, 2]}]
        }},
        "grants": [{"name": "g", "clients": ["scorer"], "models": ["m"], "operations": ["infer"]}]
    })
}

fn proxy(filters: &[Filter]) -> InMemoryProxy {
    let bundle = json!({"generation": "0123456789abcdef", "policy": policy()}).to_string();
    chain(filters, bundle)
}

fn head(path: &str, cookie: &str) -> Vec<Field> {
    let mut fields = vec![
        field(":method", "POST"),
        field(":path", path),
        field(":authority", "gate.example"),
        field(":scheme", "https"),
        field("content-type", "application/json"),
        field("x-padding", "p".repeat(2048)),
    ];
    if !cookie.is_empty() {
        fields.push(field("cookie", cookie));
    }
    fields
}

/// Whether no remaining data of a request contains the text.
#[track_caller]
fn is_gone(stream: &Stream, text: &str, what: &str) {
    for (name, value) in stream.headers() {
        let value = String::from_utf8_lossy(value);
        assert!(!value.contains(text), "{what}: {name:?}: {value}");
    }
}

const PATH: &str = "/v2/models/m/infer";

#[test]
fn a_key_is_gone_from_the_first_moment_whatever_becomes_of_the_request() {
    let (right, wrong) = (key(), stranger_key());
    for filters in [&[Filter::Gate][..], &[Filter::Auth], &Filter::THREE] {
        for (key, allowed) in [(&right, true), (&wrong, false)] {
            for (path, cookie, allowed) in [
                (format!("{PATH}?api_key={key}"), String::new(), allowed),
                (PATH.to_owned(), format!("a=1; tg-key={key}; b=2"), allowed),
                (format!("{PATH}?a=1&api_key={key}"), String::new(), false),
                (
                    format!("{PATH}?api_key={key}&api_key={key}"),
                    String::new(),
                    false,
                ),
                (format!("{PATH}?API_KEY={key}"), String::new(), false),
                (
                    PATH.to_owned(),
                    format!("tg-key={key}; tg-key={key}"),
                    false,
                ),
                (
                    format!("{PATH}?api_key={key}"),
                    format!("tg-key={key}"),
                    false,
                ),
            ] {
                let what = format!("{filters:?} {path} {cookie}");
                let mut proxy = proxy(filters);
                let mut stream = proxy.open(NOW);
                stream.send_headers(&head(&path, &cookie), false);
                is_gone(&stream, key, &what);
                stream.send_body(&json_body(), true);
                is_gone(&stream, key, &what);
                assert_eq!(stream.dispatched(), allowed, "{what}");
                if allowed {
                    let crossing = |name: &str| {
                        stream
                            .headers()
                            .iter()
                            .any(|(known, _)| known == name.as_bytes())
                    };
                    assert!(!crossing("cookie"), "{what}");
                    assert!(stream.headers().contains(&field(":path", PATH)), "{what}");
                }
                let (_, record, logged) = stream.close();
                let told = format!("{record:?} {logged:?}");
                assert!(!told.contains(key.as_str()), "{what}: {told}");
            }
        }
    }
}

#[test]
fn what_is_left_of_a_query_stays_as_it_was() {
    let mut proxy = proxy(&[Filter::Gate]);
    let mut stream = proxy.open(NOW);
    let path = format!("{PATH}?b=%20&api_key={}&a=1;2", key());
    stream.send_headers(&head(&path, ""), true);
    assert!(
        stream
            .headers()
            .contains(&field(":path", format!("{PATH}?b=%20&a=1;2")))
    );
}

#[test]
fn a_clients_own_claims_go_on_through_no_filter() {
    for filters in [
        &[Filter::Gate][..],
        &[Filter::Auth],
        &Filter::THREE,
        &[Filter::RateLimit, Filter::TensorGuard],
        &[Filter::TensorGuard],
    ] {
        let mut proxy = proxy(filters);
        let reads_keys = filters[0].capabilities().identify;
        proxy.set_peer(tensorgate_in_memory_proxy::Peer {
            metadata: vec![("f".into(), vec!["sub".into()], "scorer".into())],
            ..Default::default()
        });
        let mut stream = proxy.open(NOW);
        let mut fields = head(PATH, "");
        fields.extend([field("x-user", "root"), field("X-User", "admin")]);
        if reads_keys {
            fields.push(field("x-api-key", key()));
        }
        stream.send_headers(&fields, false);
        stream.send_body(&json_body(), true);
        assert!(stream.dispatched(), "{filters:?}");
        let crossing = |name: &str| {
            stream
                .headers()
                .iter()
                .any(|(known, _)| known == name.as_bytes())
        };
        assert!(!crossing("x-user"), "{filters:?}");
        assert_eq!(crossing("x-padding"), !reads_keys, "{filters:?}");
    }
}
