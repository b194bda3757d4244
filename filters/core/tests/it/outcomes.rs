//! Shadow denials are reported to the host, the log, the access log and the counters; remaining
//! quota is forwarded with them.

use crate::support;

use serde_json::{Value, json};
use support::streamed::{self, CHAINS, RATE, streaming_with};
use support::{CONTEXT_KEY, NOW, bundle, field, grpc, head, key, outcome_told, rest, stranger_key};
use tensorgate_filter_core::filter::Filter::{self, Gate};
use tensorgate_identity::api_key::digest;
use tensorgate_in_memory_proxy::{InMemoryProxy, Logged, Request, RequestOutcome, Store};
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_policy::{Operation, Reason, hex};
use tensorgate_wire::context::{Context, HEADER, Key};

/// One request per month, and the content of two.
const LIMITS: &str = r#""rate": {"quota": 1, "window_s": 2678400}, "budget": {"requests": 9, "per": "day"},
    "cost": {"elements": 128, "window_s": 2678400}"#;

fn chain(filters: &[Filter], mode: &str) -> InMemoryProxy {
    support::chain(filters, streaming_with(&format!("{LIMITS}{mode}")))
}

/// The same without a host, so that the filters charge content.
fn hostless(filters: &[Filter], mode: &str) -> InMemoryProxy {
    let policy = streaming_with(&format!("{LIMITS}{mode}"));
    support::hostless_of(filters, policy, &Store::default())
}

fn play(proxy: &mut InMemoryProxy, request: &Request) -> (Option<RequestOutcome>, Logged) {
    let mut stream = proxy.open(NOW);
    stream.send_headers(&request.headers, false);
    let mut pieces = request.body.iter().peekable();
    while let Some(piece) = pieces.next() {
        stream.send_body(piece, pieces.peek().is_none());
    }
    let (outcome, _, logged) = stream.close();
    (outcome, logged)
}

/// The forwarded context.
fn context(outcome: &Option<RequestOutcome>) -> Context {
    context_at(outcome, NOW.unix_s)
}

