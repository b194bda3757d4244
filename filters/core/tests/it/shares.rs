//! One client's share of a model's concurrency for streaming bodies. The filters count it if there
//! is no host.

use crate::support;

use serde_json::{Value, json};
use support::limited::limited;
use support::{NOW, hostless_of};
use tensorgate_filter_core::filter::Filter;
use tensorgate_in_memory_proxy::{InMemoryProxy, Store, Stream};

/// Two clients on one model, whose bodies beyond 300 bytes are streamed.
fn two_clients(limits: &Value) -> Vec<u8> {
    let digest: String = tensorgate_identity::api_key::digest(&support::stranger_key())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    limited(|policy| {
        policy["clients"]["other"] = json!({"api_keys": [{"sha256": digest}]});
        policy["grants"][0]["clients"] = json!(["scorer", "other"]);
        policy["listen"]["limits"]["hold_bytes"] = json!(300);
        policy["models"]["png"]["accepts"]["raw"]["max_bytes"] = json!(300);
        policy["models"]["m"]["limits"] = limits.clone();
    })
}

/// A body of about 600 bytes of which enough has arrived to accept its head.
fn stalled(proxy: &mut InMemoryProxy, key: &str) -> Stream {
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[60,2],"parameters":{"binary_data_size":480}}]}"#;
    let mut headers = support::head("POST", "/v2/models/m/infer");
    headers.retain(|(name, _)| name != b"x-api-key");
    let length = json.len().to_string();
    headers.push(support::field("x-api-key", key));
    headers.push(support::field("inference-header-content-length", length));
    let mut stream = proxy.open(NOW);
    stream.send_headers(&headers, false);
    stream.send_body(&[json.as_bytes(), &[0; 300]].concat(), false);
    stream
}

#[test]
fn a_client_that_stalls_bodies_leaves_its_neighbours_half_of_a_model() {
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        for (limits, own, neighbours) in [
            (json!({"concurrency": 6}), 3, 3),
            (json!({"concurrency": 5}), 2, 2),
            (json!({"in_flight_bytes": 2_400}), 2, 2),
            // One body is always allowed, even if that is the whole limit.
            (json!({"concurrency": 1}), 1, 0),
            (json!({"in_flight_bytes": 600}), 1, 0),
        ] {
            let (mine, theirs) = (support::key(), support::stranger_key());
            let mut proxy = hostless_of(filters, two_clients(&limits), &Store::default());
            let mut all =
                |key: &str| -> Vec<Stream> { (0..10).map(|_| stalled(&mut proxy, key)).collect() };
            let fit = |streams: &[Stream]| streams.iter().filter(|one| one.dispatched()).count();
            let stalls = all(&mine);
            assert_eq!(fit(&stalls), own, "{limits}");
            assert_eq!(fit(&all(&theirs)), neighbours, "{limits}");
            // Rejected or aborted streams release their share.
            for stream in stalls {
                stream.close();
            }
            assert_eq!(fit(&all(&mine)), own, "{limits}");
        }
    }
}

/// A connection stays on its listener, whose buffer may be smaller than the new policy's: a body
/// that the new policy would buffer is streamed there.
#[test]
fn a_share_is_of_bodies_that_pass_whatever_the_policy_would_hold() {
    const LISTENER_BYTES: usize = 300 << 10;
    const ROWS: usize = 50_000;
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{ROWS},2],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        ROWS * 8
    );
    let bundle = limited(|policy| {
        policy["listen"]["limits"]["body_bytes"] = json!(1 << 20);
        policy["listen"]["limits"]["hold_bytes"] = json!(1 << 20);
        policy["models"]["m"]["inputs"][0]["shape"][0]["max"] = json!(ROWS);
        policy["models"]["m"]["limits"] = json!({"concurrency": 6});
    });
    for filters in [&[Filter::Gate][..], &Filter::THREE] {
        let mut proxy = hostless_of(filters, &bundle, &Store::default());
        proxy.set_listener_bounds(60_000, LISTENER_BYTES);
        let mut headers = support::head("POST", "/v2/models/m/infer");
        let length = json.len().to_string();
        headers.push(support::field("inference-header-content-length", length));
        let mut stalled = || {
            let mut stream = proxy.open(NOW);
            stream.send_headers(&headers, false);
            stream.send_body(&[json.as_bytes(), &[0; LISTENER_BYTES]].concat(), false);
            stream
        };
        let streams: Vec<Stream> = (0..10).map(|_| stalled()).collect();
        let fit = streams.iter().filter(|one| one.dispatched()).count();
        assert_eq!(fit, 3, "{filters:?}");
        for stream in streams {
            stream.close();
        }
    }
}
