//! Charges for the content of requests without a host: made after validation by the validating
//! filter, and reported at each step of a limit's life. With a host they are the host's.

use crate::support;

use support::streamed::{self, CHAINS, RATE, streaming_with};
use support::{NOW, grpc, rest, sum_on_threads};
use tensorgate_filter_core::filter::Filter::{self, Auth, Gate, RateLimit, TensorGuard};
use tensorgate_filter_core::host::SharedStore as _;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, RequestOutcome, Store};
use tensorgate_policy::{Now, Reason};
use tensorgate_wire::Answer;

const SECOND_NS: u64 = 1_000_000_000;
/// A window long enough that no unit refills during a test.
const MONTH_S: u64 = 2_678_400;
fn chain(filters: &[Filter], limits: &str, store: Store) -> InMemoryProxy {
    support::hostless_of(filters, streaming_with(limits), &store)
}

fn gate(limits: &str) -> InMemoryProxy {
    chain(&[Gate], limits, Store::default())
}

fn at(seconds: u64) -> Now {
    Now {
        unix_s: NOW.unix_s + seconds,
        monotonic_ns: NOW.monotonic_ns + seconds * SECOND_NS,
    }
}

fn field_of(answer: &Answer, name: &str) -> Option<String> {
    let (Answer::Rest { headers, .. } | Answer::Grpc { headers, .. }) = answer;
    headers
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.clone())
}

/// `ok`, or the reason of the rejection.
fn ask(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> &'static str {
    match proxy.send(request, now).1.reason {
        None => "ok",
        Some(reason) => reason.name(),
    }
}

/// `RateLimit-Policy`, `RateLimit` and `Retry-After` of a rejection.
fn told(proxy: &mut InMemoryProxy, request: &Request, now: Now) -> [Option<String>; 3] {
    let (outcome, record) = proxy.send(request, now);
    let RequestOutcome::Denied(answer) = outcome else {
        panic!("{record:?}")
    };
    ["ratelimit-policy", "ratelimit", "retry-after"].map(|name| field_of(&answer, name))
}