fn context_at(outcome: &Option<RequestOutcome>, unix_s: u64) -> Context {
    let Some(RequestOutcome::Forwarded { headers, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    let of = |name: &str| -> Vec<String> {
        let named = headers.iter().filter(|(known, _)| known == name.as_bytes());
        named
            .map(|(_, value)| String::from_utf8(value.clone()).unwrap())
            .collect()
    };
    let [value] = &of(HEADER)[..] else {
        panic!("one context: {headers:?}")
    };
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    let (method, path) = (&of(":method")[0], &of(":path")[0]);
    Context::verify(value, &key, method, path, unix_s, 5).unwrap()
}

/// `rows` × 2 floats in the binary data extension, in chunks of `cut` bytes; more than 30 rows
/// exceed the buffer.
fn binary(rows: usize, float: f32, cut: usize) -> Request {
    let whole = streamed::binary("limited", rows, &vec![float; rows * 2]);
    let pieces = whole.body[0].chunks(cut);
    Request {
        body: pieces.map(<[u8]>::to_vec).collect(),
        ..whole
    }
}

fn left(quotas: &[RemainingQuota]) -> Vec<(u64, bool)> {
    let passes = |wait| wait == Wait::None;
    quotas
        .iter()
        .map(|level| (level.left, passes(level.wait)))
        .collect()
}

#[test]
fn what_limits_have_left_crosses_with_every_request_through_every_chain() {
    for filters in CHAINS {
        for request in [rest("limited"), grpc("limited"), binary(64, 0.5, 400)] {
            let mut proxy = chain(filters, "");
            let (outcome, logged) = play(&mut proxy, &request);
            let context = context(&outcome);
            assert!(context.work.checks, "{filters:?}");
            // The host counts content itself.
            assert_eq!(left(&context.quotas), [(0, true), (8, true)]);
            assert!(logged.shadowed.is_empty() && logged.lines.is_empty());
        }
        let mut proxy = chain(filters, "");
        let (outcome, _) = play(&mut proxy, &rest("m"));
        assert!(context(&outcome).quotas.is_empty(), "no limits");
    }
}

#[test]
fn a_rejection_reports_its_operation_and_the_client_of_a_revoked_key() {
    let mut policy: Value = serde_json::from_str(&bundle()).unwrap();
    policy["policy"]["revoked"] = json!({"keys": [hex(&digest(&key()))]});
    let (usual, revoking) = (bundle(), policy.to_string());
    let unknown = stranger_key();
    let scorer = Some("scorer");
    for (bundle, key, (method, path), reason, operation, client) in [
        (
            &revoking,
            key(),
            ("POST", "/v2/models/m/infer"),
            Some(Reason::Unauthenticated),
            Some(Operation::Infer),
            scorer,
        ),
        (
            &revoking,
            key(),
            ("GET", "/v2/models/m"),
            Some(Reason::Unauthenticated),
            Some(Operation::Metadata),
            scorer,
        ),
        (
            &revoking,
            unknown.clone(),
            ("GET", "/v2/models/m/ready"),
            Some(Reason::Unauthenticated),
            Some(Operation::Ready),
            None,
        ),
        (
            &revoking,
            key(),
            ("GET", "/nowhere"),
            Some(Reason::Unauthenticated),
            None,
            scorer,
        ),
        // A public request has no client, whatever key comes with it.
        (
            &revoking,
            key(),
            ("GET", "/v2/health/live"),
            None,
            None,
            None,
        ),
        (
            &usual,
            key(),
            ("GET", "/v2/models/limited"),
            Some(Reason::NotGranted),
            Some(Operation::Metadata),
            scorer,
        ),
    ] {
        for filters in CHAINS {
            let with_key = |key: &str| {
                let mut headers = head(method, path);
                headers.retain(|(name, _)| name != b"x-api-key");
                headers.push(field("x-api-key", key));
                let request = Request {
                    headers,
                    ..Request::default()
                };
                support::play(&mut support::chain(filters, bundle), &request)
            };
            let played = with_key(&key);
            let record = &played.record;
            assert_eq!(record.reason, reason, "{path}");
            assert_eq!(record.operation, operation, "{path}");
            assert_eq!(record.client.as_deref(), client, "{path}");
            if reason == Some(Reason::Unauthenticated) {
                // Each proxy gives its first request the same ID.
                let other = format!("{:?}", with_key(&unknown).outcome);
                assert_eq!(format!("{:?}", played.outcome), other, "{path}");
            }
        }
    }
}

#[test]
fn what_is_left_is_right_at_each_step() {
    let limits = r#""rate": {"quota": 60, "window_s": 60, "burst": 3}, "budget": {"requests": 256, "per": "day"}"#;
    let bundle = bundle().replace(RATE, limits);
    let mut proxy = support::chain(&[Gate], bundle);
    let day_s = 86_400 - NOW.unix_s % 86_400;
    // The time; then the rate's remaining quota and the milliseconds until it is full; the day's
    // remaining quota.
    for (at_ms, rate, day) in [
        (0, Some((2, 1_000)), 255),
        (0, Some((1, 2_000)), 254),
        (500, Some((0, 2_500)), 253),
        (900, None, 253),
        (1_000, Some((0, 3_000)), 252),
        (4_000, Some((2, 1_000)), 251),
        (60_000, Some((2, 1_000)), 250),
    ] {
        let now = tensorgate_policy::Now {
            unix_s: NOW.unix_s + at_ms / 1_000,
            monotonic_ns: NOW.monotonic_ns + at_ms * 1_000_000,
        };
        let (outcome, record) = proxy.send(&rest("limited"), now);
        let Some((rate_left, full_ms)) = rate else {
            assert_eq!(record.reason, Some(Reason::RateLimited));
            continue;
        };
        let quotas = context_at(&Some(outcome), now.unix_s).quotas;
        let crossed = quotas
            .iter()
            .map(|quota| (quota.left, quota.full_after_ns, quota.wait));
        let midnight_ns = (day_s - at_ms / 1_000) * 1_000_000_000;
        let expected = [
            (rate_left, full_ms * 1_000_000, Wait::None),
            (day, midnight_ns, Wait::None),
        ];
        assert_eq!(crossed.collect::<Vec<_>>(), expected, "{at_ms}");
    }
}

#[test]
fn a_shadow_denial_is_reported_once_by_the_filter_that_judged_it() {
    const SHADOW: &str = r#", "mode": "shadow""#;
    let judged = ["rate-limited", "out-of-range", "cost-exceeded"];
    let sorted = |mut names: Vec<String>| {
        names.sort_by_key(|name| judged.iter().position(|known| known == name));
        names
    };
    for (filters, has_host) in CHAINS.into_iter().flat_map(|it| [(it, true), (it, false)]) {
        // With a host, content is the host's to charge.
        let all = if has_host { &judged[..2] } else { &judged[..] };
        // With a host, the filters judge what they buffer.
        let rows = if has_host { 20 } else { 64 };
        for cut in [1_000, 400, 301, 100] {
            let request = binary(rows, 7.0, cut);
            let mut proxy = if has_host {
                chain(filters, SHADOW)
            } else {
                hostless(filters, SHADOW)
            };
            play(&mut proxy, &request);
            let (outcome, logged) = play(&mut proxy, &request);
            if has_host {
                let quotas = context(&outcome).quotas;
                assert_eq!(left(&quotas), [(0, false), (8, true)]);
            }
            let counted = logged.shadowed.iter().cloned();
            assert_eq!(sorted(counted.collect()), all, "{filters:?}");
            let told = outcome_told(&logged);
            let told = told["shadow"].as_array().unwrap().iter();
            let told = told.map(|it| it["reason"].as_str().unwrap().to_owned());
            assert_eq!(sorted(told.collect()), all, "{filters:?}");
            let lines: String = logged.lines.iter().map(|(_, line)| line.as_str()).collect();
            for reason in all {
                assert_eq!(lines.matches(*reason).count(), 1, "{filters:?}: {lines}");
            }
            assert!(lines.contains(r#""verdict":"allow""#), "{lines}");
        }
    }
}

#[test]
fn a_refusal_tells_what_was_in_shadow_before_it() {
    for filters in CHAINS {
        let mut proxy = chain(filters, r#", "mode": {"rate": "shadow"}"#);
        let request = binary(1, 7.0, 1_000);
        play(&mut proxy, &request);
        let (outcome, logged) = play(&mut proxy, &request);
        assert!(
            matches!(outcome, Some(RequestOutcome::Denied(_))),
            "{filters:?}"
        );
        let told = outcome_told(&logged);
        assert_eq!(told["reason"], "out-of-range", "{filters:?}");
        // The guard before the rate limiter rejects before that limit is charged.
        let before = if filters == CHAINS[2] {
            Value::Null
        } else {
            "rate-limited".into()
        };
        assert_eq!(told["shadow"][0]["reason"], before, "{filters:?}");
    }
}

#[test]
fn what_limits_refuse_in_shadow_is_not_spent() {
    const SHADOW: &str = r#", "mode": "shadow""#;
    let mut proxy = chain(&[Gate], SHADOW);
    for rate in [true, false, false, false] {
        let (outcome, _) = play(&mut proxy, &binary(60, 0.5, 4_000));
        assert_eq!(left(&context(&outcome).quotas), [(0, rate), (8, true)]);
    }
    // Without a host: of 128 elements 120 are spent, and later the remaining 8.
    let mut proxy = hostless(&[Gate], SHADOW);
    let mut play_rows = |rows, mut denials: Vec<&str>| {
        let (outcome, logged) = play(&mut proxy, &binary(rows, 0.5, 4_000));
        let passes = matches!(outcome, Some(RequestOutcome::Forwarded { .. }));
        assert!(passes, "{outcome:?}");
        let mut shadowed = logged.shadowed;
        shadowed.sort();
        denials.sort_unstable();
        assert_eq!(shadowed, denials, "{rows}");
    };
    play_rows(60, vec![]);
    for _ in 0..3 {
        play_rows(60, vec!["rate-limited", "cost-exceeded"]);
    }
    play_rows(4, vec!["rate-limited"]);
    play_rows(1, vec!["rate-limited", "cost-exceeded"]);
}
