//! Tests of endpoint addresses.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

#[tokio::test]
async fn only_plain_http_and_unix_sockets_are_endpoints() {
    for (uri, expected) in [
        ("http://127.0.0.1:8001", true),
        ("unix:/run/backend.sock", true),
        ("https://triton:8001", false),
        ("file:///etc/passwd", false),
        ("127.0.0.1:8001", false),
        ("http://", false),
    ] {
        assert_eq!(Endpoint::new(uri, None).is_ok(), expected, "{uri}");
    }
}

#[tokio::test]
async fn a_refused_connection_counts_only_on_this_machine() {
    for (uri, expected) in [
        // Nothing listens at the port of tcpmux.
        ("http://127.0.0.1:1", true),
        ("http://localhost:1", true),
        ("unix:/nonexistent/backend.sock", true),
        // This machine refuses here, too, as the proxy of a Service does.
        ("http://0.0.0.0:1", false),
        ("http://server.invalid:1", false),
    ] {
        let endpoint = Endpoint::new(uri, None).unwrap();
        assert_eq!(endpoint.is_refused_locally().await, expected, "{uri}");
    }
}
