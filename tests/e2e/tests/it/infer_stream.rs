//! Streams of inferences on a real Envoy: many messages after one head, each answered on its own,
//! rejected ones too. What ends a stream, and what a stream never holds up.

use tensorgate_client::{Open, grpc};
use tensorgate_policy_compiler::raw::{ByteSize, Policy};
use tensorgate_tests::backend::Mode;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::streams::{Streamed, messages};
use tensorgate_tests::{Lease, Stack, ask, policy};
use tensorgate_wire::proto::ModelInferRequest;

const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

fn main_policy() -> Policy {
    policy::vectors_policy("main.json")
}

/// The same for tests that are not about time: a busy machine has minutes for each message.
fn patient_policy() -> Policy {
    let mut policy = main_policy();
    policy::set_time_limit(&mut policy, 60_000);
    policy.listen.limits.stream_ms = 600_000.into();
    policy
}

/// A valid message in its frame, for one of two models, with an id.
fn message(model: &str, id: &str, x: f32) -> Vec<u8> {
    let mut request: ModelInferRequest = prost::Message::decode(&*ask::message("x")).unwrap();
    request.model_name = model.into();
    request.id = id.into();
    request.inputs[0].shape = vec![1];
    request.raw_input_contents[0] = x.to_le_bytes().to_vec().into();
    grpc::frame(&prost::Message::encode_to_vec(&request))
}

fn good() -> Vec<u8> {
    message("vec", "", 1.0)
}

async fn open(stack: &Stack, key: &str) -> Open {
    let fields = vec![(b"x-api-key".to_vec(), policy::key(key).into_bytes())];
    Open::new(stack.gate, PATH, &fields).await.unwrap()
}

fn came(open: &Open) -> Vec<Streamed> {
    messages(&open.reply().body).unwrap()
}

/// Waits for so many answers.
async fn answers(open: &mut Open, count: usize) -> Vec<Streamed> {
    let enough = |reply: &tensorgate_client::Reply| messages(&reply.body).unwrap().len() >= count;
    let got = open.until(enough).await.unwrap();
    assert!(got, "the stream ended: {:?}", open.reply());
    came(open)
}

