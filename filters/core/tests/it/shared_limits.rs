//! Shared limits without a host: charged last, awaited without forwarding a complete request, and
//! replaced by local limits if the service fails. A host makes these charges itself.

mod late;
mod leaving;
mod sources;
mod streams;
use crate::support;

use support::streamed::{self, CHAINS, streaming_with};
use support::{
    CONTEXT_KEY, NOW, context_of, field, grpc, grpc_frame, hostless_of, json_body, proxy_of, rest,
};
use tensorgate_filter_core::filter::Filter::{self, Gate};
use tensorgate_filter_core::host::{Level, LimitCallOutcome};
use tensorgate_filter_core::root::Configuration;
use tensorgate_in_memory_proxy::{
    InMemoryProxy, Limiter, LimiterMode, Logged, Request, RequestOutcome, Store, configuration,
};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{HeaderMode, Now, Reason};
use tensorgate_wire::Answer;

const SECOND_NS: u64 = 1_000_000_000;
/// A window long enough that no unit refills during a test.
const MONTH_S: u64 = 2_678_400;
/// Five requests per month, global.
const FIVE: &str = r#""rate": {"quota": 5, "window_s": 2678400, "scope": "global"}"#;
/// 128 elements per day, global. A small request has two.
const HUNDRED: &str = r#""budget": {"elements": 128, "per": "day", "scope": "global"}"#;

/// The policy with these limits for `limited` and these service settings.
fn with(limits: &str, service: &str) -> String {
    let service = format!(
        r#""version": 1, "rate_limit_service": {{"redis": {{"url": "redis://127.0.0.1"}}{service}}},"#
    );
    streaming_with(limits)
        .replace("\"version\": 1,", &service)
        // A body waits whole, so the largest one is held.
        .replace("\"hold_bytes\": 300", "\"hold_bytes\": 4096")
}

/// A gateway with a service and without a host.
fn gateway(filters: &[Filter], policy: &str, limiter: &Limiter) -> InMemoryProxy {
    gateway_on(filters, policy, limiter, Store::default())
}

fn gateway_on(filters: &[Filter], policy: &str, limiter: &Limiter, store: Store) -> InMemoryProxy {
    let mut proxy = hostless_of(filters, policy, &store);
    proxy.set_limiter(limiter.clone());
    proxy
}

/// A gateway with this header mode.
fn gateway_in(
    mode: HeaderMode,
    filters: &[Filter],
    policy: &str,
    limiter: &Limiter,
) -> InMemoryProxy {
    let (store, key) = (Store::default(), Some(CONTEXT_KEY));
    let proxy = InMemoryProxy::without_host(mode, filters, policy.as_bytes(), key, store);
    let mut proxy = proxy.unwrap_or_else(|faults| panic!("{faults:#?}"));
    proxy.set_limiter(limiter.clone());
    proxy
}

fn after(ns: u64) -> Now {
    Now {
        unix_s: NOW.unix_s + ns / SECOND_NS,
        monotonic_ns: NOW.monotonic_ns + ns,
    }
}

/// `ok`, or the reason of the rejection.
fn ask(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> &'static str {
    let (outcome, record) = proxy.send(request, now);
    match (outcome, record.reason) {
        (RequestOutcome::Forwarded { .. }, None) => "ok",
        (RequestOutcome::Denied(_), Some(reason)) => reason.name(),
        other => panic!("{other:?}"),
    }
}

/// A request in the binary data extension.
fn binary(rows: usize) -> Request {
    streamed::binary("limited", rows, &vec![0.5; rows * 2])
}

/// The same over gRPC.
fn raw_grpc(rows: usize) -> Request {
    streamed::raw_grpc("limited", rows, &vec![0.5; rows * 2])
}

/// A policy that allows bodies above `hold_bytes`.
fn with_large(limits: &str) -> String {
    with(limits, "")
        .replace("\"body_bytes\": 4096", "\"body_bytes\": 1048576")
        .replace("\"max\": 64", "\"max\": 65536")
}

/// Rows of such a body.
const LARGE: usize = 40_000;

