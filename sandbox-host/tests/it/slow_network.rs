//! A slow or broken network between the host and its backends, and between the gate and the host.
//! It delays, limits bandwidth, stalls, breaks in the middle of a message, or forwards a byte at a
//! time. Each case has its result, all resources are released, and everything works again
//! afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_client::pki::Authority;
use tensorgate_client::stand_in::{http_json as own, openai as stand_in};
use tensorgate_vectors::alone::is_alone;

use crate::support;
use crate::support::relay;
use crate::support::secured;
use relay::{Relay, Way, Weather};
use secured::Front;
use support::backend::{Act, Backend};
use support::{Answer, Gate, INFER, Running, context, infer_body, key, start_with, until};

/// What a policy says of the timeouts if no request should be given up.
const PATIENT_MS: u64 = 20_000;
/// The same timeouts if some requests should be given up.
const SHORT_MS: u64 = 700;
const CHAT: &str = "/v1/chat/completions";
const GOOD: &str = r#"{"y":[1.0],"z":[1]}"#;

/// The request, and the kind of backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Json,
    OpenAi,
    /// OpenAI's, in pieces.
    Events,
}

const KINDS: [Kind; 4] = [Kind::Grpc, Kind::Json, Kind::OpenAi, Kind::Events];

enum Server {
    Grpc(Backend),
    Json(own::Server),
    OpenAi(stand_in::OpenAi),
}

impl Server {
    async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Grpc => Self::Grpc(Backend::start(Act::Answer)),
            Kind::Json => Self::Json(own::Server::start(own::Act::Say(200, GOOD.to_owned())).await),
            Kind::OpenAi | Kind::Events => {
                Self::OpenAi(stand_in::OpenAi::start(["vec-at-backend".to_owned()]).await)
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Grpc(server) => server.address,
            Self::Json(server) => server.address,
            Self::OpenAi(server) => server.address,
        }
    }

    /// Requests that it is working on.
    fn inside(&self) -> usize {
        match self {
            Self::Grpc(server) => server.inside(),
            Self::Json(server) => server.open(),
            Self::OpenAi(server) => server.open(),
        }
    }
}

/// A host that reaches its backend only through a relay, with TLS if chosen.
struct Site {
    kind: Kind,
    server: Server,
    relay: Relay,
    running: Running,
    _front: Option<Front>,
}

impl Site {
    async fn start(kind: Kind, encrypted: bool, timeout_ms: u64) -> Self {
        let server = Server::start(kind).await;
        let authority = Authority::new("ours").unwrap();
        let leaf = authority.issue(1, &["dns:localhost"]).unwrap();
        let front = encrypted.then(|| Front::start("127.0.0.1:0", server.address(), &leaf, None));
        let to = front
            .as_ref()
            .map_or(server.address(), |front| front.address);
        let relay = Relay::tcp(to).await;
        let port = relay.address.unwrap().port();
        // No timer may detect what these tests detect.
        let mut settings = json!({"timeout_ms": timeout_ms, "health_check": {"interval_s": 300},
        "kind": match kind {
            Kind::Grpc => "open-inference",
            Kind::Json => "http-json",
            Kind::OpenAi | Kind::Events => "openai",
        }});
        let scheme = if encrypted {
            settings["tls"] = json!({"ca": "ca.pem"});
            "https"
        } else {
            "http"
        };
        let limits = json!({"timeout_ms": 60_000, "stream_ms": 120_000});
        let mut policy = support::policy(&format!("{scheme}://localhost:{port}"), limits, settings);
        model(kind, &mut policy);
        let running = start_with(policy, &[("ca.pem", authority.pem.as_bytes())]).await;
        running.ready().await;
        Self {
            kind,
            server,
            relay,
            running,
            _front: front,
        }
    }

    async fn ask(&self) -> Answer {
        ask(self.kind, &self.running.gate).await
    }