fn outcomes(answers: &[Streamed]) -> Vec<String> {
    answers.iter().map(Streamed::outcome).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_stream_of_small_messages_is_answered() {
    // More messages than the filter lets pass without an answer.
    const BATCHES: usize = 45;
    const BATCH: usize = 50;
    for chain in ["gate", "auth,rate-limit,tensor-guard"] {
        let stack = Lease::with_chain(patient_policy(), chain).await;
        let mut stream = open(&stack, "scorer").await;
        for batch in 1..=BATCHES {
            for _ in 0..BATCH {
                let message = message("vec", "", 1.0);
                assert!(stream.send(&message, false).await, "{chain}");
            }
            answers(&mut stream, batch * BATCH).await;
        }
        assert!(stream.send(b"", true).await);
        let reply = stream.ended().await.unwrap();
        assert_eq!(reply.grpc_status(), Some(0), "{chain}");
        let outcomes = outcomes(&messages(&reply.body).unwrap());
        assert_eq!(outcomes, vec!["ok"; BATCHES * BATCH], "{chain}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_answered_by_itself_while_the_stream_is_open() {
    for chain in ["gate", "auth,rate-limit,tensor-guard"] {
        let stack = Lease::with_chain(main_policy(), chain).await;
        let mut stream = open(&stack, "scorer").await;
        // One at a time: each answer comes before the next message is sent.
        for number in 0..3 {
            assert!(
                stream
                    .send(&message("vec", &format!("id-{number}"), 1.0), false)
                    .await
            );
            let answers = answers(&mut stream, number + 1).await;
            let answer = answers[number].infer_response.as_ref().unwrap();
            assert_eq!(answer.id, format!("id-{number}"), "{chain}");
            assert_eq!(answer.model_name, "vec");
        }
        // Rejected messages among valid ones, in one piece, and one for another model.
        let pieces = [
            message("vec", "a", f32::NAN),
            good(),
            message("hidden", "b", 1.0),
            message("grpc-only", "c", 1.0),
            message("nowhere", "d", 1.0),
            good(),
        ];
        assert!(stream.send(&pieces.concat(), false).await);
        let answers = answers(&mut stream, 9).await;
        assert_eq!(
            outcomes(&answers[3..]),
            ["not-finite", "ok", "not-granted", "ok", "not-granted", "ok"],
            "{chain}"
        );
        let refused = answers[3].infer_response.as_ref().unwrap();
        assert_eq!(refused.id, "a", "a refusal says which message it is");
        assert!(stream.send(b"", true).await);
        let reply = stream.ended().await.unwrap();
        assert_eq!(
            (reply.status, reply.grpc_status()),
            (200, Some(0)),
            "{chain}"
        );
        assert_eq!(came(&stream).len(), 9);
        let seen = stack.backend.seen();
        assert_eq!(seen.len(), 6, "only what was allowed reached the backend");

        // One line for the stream, one per message, one for its end.
        let of_messages = stack
            .met_request_lines(9, |line| line.get("stream").is_some())
            .await;
        assert_eq!(of_messages.len(), 9, "{of_messages:#?}");
        let id = of_messages[0]["stream"].as_str().unwrap();
        let lines: Vec<_> = of_messages
            .iter()
            .map(|line| {
                (
                    line["request_id"].as_str().unwrap().to_owned(),
                    line["reason"].as_str().unwrap().to_owned(),
                    line["by"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        for (index, (request_id, reason, by)) in lines.iter().enumerate() {
            assert_eq!(*request_id, format!("{id}-{}", index + 1));
            let expected = outcomes(&answers)[index].clone();
            assert_eq!(*reason, expected);
            assert_eq!(by, "host", "{lines:?}");
        }
        assert_eq!(of_messages[3]["model"], "vec");
        assert_eq!(of_messages[3]["client"], "scorer");
        let of_stream = stack
            .met_request_lines(2, |line| line["request_id"] == id)
            .await;
        assert_eq!(of_stream[0]["operation"], "stream", "{of_stream:#?}");
        assert_eq!(of_stream[1]["messages"], 9, "{of_stream:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_the_same_however_it_is_split() {
    let stack = Lease::of(main_policy()).await;
    let pieces = [good(), message("vec", "n", f32::NAN), good()];
    let whole = pieces.concat();
    let ends: Vec<usize> = (1..=3)
        .map(|count| pieces[..count].concat().len())
        .collect();
    let expected = ["ok", "not-finite", "ok"];
    for cut in 0..=whole.len() {
        let mut stream = open(&stack, "scorer").await;
        let (first, second) = whole.split_at(cut);
        assert!(stream.send(first, false).await);
        // Complete messages are answered before the rest arrives.
        let came_whole = ends.iter().filter(|end| **end <= cut).count();
        answers(&mut stream, came_whole).await;
        assert!(stream.send(second, true).await);
        let reply = stream.ended().await.unwrap();
        assert_eq!(reply.grpc_status(), Some(0), "cut at {cut}: {reply:?}");
        assert_eq!(outcomes(&came(&stream)), expected, "cut at {cut}");
    }
    let mut stream = open(&stack, "scorer").await;
    for byte in &whole {
        assert!(stream.send(&[*byte], false).await);
    }
    assert!(stream.send(b"", true).await);
    stream.ended().await.unwrap();
    assert_eq!(outcomes(&came(&stream)), expected, "byte by byte");

    // A stream that ends within a message, at every byte of it.
    for cut in 1..good().len() {
        let mut stream = open(&stack, "scorer").await;
        let pieces = [good(), good()[..cut].to_vec()].concat();
        assert!(stream.send(&pieces, true).await);
        let reply = stream.ended().await.unwrap();
        assert_eq!(outcomes(&came(&stream)), ["ok"], "cut off at {cut}");
        assert_eq!(reply.grpc_status(), Some(3), "cut off at {cut}: {reply:?}");
        assert_eq!(reply.reason().as_deref(), Some("malformed"));
    }
    // The same with trailers, which come in a callback of their own.
    for cut in [1, 4, 5, 6, good().len() - 1] {
        let mut stream = open(&stack, "scorer").await;
        assert!(stream.send(&good(), false).await);
        answers(&mut stream, 1).await;
        let pieces = [good(), good()[..cut].to_vec()].concat();
        assert!(stream.send(&pieces, false).await);
        let trailers = vec![(b"x-trailer".to_vec(), b"1".to_vec())];
        stream.end_in_trailers(&trailers).unwrap();
        let reply = stream.ended().await.unwrap();
        assert_eq!(outcomes(&came(&stream)), ["ok", "ok"], "trailers at {cut}");
        assert_eq!(reply.reason().as_deref(), Some("malformed"), "{reply:?}");
        let id = reply.header("x-request-id").unwrap();
        let of_messages = stack
            .met_request_lines(3, |line| line["stream"] == id)
            .await;
        assert_eq!(of_messages.len(), 3, "{of_messages:#?}");
        assert_eq!(of_messages[2]["reason"], "malformed", "{of_messages:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_message_ends_the_stream_and_large_ones_are_accepted() {
    let mut large = main_policy();
    large.listen.limits.body_bytes = (4 << 20).into();
    large.listen.limits.hold_bytes = Some(ByteSize(2 << 20));
    let mut wide = large.models["vec"].clone();
    // A JSON path belongs to one model alone.
    wide.json = None;
    wide.protocols.retain(|protocol| protocol != "json");
    wide.inputs[0].shape = serde_json::from_value(serde_json::json!([{"max": 1_000_000}])).unwrap();
    large.models.insert("wide".into(), wide);
    large.grants[0].models.push("wide".into());
    let stack = Lease::of(large).await;
    let of_size = |elements: usize| {
        let mut request: ModelInferRequest = prost::Message::decode(&*ask::message("x")).unwrap();
        request.model_name = "wide".into();
        request.inputs[0].shape = vec![i64::try_from(elements).unwrap()];
        request.raw_input_contents[0] = vec![0; elements * 4].into();
        grpc::frame(&prost::Message::encode_to_vec(&request))
    };
    let mut stream = open(&stack, "scorer").await;
    for number in 1..=6 {
        let pieces = [good(), of_size(500_000), good()].concat();
        assert!(stream.send(&pieces, false).await);
        let answers = answers(&mut stream, number * 3).await;
        assert!(outcomes(&answers).iter().all(|outcome| outcome == "ok"));
    }
    let sent: Vec<_> = stack.backend.seen();
    assert_eq!(sent.len(), 18);
    assert_eq!(sent[1].message.raw_input_contents[0].len(), 2_000_000);
    assert!(stream.send(&of_size(600_000)[..4096], false).await);
    let reply = stream.ended().await.unwrap();
    assert_eq!(
        reply.reason().as_deref(),
        Some("body-too-large"),
        "{:?}",
        reply.trailers
    );
    for (bytes, expected) in [
        (&b"\x02\0\0\0\0"[..], "malformed"),
        (b"\x21\0\0\0\x01a", "malformed"),
        (b"\0\xff\xff\xff\xff", "body-too-large"),
    ] {
        let mut stream = open(&stack, "scorer").await;
        // Further bytes follow, and are not read.
        assert!(
            stream
                .send(&[&good(), bytes, &good()].concat(), false)
                .await
        );
        let reply = stream.ended().await.unwrap();
        assert_eq!(outcomes(&came(&stream)), ["ok"], "{bytes:?}");
        assert_eq!(reply.reason().as_deref(), Some(expected), "{bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_apply_per_message_and_a_flood_of_rejected_ones_ends_the_stream() {
    let mut limited = policy::vectors_policy("rates.json");
    limited.listen.limits.streams_per_client = 2.into();
    let stack = Lease::of(limited).await;
    let mut stream = open(&stack, "stream-1").await;
    assert!(stream.send(&good().repeat(5), false).await);
    let five = answers(&mut stream, 5).await;
    assert_eq!(
        outcomes(&five),
        ["ok", "ok", "ok", "rate-limited", "rate-limited"]
    );
    // Another stream of the same client shares the bucket.
    let mut other = open(&stack, "stream-1").await;
    assert!(other.send(&good(), false).await);
    assert_eq!(outcomes(&answers(&mut other, 1).await), ["rate-limited"]);
    // A third stream at once is rejected; after one has ended, another may open.
    let mut third = open(&stack, "stream-1").await;
    let reply = third.ended().await.unwrap();
    assert_eq!(reply.reason().as_deref(), Some("concurrency"), "{reply:?}");
    assert!(other.send(b"", true).await);
    other.ended().await.unwrap();
    let mut again = open(&stack, "stream-1").await;
    assert!(again.send(&good(), true).await);
    assert_eq!(again.ended().await.unwrap().grpc_status(), Some(0));

    // A client may send many rejected messages, but the stream ends long before all of them.
    let flood = good().repeat(20_000);
    for piece in flood.chunks(8 << 10) {
        if !stream.send(piece, false).await {
            break;
        }
    }
    let reply = stream.ended().await.unwrap();
    assert_eq!(
        reply.reason().as_deref(),
        Some("rate-limited"),
        "{:?}",
        reply.trailers
    );
    let refused = came(&stream).len() - 3;
    assert!((30..=33).contains(&refused), "{refused} refusals");
    assert_eq!(stack.backend.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_release_everything_and_slow_readers_delay_no_other() {
    let mut one = main_policy();
    one.listen.limits.streams_per_client = 1.into();
    one.models.get_mut("vec").unwrap().limits =
        serde_json::from_value(serde_json::json!({"concurrency": 2})).unwrap();
    let stack = Lease::of(one).await;
    stack.backend.set(Mode::Hangs);
    for number in 0..5 {
        let mut stream = open(&stack, "scorer").await;
        assert!(stream.send(&good(), false).await);
        ask::met("the backend has it", || stack.backend.seen().len() > number).await;
        stream.reset();
        let gone = stream.ended().await;
        assert!(gone.is_err(), "{gone:?}");
        until_active(&stack, 0).await;
        // The host holds the model's permit until it has seen the client leave.
        stack
            .met_request_lines(number + 1, |line| {
                line["verdict"] == "aborted" && line.get("stream").is_some()
            })
            .await;
    }
    stack.backend.set(Mode::Zeros);
    // Its permits were returned each time.
    let mut stream = open(&stack, "scorer").await;
    assert!(stream.send(&good(), true).await);
    assert_eq!(stream.ended().await.unwrap().grpc_status(), Some(0));
    assert_eq!(outcomes(&came(&stream)), ["ok"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_change_ends_open_streams_and_a_revoked_client_is_rejected_at_once() {
    let mut stack = Lease::of(main_policy()).await;
    let (mut kept, mut revoked) = (open(&stack, "scorer").await, open(&stack, "reader").await);
    assert!(kept.send(&good(), false).await);
    assert!(revoked.send(&message("hidden", "", 1.0), false).await);
    assert_eq!(outcomes(&answers(&mut kept, 1).await), ["ok"]);
    assert_eq!(outcomes(&answers(&mut revoked, 1).await), ["ok"]);
    let mut next = main_policy();
    next.clients.get_mut("reader").unwrap().api_keys[0].sha256 = Some("00".repeat(32));
    stack.write_policy(next);
    stack.hang_up().await;
    stack.reloaded().await;
    let reply = revoked.ended().await.unwrap();
    assert_eq!(
        reply.reason().as_deref(),
        Some("unauthenticated"),
        "{reply:?}"
    );
    let reply = kept.ended().await.unwrap();
    assert_eq!(reply.grpc_status(), Some(14), "{reply:?}");
    let mut again = open(&stack, "scorer").await;
    assert!(again.send(&good(), true).await);
    assert_eq!(again.ended().await.unwrap().grpc_status(), Some(0));
}
