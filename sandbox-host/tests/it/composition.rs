//! What a model can be composed of: chains of handlers, versions by weight, and versions in shadow.
//! A whole host, real components and a server whose faults the test chooses.

mod chains;
mod copies;
mod ensembles;
mod grants;
use crate::support;
mod versions;

use serde_json::Value;
use support::backend::Backend;
use support::{context, infer_body, key};

/// An inference with a request id of its own.
async fn infer_as(gate: &support::Gate, number: u32) -> (String, support::Answer) {
    let mut context = context("POST", support::INFER);
    context.request_id = format!("8f1a2b3c-0000-4000-8000-{number:012x}");
    let id = context.request_id.clone();
    let contexts = [context.sign(&key())];
    let body = infer_body(&[1.0, 2.0]);
    let answer = gate.send("POST", support::INFER, &contexts, body).await;
    (id, answer)
}

/// The policy of one model with these versions.
fn with_versions(backend: &Backend, versions: Value) -> Value {
    let more = serde_json::json!({"max_in_flight": 1, "queue": 1});
    let mut policy = support::policy(&backend.uri(), serde_json::json!({}), more);
    policy["models"]["vec"]["versions"] = versions;
    policy
}

/// The value of a counter, by the beginning of its line.
pub(crate) fn counted(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}
