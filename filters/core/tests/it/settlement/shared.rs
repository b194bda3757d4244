//! Tokens of shared limits: settled once with tensorgate's own rate-limit service and in the local
//! counters. Without the service they stay charged.

use serde_json::{Value, json};
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::LimitCallOutcome;
use tensorgate_native_proxy::{Limiter, LimiterMode, NativeProxy, Stream};
use tensorgate_policy::Reason;

use super::support::{chain, close};
use super::{Field, RESERVED, key, open, policy, refused, trailer};

/// The three kinds of limits with global scope.
fn limits() -> [Value; 3] {
    super::limits().map(|mut limit| {
        for rule in limit.as_object_mut().unwrap().values_mut() {
            rule["scope"] = json!("global");
        }
        limit
    })
}

/// A gateway with a service; `redis`: tensorgate's own.
fn gateway(
    filters: &[Filter],
    limit: &Value,
    redis: bool,
    on_failure: &str,
    limiter: &Limiter,
) -> NativeProxy {
    let mut bundle: Value = serde_json::from_slice(&policy(limit)).unwrap();
    let service = &mut bundle["policy"]["rate_limit_service"];
    *service = if redis {
        json!({"redis": {"url": "redis://127.0.0.1"}})
    } else {
        json!({"endpoint": "http://127.0.0.1:8081"})
    };
    service["on_failure"] = json!(on_failure);
    let bundle = serde_json::to_vec(&bundle).unwrap();
    let mut proxy = chain(filters, bundle);
    proxy.set_limiter(limiter.clone());
    proxy
}

fn own(limit: &Value, limiter: &Limiter) -> NativeProxy {
    gateway(&[Filter::Gate], limit, true, "local", limiter)
}

/// The trailer of a stream's own request.
fn used(stream: &Stream, tokens: u64) -> Vec<Field> {
    let number = stream.request_id().rsplit('-').next().unwrap();
    let number = u64::from_str_radix(number, 16).unwrap();
    vec![trailer(number, tokens, &key())]
}

fn asked(stream: Stream) -> Vec<LimitCallOutcome> {
    stream.close().2.asked
}

#[test]
fn unused_tokens_are_refunded_to_all_gateways() {
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        for on_failure in ["local", "deny"] {
            for limit in limits() {
                let limiter = Limiter::default();
                let gateway = || gateway(filters, &limit, true, on_failure, &limiter);
                let (mut one, mut other) = (gateway(), gateway());
                let (mut first, mut second) = (open(&mut one), open(&mut one));
                assert!(first.dispatched() && second.dispatched());
                assert_eq!(refused(&mut other), Some(Reason::CostExceeded), "{limit}");
                let told = used(&first, 10);
                assert_eq!(first.end_answer(&told), [], "{filters:?}");
                assert_eq!(refused(&mut other), Some(Reason::CostExceeded), "{limit}");
                let told = used(&second, 88);
                second.end_answer(&told);
                assert!(close(open(&mut other)).allowed(), "{filters:?} {limit}");
                assert_eq!(refused(&mut other), Some(Reason::CostExceeded), "{limit}");
                assert_eq!(
                    asked(first),
                    [LimitCallOutcome::Answered, LimitCallOutcome::Settling]
                );
            }
        }
    }
}

#[test]
fn nothing_is_settled_twice_or_by_another_trailer() {
    for limit in limits() {
        let limiter = Limiter::default();
        let mut proxy = own(&limit, &limiter);
        let mut first = open(&mut proxy);
        // The trailer of another request with the same reservation.
        let second = open(&mut proxy);
        let (right, wrong) = (used(&first, 1), used(&second, 1));
        first.end_answer(&wrong);
        first.end_answer(&right);
        assert_eq!(limiter.settled(), 0, "{limit}");
        let mut second = second;
        second.end_answer(&wrong);
        let settled = limiter.settled();
        second.end_answer(&wrong);
        assert!(settled > 0 && limiter.settled() == settled, "{limit}");
        // 98 and 1 are used.
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
    }
}

