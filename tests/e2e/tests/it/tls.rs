//! A real Envoy with real certificates: which clients get in by one, which are rejected at the
//! handshake, and that renewals disconnect no client.

use std::time::{Duration, Instant};

use serde_json::json;
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::tls::{Caller, Session};
use tensorgate_client::{ClientError, Reply};
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::ask::{VALID, met};
use tensorgate_tests::{Stack, policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a renewed file may take to be in force. Envoy sees it within milliseconds, a busy
/// machine later.
const PATIENCE: Duration = Duration::from_secs(60);
const SPIFFE: &str = "spiffe://prod/ns/risk/sa/engine";

/// The vectors' closed policy with TLS and three more clients: two by certificate, one by a
/// certificate of another issuer.
fn tls_policy() -> Policy {
    let mut policy = serde_json::to_value(policy::vectors_policy("closed.json")).unwrap();
    policy["listen"]["tls"] = json!({
        "cert": "gate.pem", "key": "gate.key", "client_ca": "ca.pem", "client_crl": "crl.pem"
    });
    policy["clients"]["engine"] = json!({"mtls": {"spiffe": SPIFFE}});
    policy["clients"]["batch"] = json!({"mtls": {"dns": "batch.example.com"}});
    policy["clients"]["far"] =
        json!({"mtls": {"dns": "far.example.com"}, "sources": ["192.0.2.0/24"]});
    policy["grants"][0]["clients"] = json!(["scorer", "engine", "batch", "far"]);
    serde_json::from_value(policy).unwrap()
}

struct Gate {
    authority: Authority,
    stack: Stack,
}

impl Gate {
    async fn start(name: &str) -> Self {
        Self::with(name, tls_policy()).await
    }

    async fn with(name: &str, policy: Policy) -> Self {
        let authority = Authority::new("clients").unwrap();
        let gate = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
        let files = [
            ("gate.pem", gate.pem.as_str()),
            ("gate.key", &gate.key),
            ("ca.pem", &authority.pem),
            ("crl.pem", &authority.revoke(1, &[]).unwrap()),
        ];
        let stack = Stack::start_with(name, policy, &files).await;
        Self { authority, stack }
    }

    fn caller(&self, leaf: Option<&Leaf>) -> Caller {
        Caller::new(&self.authority.pem, leaf.and_then(Leaf::shown)).unwrap()
    }

    /// Sends the valid inference with further header fields, on a connection of its own.
    async fn ask(&self, leaf: Option<&Leaf>, fields: &str) -> Result<Reply, ClientError> {
        let mut session = self.caller(leaf).connect(self.stack.gate).await?;
        session.ask(&request(fields)).await
    }

    async fn status(&self, leaf: &Leaf, fields: &str) -> u16 {
        self.ask(Some(leaf), fields).await.unwrap().status
    }
}

fn request(fields: &str) -> Vec<u8> {
    format!(
        "POST /v2/models/vec/infer HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{fields}\r\n{VALID}",
        VALID.len()
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_identifies_one_client_and_a_forged_header_none() {
    let gate = Gate::start("tls-names").await;
    let issue = |serial: u64, names: &[&str]| gate.authority.issue(serial, names).unwrap();
    let key = format!("x-api-key: {}\r\n", policy::key("scorer"));
    let uri = format!("uri:{SPIFFE}");
    let forged = format!(
        "x-forwarded-client-cert: Hash={};URI={SPIFFE}\r\n",
        "0".repeat(64)
    );
    let engine = issue(10, &[&uri]);
    let stranger = issue(11, &["dns:stranger.example.com"]);
    for (what, leaf, fields, expected) in [
        ("a SPIFFE id", &engine, "", 200),
        (
            "a SPIFFE id beside other names",
            &issue(12, &[&uri, "dns:a.example.com"]),
            "",
            200,
        ),
        (
            "a DNS name",
            &issue(13, &["dns:batch.example.com"]),
            "",
            200,
        ),
        (
            "a DNS name in capitals",
            &issue(14, &["dns:BATCH.example.com"]),
            "",
            200,
        ),
        (
            "a DNS name before others",
            &issue(15, &["dns:batch.example.com", "dns:a.example.com"]),
            "",
            200,
        ),
        (
            "a DNS name from a wrong place",
            &issue(16, &["dns:far.example.com"]),
            "",
            401,
        ),
        ("an unknown name", &stranger, "", 401),
        ("no name", &issue(17, &[]), "", 401),
        (
            "two URIs",
            &issue(18, &[&uri, "uri:spiffe://prod/ns/risk/sa/other"]),
            "",
            401,
        ),
        (
            "two URIs, the known one second",
            &issue(19, &["uri:spiffe://prod/a", &uri]),
            "",
            401,
        ),
        (
            "two clients' names",
            &issue(20, &[&uri, "dns:batch.example.com"]),
            "",
            401,
        ),
        ("a wildcard", &issue(21, &["dns:*.example.com"]), "", 401),
        (
            "a DNS name that is a SPIFFE id",
            &issue(22, &[&format!("dns:{SPIFFE}")]),
            "",
            401,
        ),
        (
            "a URI that holds another key",
            &issue(23, &["uri:spiffe://evil/a;DNS=batch.example.com"]),
            "",
            401,
        ),
        (
            "a URI that holds another element",
            &issue(24, &[&format!("uri:spiffe://evil/a,Hash=00;URI={SPIFFE}")]),
            "",
            401,
        ),
        (
            "a DNS name that holds another key",
            &issue(25, &[&format!("dns:a.example.com;URI={SPIFFE}")]),
            "",
            401,
        ),
        (
            "a forged header beside an unknown certificate",
            &stranger,
            forged.as_str(),
            401,
        ),
        (
            "a forged header beside a good certificate",
            &engine,
            forged.as_str(),
            200,
        ),
        (
            "a good key beside an unknown certificate",
            &stranger,
            key.as_str(),
            200,
        ),
        (
            "a good key beside another client's certificate",
            &engine,
            key.as_str(),
            400,
        ),
        (
            "a bad key beside a good certificate",
            &engine,
            "x-api-key: tg_no\r\n",
            401,
        ),
        (
            "a bad token beside a good certificate",
            &engine,
            "authorization: Bearer a.b.c\r\n",
            401,
        ),
    ] {
        assert_eq!(gate.status(leaf, fields).await, expected, "{what}");
    }
    // Without a certificate a key still counts, and a forged header does not.
    for (fields, expected) in [(key.as_str(), 200), ("", 401), (forged.as_str(), 401)] {
        assert_eq!(
            gate.ask(None, fields).await.unwrap().status,
            expected,
            "{fields}"
        );
    }
    let log = gate.stack.log("audit/decisions.jsonl");
    assert!(
        log.contains(&format!("\"credential\":\"mtls:{SPIFFE}\"")),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_or_revoked_certificate_is_rejected_at_the_handshake() {
    let mut gate = Gate::start("tls-revoked").await;
    let uri = format!("uri:{SPIFFE}");
    let leaf = gate.authority.issue(10, &[&uri]).unwrap();
    assert_eq!(gate.status(&leaf, "").await, 200);

    // Another authority's certificate is rejected, whatever its names are.
    let other = Authority::new("others").unwrap();
    let fake = other.issue(10, &[&uri]).unwrap();
    let shown = Caller::new(&gate.authority.pem, fake.shown()).unwrap();
    assert!(refused(&shown, &gate.stack).await, "an unknown authority");
    // Plain text on a TLS port is no request.
    assert!(
        tensorgate_client::http1::raw(gate.stack.gate, &request(""))
            .await
            .is_err()
    );

    let caller = gate.caller(Some(&leaf));
    gate.stack
        .replace("crl.pem", &gate.authority.revoke(2, &[&leaf]).unwrap());
    let started = Instant::now();
    while !refused(&caller, &gate.stack).await {
        assert!(
            started.elapsed() < PATIENCE,
            "a revoked certificate still gets in"
        );
    }
    let kept = gate.authority.issue(11, &[&uri]).unwrap();
    assert_eq!(gate.status(&kept, "").await, 200, "the rest is not revoked");

    // A failed handshake leaves a line. A successful one leaves no line of its own beside those of
    // its requests.
    let failed = |stack: &Stack| {
        stack.audit_lines(|line| line["type"] == "decision" && line["method"].is_null())
    };
    met("three failed handshakes are told", || {
        failed(&gate.stack).len() >= 3
    })
    .await;
    assert!(gate.stack.end().await.success());
    let failed = failed(&gate.stack);
    assert_eq!(failed.len(), 3, "{failed:#?}");
    for line in &failed {
        for (field, expected) in [
            ("by", "envoy"),
            ("verdict", "deny"),
            ("reason", "unauthenticated"),
            ("source", "127.0.0.1"),
        ] {
            assert_eq!(line[field], expected, "{field}: {line}");
        }
    }
    // The workers' lines come in any order.
    for (cause, times) in [("CERTIFICATE_VERIFY_FAILED", 2), ("HTTP_REQUEST", 1)] {
        let told =
            |line: &&serde_json::Value| line["detail"].as_str().unwrap_or_default().contains(cause);
        assert_eq!(
            failed.iter().filter(told).count(),
            times,
            "{cause}: {failed:#?}"
        );
    }
}

/// Whether a client does not get an answer. In TLS 1.3 the client's side of the handshake ends
/// before its certificate is judged, so the rejection is the first thing that it reads.
async fn refused(caller: &Caller, stack: &Stack) -> bool {
    match caller.connect(stack.gate).await {
        Err(_) => true,
        Ok(mut session) => session.ask(&request("")).await.is_err(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_presented_and_no_connection_is_dropped() {
    let gate = Gate::start("tls-renewed").await;
    let uri = format!("uri:{SPIFFE}");
    let leaf = gate.authority.issue(10, &[&uri]).unwrap();
    let caller = gate.caller(Some(&leaf));
    let mut held = caller.connect(gate.stack.gate).await.unwrap();
    assert_eq!(held.ask(&request("")).await.unwrap().status, 200);
    let before = held.peer_certificate();

    let renewed = gate.authority.issue(2, &["ip:127.0.0.1"]).unwrap();
    assert_ne!(before, renewed.der);
    gate.stack.replace("gate.key", &renewed.key);
    gate.stack.replace("gate.pem", &renewed.pem);
    let started = Instant::now();
    loop {
        let mut session: Session = caller.connect(gate.stack.gate).await.unwrap();
        assert_eq!(session.ask(&request("")).await.unwrap().status, 200);
        if session.peer_certificate() == renewed.der {
            break;
        }
        assert_eq!(session.peer_certificate(), before);
        assert!(
            started.elapsed() < PATIENCE,
            "the old certificate is still shown"
        );
    }
    // The connection from before still works.
    assert_eq!(held.ask(&request("")).await.unwrap().status, 200);

    // The authorities are renewed in the same way: first both, then the new one alone.
    let next = Authority::new("next clients").unwrap();
    let fresh = next.issue(10, &[&uri]).unwrap();
    let fresh = Caller::new(&gate.authority.pem, fresh.shown()).unwrap();
    assert!(refused(&fresh, &gate.stack).await);
    let both = format!(
        "{}{}",
        gate.authority.revoke(3, &[]).unwrap(),
        next.revoke(1, &[]).unwrap()
    );
    gate.stack.replace("crl.pem", &both);
    gate.stack
        .replace("ca.pem", &format!("{}{}", gate.authority.pem, next.pem));
    let started = Instant::now();
    while refused(&fresh, &gate.stack).await {
        assert!(
            started.elapsed() < PATIENCE,
            "the new authority is not believed"
        );
    }
    assert_eq!(
        gate.status(&leaf, "").await,
        200,
        "the old authority still is"
    );
    gate.stack.replace("ca.pem", &next.pem);
    let started = Instant::now();
    while !refused(&caller, &gate.stack).await {
        assert!(
            started.elapsed() < PATIENCE,
            "the old authority is still believed"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_at_their_timeouts() {
    const PLACES: u64 = 4;
    const HANDSHAKE: Duration = Duration::from_millis(4_000);
    const IDLE: Duration = Duration::from_millis(12_000);
    let mut policy = tls_policy();
    let limits = &mut policy.listen.limits;
    limits.handshake_ms = (u64::try_from(HANDSHAKE.as_millis()).unwrap()).into();
    limits.idle_ms = (u64::try_from(IDLE.as_millis()).unwrap()).into();
    limits.connections = PLACES.into();
    let gate = Gate::with("tls-idle", policy).await;
    let uri = format!("uri:{SPIFFE}");
    let leaf = gate.authority.issue(10, &[&uri]).unwrap();
    let is_served = async || {
        let reply = gate.ask(Some(&leaf), "connection: close\r\n").await;
        reply.is_ok_and(|reply| reply.status == 200)
    };
    let until = async |served: bool, what: &str| {
        let began = Instant::now();
        while is_served().await != served {
            assert!(began.elapsed() < PATIENCE, "{what}");
        }
    };
    until(true, "no request is served").await;

    // Silent connections take every slot but the last one. The last one begins a handshake and
    // stops.
    let mut silent = Vec::new();
    let began = Instant::now();
    for place in 0..PLACES {
        let mut stream = TcpStream::connect(gate.stack.gate).await.unwrap();
        if place == 0 {
            stream.write_all(&[22, 3, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    until(false, "there is a place too many").await;
    for mut stream in silent {
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 100])).await;
        let end = end.expect("the gate keeps a connection without a handshake");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    let took = began.elapsed();
    assert!(
        took < IDLE,
        "{took:?}: it was the idle time that ended them"
    );
    until(true, "places are not given back").await;

    // A complete handshake without a request: the other timeout.
    let caller = gate.caller(Some(&leaf));
    let began = Instant::now();
    let mut idle = caller.connect(gate.stack.gate).await.unwrap();
    assert_eq!(idle.ask(&request("")).await.unwrap().status, 200);
    idle.ended(PATIENCE).await.unwrap();
    let took = began.elapsed();
    assert!(took >= HANDSHAKE, "{took:?}: it was not the idle time");
    until(true, "places are not given back").await;
}