/// One request of each kind, and its number of elements.
fn every_kind() -> [(Request, u64); 5] {
    [
        (rest("limited"), 2),
        (grpc("limited"), 2),
        (binary(8), 16),
        (binary(60), 120),
        (raw_grpc(60), 120),
    ]
}

#[test]
fn a_policy_with_bodies_that_cannot_be_held_has_a_warning() {
    const WARNING: &str = "listen.limits.hold_bytes: without a sandbox host, a body of more bytes";
    let warns = |filter, policy: &str, host| {
        let bundle = policy.replacen('{', &format!("{{\"host\": {host}, "), 1);
        let (key, mode) = (Some(CONTEXT_KEY), Some(HeaderMode::Hold));
        let root = Configuration::load(Some(filter), configuration(bundle).unwrap(), key, mode);
        let (_, warnings) = root.unwrap_or_else(|faults| panic!("{faults:#?}"));
        let mut warnings = warnings.iter().map(ToString::to_string);
        warnings.any(|warning| warning.contains(WARNING))
    };
    for filter in [Gate, Filter::RateLimit, Filter::TensorGuard] {
        assert!(warns(filter, &with_large(FIVE), false), "{filter:?}");
        assert!(!warns(filter, &with(FIVE, ""), false), "{filter:?}");
        assert!(!warns(filter, &with_large(FIVE), true), "{filter:?}");
    }
    assert!(!warns(Filter::Auth, &with_large(FIVE), false));
    assert!(!warns(Gate, &streamed::streaming(), false));
}

#[test]
fn two_gateways_share_one_limit_whichever_is_called() {
    for chain in CHAINS {
        for (request, _) in every_kind() {
            let limiter = Limiter::default();
            let policy = with(FIVE, "");
            let mut gateways = [(); 2].map(|()| gateway(chain, &policy, &limiter));
            let answers: Vec<_> = (0..8)
                .map(|at| ask(&mut gateways[at % 2], &request, NOW))
                .collect();
            let expected = [["ok"; 5].as_slice(), &["rate-limited"; 3]].concat();
            assert_eq!(answers, expected, "{chain:?} {:?}", request.headers);
        }
    }
}

#[test]
fn what_requests_carry_is_spent_from_one_limit_too() {
    for chain in CHAINS {
        for (request, elements) in every_kind() {
            let limiter = Limiter::default();
            let policy = with(HUNDRED, "");
            let mut gateways = [(); 2].map(|()| gateway(chain, &policy, &limiter));
            let fits = usize::try_from(128 / elements).unwrap();
            for at in 0..fits + 2 {
                let expected = if at < fits { "ok" } else { "cost-exceeded" };
                let answer = ask(&mut gateways[at % 2], &request, NOW);
                assert_eq!(answer, expected, "{chain:?} {:?} {at}", request.headers);
            }
        }
    }
}

/// A gateway with a host behind it.
fn with_host(
    mode: HeaderMode,
    filters: &[Filter],
    policy: &str,
    limiter: &Limiter,
) -> InMemoryProxy {
    let (store, key) = (Store::default(), Some(CONTEXT_KEY));
    let proxy = InMemoryProxy::chain_in(mode, filters, policy.as_bytes(), key, store);
    let mut proxy = proxy.unwrap_or_else(|faults| panic!("{faults:#?}"));
    proxy.set_limiter(limiter.clone());
    proxy
}

/// Every chain, in both header modes.
fn chains_in_modes() -> impl Iterator<Item = (HeaderMode, &'static [Filter])> {
    let modes = [HeaderMode::Hold, HeaderMode::Forward].into_iter();
    modes.flat_map(|mode| CHAINS.map(|chain| (mode, chain)))
}

#[test]
fn with_a_host_no_gateway_asks_for_anything() {
    let both = format!("{FIVE}, {HUNDRED}");
    for (mode, chain) in chains_in_modes() {
        let limiter = Limiter::default();
        let mut proxy = with_host(mode, chain, &with(&both, ""), &limiter);
        for (request, _) in every_kind() {
            for _ in 0..6 {
                assert_eq!(ask(&mut proxy, &request, NOW), "ok", "{mode:?} {chain:?}");
            }
        }
        assert_eq!(limiter.asked(), 0, "{mode:?} {chain:?}");
    }
}

