//! Messages of a stream under shared limits. The host charges them, so a filter with a host behind
//! it makes no call for them. A filter without one refuses such a policy.

use tensorgate_filter_core::filter::Filter::{Auth, Gate, RateLimit, TensorGuard};
use tensorgate_in_memory_proxy::{InMemoryProxy, Limiter, Store};
use tensorgate_policy::{Fault, HeaderMode};

use super::support::{CONTEXT_KEY, NOW, STREAM, field, grpc_frame, grpc_message, head};
use super::{CHAINS, FIVE, HUNDRED, gateway, with};

/// The policy with these limits for streams.
fn streaming(limits: &str) -> String {
    let policy = with(limits, "");
    let operations = r#""models": ["limited"], "operations": ["infer"]"#;
    assert!(policy.contains(operations));
    policy.replace(
        operations,
        r#""models": ["limited"], "operations": ["infer", "stream"]"#,
    )
}

#[test]
fn with_a_host_no_message_asks_for_its_limits() {
    let in_chains = CHAINS.map(|filters| (HeaderMode::Hold, filters));
    let gate = (HeaderMode::Forward, CHAINS[0]);
    for (mode, filters) in in_chains.into_iter().chain([gate]) {
        for limits in [FIVE, HUNDRED] {
            let (policy, key) = (streaming(limits), Some(CONTEXT_KEY));
            let limiter = Limiter::default();
            let proxy =
                InMemoryProxy::chain_in(mode, filters, policy.as_bytes(), key, Store::default());
            let mut proxy = proxy.unwrap_or_else(|faults| panic!("{faults:#?}"));
            proxy.set_limiter(limiter.clone());
            let mut stream = proxy.open(NOW);
            let mut headers = head("POST", STREAM);
            headers.extend([
                field("content-type", "application/grpc"),
                field("te", "trailers"),
            ]);
            stream.send_headers(&headers, false);
            let message = grpc_frame(&grpc_message("limited"));
            for number in 1..=72 {
                stream.send_body(&message, false);
                assert!(stream.sent() == message.repeat(number), "{filters:?}");
            }
            assert_eq!(limiter.asked(), 0, "{filters:?}");
        }
    }
}

#[test]
fn without_a_host_a_policy_whose_messages_would_wait_is_refused() {
    let refused = |proxy: Result<InMemoryProxy, Vec<Fault>>| {
        let faults = proxy.err().unwrap_or_default();
        let mut faults = faults.iter().map(ToString::to_string);
        faults.any(|fault: String| {
            fault.starts_with("grants: messages of streams cannot wait")
                && fault.contains("`scope: local`")
        })
    };
    for limits in [FIVE, HUNDRED] {
        let policy = streaming(limits);
        for filters in CHAINS {
            for key in [None, Some(CONTEXT_KEY)] {
                let (mode, store) = (HeaderMode::Hold, Store::default());
                let policy = policy.as_bytes();
                let proxy = InMemoryProxy::without_host(mode, filters, policy, key, store);
                assert!(refused(proxy), "{filters:?}");
            }
            // Without streams it is valid.
            gateway(filters, &with(limits, ""), &Limiter::default());
        }
        // A filter that has no key judges the messages itself.
        let store = Store::default();
        let keyless = InMemoryProxy::chain(&[TensorGuard], policy.as_bytes(), None, store.clone());
        assert!(refused(keyless));
        let local = policy.replace("\"scope\": \"global\"", "\"scope\": \"local\"");
        gateway(&[Gate], &local, &Limiter::default());
        for filter in [Auth, Gate, RateLimit, TensorGuard] {
            let key = Some(CONTEXT_KEY);
            let proxy = InMemoryProxy::chain(&[filter], policy.as_bytes(), key, store.clone());
            assert!(proxy.is_ok(), "{filter:?}");
        }
    }
}
