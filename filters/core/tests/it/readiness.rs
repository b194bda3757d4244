//! The readiness probe of a pod: the filter signs it for the host, and nothing counts it.

use crate::support;

use support::{CONTEXT_KEY, NOW, field};
use tensorgate_in_memory_proxy::RequestOutcome;
use tensorgate_wire::context::{Context, HEADER, Key};
use tensorgate_wire::readiness::{FILTER_CHAIN, MAX_AGE_S, PATH};

fn probe(path: &str) -> Vec<tensorgate_filter_core::host::Field> {
    vec![
        field(":method", "GET"),
        field(":path", path),
        field(":authority", "ready"),
        field(":scheme", "http"),
        field(HEADER, "forged"),
    ]
}

#[test]
fn the_probe_of_a_pod_is_signed_and_leaves_no_trace() {
    let mut proxy = support::proxy();
    proxy.set_filter_chain(FILTER_CHAIN);
    for _ in 0..3 {
        let mut stream = proxy.open(NOW);
        stream.send_headers(&probe(PATH), true);
        stream.log();
        let (outcome, record, logged) = stream.close();
        let Some(RequestOutcome::Forwarded { headers, .. }) = &outcome else {
            panic!("{outcome:?}")
        };
        let signed: Vec<_> = (headers.iter())
            .filter(|(name, _)| name == HEADER.as_bytes())
            .collect();
        let [(_, value)] = signed[..] else {
            panic!("{headers:?}")
        };
        let (value, key) = (
            str::from_utf8(value).unwrap(),
            Key::from_hex(CONTEXT_KEY).unwrap(),
        );
        let context = Context::verify(value, &key, "GET", PATH, NOW.unix_s, MAX_AGE_S).unwrap();
        assert_eq!((context.client, context.credential), (None, None));
        assert_eq!(record.reason, None);
        // A number that Envoy's access log lacks would count as a lost entry.
        assert_eq!(logged.entry, None);
        assert!(logged.counted.is_empty() && logged.lines.is_empty());
        assert!(logged.properties.is_empty(), "{:?}", logged.properties);
    }
}

#[test]
fn a_client_cannot_send_the_probe() {
    for (chain, path) in [
        ("", PATH),
        ("tensorgate stream_ms=60000 hold_bytes=7", PATH),
        (FILTER_CHAIN, "/tensorgate/ready?x=1"),
        (FILTER_CHAIN, "/v2/models/m/infer"),
    ] {
        let mut proxy = support::proxy();
        proxy.set_filter_chain(chain);
        let mut headers = probe(path);
        headers.retain(|(name, _)| name != HEADER.as_bytes());
        let mut stream = proxy.open(NOW);
        stream.send_headers(&headers, true);
        let (outcome, _, _) = stream.close();
        assert!(
            matches!(outcome, Some(RequestOutcome::Denied(_))),
            "{chain} {path}"
        );
    }
}
