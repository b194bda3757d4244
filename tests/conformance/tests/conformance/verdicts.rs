//! The comparison of a reply with a vector accepts the right replies only.

use tensorgate_client::Reply;
use tensorgate_conformance::verdict::{allowed, percent_decode, refused};
use tensorgate_policy::{Protocol, Reason};

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    Reply {
        status,
        headers,
        body: body.as_bytes().to_vec(),
        ..Reply::default()
    }
}

#[test]
fn a_rejection_needs_its_reason_status_and_field() {
    let shape = r#"{"type": "urn:tensorgate:shape", "title": "t", "error": "input \"x\": dim 0"}"#;
    for (answer, field, expected) in [
        (reply(400, &[], shape), None, true),
        (reply(400, &[], shape), Some("input \"x\""), true),
        (reply(400, &[], shape), Some("input \"y\""), false),
        (reply(403, &[], shape), None, false),
        (
            reply(400, &[], r#"{"type": "urn:tensorgate:datatype"}"#),
            None,
            false,
        ),
        (reply(400, &[], ""), None, false),
    ] {
        assert_eq!(
            refused(Reason::Shape, field, &answer).is_ok(),
            expected,
            "{answer:?} {field:?}"
        );
    }
}

#[test]
fn only_a_served_answer_counts_as_allowed() {
    assert!(allowed(Protocol::OipRest, &reply(200, &[], "{}")).is_ok());
    assert!(allowed(Protocol::OipRest, &reply(403, &[], "{}")).is_err());
    assert!(allowed(Protocol::OipGrpc, &reply(200, &[("grpc-status", "0")], "")).is_ok());
    assert!(allowed(Protocol::OipGrpc, &reply(200, &[("grpc-status", "7")], "")).is_err());
    assert!(allowed(Protocol::OipGrpc, &reply(200, &[], "")).is_err());
}

#[test]
fn percent_decode_changes_only_escapes() {
    for (text, plain) in [
        ("a%20b", "a b"),
        ("%22x%22", "\"x\""),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%C3%A9", "é"),
    ] {
        assert_eq!(percent_decode(text), plain);
    }
}
