//! Models that answer one message of a stream several times, on a real Envoy. Every answer is
//! checked, encoded anew and in order, and within the policy's bounds, whatever the backend does.
//! No work goes on for a caller that has left.

use serde_json::{Value, json};
use tensorgate_client::{Open, grpc};
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::backend::{Mode, SECRET};
use tensorgate_tests::several::Several;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::streams::{Streamed, messages};
use tensorgate_tests::{Lease, Setup, Stack, ask, policy};
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::{InferParameter, ModelInferRequest};

const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// The parameter by which a caller asks for an empty last answer.
const ASKS_FOR_THE_END: &str = "triton_enable_empty_final_response";

/// The main policy, and a model `many` that answers several times, within these bounds.
fn several(bounds: &Value) -> Policy {
    let mut policy = policy::vectors_policy("main.json");
    let mut many = policy.models["grpc-only"].clone();
    many.decoupled = Some(serde_json::from_value(bounds.clone()).unwrap());
    policy.models.insert("many".into(), many);
    let mut grant = policy.grants[0].clone();
    grant.name = Some("several".into());
    grant.models = vec!["many".into()];
    grant.operations = vec!["stream".into()];
    policy.grants.push(grant);
    policy
}

fn bounds() -> Value {
    json!({"max_answers": 5, "max_bytes": 100_000, "gap_ms": 2_000, "max_ms": 20_000})
}

fn message(model: &str, id: &str, asks_for_the_end: bool) -> Vec<u8> {
    let mut request: ModelInferRequest = prost::Message::decode(&*ask::message("x")).unwrap();
    request.model_name = model.into();
    request.id = id.into();
    request.inputs[0].shape = vec![1];
    request.raw_input_contents[0] = 1_f32.to_le_bytes().to_vec().into();
    if asks_for_the_end {
        let yes = InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(true)),
        };
        request.parameters.insert(ASKS_FOR_THE_END.into(), yes);
    }
    grpc::frame(&prost::Message::encode_to_vec(&request))
}

async fn open(stack: &Stack) -> Open {
    let fields = vec![(b"x-api-key".to_vec(), policy::key("scorer").into_bytes())];
    Open::new(stack.gate, PATH, &fields).await.unwrap()
}

/// An answer as `id: last`, with its number of outputs; a rejection as its reason.
fn told(answer: &Streamed) -> String {
    if !answer.error_message.is_empty() {
        return answer.outcome();
    }
    let response = answer.infer_response.as_ref().unwrap();
    let last = match response.parameters.get("triton_final_response") {
        Some(InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(last)),
        }) => last.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(response.model_version, "1");
    format!("{} {last} {}", response.id, response.outputs.len())
}

