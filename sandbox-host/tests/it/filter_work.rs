//! Which charges and permits of a request the host makes: those that its filters have not made, as
//! the context says (`tensorgate_policy::decision::FilterWork`). Each is made exactly once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_wire::context::Context;
use tokio::sync::Semaphore;
use tonic::Code;

use crate::blocks::{FILE, HOUR_MS, file, record, until_outcome};
use crate::support;
use support::backend::{Act, Backend};
use support::streams::{OpenStream, message, stream_context};
use support::{
    Answer, GRPC_INFER, Gate, INFER, PATIENCE, Running, WORK, context, grpc_code, infer_body, key,
    left_of, policy, start, until,
};

/// A window so long that no unit comes back within a test.
const MONTH_S: u64 = 2_678_400;
const NEXT: &str = "1111111111111111";
/// The filters of a chain without `rate-limit`.
const COUNTS_NOTHING: FilterWork = FilterWork {
    counts: false,
    ..WORK
};

/// What names the model of a request.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// The path, in REST.
    ByPath,
    /// The body, in gRPC.
    ByBody,
}

/// Filters that read bodies of at most so many bytes.
const fn reading(max_body_bytes: u64) -> FilterWork {
    FilterWork {
        max_body_bytes,
        ..WORK
    }
}

fn with_work(path: &str, work: FilterWork) -> Context {
    Context {
        work,
        ..context("POST", path)
    }
}

/// A policy with these members at `path`.
fn policy_with(backend: &Backend, path: &str, members: Value) -> Value {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["grants"][0]["operations"] = json!(["infer", "stream"]);
    let object = policy.pointer_mut(path).unwrap().as_object_mut().unwrap();
    object.extend(members.as_object().unwrap().clone());
    policy
}

/// A policy that allows two requests.
fn two_requests(backend: &Backend) -> Value {
    let rate = json!({"rate": {"quota": 2, "window_s": MONTH_S}});
    policy_with(backend, "/grants/0", rate)
}

/// A policy that allows a client one request at a time.
fn one_at_a_time(backend: &Backend) -> Value {
    policy_with(backend, "/clients/scorer", json!({"concurrency": 1}))
}

async fn host(policy: Value) -> Running {
    let running = start(policy).await;
    running.ready().await;
    running
}

/// Sends an inference of one number. Returns whether the model has answered it, too.
async fn infer(gate: &Gate, named: Named, work: FilterWork, x: f32) -> (bool, Answer) {
    match named {
        Named::ByPath => infer_with(gate, &with_work(INFER, work), infer_body(&[x])).await,
        Named::ByBody => {
            let context = with_work(GRPC_INFER, work);
            let answer = gate.call_by_grpc(&context, message("vec", &[x])).await;
            (grpc_code(&answer.headers) == Code::Ok, answer)
        }
    }
}

/// Sends a body over REST.
async fn infer_with(gate: &Gate, context: &Context, body: Vec<u8>) -> (bool, Answer) {
    let contexts = [context.sign(&key())];
    let answer = gate.send("POST", &context.path, &contexts, body).await;
    (answer.status == 200, answer)
}

