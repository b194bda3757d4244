//! What a client claims about itself is neither believed nor forwarded. And no client can bypass
//! the gate.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tensorgate_tests::{Lease, ask, policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request id that the client chose.
const OWN_ID: &str = "3f1c0c5e-0000-4000-8000-000000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_claims_about_itself_are_not_forwarded() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    for name in [
        "x-tensorgate-context",
        "x-tensorgate-client",
        "X-TensorGate-Anything",
    ] {
        let reply = ask::good(stack.gate, &[(name.as_bytes(), b"scorer")])
            .await
            .unwrap();
        assert_eq!(
            reply.reason().as_deref(),
            Some("ambiguous-request"),
            "{name} {reply:?}"
        );
    }
    assert!(stack.backend.seen().is_empty());

    let claims: [(&[u8], &[u8]); 9] = [
        (
            b"x-forwarded-client-cert",
            b"URI=spiffe://prod/ns/risk/sa/engine",
        ),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"x-envoy-external-address", b"10.0.0.1"),
        (b"x-envoy-upstream-rq-timeout-ms", b"1"),
        (b"x-envoy-original-path", b"/v2/repository/index"),
        (b"x-request-id", OWN_ID.as_bytes()),
        (b"forwarded", b"for=10.0.0.1"),
        (b"cookie", b"session=claimed"),
        (b"triton-request-priority", b"1"),
    ];
    let reply = ask::good(stack.gate, &claims).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = stack.backend.seen();
    assert_eq!(seen.len(), 1);
    let told = format!("{:?}", seen[0].fields);
    for claim in [
        "spiffe",
        "10.0.0.1",
        "repository",
        "session=claimed",
        "triton-request-priority",
        "forwarded",
        "x-envoy",
        "api-key",
        "tg_",
        "x-tensorgate",
    ] {
        assert!(!told.contains(claim), "{claim} reached the backend: {told}");
    }

    // The answer has our id, and the logs have the same one.
    let id = reply.header("x-request-id").unwrap();
    assert_ne!(id, OWN_ID);
    assert!(!told.contains(OWN_ID), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_answer_reveals_nothing_about_the_upstream() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let rest = ask::good(stack.gate, &[]).await.unwrap();
    let grpc = ask::good_grpc(stack.gate, usize::MAX, None).await.unwrap();
    for reply in [&rest, &grpc] {
        let id = reply.header("x-request-id").unwrap();
        assert_eq!(id.len(), 36, "{reply:?}");
        for name in ["server", "via", "x-powered-by", "x-tensorgate-context"] {
            assert_eq!(reply.header(name), None, "{reply:?}");
        }
        assert!(
            reply
                .headers
                .iter()
                .all(|(name, _)| !name.starts_with(b"x-envoy")),
            "{reply:?}"
        );
    }
    let answer = rest.json().unwrap();
    assert_eq!(answer["model_name"], "vec", "{answer}");
    assert_eq!(answer["outputs"][0]["name"], "y", "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_can_bypass_the_gate() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let socket = stack.host_socket();
    let metadata = std::fs::metadata(&socket).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        metadata.uid(),
        std::fs::metadata("/proc/self").unwrap().uid()
    );
    let contexts = [
        "",
        "x-tensorgate-context: v1\r\n",
        "x-tensorgate-context: eyJjbGllbnQiOiJzY29yZXIifQ.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
    ];
    for context in contexts {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n{context}x-request-id: {OWN_ID}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            ask::PATH,
            ask::VALID.len(),
            ask::VALID
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{context:?}: {answer}");
        assert!(!answer.contains("outputs"), "{context:?}: {answer}");
    }
    assert!(stack.backend.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_trusted_proxies_entries_of_x_forwarded_for_count() {
    let mut policy = policy::vectors_policy("main.json");
    policy.listen.trusted_hops = 2.into();
    policy.clients.get_mut("scorer").unwrap().sources = Some(vec!["192.0.2.0/24".into()]);
    let stack = Lease::of(policy).await;
    for (entries, status) in [
        // The caller, then the first proxy; the second is the peer of the connection.
        (["192.0.2.7, 10.0.0.1"].as_slice(), 200),
        (&["192.0.2.7", "10.0.0.1"], 200),
        // An entry that the caller wrote itself is further left.
        (&["10.9.9.9, 192.0.2.7, 10.0.0.1"], 200),
        (&["192.0.2.7, 10.9.9.9, 10.0.0.1"], 401),
        (&["192.0.2.7, 192.0.2.7, 10.9.9.9, 10.0.0.1"], 401),
        // Fewer entries than there are proxies: the proxies' own entries are missing.
        (&["192.0.2.7"], 401),
        (&["10.0.0.1, 192.0.2.7"], 401),
        (&[], 401),
    ] {
        let fields: Vec<_> = entries
            .iter()
            .map(|entry| (b"x-forwarded-for".as_slice(), entry.as_bytes()))
            .collect();
        let reply = ask::good(stack.gate, &fields).await.unwrap();
        assert_eq!(reply.status, status, "{entries:?}: {reply:?}");
    }
}