#[test]
fn with_a_host_nothing_is_judged_behind_a_shared_charge() {
    // The field after the model's name is unknown.
    let message = |model: &str| {
        let mut request = grpc(model);
        let length = u8::try_from(model.len()).unwrap();
        let name = [&[0x0a, length], model.as_bytes()].concat();
        request.body = vec![grpc_frame(&[&name[..], b"\x48\x01"].concat())];
        request
    };
    let json = |model: &str| Request {
        body: vec![b"{".to_vec()],
        ..rest(model)
    };
    for (mode, chain) in chains_in_modes() {
        let limiter = Limiter::default();
        let mut proxy = with_host(mode, chain, &with(FIVE, ""), &limiter);
        for (request, at_head) in [(json("limited"), true), (message("limited"), false)] {
            let mut stream = proxy.open(NOW);
            stream.send_headers(&request.headers, false);
            let is_early = at_head || mode == HeaderMode::Forward;
            assert_eq!(stream.dispatched(), is_early, "{mode:?} {chain:?}");
            stream.send_body(&request.body[0], true);
            let work = context_of(&stream).work;
            // A head that was forwarded before its body cannot say so.
            let says = at_head || !is_early;
            assert_eq!(work.leaves_charge, says, "{mode:?} {chain:?}");
            assert_eq!(work.buffered, !is_early, "{mode:?} {chain:?}");
            let (outcome, record, logged) = stream.close();
            let Some(RequestOutcome::Forwarded { body, .. }) = outcome else {
                panic!("{mode:?} {chain:?}: {record:?}")
            };
            assert_eq!(body, request.body[0]);
            assert_eq!(logged.body_bytes_read > 0, !at_head, "{mode:?} {chain:?}");
        }
        // Other models have no shared limit.
        for request in [json("m"), message("m")] {
            assert_eq!(ask(&mut proxy, &request, NOW), "malformed", "{chain:?}");
        }
        let mut stream = proxy.open(NOW);
        stream.send_headers(&rest("m").headers, false);
        stream.send_body(&json_body(), true);
        assert!(
            !context_of(&stream).work.leaves_charge,
            "{mode:?} {chain:?}"
        );
        assert_eq!(limiter.asked(), 0, "{mode:?} {chain:?}");
    }
}

