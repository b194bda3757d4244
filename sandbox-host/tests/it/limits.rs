//! The outcome of the gate's limits, which its context reports to the host: callers get it in
//! headers, and shadow limits are logged.

use serde_json::{Value, json};
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_wire::context::RemainingQuotas;
use tensorgate_wire::context::verdict::{VerdictSubject, behind_body};

use crate::support;
use support::backend::{Act, Backend};
use support::{Answer, INFER, Running, context, infer_body, key, policy, start};

const SECOND_NS: u64 = 1_000_000_000;

async fn limited(backend: &Backend, mode: Value) -> Running {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let grant = &mut policy["grants"][0];
    grant["rate"] = json!({"quota": 60, "window_s": 60, "burst": 3});
    grant["budget"] = json!({"requests": 100, "elements": 50, "per": "day"});
    grant["cost"] = json!({"bytes": 1000, "window_s": 10});
    grant["mode"] = mode;
    let running = start(policy).await;
    running.ready().await;
    running
}

fn level(left: u64, full_after_ns: u64, wait: Wait) -> RemainingQuota {
    RemainingQuota {
        left,
        full_after_ns,
        wait,
    }
}

/// A request spends one request, and two elements of eight bytes.
fn passed() -> RemainingQuotas {
    RemainingQuotas {
        request: vec![
            level(2, SECOND_NS, Wait::None),
            level(99, 7_200 * SECOND_NS, Wait::None),
        ],
        content: vec![
            level(48, 7_199 * SECOND_NS + 1, Wait::None),
            level(992, 1, Wait::None),
        ],
    }
}

async fn ask(running: &Running, levels: RemainingQuotas, path: &str, body: Vec<u8>) -> Answer {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut context = context(method, path);
    context.quotas = levels;
    let contexts = [context.sign(&key())];
    running.gate.send(method, path, &contexts, body).await
}

fn told(answer: &Answer) -> [Option<&str>; 2] {
    ["ratelimit-policy", "ratelimit"].map(|name| answer.headers.get(name)?.to_str().ok())
}

/// Sends a request whose context announces the gate's verdict on the body. What was charged before
/// is in the context, the rest is in the verdict after the body.
async fn forwarded(running: &Running, path: &str, verdict_path: &str, cut: usize) -> Answer {
    let mut context = context("POST", path);
    context.verdicts = 1;
    context.quotas.request = passed().request;
    let judged = VerdictSubject {
        client: context.client.as_deref(),
        request_id: &context.request_id,
        method: "POST",
        path: verdict_path,
        generation: &context.generation,
    };
    let rest = RemainingQuotas {
        request: Vec::new(),
        content: passed().content,
    };
    let mut body = infer_body(&[1.0, 2.0]);
    body.extend(behind_body(&judged.sign(&key(), 0, &rest)));
    body.truncate(body.len() - cut);
    let contexts = [context.sign(&key())];
    running.gate.send("POST", path, &contexts, body).await
}

