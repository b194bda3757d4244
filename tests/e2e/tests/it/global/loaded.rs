//! Limits that gates share, with the filter loaded as control planes do. Headers and bodies go on
//! before the host has charged them, and Envoy's buffers are smaller than the bodies.

use tensorgate_client::http1::{self, Framing};
use tensorgate_client::{Reply, grpc};
use tensorgate_tests::ask::{PATH, VALID, fields};
use tensorgate_tests::{Setup, Stack, policy};

use super::{Counter, MONTH_S, PATIENT_MS, policy_with, questions, shared_rate};

/// Body sizes in bytes, around Envoy's buffer of 32 KiB, HTTP/2's window and the longest body that
/// a filter judges, both of 64 KiB.
const SIZES: [usize; 9] = [
    0, 16_384, 32_500, 32_767, 32_768, 32_769, 65_535, 65_536, 100_000,
];
/// Bytes of one HTTP/2 DATA frame.
const FRAME_BYTES: usize = 16_384;

#[derive(Clone, Copy, Debug)]
enum Sent {
    Http1(Framing),
    Http2,
}

/// The answer to a valid request whose body has `bytes` bytes, or the smallest possible number.
async fn send(stack: &Stack, client: &str, bytes: usize, sent: Sent) -> Reply {
    let fields = fields(&policy::key(client));
    let mut body = VALID.to_owned();
    body.extend(std::iter::repeat_n(' ', bytes.saturating_sub(VALID.len())));
    match sent {
        Sent::Http1(framing) => {
            http1::send(stack.gate, "POST", PATH, &fields, body.as_bytes(), framing)
                .await
                .unwrap()
        }
        Sent::Http2 => {
            let mut request = http::Request::post(format!("http://gate{PATH}"))
                .body(())
                .unwrap();
            request.headers_mut().extend(grpc::map(&fields).unwrap());
            let pieces: Vec<Vec<u8>> = body
                .as_bytes()
                .chunks(FRAME_BYTES)
                .map(<[u8]>::to_vec)
                .collect();
            grpc::send_as_is(stack.gate, request, &pieces, None)
                .await
                .unwrap()
        }
    }
}

async fn check(control_plane: &str) {
    let counter = Counter::start(control_plane).await;
    let service = counter.service(PATIENT_MS);
    let mut policy = policy_with(
        service,
        shared_rate(1_000, MONTH_S),
        shared_rate(1, MONTH_S),
    );
    policy.listen.limits.body_bytes = (1 << 20).into();
    let setup = Setup {
        control_plane: Some(control_plane),
        ..Setup::default()
    };
    let stack = Stack::start_as("global-loaded", policy, setup).await;
    let last = send(&stack, "rate-2", 0, Sent::Http2).await;
    assert_eq!(last.status, 200, "{last:?}");
    let ways = [
        Sent::Http1(Framing::Length),
        Sent::Http1(Framing::Chunked(7_000)),
        Sent::Http2,
    ];
    let mut served = 0;
    for bytes in SIZES {
        for sent in ways {
            let what = format!("{control_plane}, {bytes} bytes, {sent:?}");
            let reply = send(&stack, "rate-1", bytes, sent).await;
            assert_eq!(reply.status, 200, "{what}: {reply:?}");
            served += 1;
            let left = format!("\"three\";r={};t=", 1_000 - served);
            let remaining = reply.header("ratelimit").unwrap_or_default();
            assert!(remaining.starts_with(&left), "{what}: {remaining}");
            stack.backend.forget();
            let reply = send(&stack, "rate-2", bytes, sent).await;
            assert_eq!(
                reply.reason().as_deref(),
                Some("rate-limited"),
                "{what}: {reply:?}"
            );
            assert!(stack.backend.seen().is_empty(), "{what}");
        }
    }
    let [answered, failed, skipped] = questions(&stack).await;
    assert_eq!((answered, failed, skipped), (1 + 2 * served, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_are_charged_when_istio_loads_the_gate() {
    check("istio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_are_charged_when_envoy_gateway_loads_the_gate() {
    check("envoy-gateway").await;
}
