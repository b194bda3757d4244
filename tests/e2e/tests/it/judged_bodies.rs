//! Who judges a body, on real Envoys: the filter up to the policy's bound, and the host alone above
//! it. A client gets the same answer from both, and no backend gets a rejected body, whether heads
//! are held or forwarded.

use std::collections::BTreeMap;

use tensorgate_client::http1::Framing;
use tensorgate_policy_compiler::raw::{ByteSize, Judge, Policy};
use tensorgate_tests::{Lease, Setup, policy};

use crate::meshes::control_planes::bodies::{Form, Sent, Tensor, elements, outcome};

/// How the filters are loaded: with held heads, and with forwarded ones.
const LOADED: [(&str, &str); 3] = [
    ("plain", "gate"),
    ("plain", "auth,rate-limit,tensor-guard"),
    ("istio", "gate"),
];
/// How much of a body the filter may buffer.
const HOLD_BYTES: usize = 36_000;
/// What the policy says, and the longest body that the filter judges then.
const SETTINGS: [(Option<Judge>, Option<usize>, usize); 3] = [
    (None, Some(8_000), 8_000),
    (Some(Judge::Host), None, 0),
    (Some(Judge::Envoy), None, HOLD_BYTES),
];
/// How bodies are sent over REST, and over gRPC.
const REST: [Sent; 4] = [
    Sent::Http1(Framing::Length),
    Sent::Http1(Framing::Chunked(1_000)),
    Sent::Http2(1_000),
    Sent::Trailers(1_000),
];
const GRPC: [Sent; 2] = [Sent::Http2(usize::MAX), Sent::Trailers(1_000)];
/// The bytes of a body beside its elements are fewer.
const BESIDE_BYTES: usize = 200;

fn policy_of(judge: Option<Judge>, judge_bytes: Option<usize>) -> Policy {
    let mut policy = policy::vectors_policy("main.json");
    policy.listen.limits.hold_bytes = Some(ByteSize(HOLD_BYTES as u64));
    policy.listen.judge = judge;
    policy.listen.judge_bytes = judge_bytes.map(|bytes| ByteSize(bytes as u64));
    policy::add_big_model(&mut policy, HOLD_BYTES as u64);
    policy
}

fn tensor(form: Form, count: usize, last: f32) -> Tensor {
    Tensor::new(form, &elements(count, last), "scorer")
}

/// The most elements of a body of at most so many bytes.
fn most_elements(form: Form, bytes: usize) -> usize {
    let mut count = (bytes - BESIDE_BYTES) / 4;
    while tensor(form, count + 1, 1.5).body.len() <= bytes {
        count += 1;
    }
    count
}

/// Sends invalid bodies just below and just above the bound, and a valid one of each size. Returns
/// who must have rejected which request, by its ID.
async fn send(
    stack: &Lease,
    form: Form,
    bound: usize,
    answers: &mut BTreeMap<bool, (String, u16, Option<u8>)>,
) -> BTreeMap<String, &'static str> {
    let is_grpc = form == Form::Grpc;
    let ways: &[Sent] = if is_grpc { &GRPC } else { &REST };
    let sizes = match bound {
        0 => vec![(1, "host")],
        _ => {
            let below = most_elements(form, bound);
            vec![(below, "gate"), (below + 1, "host")]
        }
    };
    let mut rejected = BTreeMap::new();
    for (count, by) in sizes {
        let (bad, valid) = (tensor(form, count, 1_000.5), tensor(form, count, 1.5));
        for sent in ways {
            let what = format!("{form:?} of {} bytes, {sent:?}", bad.body.len());
            let reply = bad.send(stack, form, *sent).await;
            let answer = (outcome(&reply), reply.status, reply.grpc_status());
            assert_eq!(answer.0, "out-of-range", "{what}: {reply:?}");
            // Nothing in the answer says who has judged the body.
            let first = answers.entry(is_grpc).or_insert_with(|| answer.clone());
            assert_eq!(*first, answer, "{what}");
            rejected.insert(reply.header("x-request-id").unwrap(), by);
            assert_eq!(stack.backend.forget(), 0, "{what}: rejected, and served");
        }
        let reply = valid.send(stack, form, ways[0]).await;
        assert_eq!(outcome(&reply), "ok", "{form:?}, {count}: {reply:?}");
        assert_eq!(stack.backend.forget(), 1);
    }
    rejected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_is_the_same_by_filter_and_host_and_reaches_no_backend() {
    let mut answers = BTreeMap::new();
    for (control_plane, chain) in LOADED {
        for (judge, judge_bytes, bound) in SETTINGS {
            let setup = Setup {
                chain,
                control_plane: Some(control_plane),
                ..Setup::default()
            };
            let stack = Lease::with_setup(policy_of(judge, judge_bytes), setup).await;
            let mut rejected = send(&stack, Form::Binary, bound, &mut answers).await;
            rejected.append(&mut send(&stack, Form::Grpc, bound, &mut answers).await);
            let by_id = |line: &serde_json::Value| rejected.get(line["request_id"].as_str()?);
            let is_one = |line: &serde_json::Value| by_id(line).is_some();
            let lines = stack.met_request_lines(rejected.len(), is_one).await;
            assert_eq!(lines.len(), rejected.len(), "{lines:#?}");
            for line in lines {
                let by = by_id(&line).copied();
                let what = format!("{control_plane}, {chain}, {judge:?}");
                assert_eq!(line["by"].as_str(), by, "{what}: {line}");
                assert_eq!(line["reason"], "out-of-range", "{what}: {line}");
            }
        }
    }
}
