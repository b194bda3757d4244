//! Header fields that crash other filters, against a real Envoy: after each of them the gate still
//! serves.

use tensorgate_client::{ClientError, Reply, grpc, http1};
use tensorgate_tests::{Lease, Stack, ask, policy};

/// What a client sees of a rejection: the status, and the reason if the answer has one.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Answer(u16, Option<String>),
    Cut,
}

/// A header field.
type Field<'a> = (&'a [u8], &'a [u8]);

fn seen(reply: Result<Reply, ClientError>) -> Seen {
    match reply {
        Ok(reply) => Seen::Answer(reply.status, reply.reason()),
        Err(ClientError::Hung) => panic!("the gate hung"),
        Err(_) => Seen::Cut,
    }
}

fn refused(status: u16, reason: &str) -> Seen {
    Seen::Answer(status, Some(reason.into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_header_fields_are_rejected_or_ignored_and_the_gate_keeps_serving() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let key = policy::key("scorer");
    let many: Vec<String> = (0..10_000).map(|n| format!("x-{n}")).collect();
    let many: Vec<Field<'_>> = many
        .iter()
        .map(|name| (name.as_bytes(), b"1".as_slice()))
        .collect();
    let huge = vec![b'a'; 100 << 10];
    let allowed = || Seen::Answer(200, None);
    let cases: Vec<(&str, Vec<Field<'_>>, Seen)> = vec![
        (
            "bytes that are not UTF-8 in a field that is not read",
            vec![(b"x-note", b"\xff\xfe")],
            allowed(),
        ),
        (
            "bytes that are not UTF-8 in the type",
            vec![(b"content-encoding", b"\xff")],
            refused(400, "ambiguous-request"),
        ),
        (
            "the same key twice",
            vec![(b"x-api-key", key.as_bytes())],
            refused(400, "ambiguous-request"),
        ),
        // Envoy joins these into one field (`cli/tests/it/explain.rs`).
        (
            "the type twice",
            vec![(b"content-type", b"application/json")],
            refused(400, "ambiguous-request"),
        ),
        (
            "two codings",
            vec![
                (b"content-encoding", b"identity"),
                (b"content-encoding", b"gzip"),
            ],
            refused(415, "unsupported-encoding"),
        ),
        (
            "an expectation twice",
            vec![(b"expect", b"100-continue"), (b"expect", b"100-continue")],
            refused(400, "ambiguous-request"),
        ),
        (
            "two hosts",
            vec![(b"host", b"elsewhere")],
            refused(400, "ambiguous-request"),
        ),
        (
            "ten thousand fields",
            many.clone(),
            refused(431, "header-too-large"),
        ),
        (
            "one field of 100 KiB",
            vec![(b"x-note", &huge)],
            refused(431, "header-too-large"),
        ),
        (
            "a name of 100 KiB",
            vec![(&huge, b"1")],
            refused(431, "header-too-large"),
        ),
        (
            "an underscore for a dash",
            vec![(b"x_api_key", key.as_bytes())],
            refused(400, "ambiguous-request"),
        ),
        (
            "a name that is not text",
            vec![(b"x-\xff", b"1")],
            refused(400, "ambiguous-request"),
        ),
        (
            "a NUL in a value",
            vec![(b"x-note", b"a\0b")],
            refused(400, "ambiguous-request"),
        ),
        (
            "a blank before the colon",
            vec![(b"x-note ", b"1")],
            refused(400, "ambiguous-request"),
        ),
        // RFC 9112, 5.2: a proxy may replace the line break by a space; then it is one field.
        (
            "a line that goes on in the next",
            vec![(b"x-note", b"a\r\n b")],
            allowed(),
        ),
        (
            "a key that goes on in the next line",
            vec![(b"authorization", b"Bearer\r\n tg_x")],
            refused(400, "ambiguous-request"),
        ),
        (
            "two lengths",
            vec![(b"content-length", b"3")],
            refused(400, "ambiguous-request"),
        ),
        (
            "a length and a coding",
            vec![(b"transfer-encoding", b"chunked")],
            refused(400, "ambiguous-request"),
        ),
        (
            "an unknown coding",
            vec![(b"transfer-encoding", b"gzip, chunked")],
            refused(400, "ambiguous-request"),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, more, expected) in cases {
        let answer = seen(ask::good(stack.gate, &more).await);
        if answer != expected {
            wrong.push(format!("{name}: expected {expected:?}, got {answer:?}"));
        }
        let after = seen(ask::good(stack.gate, &[]).await);
        if after != allowed() {
            wrong.push(format!("{name}: the request after it got {after:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_fields_over_http2_harms_only_itself() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let mut fields: Vec<_> = (0..10_000)
        .map(|n| (format!("x-{n}").into_bytes(), b"1".to_vec()))
        .collect();
    fields.push((b"x-api-key".to_vec(), policy::key("scorer").into_bytes()));
    let call = grpc::Call {
        path: "/inference.GRPCInferenceService/ModelInfer".into(),
        fields,
        pieces: vec![grpc::frame(&ask::message("x"))],
        trailers: None,
    };
    match grpc::send(stack.gate, &call).await {
        Ok(reply) => assert_eq!(
            reply.reason().as_deref(),
            Some("header-too-large"),
            "{reply:?}"
        ),
        Err(ClientError::H2(_) | ClientError::Io(_)) => {}
        Err(error) => panic!("{error}"),
    }
    let after = ask::good_grpc(stack.gate, usize::MAX, None).await.unwrap();
    assert_eq!(after.grpc_status(), Some(0), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_http_get_no_useful_answer() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    for (noise, status) in [
        (b"GET / HTTP/0.9\r\n\r\n".to_vec(), Some(426)),
        (
            b"GET /v2/health/live HTTP/1.0\r\nhost: a\r\n\r\n".to_vec(),
            Some(426),
        ),
        (b"GET /v2/health/live HTTP/1.1\r\n\r\n".to_vec(), Some(400)),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            Some(400),
        ),
        (vec![0; 1 << 16], Some(400)),
    ] {
        let reply = http1::raw(stack.gate, &noise).await;
        let status_seen = reply.as_ref().ok().map(|reply| reply.status);
        assert!(status_seen == status || reply.is_err(), "{reply:?}");
        assert!(!matches!(reply, Err(ClientError::Hung)), "the gate hung");
        assert_eq!(ask::good(stack.gate, &[]).await.unwrap().status, 200);
    }
}

/// A request id that the caller chose.
const THEIRS: &str = "11111111-2222-4333-8444-555555555555";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_our_request_id_or_none_and_never_the_callers() {
    let stack = Stack::start("headers-ids", policy::vectors_policy("main.json")).await;
    let theirs = format!("host: a\r\nconnection: close\r\nx-request-id: {THEIRS}\r\n");
    let check = async |head: &str, status: u16, named: bool| {
        let end = if head.contains("\r\n\r\n") {
            ""
        } else {
            "\r\n"
        };
        let request = format!("{head}{end}");
        let reply = http1::raw(stack.gate, request.as_bytes()).await.unwrap();
        assert_eq!(reply.status, status, "{head}: {reply:?}");
        let said = format!(
            "{:?}{}",
            reply.headers,
            String::from_utf8_lossy(&reply.body)
        );
        assert!(!said.contains(THEIRS), "{head}: {said}");
        assert_eq!(reply.header("x-request-id").is_some(), named, "{head}");
    };
    // Rejected by Envoy before it has assigned an id, rejected by the filter, and answered.
    check(&format!("GET /v2 HTTP/1.0\r\n{theirs}"), 426, false).await;
    check(
        &format!("GET /v2 HTTP/1.1\r\n{theirs}x_y: 1\r\n"),
        400,
        false,
    )
    .await;
    let hostless = format!("GET /v2 HTTP/1.1\r\nx-request-id: {THEIRS}\r\n");
    check(&hostless, 400, false).await;
    let grpc = "content-type: application/grpc\r\ncontent-length: 0\r\n";
    let hostless = format!("POST /a/b HTTP/1.1\r\nx-request-id: {THEIRS}\r\n{grpc}");
    check(&hostless, 200, false).await;
    check(&format!("GET /v2 HTTP/1.1\r\n{theirs}"), 401, true).await;
    let key = format!("x-api-key: {}\r\n", policy::key("scorer"));
    check(&format!("GET /v2 HTTP/1.1\r\n{theirs}{key}"), 200, true).await;
    let infer = format!(
        "POST {} HTTP/1.1\r\n{theirs}{key}content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        ask::PATH,
        ask::VALID.len(),
        ask::VALID
    );
    check(&infer, 200, true).await;
    // Without a host: Envoy's own reply to a request that has an id.
    stack.kill_host().await;
    check(&infer, 503, true).await;
}

/// A client's offer to upgrade to HTTP/2 (RFC 7540, 3.2).
const H2C: &str = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
/// A client's offer to upgrade to TLS (RFC 2817).
const TLS: &str = "connection: upgrade\r\nupgrade: TLS/1.2\r\n";
/// A client's offer to upgrade to another protocol.
const WEBSOCKET: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_target_form_and_no_upgrade_reaches_another_route() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let key = policy::key("scorer");
    let infer = format!(
        "content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        ask::VALID.len(),
        ask::VALID
    );
    let nothing = "content-length: 0\r\n\r\n";
    let (path, managed) = (ask::PATH, "/v2/repository/index");
    let at_host = |path: &str| format!("POST http://gate.example{path}");
    let plain = |path: &str| format!("POST {path}");
    let allowed = || Seen::Answer(200, None);
    let nowhere = || refused(404, "not-an-inference-route");
    let odd = || refused(400, "ambiguous-request");
    for (line, more, body, expected) in [
        // Absolute form (RFC 9112, 3.2.2) means what its path means, whatever host it names.
        (at_host(path), "", infer.as_str(), allowed()),
        (at_host(managed), "", nothing, nowhere()),
        (
            format!("POST http://other.example{managed}"),
            "",
            nothing,
            nowhere(),
        ),
        (
            format!("POST https://gate.example{path}"),
            "",
            &infer,
            odd(),
        ),
        (
            at_host("/v2/models/vec/infer/../../../repository/index"),
            "",
            nothing,
            nowhere(),
        ),
        ("GET http://gate.example".into(), "", nothing, nowhere()),
        ("OPTIONS *".into(), "", nothing, nowhere()),
        ("GET v2/health/live".into(), "", nothing, odd()),
        ("CONNECT gate.example:443".into(), "", "\r\n", odd()),
        (format!("CONNECT {path}"), "", "\r\n", odd()),
        // A request for another protocol is answered in this one, or not at all.
        (plain(path), H2C, infer.as_str(), allowed()),
        (plain(managed), H2C, nothing, nowhere()),
        (at_host(managed), H2C, nothing, nowhere()),
        // An offer of TLS is ignored, as Java's clients expect, and no other with it.
        (plain(path), TLS, infer.as_str(), allowed()),
        (plain(managed), TLS, nothing, nowhere()),
        (
            plain(path),
            "connection: upgrade\r\nupgrade: TLS/1.2, websocket\r\n",
            &infer,
            odd(),
        ),
        (plain(path), WEBSOCKET, &infer, odd()),
        (plain(managed), WEBSOCKET, nothing, odd()),
        // A field of another protocol that does not apply.
        (
            plain(path),
            "http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
            &infer,
            odd(),
        ),
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nhost: gate.example\r\nx-api-key: {key}\r\n{more}{body}");
        let reply = http1::raw(stack.gate, request.as_bytes()).await;
        if let Ok(reply) = &reply {
            assert!(reply.header("upgrade").is_none(), "{line}: {reply:?}");
        }
        assert_eq!(seen(reply), expected, "{line} {more}");
    }
    // HTTP/2 bytes after such a request are read as HTTP/1.1, and are not valid HTTP/1.1.
    let head = format!("POST {managed} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n{H2C}{nothing}");
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let both = http1::raw(stack.gate, format!("{head}{preface}").as_bytes()).await;
    let both = both.unwrap();
    assert!(
        both.status == 404 && both.header("upgrade").is_none(),
        "{both:?}"
    );
    // The answer to the rest may be in the same read.
    let told = String::from_utf8_lossy(&both.body);
    assert!(
        told.contains("urn:tensorgate:not-an-inference-route"),
        "{told}"
    );
    assert!(!told.contains("HTTP/1.1 2"), "{told}");
    let after = ask::good(stack.gate, &[]).await;
    assert_eq!(seen(after), allowed());
    assert_eq!(stack.backend.seen().len(), 4);
}
