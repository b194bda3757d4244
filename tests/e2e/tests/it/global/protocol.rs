//! Compatibility with Envoy's rate limit protocol. A generated client and Envoy's own filter call
//! our service, and our gate calls a generated server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::RateLimitService;
use tensorgate_tests::Stack;
use tensorgate_tests::ask::PATIENCE;
use tensorgate_tests::programs::{envoy, free_address};
use tensorgate_tests::rls::descriptor::RateLimitDescriptor;
use tensorgate_tests::rls::descriptor::rate_limit_descriptor::Entry;
use tensorgate_tests::rls::service::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use tensorgate_tests::rls::service::rate_limit_service_client::RateLimitServiceClient;
use tensorgate_tests::rls::service::rate_limit_service_server::{
    RateLimitService as Server, RateLimitServiceServer,
};
use tensorgate_tests::rls::service::{RateLimitRequest, RateLimitResponse};
use tokio::process::Command;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

use super::{CHAINS, Counter, MONTH_S, PATIENT_MS, outcome, policy_with, questions, shared_rate};

/// A limit of the policy and a client, as a descriptor.
fn descriptor(limit: &str, client: &str, hits: Option<u64>) -> RateLimitDescriptor {
    let entry = |key: &str, value: &str| Entry {
        key: key.into(),
        value: value.into(),
    };
    RateLimitDescriptor {
        entries: vec![entry("limit", limit), entry("client", client)],
        limit: None,
        hits_addend: hits,
        is_negative_hits: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_envoy_client_can_call_our_service() {
    let counter = Counter::start("client").await;
    let rate = shared_rate(10, 120);
    let policy = policy_with(counter.service(PATIENT_MS), rate, shared_rate(1, MONTH_S));
    let stack = Stack::start("global-client", policy).await;
    let socket = stack.limits_socket();
    let address = format!("unix:{}", socket.display());
    let channel = Endpoint::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = RateLimitServiceClient::new(channel);
    let mut ask = async |descriptors: Vec<RateLimitDescriptor>, hits_addend| {
        let request = RateLimitRequest {
            domain: "tensorgate".into(),
            descriptors,
            hits_addend,
        };
        client
            .should_rate_limit(request)
            .await
            .map(Response::into_inner)
    };
    let own = |hits| vec![descriptor("three", "rate-1", hits)];
    let answer = ask(own(Some(4)), 0).await.unwrap();
    assert_eq!(answer.overall_code(), Code::Ok);
    let status = &answer.statuses[0];
    assert_eq!((status.code(), status.limit_remaining), (Code::Ok, 6));
    let limit = status.current_limit.as_ref().unwrap();
    let unit = tensorgate_tests::rls::service::rate_limit_response::rate_limit::Unit::Minute;
    assert_eq!((limit.requests_per_unit, limit.unit()), (10, unit));
    assert_eq!(limit.unit_multiplier, Some(2));
    let reset = status.duration_until_reset.as_ref().unwrap();
    assert!((1..=48).contains(&reset.seconds), "{reset:?}");
    // The request's own amount, where a descriptor has none.
    let answer = ask(own(None), 6).await.unwrap();
    assert_eq!(answer.overall_code(), Code::Ok);
    let answer = ask(own(None), 0).await.unwrap();
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!(answer.statuses[0].code(), Code::OverLimit);
    let unknown = ask(vec![descriptor("four", "rate-1", None)], 0).await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
    // What the gate itself charges is charged there.
    assert_eq!(outcome(&stack, "rate-1").await, "rate-limited");
    assert_eq!(outcome(&stack, "rate-3").await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_own_filter_can_call_our_service() {
    let counter = Counter::start("filter").await;
    let rate = shared_rate(3, MONTH_S);
    let policy = policy_with(counter.service(PATIENT_MS), rate, shared_rate(1, MONTH_S));
    let stack = Stack::start("global-filter", policy).await;
    let address = free_address();
    let file = stack.state().join("native.json");
    let bootstrap = native(address, stack.limits_socket());
    std::fs::write(&file, serde_json::to_vec(&bootstrap).unwrap()).unwrap();
    let log = std::fs::File::create(stack.state().join("native.log")).unwrap();
    let mut proxy = Command::new(envoy())
        .args(["--disable-hot-restart", "--concurrency", "1", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(
            proxy.try_wait().unwrap().is_none(),
            "{}",
            stack.log("native.log")
        );
        assert!(Instant::now() < end, "{}", stack.log("native.log"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let fields: [(&str, &str); 0] = [];
    for (status, left) in [(200, "2"), (200, "1"), (200, "0"), (429, "0"), (429, "0")] {
        let reply = http1::send(address, "GET", "/", &fields, b"", Framing::AsIs)
            .await
            .unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(
            reply.header("x-ratelimit-remaining"),
            Some(left.to_owned()),
            "{reply:?}"
        );
        let limit = reply.header("x-ratelimit-limit").unwrap_or_default();
        assert!(limit.starts_with("3, 3;w="), "{limit}");
    }
    // It is one limit, whichever side calls.
    assert_eq!(outcome(&stack, "rate-1").await, "rate-limited");
}

/// The configuration of an Envoy without any of our filters: its own rate limit filter, and an
/// upstream that answers.
fn native(address: std::net::SocketAddr, limits: PathBuf) -> Value {
    let key = |key: &str, value: &str| json!({"generic_key": {"descriptor_key": key, "descriptor_value": value}});
    let http = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "native",
        "http_filters": [
            {"name": "envoy.filters.http.ratelimit", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
                "domain": "tensorgate",
                "failure_mode_deny": true,
                "timeout": "1s",
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "rate_limit_service": {
                    "transport_api_version": "V3",
                    "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}}
                }
            }},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
            }}
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"},
            // The upstream's answer does not matter: the service answers an unknown method with
            // 200. Only the call to it is limited.
            "route": {
                "cluster": "limits",
                "rate_limits": [{"actions": [key("limit", "three"), key("client", "rate-1")]}]
            }
        }]}]}
    });
    json!({
        "static_resources": {
            "listeners": [{
                "name": "native",
                "address": {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}},
                "filter_chains": [{"filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
                ]}]
            }],
            "clusters": [{
                "name": "limits",
                "type": "STATIC",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}
                }},
                "load_assignment": {"cluster_name": "limits", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"pipe": {"path": limits}}}}
                ]}]}
            }]
        }
    })
}