#[test]
fn exact_usage_needs_no_call_and_additional_usage_is_charged() {
    for limit in limits() {
        let limiter = Limiter::default();
        let mut proxy = own(&limit, &limiter);
        let mut first = open(&mut proxy);
        let told = used(&first, RESERVED);
        first.end_answer(&told);
        assert_eq!(asked(first), [LimitCallOutcome::Answered]);
        let mut second = open(&mut own(&limit, &Limiter::default()));
        let told = used(&second, RESERVED + 1);
        second.end_answer(&told);
        assert_eq!(
            asked(second),
            [LimitCallOutcome::Answered, LimitCallOutcome::Settling]
        );
        assert!(close(open(&mut proxy)).allowed());
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded));
    }
}

#[test]
fn another_service_is_told_of_no_reservation_and_keeps_all_of_it() {
    for limit in limits() {
        let limiter = Limiter::default();
        let mut proxy = gateway(&[Filter::Gate], &limit, false, "deny", &limiter);
        let mut first = open(&mut proxy);
        let told = used(&first, 1);
        first.end_answer(&told);
        assert_eq!(asked(first), [LimitCallOutcome::Answered]);
        assert!(close(open(&mut proxy)).allowed());
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
        assert_eq!(limiter.settled(), 0);
    }
}

#[test]
fn without_the_service_what_it_has_reserved_stays_spent_and_what_a_gateway_counts_comes_back() {
    for limit in limits() {
        let limiter = Limiter::default();
        let mut proxy = own(&limit, &limiter);
        let mut first = open(&mut proxy);
        limiter.set_mode(LimiterMode::Unreachable);
        let told = used(&first, 10);
        first.end_answer(&told);
        let logged = first.close().2;
        assert_eq!(
            logged.asked,
            [LimitCallOutcome::Answered, LimitCallOutcome::Unsettled]
        );
        let line = logged
            .lines
            .iter()
            .find(|(_, line)| line.contains("cannot settle a reservation"));
        assert!(line.is_some(), "{:?}", logged.lines);
        // The local counters know that ten are used: one more fits, and then none.
        let mut second = open(&mut proxy);
        assert!(second.dispatched());
        let told = used(&second, 80);
        second.end_answer(&told);
        assert_eq!(asked(second), [LimitCallOutcome::Failed]);
        assert!(close(open(&mut proxy)).allowed(), "{limit}");
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
        // The service knows one alone, of which nothing was refunded.
        limiter.set_mode(LimiterMode::Answers);
        let mut fresh = own(&limit, &limiter);
        assert!(close(open(&mut fresh)).allowed());
        assert_eq!(refused(&mut fresh), Some(Reason::CostExceeded), "{limit}");
    }
}

#[test]
fn settlements_are_not_sent_while_the_circuit_is_open() {
    let limiter = Limiter::default();
    let limit = json!({"budget": {"tokens": 100 * RESERVED, "per": "day", "scope": "global"}});
    let mut proxy = own(&limit, &limiter);
    let mut first = open(&mut proxy);
    limiter.set_mode(LimiterMode::Fails(14));
    for _ in 0..5 {
        assert_eq!(asked(open(&mut proxy)), [LimitCallOutcome::Failed]);
    }
    let told = used(&first, 10);
    first.end_answer(&told);
    assert_eq!(
        asked(first),
        [LimitCallOutcome::Answered, LimitCallOutcome::Unsettled]
    );
    assert_eq!(limiter.settled(), 0);
}

#[test]
fn a_service_that_has_forgotten_gives_nothing_back() {
    for limit in limits() {
        let limiter = Limiter::default();
        let mut proxy = own(&limit, &limiter);
        let mut first = open(&mut proxy);
        limiter.forget();
        assert!(close(open(&mut proxy)).allowed());
        let told = used(&first, 1);
        first.end_answer(&told);
        assert_eq!(limiter.settled(), 0);
        assert!(close(open(&mut proxy)).allowed());
        assert_eq!(refused(&mut proxy), Some(Reason::CostExceeded), "{limit}");
    }
}
