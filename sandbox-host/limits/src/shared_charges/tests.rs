//! Shared limits at another server: its failures, the fallback, and when it is asked again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;
use tensorgate_policy::Policy;
use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::Unit;
use tensorgate_policy::time::SECOND_NS;
use tensorgate_policy::values::Scope;
use tensorgate_policy_compiler::validate::validate;
use tensorgate_wire::rate_limit::{Code, RateLimitResponse, Status};
use tokio::net::TcpListener;

use super::super::local_limits::Spent;
use super::*;
use crate::service::frame;

/// A window long enough that no unit refills during a test.
const MONTH_S: u64 = 2_678_400;
/// Longer than any answer takes on a busy machine.
const PATIENT_MS: u64 = 1_000;
/// The interval of probes.
const PROBE_NS: u64 = SECOND_NS / 2;

/// How a server answers.
#[derive(Clone, Debug)]
enum Mode {
    /// It charges everything.
    Charges,
    /// It charges, and takes no further call on this connection.
    ChargesLast,
    /// It rejects everything.
    Rejects,
    /// This gRPC status.
    Fails(&'static str),
    /// This message.
    Sends(Vec<u8>),
    /// Never.
    Hangs,
}

/// A server of the protocol whose answers a test chooses.
struct Server {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// Connections that have ended.
    ended: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            mode: Arc::new(Mutex::new(Mode::Charges)),
            calls: Arc::default(),
            connections: Arc::default(),
            ended: Arc::default(),
        };
        let (mode, calls) = (Arc::clone(&server.mode), Arc::clone(&server.calls));
        let connections = Arc::clone(&server.connections);
        let ended = Arc::clone(&server.ended);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (mode, calls) = (Arc::clone(&mode), Arc::clone(&calls));
                let ended = Arc::clone(&ended);
                tokio::spawn(async move {
                    let Ok(mut connection) = server::handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, response))) = connection.accept().await {
                        calls.fetch_add(1, Ordering::Relaxed);
                        let mode = mode.lock().unwrap().clone();
                        if matches!(mode, Mode::ChargesLast) {
                            connection.graceful_shutdown();
                        }
                        tokio::spawn(respond(request, response, mode));
                    }
                    drop(connection);
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        server
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn respond(request: Request<RecvStream>, mut response: SendResponse<Bytes>, mode: Mode) {
    assert_eq!(request.uri().path(), crate::service::PATH);
    assert!(request.headers().contains_key("grpc-timeout"));
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let question = RateLimitRequest::from_bytes(&bytes[5..]).unwrap();
    let message = match mode {
        Mode::Charges | Mode::ChargesLast => answer(&question, Code::Ok),
        Mode::Rejects => answer(&question, Code::OverLimit),
        Mode::Sends(message) => message,
        Mode::Hangs => return std::future::pending().await,
        Mode::Fails(status) => {
            let mut head = Response::new(());
            let status = HeaderValue::from_static(status);
            head.headers_mut().insert("grpc-status", status);
            response.send_response(head, true).unwrap();
            return;
        }
    };
    let mut stream = response.send_response(Response::new(()), false).unwrap();
    stream.send_data(frame(&message), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers).unwrap();
}

fn answer(question: &RateLimitRequest, code: Code) -> Vec<u8> {
    let descriptors = question.descriptors.iter();
    let statuses = descriptors.map(|descriptor| Status {
        code,
        limit: descriptor.limit,
        left: 3,
        reset_ns: Some(SECOND_NS),
    });
    let statuses = statuses.collect();
    RateLimitResponse { code, statuses }.to_bytes()
}

/// What a host charges with.
struct Host {
    charges: SharedCharges,
    metrics: Arc<Metrics>,
    clock_ns: Arc<AtomicU64>,
    policy: Policy,
}

impl Host {
    /// A host with a rate of five a month, counted at this address.
    fn new(address: SocketAddr, timeout_ms: u64, on_failure: &str) -> Self {
        Self::with_rate(address, timeout_ms, on_failure, 5)
    }