    /// Checks the result of a request in some weather, and that all resources are released once the
    /// weather is fair. The next request is then answered.
    async fn check(&self, weather: Weather, expected: (u16, &str)) {
        self.relay.set(weather);
        let answer = self.ask().await;
        let got = verdict(self.kind, &answer);
        let what = format!("{:?} in {weather:?}: {answer:?}", self.kind);
        assert_eq!((got.0, got.1.as_str()), expected, "{what}");
        for secret in ["localhost", "127.0.0.1", "at-backend"] {
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!told.contains(secret), "{what}");
        }
        // The host's own work ends with the answer, whatever the network does meanwhile.
        given_back(&self.running).await;
        self.relay.set(Weather::Fair);
        until("the server works on nothing", || self.server.inside() == 0).await;
        self.running.ready().await;
        // With the short timeout a machine that stalls for a moment looks like the network.
        let began = std::time::Instant::now();
        loop {
            let answer = self.ask().await;
            let got = verdict(self.kind, &answer);
            if got.1 != "backend-timeout" || began.elapsed() > support::PATIENCE {
                assert_eq!(got, (200, String::new()), "after {what}: {answer:?}");
                return;
            }
        }
    }
}

/// The model, as its kind of backend requires.
fn model(kind: Kind, policy: &mut Value) {
    match kind {
        Kind::Grpc => {}
        Kind::Json => {
            policy["models"]["vec"]["parameters"] = json!({});
            policy["models"]["vec"]["json"] = json!({"route": "/classify", "inputs": {"x": "/x"}, "outputs": {"y": "/y", "z": "/z"}});
        }
        Kind::OpenAi | Kind::Events => {
            policy["models"]["vec"] = json!({
                "backend": "b", "backend_model": "vec-at-backend", "versions": ["7"], "protocols": ["openai"],
                "openai": {"chat": {"max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200, "max_tokens": 16, "stream": true},
                    "max_answer_bytes": 4096}
            });
            policy["grants"][0]["operations"] = json!(["infer", "stream", "metadata"]);
        }
    }
}

async fn ask(kind: Kind, gate: &Gate) -> Answer {
    match kind {
        Kind::Grpc | Kind::Json => gate.infer(&[1.0]).await,
        Kind::OpenAi | Kind::Events => {
            let body = json!({"model": "vec", "stream": kind == Kind::Events,
                "messages": [{"role": "user", "content": "hello"}]});
            gate.call("POST", CHAT, body.to_string()).await
        }
    }
}

/// Status and reason. For an answer in pieces that broke off, the reason is in its last event.
fn verdict(kind: Kind, answer: &Answer) -> (u16, String) {
    if answer.status != 200 {
        return (answer.status, answer.reason());
    }
    if kind != Kind::Events {
        return (200, String::new());
    }
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    if last == "[DONE]" {
        return (200, String::new());
    }
    let last: Value = serde_json::from_str(last).unwrap();
    (200, last["error"]["code"].as_str().unwrap().to_owned())
}

/// Waits until the host has released all resources of a request.
async fn given_back(running: &Running) {
    let gauge = "tensorgate_host_backend_in_flight{backend=\"b\"} 0\n";
    until("no place is held", || running.metrics().contains(gauge)).await;
    until("no byte is held", || running.host.app().budget.used() == 0).await;
    until("no request is admitted", || {
        running.host.app().admission.inside() == 0
    })
    .await;
}

#[tokio::test]
async fn a_backend_behind_a_network_that_is_only_slow_answers() {
    for encrypted in [false, true] {
        for kind in KINDS {
            let site = Site::start(kind, encrypted, PATIENT_MS).await;
            // A handshake has one second for some thousand bytes.
            let crumbs = if encrypted { 16 } else { 1 };
            for weather in [
                Weather::Late(Duration::from_millis(30)),
                Weather::Narrow(32 << 10),
                Weather::Crumbs(crumbs),
            ] {
                site.check(weather, (200, "")).await;
            }
            site.running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_backend_behind_a_stalled_network_times_out() {
    for encrypted in [false, true] {
        for kind in KINDS {
            let site = Site::start(kind, encrypted, SHORT_MS).await;
            for weather in [
                Weather::Stalls(Way::There, 0),
                Weather::Stalls(Way::There, 30),
                Weather::Stalls(Way::Back, 0),
                Weather::Stalls(Way::Back, 20),
                Weather::Narrow(100),
            ] {
                site.check(weather, (504, "backend-timeout")).await;
            }
            site.running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_backend_whose_network_breaks_in_the_middle_of_a_message_is_unavailable() {
    for encrypted in [false, true] {
        for kind in KINDS {
            let site = Site::start(kind, encrypted, PATIENT_MS).await;
            for weather in [
                Weather::Breaks(Way::There, 0),
                Weather::Breaks(Way::There, 30),
                Weather::Breaks(Way::Back, 0),
                Weather::Breaks(Way::Back, 20),
            ] {
                site.check(weather, (503, "backend-unavailable")).await;
            }
            site.running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_network_forgot_is_replaced_once_an_answer_was_late() {
    let site = Site::start(Kind::Grpc, false, SHORT_MS).await;
    assert_eq!(site.ask().await.status, 200);
    site.relay.set(Weather::Forgets);
    let answer = site.ask().await;
    assert_eq!(
        verdict(site.kind, &answer),
        (504, "backend-timeout".to_owned())
    );
    let came_back = async {
        while site.ask().await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let came_back = tokio::time::timeout(support::PATIENCE, came_back).await;
    assert!(came_back.is_ok(), "it never came back");
    given_back(&site.running).await;
    site.running.stop().await;
}

/// The bytes of an answer in pieces before its last events.
const SOME_EVENTS_BYTES: usize = 700;

#[tokio::test]
async fn a_streamed_answer_that_stalls_or_breaks_ends_with_an_error_event() {
    // A TLS record cannot be read before all of it has arrived.
    let site = Site::start(Kind::Events, false, SHORT_MS).await;
    for (weather, reason) in [
        (
            Weather::Stalls(Way::Back, SOME_EVENTS_BYTES),
            "backend-timeout",
        ),
        (
            Weather::Breaks(Way::Back, SOME_EVENTS_BYTES),
            "backend-unavailable",
        ),
    ] {
        site.check(weather, (200, reason)).await;
    }
    site.running.stop().await;
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() << 10
}

/// Numbers of a request, four bytes each.
const NUMBERS: usize = 32 << 10;
/// Requests at once, and rounds of them.
const AT_ONCE: usize = 8;
const ROUNDS: usize = 60;
/// How far memory may grow after a third of the rounds: an allocator's fluctuation. The bodies of
/// the other rounds are four times as large.
const MAX_GROWTH_BYTES: usize = 20 << 20;

#[tokio::test]
async fn requests_lost_in_the_network_leave_no_memory_behind() {
    if !is_alone("slow_network::requests_lost_in_the_network_leave_no_memory_behind") {
        return;
    }
    let server = Backend::start(Act::Answer);
    let relay = Relay::tcp(server.address).await;
    let uri = format!("http://{}", relay.address.unwrap());
    let settings = json!({"timeout_ms": 60, "max_in_flight": AT_ONCE, "health_check": {"interval_s": 1},
        "circuit_breaker": {"consecutive_failures": 1_000}});
    let mut policy = support::policy(&uri, json!({"body_bytes": 1 << 20}), settings);
    policy["models"]["vec"]["inputs"][0]["shape"] = json!([{"max": NUMBERS}]);
    let running = start_with(policy, &[]).await;
    running.ready().await;
    let numbers = vec![1.0; NUMBERS];
    let (mut before, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        relay.set(match round % 4 {
            0 => Weather::Stalls(Way::There, 0),
            1 => Weather::Stalls(Way::There, 50_000),
            2 => Weather::Breaks(Way::There, 50_000),
            _ => Weather::Narrow(10_000),
        });
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (gate, body) = (running.gate.clone(), infer_body(&numbers));
            calls.spawn(async move { gate.call("POST", INFER, body).await.status });
        }
        while let Some(status) = calls.join_next().await {
            let status = status.unwrap();
            assert!([503, 504].contains(&status), "{status}");
            refused += 1;
        }
        given_back(&running).await;
        if round == ROUNDS / 3 {
            before = resident();
        }
    }
    let after = resident();
    println!("{refused} refused; resident {before}, then {after}");
    assert!(
        after <= before + MAX_GROWTH_BYTES,
        "from {before} to {after} bytes"
    );
    running.stop().await;
}

/// A host, and its gate behind a relay.
async fn behind(limits: Value) -> (Backend, Running, Relay, Gate) {
    let server = Backend::start(Act::Answer);
    let running = start_with(support::policy(&server.uri(), limits, json!({})), &[]).await;
    running.ready().await;
    let socket = running.gate.socket.with_file_name("relay.sock");
    let relay = Relay::unix(&socket, &running.gate.socket);
    (server, running, relay, Gate { socket })
}

#[tokio::test]
async fn a_gate_whose_bytes_come_slowly_is_answered() {
    let (_server, running, relay, gate) = behind(json!({})).await;
    for weather in [
        Weather::Late(Duration::from_millis(30)),
        Weather::Narrow(16 << 10),
        Weather::Crumbs(1),
    ] {
        relay.set(weather);
        let answer = gate.infer(&[1.0]).await;
        assert_eq!(answer.status, 200, "{weather:?}: {answer:?}");
        given_back(&running).await;
    }
    running.stop().await;
}

/// The bytes of a request's head, and some more.
fn head_and_some() -> usize {
    context("POST", INFER).sign(&key()).len() + 250
}

#[tokio::test]
async fn a_stalled_body_is_rejected_at_its_timeout_and_reaches_no_backend() {
    let (server, running, relay, gate) = behind(json!({"timeout_ms": 400, "stream_ms": 800})).await;
    relay.set(Weather::Stalls(Way::There, head_and_some()));
    let body = infer_body(&[1.0; 8]);
    let padded = [body, vec![b' '; 2_000]].concat();
    let answer = gate.call("POST", INFER, padded).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (400, "malformed"),
        "{answer:?}"
    );
    given_back(&running).await;
    assert_eq!(server.begun(), 0);
    relay.set(Weather::Fair);
    // A machine that stalls for a moment reaches the short timeout as well.
    let served = async { while gate.infer(&[1.0]).await.status != 200 {} };
    let served = tokio::time::timeout(support::PATIENCE, served).await;
    assert!(served.is_ok(), "it is never answered");
    running.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_no_backend_and_leaves_nothing() {
    let (server, running, relay, gate) = behind(json!({})).await;
    relay.set(Weather::Breaks(Way::There, head_and_some()));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let gate = gate.clone();
        let padded = [infer_body(&[1.0]), vec![b' '; 2_000]].concat();
        calls.spawn(async move { gate.call("POST", INFER, padded).await });
    }
    while let Some(broken) = calls.join_next().await {
        assert!(broken.is_err(), "no caller can be answered");
    }
    until("each is counted", || {
        let broken_off = "verdict=\"deny\",reason=\"malformed\"} 4";
        running.metrics().contains(broken_off)
    })
    .await;
    given_back(&running).await;
    assert_eq!(server.begun(), 0);
    relay.set(Weather::Fair);
    assert_eq!(gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn undeliverable_answers_hold_no_slot() {
    let (server, running, relay, gate) = behind(json!({})).await;
    relay.set(Weather::Stalls(Way::Back, 0));
    // Twice as many as have a slot at the backend.
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let gate = gate.clone();
        stuck.spawn(async move { gate.infer(&[1.0]).await.status });
    }
    until("the backend has answered each", || {
        server.begun() == 8 && server.inside() == 0
    })
    .await;
    given_back(&running).await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    assert!(stuck.try_join_next().is_none(), "they wait");
    relay.set(Weather::Fair);
    while let Some(status) = stuck.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    running.stop().await;
}
