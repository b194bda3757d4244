//! A guardrail: Agent Router's `POST /analyze` at a gate with its host, which the example
//! `redaction` answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::Payload;
use tensorgate_policy::{Tensor, hex};
use tensorgate_sandbox::{Sandbox, SandboxConfig};

use super::course;
use super::path::GateWithHost;
use super::sandbox::{Budget, load_component, micros};
use crate::cores::CoreSet;
use crate::figures::quantile;
use crate::lab::{Lab, Server};
use crate::load::{Address, Client, Expect, Http, Shot};
use crate::models::VERSION;
use crate::outcome::Outcome;
use crate::policy::{Shape, insert, key, read_component};
use crate::proxy::{self, Filters, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;

/// The target of the handler's call.
const CALL: &str = "guardrail-call";
/// The target of a request.
const REQUEST: &str = "guardrail-request";
/// The model and its handler.
const NAME: &str = "redaction";
/// The component's file in the policy's folder.
const COMPONENT: &str = "redaction.wasm";
/// Bytes of the analyzed text.
const TEXT_BYTES: usize = 10 << 10;

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "A guardrail, 10 KB of text",
        "`POST /analyze` of Agent Router, which the example `redaction` answers: it finds e-mail addresses and card numbers, and returns them with the masked text. The first table has the guest thread's time for the call on a fresh instance, in the bench's own process. The second has requests through gate and host on one connection. Its baseline is a bare Envoy hop to a backend that answers at once.",
    );
    let component = read_component(&lab.components.join(COMPONENT))?;
    let text = text();
    lab.cores.enter(CoreSet::Subject)?;
    let outcome = calls(lab, &component, &text).await;
    lab.cores.enter(CoreSet::Load)?;
    let times = outcome?;
    report.table(
        &["", "p50 µs", "p99 µs"],
        &[vec![
            "the handler's call".to_owned(),
            format!("{:.0}", quantile(&times, 0.5)),
            format!("{:.0}", quantile(&times, 0.99)),
        ]],
    );
    report.reached(CALL, quantile(&times, 0.99) / 1000.0);
    requests(lab, report, &component, &text).await
}

/// Sentences with a card number.
fn text() -> String {
    let sentence = "Please pay the invoice of March with my card 4111111111111111 within 30 days. ";
    sentence.chars().cycle().take(TEXT_BYTES).collect()
}

/// Microseconds of calls, ascending.
async fn calls(lab: &Lab, component: &[u8], text: &str) -> Outcome<Vec<f64>> {
    let budget = Budget {
        memory: "16MiB",
        timeout_ms: 1_000,
    };
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    let handler = load_component(&sandbox, NAME, component, budget, &BTreeMap::new())?;
    let tensors = vec![item("text", text)?, item("stage", "input")?];
    let runs = if lab.quick { 5 } else { 2_000 };
    let mut all = Vec::with_capacity(runs);
    for _ in 0..runs {
        let input = Payload::Tensors(tensors.clone());
        let called = handler.preprocess("bench", input).await?;
        all.push(micros(Duration::from_micros(called.ran_us)));
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// A tensor of one text.
fn item(name: &'static str, text: &str) -> Outcome<Tensor<'static>> {
    let mut data = u32::try_from(text.len())?.to_le_bytes().to_vec();
    data.extend(text.as_bytes());
    Ok(Tensor {
        name: name.into(),
        datatype: "BYTES".into(),
        shape: vec![1],
        parameters: Vec::new(),
        data: Ok(data.into()),
    })
}

async fn requests(lab: &Lab, report: &mut Report, component: &[u8], text: &str) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let bare = proxy::start(lab, "bare", Filters::None, Upstream::Tcp(upstream.tcp()?)).await?;
    let folder = lab.folder("guardrail")?;
    std::fs::write(folder.join(COMPONENT), component)?;
    let policy = policy(upstream.tcp()?, &hex(&Sha256::digest(component)));
    let gate = GateWithHost::launch(lab, folder, &policy).await?;
    let shot = Shot::new(
        Method::POST,
        "/analyze",
        &[("content-type", "application/json")],
        Bytes::from(json!({"text": text, "context": {"stage": "input"}}).to_string()),
    )?;
    let client =
        |address: &Address| Client::new(address.clone(), Http::One, Expect::Status(200), 1);
    let mut contenders = [
        Contender {
            name: "bare Envoy hop".to_owned(),
            client: client(&bare.address),
            shots: vec![shot.clone()],
            pid: bare.process.pid(),
            beside: None,
        },
        Contender {
            name: "sandbox host with the guardrail".to_owned(),
            client: client(&gate.envoy.address),
            shots: vec![shot.with("x-api-key", &key(0))?],
            pid: gate.host.process.pid(),
            beside: Some(("Envoy with the gate", gate.envoy.process.pid())),
        },
    ];
    let results = race(&mut contenders, course(lab, 9, 1_000)).await?;
    report.race(&results, 0);
    if let [_, guardrail] = results.as_slice() {
        report.reached(REQUEST, guardrail.p99_us / 1000.0);
    }
    Ok(())
}

/// A policy with the guardrail beside the other models.
fn policy(upstream: SocketAddr, sha256: &str) -> Value {
    let mut policy = Shape::plain(upstream).to_json();
    let handler = json!({
        "component": COMPONENT, "sha256": sha256,
        "fuel": 200_000_000, "memory_bytes": "16MiB", "timeout_ms": 1_000,
    });
    insert(&mut policy, "handlers", json!({NAME: handler}));
    let model = json!({"guardrail": {}, "versions": [VERSION], "preprocess": NAME});
    if let Some(models) = policy.get_mut("models") {
        insert(models, NAME, model);
    }
    let granted = policy.pointer_mut("/grants/0/models");
    if let Some(granted) = granted.and_then(Value::as_array_mut) {
        granted.push(json!(NAME));
    }
    policy
}