    fn with_rate(address: SocketAddr, timeout_ms: u64, on_failure: &str, quota: u64) -> Self {
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
        let policy = json!({
            "version": 1,
            "clients": {"ocr": {"api_keys": [{"sha256": "01".repeat(32)}]}},
            "backends": {"gpu": {"kind": "embedded", "models": "models/"}},
            "models": {"m": {
                "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
                "inputs": [tensor], "outputs": [tensor]
            }},
            "rate_limit_service": {
                "endpoint": format!("http://{address}"),
                "timeout_ms": timeout_ms,
                "on_failure": on_failure
            },
            "grants": [{
                "name": "g", "clients": ["ocr"], "models": ["m"], "operations": ["infer"],
                "rate": {"quota": quota, "window_s": MONTH_S, "scope": "global"}
            }]
        });
        let (policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
        let clock_ns = Arc::new(AtomicU64::new(5 * SECOND_NS));
        let metrics = Arc::new(Metrics::new());
        let read_ns = Arc::clone(&clock_ns);
        let clock: Clock = Box::new(move || Now {
            unix_s: 1_780_000_000,
            monotonic_ns: read_ns.load(Ordering::Relaxed),
        });
        let local = Arc::new(LocalLimits::new(Spent::Known, clock()));
        Self {
            charges: SharedCharges::new(local, Arc::clone(&metrics), clock),
            metrics,
            clock_ns,
            policy,
        }
    }

    /// The limits of the grant, and of tokens if they count those.
    fn charge_of(&self, unit: Unit, amount: u64) -> Charge {
        let limits = self.policy.grants()[0].per_request();
        let limit_charges = limits.map(|mut allowance| {
            allowance.unit = unit;
            LimitCharge { allowance, amount }
        });
        Charge {
            scope: Scope::Global,
            grant: "g".into(),
            client: "ocr".into(),
            limit_charges: limit_charges.collect(),
            ..Charge::default()
        }
    }

    async fn charge(&self, unit: Unit, amount: u64) -> (ChargeOutcome, Reservations) {
        let service = self.policy.rate_limit_service().unwrap();
        let charge = self.charge_of(unit, amount);
        self.charges.charge(None, service, &charge, "r-1").await
    }

    /// Charges so many requests, one after another. Returns how many are allowed.
    async fn requests(&self, count: usize) -> usize {
        let mut allowed = 0;
        for _ in 0..count {
            let (outcome, reserved) = self.charge(Unit::Requests, 1).await;
            assert!(reserved.is_empty());
            allowed += usize::from(matches!(outcome, ChargeOutcome::Charged(_)));
        }
        allowed
    }

    fn advance(&self, ns: u64) {
        self.clock_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The number of charges with these outcomes so far.
    fn counted<const N: usize>(&self, outcomes: [&'static str; N]) -> [u64; N] {
        outcomes.map(|outcome| {
            let labels = LimitLabels { outcome };
            self.metrics.limit_questions.get_or_create(&labels).get()
        })
    }
}

#[tokio::test]
async fn the_outcome_is_the_one_of_the_service() {
    let server = Server::start().await;
    let host = Host::new(server.address, PATIENT_MS, "local");
    // More than the host itself would allow.
    assert_eq!(host.requests(8).await, 8);
    server.set(Mode::Rejects);
    assert_eq!(host.requests(2).await, 0);
    assert_eq!(host.counted(["ok", "over-limit", "failed"]), [8, 2, 0]);
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    // More than the whole limit: the service is not asked.
    let calls = server.calls();
    let (outcome, _) = host.charge(Unit::Requests, 6).await;
    assert!(matches!(outcome, ChargeOutcome::Exceeded(_)));
    assert_eq!(server.calls(), calls);
}

#[tokio::test]
async fn without_the_service_each_host_counts_from_what_it_has_let_through() {
    for mode in [
        Mode::Fails("14"),
        Mode::Fails("4"),
        Mode::Fails("99"),
        Mode::Sends(vec![]),
        Mode::Sends(b"\xff".to_vec()),
        Mode::Sends(vec![0; 17 << 10]),
    ] {
        let server = Server::start().await;
        let hosts = [(); 2].map(|()| Host::new(server.address, PATIENT_MS, "local"));
        assert_eq!(hosts[0].requests(3).await, 3);
        server.set(mode.clone());
        for (host, left) in hosts.iter().zip([2, 5]) {
            let before = server.calls();
            assert_eq!(host.requests(8).await, left, "{mode:?}");
            // Five calls fail, and then the circuit is open.
            assert_eq!(server.calls(), before + 5, "{mode:?}");
            assert_eq!(host.counted(["failed", "skipped"]), [5, 3], "{mode:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let host = Host::new(address, PATIENT_MS, "local");
    assert_eq!(host.requests(8).await, 5);
    assert_eq!(host.counted(["failed", "skipped"]), [5, 3]);
}

#[tokio::test]
async fn where_the_policy_denies_nothing_passes_without_the_service() {
    let server = Server::start().await;
    let host = Host::new(server.address, PATIENT_MS, "deny");
    assert_eq!(host.requests(1).await, 1);
    server.set(Mode::Fails("14"));
    for _ in 0..7 {
        let (outcome, _) = host.charge(Unit::Requests, 1).await;
        assert_eq!(outcome, ChargeOutcome::Failed);
    }
    server.set(Mode::Charges);
    assert_eq!(host.requests(1).await, 0, "no probe is due");
    host.advance(SECOND_NS);
    assert_eq!(host.requests(20).await, 20);
}

#[tokio::test]
async fn two_requests_a_second_probe_whether_the_service_answers_again() {
    let server = Server::start().await;
    let host = Host::with_rate(server.address, PATIENT_MS, "local", 500);
    server.set(Mode::Fails("14"));
    let mut before = [0; 3];
    for (advance, mode, expected) in [
        (0, Mode::Fails("14"), [0, 5, 5]),
        (PROBE_NS - 1, Mode::Fails("14"), [0, 0, 10]),
        (1, Mode::Fails("14"), [0, 1, 9]),
        (PROBE_NS - 1, Mode::Charges, [0, 0, 10]),
        (1, Mode::Charges, [10, 0, 0]),
    ] {
        host.advance(advance);
        server.set(mode);
        assert_eq!(host.requests(10).await, 10);
        let after = host.counted(["ok", "failed", "skipped"]);
        let new: Vec<_> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        assert_eq!(new, expected);
        before = after;
    }
}

#[tokio::test]
async fn a_probe_whose_request_ends_is_repeated_by_the_next() {
    let server = Server::start().await;
    let host = Host::new(server.address, PATIENT_MS, "deny");
    server.set(Mode::Fails("14"));
    assert_eq!(host.requests(5).await, 0);
    host.advance(PROBE_NS);
    server.set(Mode::Hangs);
    let calls = server.calls();
    let probe = async {
        let charge = host.charge(Unit::Requests, 1);
        tokio::pin!(charge);
        // The client leaves once the server has the call.
        while server.calls() == calls {
            let pause = Duration::from_millis(1);
            assert!(tokio::time::timeout(pause, &mut charge).await.is_err());
        }
    };
    probe.await;
    server.set(Mode::Charges);
    assert_eq!(host.requests(1).await, 1);
}

#[tokio::test]
async fn an_unknown_limit_is_counted_here_and_opens_no_circuit() {
    let server = Server::start().await;
    let host = Host::new(server.address, PATIENT_MS, "local");
    server.set(Mode::Fails("5"));
    assert_eq!(host.requests(20).await, 5);
    assert_eq!(server.calls(), 20);
    server.set(Mode::Charges);
    assert_eq!(host.requests(1).await, 1);
}

#[tokio::test]
async fn a_connection_that_ends_is_replaced_without_a_failure() {
    let server = Server::start().await;
    let host = Host::new(server.address, PATIENT_MS, "deny");
    for ended in 1..=3 {
        server.set(Mode::ChargesLast);
        assert_eq!(host.requests(1).await, 1);
        server.set(Mode::Charges);
        while server.ended.load(Ordering::Relaxed) < ended {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The client, on this thread, reads the end.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(host.requests(2).await, 2);
    }
    assert_eq!(host.counted(["ok", "failed"]), [9, 0]);
}

#[tokio::test]
async fn a_connection_without_answers_is_replaced() {
    let server = Server::start().await;
    let host = Host::with_rate(server.address, 50, "local", 500);
    server.set(Mode::Hangs);
    assert_eq!(host.requests(5).await, 5);
    assert_eq!(host.counted(["failed", "skipped"]), [5, 0]);
    let connections = server.connections.load(Ordering::Relaxed);
    server.set(Mode::Charges);
    host.advance(PROBE_NS);
    assert_eq!(host.requests(1).await, 1);
    assert!(server.connections.load(Ordering::Relaxed) > connections);
}

#[tokio::test]
async fn tokens_that_were_not_used_come_back_where_this_host_counts() {
    let server = Server::start().await;
    let host = Host::with_rate(server.address, PATIENT_MS, "local", 100);
    server.set(Mode::Fails("14"));
    let quota_left = |outcome: &ChargeOutcome| match outcome {
        ChargeOutcome::Charged(quotas) => quotas[0].left,
        other => panic!("{other:?}"),
    };
    let (outcome, reserved) = host.charge(Unit::Tokens, 60).await;
    assert_eq!((quota_left(&outcome), reserved.is_empty()), (40, false));
    host.charges.settle(reserved, 10).await;
    let (outcome, unsettled) = host.charge(Unit::Tokens, 60).await;
    assert_eq!(quota_left(&outcome), 30);
    drop(unsettled);
    let (outcome, _) = host.charge(Unit::Tokens, 60).await;
    assert!(matches!(outcome, ChargeOutcome::Exceeded(_)));
}

#[tokio::test]
async fn many_own_calls_that_wait_open_no_circuit() {
    let server = Server::start().await;
    let host = Arc::new(Host::new(server.address, PATIENT_MS, "local"));
    assert_eq!(host.requests(1).await, 1);
    server.set(Mode::Hangs);
    let waiting = (0..remote::MAX_IN_FLIGHT).map(|_| {
        let host = Arc::clone(&host);
        tokio::spawn(async move { host.charge(Unit::Requests, 1).await })
    });
    let waiting: Vec<_> = waiting.collect();
    while server.calls() < remote::MAX_IN_FLIGHT {
        tokio::task::yield_now().await;
    }
    // The host's own count decides, and other clients are still counted by the service.
    host.requests(3).await;
    assert_eq!(host.counted(["failed", "skipped"]), [3, 0]);
    for call in waiting {
        call.abort();
        drop(call.await);
    }
    server.set(Mode::Charges);
    assert_eq!(host.requests(1).await, 1);
    assert_eq!(host.counted(["ok", "failed", "skipped"]), [2, 3, 0]);
}