async fn answers(open: &mut Open, count: usize) -> Vec<String> {
    let enough = |reply: &tensorgate_client::Reply| messages(&reply.body).unwrap().len() >= count;
    let got = open.until(enough).await.unwrap();
    assert!(got, "the stream ended: {:?}", open.reply());
    let came = messages(&open.reply().body).unwrap();
    came.iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_all_of_its_answers_before_the_next_one() {
    for chain in ["gate", "auth,rate-limit,tensor-guard"] {
        let stack = Lease::with_chain(several(&bounds()), chain).await;
        stack.backend.set(Mode::Several(Several::Then(3)));
        let mut stream = open(&stack).await;
        let pieces = [
            message("many", "a", false),
            message("vec", "b", false),
            message("many", "c", true),
        ];
        assert!(stream.send(&pieces.concat(), false).await);
        let came = answers(&mut stream, 8).await;
        assert_eq!(
            came,
            [
                "a false 1",
                "a false 1",
                "a false 1",
                "b None 2",
                "c false 1",
                "c false 1",
                "c false 1",
                "c true 0"
            ],
            "{chain}"
        );
        let sent = stack.backend.seen();
        assert_eq!(sent.len(), 3);
        let asked = |index: usize| sent[index].message.parameters.keys().cloned();
        assert_eq!(asked(0).collect::<Vec<_>>(), [ASKS_FOR_THE_END]);
        assert_eq!(asked(1).count(), 0, "only what may answer several times");
        assert_ne!(sent[0].message.id, "a", "the backend gets an id of ours");

        // A last answer that is marked as such, a single answer, and none at all.
        stack.backend.set(Mode::Several(Several::Whole(2)));
        assert!(stream.send(&message("many", "d", true), false).await);
        let came = answers(&mut stream, 10).await;
        assert_eq!(came[8..], ["d false 1", "d true 1"]);
        stack.backend.set(Mode::Several(Several::Then(0)));
        let pieces = [message("many", "e", true), message("many", "f", false)];
        assert!(stream.send(&pieces.concat(), false).await);
        assert!(stream.send(&message("vec", "g", false), true).await);
        let reply = stream.ended().await.unwrap();
        assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
        let came = answers(&mut stream, 0).await;
        assert_eq!(came[10..], ["e true 0", "g None 2"]);
        ask::met("the backend is left", || stack.backend.open() == 0).await;

        // One line before the first answer, and one with the number of answers.
        let opened = stack
            .met_request_lines(7, |line| {
                line["type"] == "decision" && line.get("stream").is_some()
            })
            .await;
        assert_eq!(opened.len(), 7, "{opened:#?}");
        assert_eq!(opened[0]["model"], "many");
        let ended = stack
            .met_request_lines(5, |line| line.get("answers").is_some())
            .await;
        let counts: Vec<_> = ended
            .iter()
            .map(|line| (line["answers"].as_u64().unwrap(), line["reason"].clone()))
            .collect();
        let ok = |count| (count, json!("ok"));
        assert_eq!(counts, [ok(3), ok(4), ok(2), ok(1), ok(0)]);
        assert_eq!(ended[0]["request_id"], opened[0]["request_id"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_ends_and_the_stream_continues_whatever_the_backend_does() {
    let tight = json!({"max_answers": 5, "max_bytes": 100_000, "gap_ms": 300, "max_ms": 20_000});
    let stack = Lease::of(several(&tight)).await;
    let mut stream = open(&stack).await;
    let mut seen = 0;
    for (lie, good, expected) in [
        (Several::Unended(2), 2, "backend-fault"),
        (Several::Unended(0), 0, "backend-fault"),
        (Several::Stalls(2), 2, "backend-timeout"),
        (Several::Fails(1), 1, "backend-fault"),
        (Several::Breaks(1), 1, "backend-fault"),
        (Several::Endless, 5, "backend-fault"),
        (Several::OfAnother, 0, "backend-fault"),
        (Several::TooLarge, 0, "backend-fault"),
        (Several::Oversized, 0, "backend-fault"),
        (Several::NoBoolean, 0, "backend-fault"),
    ] {
        stack.backend.set(Mode::Several(lie));
        assert!(stream.send(&message("many", "m", false), false).await);
        let came = answers(&mut stream, seen + good + 1).await;
        let mut wanted = vec!["m false 1"; good];
        wanted.push(expected);
        assert_eq!(came[seen..], wanted, "{lie:?}");
        seen = came.len();
        ask::met("no work is left", || stack.backend.open() == 0).await;
    }
    let body = String::from_utf8_lossy(&stream.reply().body).into_owned();
    assert!(!body.contains(SECRET));
    // Nothing of it is left: the next message is answered.
    stack.backend.set(Mode::Several(Several::Then(1)));
    assert!(stream.send(&message("many", "m", false), true).await);
    let reply = stream.ended().await.unwrap();
    assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
    assert_eq!(answers(&mut stream, 0).await[seen..], ["m false 1"]);
    // An error after the first answer has a line of its own.
    let faults = stack
        .met_request_lines(5, |line| {
            line.get("answers").is_some() && line["verdict"] == "deny"
        })
        .await;
    let counts: Vec<_> = faults.iter().map(|line| line["answers"].as_u64()).collect();
    assert!(counts.contains(&Some(5)), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_end_at_their_byte_limit_and_their_time_limit() {
    for (name, bounds, expected) in [
        (
            "bytes",
            json!({"max_answers": 1_000_000, "max_bytes": 2_000}),
            "backend-fault",
        ),
        (
            "time",
            json!({"max_answers": 1_000_000, "max_bytes": 1_000_000_000, "max_ms": 300}),
            "backend-timeout",
        ),
    ] {
        let stack = Lease::of(several(&bounds)).await;
        stack.backend.set(Mode::Several(Several::Endless));
        let mut stream = open(&stack).await;
        assert!(stream.send(&message("many", "m", false), true).await);
        let reply = stream.ended().await.unwrap();
        assert_eq!(reply.grpc_status(), Some(0), "{name}: {:?}", reply.trailers);
        let came = answers(&mut stream, 0).await;
        let (last, before) = came.split_last().unwrap();
        assert_eq!(last, expected, "{name}");
        assert!(!before.is_empty());
        assert!(before.iter().all(|answer| answer == "m false 1"));
        ask::met("no work is left", || stack.backend.open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_cancels_its_message_at_the_backend() {
    let patient =
        json!({"max_answers": 1_000, "max_bytes": 1_000_000, "gap_ms": 5_000, "max_ms": 60_000});
    let mut one = several(&patient);
    one.models.get_mut("many").unwrap().limits =
        Some(serde_json::from_value(json!({"concurrency": 2})).unwrap());
    let stack = Lease::of(one).await;
    stack.backend.set(Mode::Several(Several::Stalls(2)));
    for number in 1..=3 {
        let mut stream = open(&stack).await;
        assert!(stream.send(&message("many", "m", false), false).await);
        answers(&mut stream, 2).await;
        assert_eq!(stack.backend.open(), 1);
        stream.reset();
        ask::met("the backend is told", || stack.backend.open() == 0).await;
        until_active(&stack, 0).await;
        let left = stack
            .met_request_lines(number, |line| {
                line.get("answers").is_some() && line["verdict"] == "aborted"
            })
            .await;
        assert_eq!(left[number - 1]["answers"], 2, "{left:#?}");
    }
    // A caller whose key is revoked meanwhile.
    let mut stack = stack;
    let mut stream = open(&stack).await;
    assert!(stream.send(&message("many", "m", false), false).await);
    answers(&mut stream, 2).await;
    let mut next = several(&patient);
    next.clients.get_mut("scorer").unwrap().api_keys[0].sha256 = Some("00".repeat(32));
    stack.write_policy(next);
    stack.hang_up().await;
    stack.reloaded().await;
    let reply = stream.ended().await.unwrap();
    assert_eq!(
        reply.reason().as_deref(),
        Some("unauthenticated"),
        "{reply:?}"
    );
    ask::met("the backend is told", || stack.backend.open() == 0).await;
}

/// The connections to the host that have ended with requests on them.
async fn lost_connections(stack: &Stack) -> Vec<String> {
    let stats = stack
        .envoy_stats("upstream_cx_destroy_with_active_rq")
        .await;
    let of_host = stats
        .lines()
        .filter(|line| line.starts_with("cluster.tensorgate-host."));
    of_host.map(str::to_owned).collect()
}

/// Small frames that the host has not read count against its connection, which all clients share. A
/// filter ends the stream before they end the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_frames_behind_a_slow_message_end_their_own_stream() {
    const FRAMES: usize = 8_000;
    let patient =
        json!({"max_answers": 1_000, "max_bytes": 1_000_000, "gap_ms": 5_000, "max_ms": 60_000});
    for (control_plane, chain) in [
        ("plain", "gate"),
        ("plain", "auth,rate-limit,tensor-guard"),
        ("envoy-gateway", "gate"),
    ] {
        let setup = Setup {
            control_plane: Some(control_plane),
            chain,
            ..Setup::default()
        };
        let stack = Lease::with_setup(several(&patient), setup).await;
        let before = lost_connections(&stack).await;
        stack.backend.set(Mode::Several(Several::Stalls(2)));
        let mut stream = open(&stack).await;
        assert!(stream.send(&message("many", "slow", false), false).await);
        answers(&mut stream, 2).await;
        let (small, mut sent) = (message("vec", "small", false), 0);
        while sent < FRAMES && stream.send(&small[sent % small.len()..][..1], false).await {
            sent += 1;
            // Requests that share the host's connection are served meanwhile.
            if sent % 500 == 0 {
                let reply = ask::good(stack.gate, &[]).await.unwrap();
                assert_eq!(reply.status, 200, "{control_plane} {chain}: {reply:?}");
            }
        }
        // The response has begun, so the proxy may only be able to reset the stream.
        if let Ok(reply) = stream.ended().await {
            let reason = reply.reason();
            assert_eq!(reason.as_deref(), Some("overloaded"), "{reply:?}");
        }
        assert!(sent < FRAMES, "{control_plane} {chain}: all were sent");
        assert_eq!(lost_connections(&stack).await, before, "{chain}");
        stack.backend.set(Mode::Several(Several::Then(1)));
        let mut next = open(&stack).await;
        assert!(next.send(&message("many", "next", false), true).await);
        assert_eq!(next.ended().await.unwrap().grpc_status(), Some(0));
    }
}