fn said(texts: [&str; 3]) -> [Option<String>; 3] {
    texts.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// `rows` × 2 floats in the binary data extension; more than 37 rows exceed the buffer.
fn binary(rows: usize, float: f32) -> Request {
    streamed::binary("limited", rows, &vec![float; rows * 2])
}

/// The same over gRPC.
fn raw_grpc(rows: usize) -> Request {
    streamed::raw_grpc("limited", rows, &vec![0.5; rows * 2])
}

#[test]
fn one_bucket_serves_every_protocol_held_or_in_pieces_in_every_chain() {
    let limits = format!(r#""cost": {{"elements": 244, "window_s": {MONTH_S}}}"#);
    for filters in [
        &[Gate][..],
        &Filter::THREE,
        &[Auth, TensorGuard, RateLimit],
        &[Auth, TensorGuard],
    ] {
        let mut proxy = chain(filters, &limits, Store::default());
        // 2 + 2 + 120 + 120 elements, and none is left.
        for request in [
            rest("limited"),
            grpc("limited"),
            binary(60, 0.5),
            raw_grpc(60),
        ] {
            assert_eq!(ask(&mut proxy, &request, NOW), "ok", "{filters:?}");
        }
        for request in [
            rest("limited"),
            grpc("limited"),
            binary(60, 0.5),
            raw_grpc(60),
        ] {
            assert_eq!(
                ask(&mut proxy, &request, NOW),
                "cost-exceeded",
                "{filters:?}"
            );
        }
    }
    // A filter that does not check tensors does not know their cost.
    let mut unchecked = chain(&[Auth, RateLimit], &limits, Store::default());
    for _ in 0..200 {
        assert_eq!(ask(&mut unchecked, &rest("limited"), NOW), "ok");
    }
}

#[test]
fn a_stream_is_charged_at_its_head_and_nothing_of_it_goes_on_unpaid() {
    let limits = format!(r#""cost": {{"elements": 130, "bytes": 600, "window_s": {MONTH_S}}}"#);
    let mut proxy = gate(&limits);
    assert_eq!(ask(&mut proxy, &binary(60, 0.5), NOW), "ok");
    for request in [binary(60, 0.5), raw_grpc(60)] {
        let mut stream = proxy.open(NOW);
        stream.send_headers(&request.headers, false);
        for piece in request.body[0].chunks(50) {
            stream.send_body(piece, false);
            assert!(!stream.dispatched());
        }
        let (_, record, _) = stream.close();
        assert_eq!(record.reason, Some(Reason::CostExceeded));
    }
}

#[test]
fn what_is_refused_whole_costs_nothing_and_what_breaks_off_costs_all() {
    let limits = format!(r#""cost": {{"elements": 128, "window_s": {MONTH_S}}}"#);
    let mut proxy = gate(&limits);
    for _ in 0..100 {
        assert_eq!(ask(&mut proxy, &binary(20, 2.0), NOW), "out-of-range");
    }
    assert_eq!(ask(&mut proxy, &binary(60, 2.0), NOW), "out-of-range");
    assert_eq!(ask(&mut proxy, &binary(4, 0.5), NOW), "ok");
    assert_eq!(
        ask(&mut proxy, &binary(1, 0.5), NOW),
        "cost-exceeded",
        "a fault in the middle is no way to send more for less"
    );
}

#[test]
fn every_rejection_after_a_charge_reports_it() {
    let limits = format!(r#"{RATE}, "cost": {{"elements": 128, "window_s": {MONTH_S}}}"#);
    let spoiled = Request {
        body: vec![b"{".to_vec()],
        ..rest("limited")
    };
    for filters in [&[Gate][..], &Filter::THREE] {
        // What an earlier filter has charged is in the context, which only a host needs.
        let mut proxy = support::chain(filters, streaming_with(&limits));
        // Nothing is charged for the body yet; one of three requests is charged.
        for (request, left) in [
            (&binary(20, 2.0), r#""metered";r=2;t=1"#),
            (&spoiled, r#""metered";r=1;t=2"#),
        ] {
            let [policy, limit, retry] = told(&mut proxy, request, NOW);
            assert!(policy.is_some_and(|policy| policy.starts_with("\"metered\"")));
            assert_eq!(limit.as_deref(), Some(left), "{filters:?}");
            assert_eq!(retry, None);
        }
        // Before the request is charged, nothing is known.
        let nowhere = told(&mut proxy, &rest("nowhere"), NOW);
        assert_eq!(nowhere, [None, None, None]);
    }
}

#[test]
fn a_cost_is_reported_at_each_step_of_its_bucket() {
    // Two elements refill per second.
    let mut proxy = gate(r#""cost": {"elements": 130, "window_s": 65}"#);
    let policy = r#""metered:elements";q=130;qu="tensor-elements";w=65"#;
    assert_eq!(ask(&mut proxy, &binary(60, 0.5), at(0)), "ok");
    let two = rest("limited");
    for _ in 0..5 {
        assert_eq!(ask(&mut proxy, &two, at(0)), "ok");
    }
    for (request, seconds, limit, retry) in [
        (&two, 0, r#""metered:elements";r=0;t=1"#, "1"),
        (&binary(60, 0.5), 0, r#""metered:elements";r=0;t=60"#, "60"),
        (&binary(60, 0.5), 59, r#""metered:elements";r=118;t=1"#, "1"),
    ] {
        assert_eq!(
            told(&mut proxy, request, at(seconds)),
            said([policy, limit, retry])
        );
    }
    assert_eq!(ask(&mut proxy, &binary(60, 0.5), at(60)), "ok");
    // After a day without requests the bucket is full and no fuller.
    assert_eq!(ask(&mut proxy, &binary(64, 0.5), at(86_400)), "ok");
    assert_eq!(
        told(&mut proxy, &binary(64, 0.5), at(86_400)),
        said([policy, r#""metered:elements";r=2;t=63"#, "63"])
    );
}

#[test]
fn a_day_is_told_until_midnight_and_begins_anew_then() {
    let mut proxy = gate(r#""budget": {"requests": 2, "elements": 200, "per": "day"}"#);
    // 1_780_000_000 is 26 minutes and 40 seconds past 20:00, UTC.
    let left = 86_400 - NOW.unix_s % 86_400;
    assert_eq!(left, 12_800);
    let policy = r#""metered:requests:day";q=2;w=86400"#;
    assert_eq!(ask(&mut proxy, &rest("limited"), at(0)), "ok");
    assert_eq!(ask(&mut proxy, &grpc("limited"), at(0)), "ok");
    assert_eq!(
        told(&mut proxy, &rest("limited"), at(0)),
        said([policy, r#""metered:requests:day";r=0;t=12800"#, "12800"])
    );
    assert_eq!(
        told(&mut proxy, &rest("limited"), at(left - 1)),
        said([policy, r#""metered:requests:day";r=0;t=1"#, "1"])
    );
    assert_eq!(ask(&mut proxy, &binary(60, 0.5), at(left)), "ok");
    // After the request limit, the element limit is reported as well.
    let both = r#""metered:requests:day";q=2;w=86400, "metered:elements:day";q=200;qu="tensor-elements";w=86400"#;
    assert_eq!(
        told(&mut proxy, &binary(60, 0.5), at(left)),
        said([
            both,
            r#""metered:requests:day";r=0;t=86400, "metered:elements:day";r=80;t=86400"#,
            "86400"
        ])
    );
}

#[test]
fn of_several_limits_one_that_has_not_enough_leaves_the_others_as_they_are() {
    let limits = format!(
        r#""rate": {{"quota": 100, "window_s": {MONTH_S}}},
           "cost": {{"elements": 200, "bytes": 4000, "window_s": {MONTH_S}}},
           "budget": {{"requests": 50, "bytes": 600, "per": "day"}}"#
    );
    let mut proxy = gate(&limits);
    assert_eq!(ask(&mut proxy, &binary(60, 0.5), NOW), "ok");
    // The day has 120 bytes left: 480 more do not fit, and only the request is charged.
    for _ in 0..9 {
        assert_eq!(ask(&mut proxy, &binary(60, 0.5), NOW), "cost-exceeded");
    }
    let [policies, limits, retry] = told(&mut proxy, &binary(60, 0.5), NOW);
    let policies = policies.unwrap();
    assert_eq!(policies.matches("metered").count(), 5, "{policies}");
    let limits = limits.unwrap();
    for limit in [
        r#""metered";r=89;"#,
        r#""metered:requests:day";r=39;t=12800"#,
        r#""metered:elements";r=80;"#,
        r#""metered:bytes";r=3520;"#,
        r#""metered:bytes:day";r=120;t=12800"#,
    ] {
        assert!(limits.contains(limit), "{limit}: {limits}");
    }
    // Elements are short too, until long after midnight: every limit must have enough.
    assert!(retry.unwrap().parse::<u64>().unwrap() > 12_800);
    assert_eq!(ask(&mut proxy, &binary(15, 0.5), NOW), "ok");
    assert_eq!(ask(&mut proxy, &rest("limited"), NOW), "cost-exceeded");
}

#[test]
fn each_of_several_limits_is_read_once_and_written_once() {
    let limits = format!(
        r#""cost": {{"elements": 200, "bytes": 4000, "window_s": {MONTH_S}}}, "budget": {{"bytes": 900, "per": "day"}}"#
    );
    let store = Store::default();
    let mut proxy = chain(&[Gate], &limits, store.clone());
    let mut calls = |expected| {
        let before = store.calls();
        assert_eq!(ask(&mut proxy, &binary(60, 0.5), NOW), expected);
        store.calls() - before
    };
    assert_eq!(calls("ok"), 6);
    // The missing quota of the day is detected before anything is written.
    assert_eq!(calls("cost-exceeded"), 3);
}

#[test]
fn a_reload_that_changes_limits_grants_no_extra_and_delays_no_client() {
    let limits = |elements: u64, window_s: u64, day: u64| {
        format!(
            r#""cost": {{"elements": {elements}, "window_s": {window_s}}},
               "budget": {{"elements": {day}, "per": "day"}}"#
        )
    };
    let store = Store::default();
    let reloaded = |limits: &str| chain(&[Gate], limits, store.clone());
    let mut first = reloaded(&limits(240, 60, 1000));
    for _ in 0..2 {
        assert_eq!(ask(&mut first, &binary(60, 0.5), NOW), "ok");
    }
    // All quota is used, whatever the window is.
    for (elements, window_s) in [(240, MONTH_S), (240, 60), (240, 1)] {
        let mut proxy = reloaded(&limits(elements, window_s, 1000));
        assert_eq!(ask(&mut proxy, &rest("limited"), NOW), "cost-exceeded");
    }
    // A larger limit leaves more, by the difference.
    let mut larger = reloaded(&limits(364, 60, 1000));
    assert_eq!(ask(&mut larger, &binary(62, 0.5), NOW), "ok");
    assert_eq!(ask(&mut larger, &rest("limited"), NOW), "cost-exceeded");
    // A debt does not outlive its window: an empty bucket refills in its own window.
    let mut faster = reloaded(&limits(364, 1, 1000));
    assert_eq!(ask(&mut faster, &rest("limited"), NOW), "cost-exceeded");
    assert_eq!(ask(&mut faster, &binary(60, 0.5), at(1)), "ok");
    // 484 of the day are used, under any budget.
    let mut frugal = reloaded(&limits(364, 1, 486));
    assert_eq!(ask(&mut frugal, &rest("limited"), at(2)), "ok");
    assert_eq!(ask(&mut frugal, &rest("limited"), at(3)), "cost-exceeded");
}

#[test]
fn workers_on_threads_spend_amounts_exactly() {
    const WORKERS: usize = 4;
    const REQUESTS: usize = 40;
    let limits = format!(
        r#""cost": {{"elements": 128, "window_s": {MONTH_S}}}, "budget": {{"bytes": 520, "per": "day"}}"#
    );
    let store = Store::default();
    chain(&[Gate], &limits, store.clone());
    let worker = || chain(&[Gate], &limits, store.clone());
    let passed = sum_on_threads(WORKERS, worker, |worker| {
        let answers = (0..REQUESTS).map(|_| ask(worker, &rest("limited"), NOW));
        answers.filter(|answer| *answer == "ok").count()
    });
    assert_eq!(passed, 64, "128 elements in pairs");
}

/// Keys of the limits on content that have a slot.
fn content_slots(store: &Store) -> Vec<String> {
    let mut keys = store.keys();
    keys.retain(|key| key.contains("/cost:") || key.contains("/budget:"));
    keys
}

#[test]
fn with_a_host_no_content_is_charged_and_every_request_is() {
    const REQUESTS: usize = 20;
    let limits = format!(
        r#""rate": {{"quota": {REQUESTS}, "window_s": {MONTH_S}}},
           "cost": {{"elements": 128, "bytes": 600, "window_s": {MONTH_S}}},
           "budget": {{"elements": 128, "per": "day"}}"#
    );
    let hostless = Store::default();
    chain(&[Gate], &limits, hostless.clone());
    let slots = content_slots(&hostless);
    assert_eq!(slots.len(), 3, "{slots:?}");
    for filters in CHAINS {
        let mut store = Store::default();
        let mut proxy = support::proxy_of(filters, streaming_with(&limits), &store);
        assert_eq!(content_slots(&store), Vec::<String>::new(), "{filters:?}");
        // Slots of a policy without a host: any that is read fails its request.
        for slot in &slots {
            store.overwrite(slot, b"no bucket");
        }
        // Three requests are all that the limits allow in a month.
        for at in 0..REQUESTS {
            let request = [binary(20, 0.5), raw_grpc(20)][at % 2].clone();
            assert_eq!(ask(&mut proxy, &request, NOW), "ok", "{filters:?} {at}");
        }
        for request in [rest("limited"), binary(60, 0.5), raw_grpc(20)] {
            assert_eq!(
                ask(&mut proxy, &request, NOW),
                "rate-limited",
                "{filters:?}"
            );
        }
        for slot in &slots {
            let stored = store.get(slot).unwrap().unwrap();
            assert_eq!(stored.value, b"no bucket", "{filters:?} {slot}");
        }
    }
}

#[test]
fn with_a_host_only_limits_on_requests_are_read() {
    let limits =
        format!(r#"{RATE}, "cost": {{"elements": 200, "bytes": 4000, "window_s": {MONTH_S}}}"#);
    let store = Store::default();
    let mut proxy = support::proxy_of(&[Gate], streaming_with(&limits), &store);
    let before = store.calls();
    assert_eq!(ask(&mut proxy, &binary(60, 0.5), NOW), "ok");
    assert_eq!(store.calls() - before, 2);
}