/// Another server of the protocol. It accepts limits from any caller, counts hits in memory, and
/// never expires them.
#[derive(Clone, Default)]
struct Other {
    spent: Arc<Mutex<BTreeMap<String, u64>>>,
    asked: Arc<Mutex<Vec<RateLimitRequest>>>,
}

#[tonic::async_trait]
impl Server for Other {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        let mut spent = self.spent.lock().unwrap();
        let mut answer = RateLimitResponse::default();
        answer.set_overall_code(Code::Ok);
        for descriptor in &request.descriptors {
            let key = format!("{:?}", descriptor.entries);
            let limit = descriptor
                .limit
                .as_ref()
                .ok_or_else(|| Status::not_found("no limit"))?;
            let quota = u64::from(limit.requests_per_unit);
            let used = spent.entry(key).or_default();
            *used += descriptor.hits_addend.unwrap_or(1);
            let mut status = DescriptorStatus {
                current_limit: Some(RateLimit {
                    requests_per_unit: limit.requests_per_unit,
                    unit: limit.unit,
                    unit_multiplier: limit.unit_multiplier,
                    ..RateLimit::default()
                }),
                limit_remaining: u32::try_from(quota.saturating_sub(*used)).unwrap(),
                duration_until_reset: Some(prost_types::Duration {
                    seconds: 7,
                    nanos: 0,
                }),
                ..DescriptorStatus::default()
            };
            status.set_code(Code::Ok);
            if *used > quota {
                status.set_code(Code::OverLimit);
                answer.set_overall_code(Code::OverLimit);
            }
            answer.statuses.push(status);
        }
        self.asked.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_gate_can_call_another_server_of_the_protocol() {
    let other = Other::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server =
        tonic::transport::Server::builder().add_service(RateLimitServiceServer::new(other.clone()));
    tokio::spawn(server.serve_with_incoming(incoming));
    let service = RateLimitService {
        endpoint: Some(format!("http://{address}")),
        domain: Some("elsewhere".into()),
        timeout_ms: PATIENT_MS.into(),
        ..RateLimitService::default()
    };
    let policy = policy_with(service, shared_rate(3, 90), shared_rate(1, MONTH_S));
    for chain in CHAINS {
        other.spent.lock().unwrap().clear();
        let stack = Stack::start_chain("global-other", policy.clone(), chain).await;
        for expected in ["ok", "ok", "ok", "rate-limited"] {
            assert_eq!(outcome(&stack, "rate-1").await, expected, "{chain}");
        }
        assert_eq!(outcome(&stack, "rate-3").await, "ok", "{chain}");
        let [answered, failed, skipped] = questions(&stack).await;
        assert_eq!((answered, failed + skipped), (5, 0), "{chain}");
    }
    let asked = other.asked.lock().unwrap();
    let first = &asked[0];
    assert_eq!((first.domain.as_str(), first.hits_addend), ("elsewhere", 1));
    let one = &first.descriptors[0];
    assert_eq!(one.entries, descriptor("three", "rate-1", None).entries);
    assert_eq!(one.hits_addend, Some(1));
    let limit = one.limit.as_ref().unwrap();
    // `90s` means that many seconds, ninety times.
    assert_eq!(
        (limit.requests_per_unit, limit.unit, limit.unit_multiplier),
        (3, 1, Some(90))
    );
}