#[test]
fn with_a_host_local_limits_and_permits_come_before_the_shared_charge() {
    let limits = format!(r#"{FIVE}, "budget": {{"requests": 3, "per": "day"}}, "concurrency": 2"#);
    for (mode, chain) in chains_in_modes() {
        for request in [rest("limited"), grpc("limited")] {
            let mut proxy = with_host(mode, chain, &with(&limits, ""), &Limiter::default());
            let mut open = || {
                let mut stream = proxy.open(NOW);
                support::deliver(&mut stream, &request);
                stream
            };
            let (first, second, third) = (open(), open(), open());
            assert!(first.is_complete() && second.is_complete(), "{chain:?}");
            let (_, record, _) = third.close();
            assert_eq!(record.reason, Some(Reason::Concurrency), "{chain:?}");
            first.close();
            let (_, record, _) = open().close();
            assert_eq!(record.reason, Some(Reason::RateLimited), "{chain:?}");
        }
    }
}

#[test]
fn in_forward_mode_only_a_gate_alone_waits_for_shared_limits() {
    let (policy, mode) = (with(FIVE, ""), HeaderMode::Forward);
    let (policy, key) = (policy.as_bytes(), Some(CONTEXT_KEY));
    let refused = |filters: &[Filter]| {
        let proxy = InMemoryProxy::without_host(mode, filters, policy, key, Store::default());
        let faults = proxy.err().unwrap_or_default();
        let mut faults = faults.iter().map(ToString::to_string);
        faults.any(|fault| fault.starts_with("rate_limit_service: limits of scope global need"))
    };
    assert!(!refused(&[Gate]));
    assert!(refused(&Filter::THREE));
    assert!(InMemoryProxy::chain_in(mode, &Filter::THREE, policy, key, Store::default()).is_ok());
}

#[test]
fn a_refusal_tells_what_all_gateways_have_left() {
    let limiter = Limiter::default();
    let mut one = gateway(&[Gate], &with(FIVE, ""), &limiter);
    for _ in 0..5 {
        ask(&mut one, &rest("limited"), NOW);
    }
    let mut other = gateway(&[Gate], &with(FIVE, ""), &limiter);
    let (outcome, record) = other.send(&rest("limited"), NOW);
    let RequestOutcome::Denied(Answer::Rest { headers, .. }) = outcome else {
        panic!("{record:?}")
    };
    let wait_s = MONTH_S / 5;
    let said = |name: &str| {
        let field = headers.iter().find(|(known, _)| *known == name);
        field.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(said("ratelimit"), format!("\"metered\";r=0;t={wait_s}"));
    assert_eq!(
        said("ratelimit-policy"),
        format!("\"metered\";q=5;w={MONTH_S}")
    );
    assert_eq!(said("retry-after"), wait_s.to_string());
    assert!(
        record.detail.contains("for all gateways"),
        "{}",
        record.detail
    );
}

#[test]
fn what_local_limits_on_requests_have_left_crosses_to_the_host() {
    let limits = r#""rate": {"quota": 5, "window_s": 2678400, "scope": "global"}, "budget": {"requests": 50, "elements": 128, "per": "day"}"#;
    for chain in CHAINS {
        let mut proxy = proxy_of(chain, with(limits, ""), &Store::default());
        let mut stream = proxy.open(NOW);
        support::deliver(&mut stream, &rest("limited"));
        let quotas = context_of(&stream).quotas;
        let left: Vec<_> = quotas.iter().map(|quota| quota.left).collect();
        // The shared limit and the elements are the host's.
        assert_eq!(left, [49], "{chain:?}");
    }
}

/// Log lines about the service.
fn lines(logged: &[Logged]) -> Vec<(Level, String)> {
    let lines = logged.iter().flat_map(|logged| &logged.lines);
    lines
        .filter(|(_, line)| line.contains("rate limit service"))
        .cloned()
        .collect()
}

/// Plays a request and returns what it logged.
fn play(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> (Option<Reason>, Logged) {
    let mut stream = proxy.open(now);
    support::deliver(&mut stream, request);
    let (_, record, logged) = stream.close();
    (record.reason, logged)
}

#[test]
fn without_the_service_each_gateway_counts_for_itself_from_what_it_has_let_through() {
    for chain in CHAINS {
        for broken in [
            LimiterMode::Fails(14),
            LimiterMode::Fails(4),
            LimiterMode::Says(vec![]),
            LimiterMode::Says(b"\xff".to_vec()),
            LimiterMode::Unreachable,
        ] {
            let limiter = Limiter::default();
            let policy = with(FIVE, "");
            let mut gateways = [(); 2].map(|()| gateway(chain, &policy, &limiter));
            for _ in 0..3 {
                assert_eq!(ask(&mut gateways[0], &rest("limited"), NOW), "ok");
            }
            limiter.set_mode(broken.clone());
            let mut logged = Vec::new();
            for (gateway, fits) in [(0, 2), (1, 5)] {
                for at in 0..fits + 3 {
                    let (reason, said) = play(&mut gateways[gateway], &rest("limited"), NOW);
                    let expected = (at >= fits).then_some(Reason::RateLimited);
                    assert_eq!(reason, expected, "{chain:?} {broken:?} {gateway} {at}");
                    logged.push(said);
                }
                // Five calls fail, and then the circuit is open.
                let asked: Vec<_> = logged.iter().flat_map(|it| it.asked.clone()).collect();
                let tried = asked.len().min(5);
                assert_eq!(asked[..tried], vec![LimitCallOutcome::Failed; tried]);
                assert!(
                    asked[tried..]
                        .iter()
                        .all(|it| *it == LimitCallOutcome::Skipped)
                );
                let lines = lines(&logged);
                assert_eq!(lines.len(), 1, "{lines:?}");
                let (level, line) = &lines[0];
                assert_eq!(*level, Level::Error);
                assert!(line.ends_with("enforces its own limits"), "{line}");
                logged.clear();
            }
        }
    }
}

#[test]
fn where_the_policy_says_so_nothing_passes_without_the_service() {
    let policy = with(FIVE, r#", "on_failure": "deny""#);
    for chain in CHAINS {
        let limiter = Limiter::default();
        let mut proxy = gateway(chain, &policy, &limiter);
        assert_eq!(ask(&mut proxy, &rest("limited"), NOW), "ok");
        limiter.set_mode(LimiterMode::Fails(14));
        for request in every_kind().map(|(request, _)| request) {
            for _ in 0..3 {
                assert_eq!(ask(&mut proxy, &request, NOW), "overloaded", "{chain:?}");
            }
        }
        let (_, logged) = play(&mut proxy, &rest("limited"), NOW);
        assert_eq!(logged.overloads, [OverloadCause::RateLimitService]);
        // A request without a shared limit is not affected.
        assert_eq!(ask(&mut proxy, &rest("m"), NOW), "ok");
        limiter.set_mode(LimiterMode::Answers);
        assert_eq!(ask(&mut proxy, &rest("limited"), after(SECOND_NS)), "ok");
        let asked = limiter.asked();
        assert_eq!(ask(&mut proxy, &rest("limited"), after(SECOND_NS)), "ok");
        assert_eq!(limiter.asked(), asked + 1);
    }
}

#[test]
fn two_requests_a_second_look_whether_the_service_answers_again() {
    const PROBE_NS: u64 = SECOND_NS / 2;
    let limiter = Limiter::default();
    let many = FIVE.replace("\"quota\": 5", "\"quota\": 500");
    let policy = with(&many, "");
    let store = Store::default();
    let mut workers = [(); 2].map(|()| gateway_on(&[Gate], &policy, &limiter, store.clone()));
    limiter.set_mode(LimiterMode::Fails(14));
    let mut asked_at = |ns: u64| {
        let mut asked = Vec::new();
        for at in 0..10 {
            let worker = &mut workers[at % 2];
            let (reason, logged) = play(worker, &rest("limited"), after(ns));
            assert_eq!(reason, None);
            asked.extend(logged.asked);
        }
        let count = |what| asked.iter().filter(|it| **it == what).count();
        (
            count(LimitCallOutcome::Answered),
            count(LimitCallOutcome::Failed),
            count(LimitCallOutcome::Skipped),
        )
    };
    assert_eq!(asked_at(0), (0, 5, 5));
    assert_eq!(asked_at(PROBE_NS - 1), (0, 0, 10));
    assert_eq!(asked_at(PROBE_NS), (0, 1, 9));
    assert_eq!(asked_at(2 * PROBE_NS - 1), (0, 0, 10));
    limiter.set_mode(LimiterMode::Answers);
    assert_eq!(asked_at(2 * PROBE_NS), (10, 0, 0));
}

#[test]
fn an_answer_without_a_pending_call_changes_nothing() {
    let limiter = Limiter::default();
    limiter.set_mode(LimiterMode::Waits);
    let mut proxy = gateway(&[Gate], &with(FIVE, ""), &limiter);
    let mut stream = proxy.open(NOW);
    support::deliver(&mut stream, &rest("limited"));
    assert!(!stream.dispatched());
    stream.answer_limit_call(7, None);
    assert!(!stream.dispatched());
    stream.answer_limit_call(0, None);
    stream.answer_limit_call(0, None);
    let (outcome, ..) = stream.close();
    assert!(matches!(outcome, Some(RequestOutcome::Forwarded { .. })));
}

#[test]
fn a_shadow_global_limit_is_charged_and_rejects_no_request() {
    let limits = format!("{FIVE}, \"mode\": \"shadow\"");
    for chain in CHAINS {
        let limiter = Limiter::default();
        let mut proxy = gateway(chain, &with(&limits, ""), &limiter);
        for at in 0..7 {
            let (reason, logged) = play(&mut proxy, &rest("limited"), NOW);
            assert_eq!(reason, None);
            let noted: &[_] = if at < 5 { &[] } else { &["rate-limited"] };
            assert_eq!(logged.shadowed, noted, "{chain:?} {at}");
        }
    }
}