#[tokio::test]
async fn a_body_with_an_announced_verdict_needs_that_verdict() {
    let backend = Backend::start(Act::Answer);
    let running = limited(&backend, json!("enforce")).await;
    let held = ask(&running, passed(), INFER, infer_body(&[1.0, 2.0])).await;
    let answer = forwarded(&running, INFER, INFER, 0).await;
    assert_eq!((answer.status, told(&answer)), (200, told(&held)));
    let calls = backend.begun();
    let verdict = infer_body(&[1.0, 2.0]).len();
    for (of, cut) in [(INFER, 1), (INFER, verdict), ("/v2/models/other/infer", 0)] {
        let answer = forwarded(&running, INFER, of, cut).await;
        assert_eq!(answer.status, 401, "{of} {cut}: {answer:?}");
    }
    assert_eq!(backend.begun(), calls, "nothing reaches the backend");
    // The same holds for requests about the server, whose body is otherwise not read.
    let live = "/v2/health/live";
    let answer = forwarded(&running, live, live, 1).await;
    assert_ne!(answer.status, 200, "{answer:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_answer_reports_the_remaining_quotas_of_the_gate() {
    let backend = Backend::start(Act::Answer);
    let running = limited(&backend, json!("enforce")).await;
    let answer = ask(&running, passed(), INFER, infer_body(&[1.0, 2.0])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let policies = "\"g\";q=60;w=60, \"g:requests:day\";q=100;w=86400, \
        \"g:elements:day\";q=50;qu=\"tensor-elements\";w=86400, \"g:bytes\";q=1000;qu=\"tensor-bytes\";w=10";
    let left = "\"g\";r=2;t=1, \"g:requests:day\";r=99;t=7200, \"g:elements:day\";r=48;t=7200, \"g:bytes\";r=992;t=1";
    assert_eq!(told(&answer), [Some(policies), Some(left)]);

    // A request about a model has no tensors to charge.
    let only_requests = RemainingQuotas {
        content: Vec::new(),
        ..passed()
    };
    let answer = ask(&running, only_requests, "/v2/models/vec", Vec::new()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let left = "\"g\";r=2;t=1, \"g:requests:day\";r=99;t=7200";
    assert_eq!(told(&answer)[1], Some(left));

    // A client without limits gets no rate headers. A gate that admits a request without enough
    // quota is not trusted.
    let answer = ask(
        &running,
        RemainingQuotas::default(),
        INFER,
        infer_body(&[1.0]),
    )
    .await;
    assert_eq!((answer.status, told(&answer)), (200, [None, None]));
    let mut spent = passed();
    spent.request[0].wait = Wait::Ns(1);
    let answer = ask(&running, spent, INFER, infer_body(&[1.0])).await;
    assert_eq!(answer.reason(), "rate-limited");
    running.stop().await;
}

#[tokio::test]
async fn a_rejection_after_the_charge_reports_the_limits_too() {
    let backend = Backend::start(Act::Refuse(tonic::Code::Internal));
    let running = limited(&backend, json!("enforce")).await;
    let answer = ask(&running, passed(), INFER, infer_body(&[1.0, 2.0])).await;
    assert_eq!(answer.reason(), "backend-fault", "{answer:?}");
    let left = "\"g\";r=2;t=1, \"g:requests:day\";r=99;t=7200, \"g:elements:day\";r=48;t=7200, \"g:bytes\";r=992;t=1";
    assert_eq!(told(&answer)[1], Some(left));

    // A body that is not complete was charged for by its head alone.
    let only_requests = RemainingQuotas {
        content: Vec::new(),
        ..passed()
    };
    let answer = ask(&running, only_requests, INFER, b"{".to_vec()).await;
    assert!(answer.status >= 400, "{answer:?}");
    assert_eq!(
        told(&answer)[1],
        Some("\"g\";r=2;t=1, \"g:requests:day\";r=99;t=7200")
    );
    running.stop().await;
}

#[tokio::test]
async fn denials_of_shadow_limits_are_logged_and_counted() {
    let backend = Backend::start(Act::Answer);
    let running = limited(&backend, json!({"default": "shadow", "outputs": "enforce"})).await;
    let mut spent = passed();
    spent.request[0] = level(0, 3 * SECOND_NS, Wait::Ns(SECOND_NS));
    spent.content[1] = level(3, SECOND_NS, Wait::Ns(SECOND_NS));
    let answer = ask(&running, spent, INFER, infer_body(&[1.0, 101.0])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        told(&answer),
        [None, None],
        "a limit in shadow mode rejects no request"
    );
    let metrics = running.metrics();
    for reason in ["rate-limited", "cost-exceeded", "out-of-range"] {
        let series = format!(
            "tensorgate_host_shadowed_total{{model=\"vec\",grant=\"g\",reason=\"{reason}\"}} 1"
        );
        assert!(metrics.contains(&series), "{series}: {metrics}");
    }
    running.stop().await;
}