/// The number of denials for a reason that contradict a filter.
fn disagreements(running: &Running, reason: &str) -> u32 {
    let series = format!("gate_host_disagreement_total{{reason=\"{reason}\"}} ");
    let metrics = running.metrics();
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_local_rate_is_charged_here_if_no_filter_knows_the_model_or_counts() {
    let backend = Backend::start(Act::Answer);
    let body_bytes = u64::try_from(message("vec", &[1.0]).len()).unwrap();
    for (named, work, is_charged) in [
        (Named::ByPath, WORK, false),
        (Named::ByPath, reading(0), false),
        (Named::ByPath, COUNTS_NOTHING, true),
        (Named::ByPath, FilterWork::default(), true),
        (Named::ByBody, reading(body_bytes), false),
        (Named::ByBody, reading(body_bytes - 1), true),
        (Named::ByBody, reading(0), true),
        (Named::ByBody, COUNTS_NOTHING, true),
    ] {
        let running = host(two_requests(&backend)).await;
        let mut found = Vec::new();
        for _ in 0..3 {
            let (is_answered, answer) = infer(&running.gate, named, work, 1.0).await;
            found.push((is_answered, left_of("g", &answer.headers)));
        }
        let expected: [(bool, Option<u64>); 3] = match is_charged {
            true => [(true, Some(1)), (true, Some(0)), (false, Some(0))],
            false => [(true, None); 3],
        };
        assert_eq!(found, expected, "{named:?} {work:?}");
        assert_eq!(disagreements(&running, "rate-limited"), 0);
        let lines = running.audited().into_iter();
        let lines = lines.filter(|line| line["reason"] == "rate-limited");
        let facts = lines.map(|line| ["by", "model", "rule"].map(|member| line[member].clone()));
        let denials = usize::from(is_charged);
        let expected = vec![["host", "vec", "g"]; denials];
        assert_eq!(facts.collect::<Vec<_>>(), expected, "{named:?} {work:?}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_charge_that_filters_report_is_not_made_again() {
    let backend = Backend::start(Act::Answer);
    let running = host(two_requests(&backend)).await;
    let mut context = with_work(GRPC_INFER, WORK);
    context.quotas = vec![RemainingQuota {
        left: 7,
        full_after_ns: 1,
        wait: Wait::None,
    }];
    let send = async |context: &Context| {
        let frame = message("vec", &[1.0]);
        let answer = running.gate.call_by_grpc(context, frame).await;
        (grpc_code(&answer.headers), left_of("g", &answer.headers))
    };
    for _ in 0..3 {
        assert_eq!(send(&context).await, (Code::Ok, Some(7)));
    }
    // Filters that admit a request without enough quota are not trusted.
    context.quotas[0].wait = Wait::Ns(1);
    assert_eq!(send(&context).await.0, Code::ResourceExhausted);
    assert_eq!(disagreements(&running, "rate-limited"), 1);
    running.stop().await;
}

#[tokio::test]
async fn permits_of_clients_and_grants_are_acquired_here_if_no_filter_does() {
    for (path, named, work, is_acquired) in [
        ("/clients/scorer", Named::ByPath, WORK, false),
        ("/clients/scorer", Named::ByPath, COUNTS_NOTHING, true),
        ("/clients/scorer", Named::ByBody, WORK, false),
        ("/clients/scorer", Named::ByBody, reading(0), true),
        ("/grants/0", Named::ByPath, reading(0), false),
        ("/grants/0", Named::ByPath, COUNTS_NOTHING, true),
        ("/grants/0", Named::ByBody, WORK, false),
        ("/grants/0", Named::ByBody, reading(0), true),
    ] {
        let permits = Arc::new(Semaphore::new(0));
        let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
        let policy = policy_with(&backend, path, json!({"concurrency": 1}));
        let running = host(policy).await;
        let spawn = || {
            let gate = running.gate.clone();
            tokio::spawn(async move { infer(&gate, named, work, 1.0).await.0 })
        };
        let first = spawn();
        until("the first is at the backend", || backend.inside() == 1).await;
        if is_acquired {
            let (is_answered, _) = infer(&running.gate, named, work, 1.0).await;
            assert!(!is_answered, "{path} {named:?} {work:?}");
            permits.add_permits(2);
            assert!(first.await.unwrap());
            // The first has ended.
            assert!(spawn().await.unwrap(), "{path} {named:?} {work:?}");
        } else {
            let second = spawn();
            until("both are at the backend", || backend.inside() == 2).await;
            permits.add_permits(2);
            assert!(first.await.unwrap() && second.await.unwrap());
        }
        assert_eq!(disagreements(&running, "concurrency"), 0);
        running.stop().await;
    }
}

#[tokio::test]
async fn permits_of_a_head_come_back_when_its_body_is_denied_or_never_arrives() {
    let backend = Backend::start(Act::Answer);
    let running = host(one_at_a_time(&backend)).await;
    let context = with_work(INFER, COUNTS_NOTHING);
    for (body, status) in [
        (b"{".to_vec(), 400),
        (infer_body(&[1_000.0]), 400),
        (infer_body(&[1.0]), 200),
    ] {
        let (_, answer) = infer_with(&running.gate, &context, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }

    let pending = running.gate.begin(&context).await;
    let until_answered = async |is_answered: bool| {
        let sending = async {
            while infer(&running.gate, Named::ByPath, COUNTS_NOTHING, 1.0)
                .await
                .0
                != is_answered
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, sending).await.unwrap();
    };
    until_answered(false).await;
    pending.abort();
    until_answered(true).await;
    running.stop().await;
}

#[tokio::test]
async fn the_opening_of_a_stream_is_counted_here_if_no_filter_counts() {
    let backend = Backend::start(Act::Answer);
    let running = host(one_at_a_time(&backend)).await;
    let with = |number, work| Context {
        work,
        ..stream_context("scorer", number)
    };
    let (first, answers) = OpenStream::with_answers(&running, &with(1, COUNTS_NOTHING)).await;
    let mut second = OpenStream::new(&running, &with(2, COUNTS_NOTHING)).await;
    assert_eq!(second.status().await, "8");
    // Filters that count have its permits.
    let (third, more_answers) = OpenStream::with_answers(&running, &with(3, WORK)).await;
    third.finish(more_answers).await;

    first.finish(answers).await;
    let reopened = async {
        for number in 4.. {
            let mut stream = OpenStream::new(&running, &with(number, COUNTS_NOTHING)).await;
            // A refused stream has ended already.
            drop(stream.body.send_data(Bytes::new(), true));
            if stream.status().await == "0" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reopened).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_denied_body_contradicts_only_filters_that_have_checked_it() {
    let backend = Backend::start(Act::Answer);
    let running = host(policy(&backend.uri(), json!({}), json!({}))).await;
    let unchecked = FilterWork {
        checks: false,
        ..WORK
    };
    let left_at_charge = FilterWork {
        leaves_charge: true,
        ..WORK
    };
    let forwarded = FilterWork {
        buffered: false,
        ..WORK
    };
    let mut expected = 0;
    for (work, contradicts) in [
        (WORK, true),
        (forwarded, true),
        (COUNTS_NOTHING, true),
        (unchecked, false),
        (left_at_charge, false),
        (reading(10), false),
        (FilterWork::default(), false),
    ] {
        for named in [Named::ByPath, Named::ByBody] {
            let (is_answered, _) = infer(&running.gate, named, work, 1_000.0).await;
            assert!(!is_answered);
            expected += u32::from(contradicts);
            let found = disagreements(&running, "out-of-range");
            assert_eq!(found, expected, "{named:?} {work:?}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn requests_of_blocked_and_revoked_clients_use_no_limit() {
    let backend = Backend::start(Act::Answer);
    let running = host(two_requests(&backend)).await;
    let context = with_work(INFER, COUNTS_NOTHING);
    let block = record(HOUR_MS, None);
    running.replace(FILE, &file(&block));
    until_outcome(&running, "blocked").await;
    for _ in 0..3 {
        let (_, answer) = infer_with(&running.gate, &context, infer_body(&[1.0])).await;
        assert_eq!(answer.reason(), "blocked");
    }
    running.replace(FILE, &file(&record(0, Some(&block))));
    until_outcome(&running, "ok").await;

    // The newest policy decides who is revoked.
    let attempt = running.reload(NEXT, &two_requests(&backend)).await;
    assert!(attempt.faults.is_empty(), "{:?}", attempt.faults);
    let revoked = Context {
        credential: Some("key:0404040404040404".to_owned()),
        ..context.clone()
    };
    for _ in 0..3 {
        let (_, answer) = infer_with(&running.gate, &revoked, infer_body(&[1.0])).await;
        assert_eq!(answer.reason(), "unauthenticated");
    }
    let (is_answered, answer) = infer_with(&running.gate, &context, infer_body(&[1.0])).await;
    assert_eq!(
        (is_answered, left_of("g", &answer.headers)),
        (true, Some(1))
    );
    running.stop().await;
}
