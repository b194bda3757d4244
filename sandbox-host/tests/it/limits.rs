//! What limits leave: request limits as the gate's context reports them, content limits as the host
//! counts them. Callers get both in headers, and shadow limits are logged.

use std::fs::{self, File};
use std::sync::Arc;

use serde_json::{Value, json};
use tensorgate_policy::policy::{RemainingQuota, Wait};

use crate::support;
use support::backend::{Act, Backend};
use support::{Answer, INFER, Running, context, folder, infer_body, key, policy, start, start_in};

const SECOND_NS: u64 = 1_000_000_000;

async fn limited(backend: &Backend, mode: Value) -> Running {
    let running = start(limits(backend, mode)).await;
    running.ready().await;
    running
}

fn limits(backend: &Backend, mode: Value) -> Value {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let grant = &mut policy["grants"][0];
    grant["rate"] = json!({"quota": 60, "window_s": 60, "burst": 3});
    grant["budget"] = json!({"requests": 100, "elements": 50, "per": "day"});
    grant["cost"] = json!({"bytes": 1000, "window_s": 10});
    grant["mode"] = mode;
    policy
}

fn level(left: u64, full_after_ns: u64, wait: Wait) -> RemainingQuota {
    RemainingQuota {
        left,
        full_after_ns,
        wait,
    }
}

/// What one request leaves of the request limits. The gate reports it.
fn passed() -> Vec<RemainingQuota> {
    vec![
        level(2, SECOND_NS, Wait::None),
        level(99, 7_200 * SECOND_NS, Wait::None),
    ]
}

async fn ask(running: &Running, levels: Vec<RemainingQuota>, path: &str, body: Vec<u8>) -> Answer {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut context = context(method, path);
    context.quotas = levels;
    let contexts = [context.sign(&key())];
    running.gate.send(method, path, &contexts, body).await
}

/// What one request of two elements, eight bytes, leaves of each limit.
const LEFT: &str = "\"g\";r=2, \"g:requests:day\";r=99, \"g:elements:day\";r=48, \"g:bytes\";r=992";

/// What is left of each limit, without the times.
fn left(answer: &Answer) -> String {
    let quotas = told(answer)[1].unwrap_or_default().split(", ");
    let quotas = quotas.map(|quota| quota.split(";t=").next().unwrap_or_default());
    quotas.collect::<Vec<_>>().join(", ")
}

fn told(answer: &Answer) -> [Option<&str>; 2] {
    ["ratelimit-policy", "ratelimit"].map(|name| answer.headers.get(name)?.to_str().ok())
}

#[tokio::test]
async fn an_answer_reports_the_remaining_quotas_of_gate_and_host() {
    let backend = Backend::start(Act::Answer);
    let running = limited(&backend, json!("enforce")).await;
    let answer = ask(&running, passed(), INFER, infer_body(&[1.0, 2.0])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let policies = "\"g\";q=60;w=60, \"g:requests:day\";q=100;w=86400, \
        \"g:elements:day\";q=50;qu=\"tensor-elements\";w=86400, \"g:bytes\";q=1000;qu=\"tensor-bytes\";w=10";
    assert_eq!(told(&answer)[0], Some(policies));
    assert_eq!(left(&answer), LEFT);

    // A request about a model has no tensors to charge.
    let answer = ask(&running, passed(), "/v2/models/vec", Vec::new()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let left = "\"g\";r=2;t=1, \"g:requests:day\";r=99;t=7200";
    assert_eq!(told(&answer)[1], Some(left));

    // A gate that admits a request without enough quota is not trusted.
    let mut spent = passed();
    spent[0].wait = Wait::Ns(1);
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
    assert_eq!(left(&answer), LEFT);

    // A body that is not complete was charged for by its head alone.
    let answer = ask(&running, passed(), INFER, b"{".to_vec()).await;
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
    spent[0] = level(0, 3 * SECOND_NS, Wait::Ns(SECOND_NS));
    // Of 50 elements a day, 48 are spent.
    for _ in 0..6 {
        let answer = ask(&running, passed(), INFER, infer_body(&[1.0; 8])).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let answer = ask(&running, spent, INFER, infer_body(&[101.0; 8])).await;
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

#[tokio::test]
async fn a_restart_forgets_nothing_and_without_its_file_half_is_spent() {
    let log_file = folder().join("log");
    let log = tracing_subscriber::fmt()
        .with_writer(Arc::new(File::create(&log_file).unwrap()))
        .finish();
    // The hosts run on this thread.
    let _log = tracing::subscriber::set_default(log);
    let backend = Backend::start(Act::Answer);
    let policy = limits(&backend, json!("enforce"));
    let folder = folder();
    let spent = folder.join("audit/limits-spent.bin");
    // Of 50 elements a day, each request takes two.
    for (before, left_of_day, errors) in [
        ("a first start", 48, 0),
        ("a restart", 46, 0),
        ("damage", 23, 1),
        ("a restart", 21, 1),
        ("a loss", 23, 2),
    ] {
        match before {
            "damage" => {
                let mut bytes = fs::read(&spent).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&spent, bytes).unwrap();
            }
            "a loss" => fs::remove_file(&spent).unwrap(),
            _ => {}
        }
        let running = start_in(policy.clone(), folder.clone()).await;
        running.ready().await;
        let answer = ask(&running, passed(), INFER, infer_body(&[1.0, 2.0])).await;
        let expected = format!("\"g:elements:day\";r={left_of_day}, ");
        assert!(left(&answer).contains(&expected), "{before}: {answer:?}");
        assert!(running.host.shutdown().await);
        let lines = fs::read_to_string(&log_file).unwrap();
        assert_eq!(
            lines.matches("begin half spent").count(),
            errors,
            "{before}"
        );
    }
    fs::remove_dir_all(folder).unwrap();
}
