//! Starts whole gates, sends good and hostile requests, prints the table and stops everything.
//! Exits 0 only if every answer was the expected one.
//!
//! The first gate has the policy that the README shows. The second requires TLS, tokens,
//! certificates and signed models, which are generated here. Two more are loaded as Istio and as
//! Envoy Gateway load them. The sandbox host of the fifth is reached over TCP with mutual TLS.

mod alerts;
mod gate;
mod generated;
mod meshes;
mod processes;
mod rejections;
mod remote_gate;
mod request;
mod rows;
mod secured;
mod signed_models;
mod split;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tensorgate_client::{ClientError, Reply, grpc, http1};
use tokio::signal::unix::{SignalKind, signal};

use crate::alerts::Alerts;
use crate::gate::Gate;
use crate::remote_gate::{Gateways, RemoteGate};
use crate::request::Request;
use crate::rows::{CUT, Expect, Row, Server};
use crate::signed_models::ModelServer;
use crate::table::{Answer, Table};

/// Paths, relative to the root of the repository.
const POLICY: &str = "examples/policies/digits/gate.yaml";
const HELD_OUT: &str = "examples/models/digits/heldout.bin";
const MODELS: &str = "examples/models";
/// The name of the second gate's folders, for its state and its policy.
const SECURED: &str = "secured";

/// The gates of one demo.
struct Gates {
    plain: Gate,
    secured: Gate,
    istio: Gate,
    envoy_gateway: Gate,
    remote: RemoteGate,
    signed_models: ModelServer,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every answer was the expected one.
async fn demo() -> Result<bool> {
    let started = Instant::now();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::set_current_dir(&top).with_context(|| format!("entering {}", top.display()))?;
    let target = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .context("the demo has no target folder")?
        .to_owned();

    let split = split::Split::read(Path::new(HELD_OUT))?;
    let state = target.join("demo");
    let folder = state.join(SECURED);
    let models = Path::new(MODELS)
        .canonicalize()
        .with_context(|| format!("looking for {MODELS}"))?;
    let policy_folder = folder.join("policy");
    let secured = secured::Secured::make(&policy_folder, &models)?;
    let remote = state.join("remote-gate");
    let gateways = Gateways::make(&remote)?;
    let rows = rows::rows(&split, &secured, &gateways)?;
    let (istio, envoy_gateway) = (state.join("istio"), state.join("envoy-gateway"));
    let meshed = meshes::policy(&state.join("meshes"), &models)?;
    let one = ["--concurrency", "1"];
    let as_istio = ["--concurrency", "1", "--as", "istio"];
    let as_envoy_gateway = ["--concurrency", "1", "--as", "envoy-gateway"];
    // Limits of an hour that an earlier start has spent are in the folder of its audit log.
    for state in [&state, &folder, &istio, &envoy_gateway, &remote] {
        generated::remove(&state.join("audit"))?;
    }
    let server = secured.model_server;
    let signed_models = ModelServer::start(&folder, &policy_folder, &models, server).await?;
    let (plain, secured, istio, envoy_gateway, remote) = tokio::try_join!(
        Gate::start(Path::new(POLICY), &state, &[]),
        Gate::start(&secured.policy, &folder, &one),
        Gate::start(&meshed, &istio, &as_istio),
        Gate::start(&meshed, &envoy_gateway, &as_envoy_gateway),
        RemoteGate::start(&remote, &meshed, &models),
    )?;
    let gates = Gates {
        plain,
        secured,
        istio,
        envoy_gateway,
        remote,
        signed_models,
    };
    let scorer = rows::key("scorer")?;
    let alerts = Alerts {
        state: &state,
        started,
        scorer: &scorer,
        split: &split,
    };

    let mut terminated = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        table = play(&rows, &gates, &folder, &alerts) => Ok(table),
        _ = terminated.recv() => Err(anyhow::anyhow!("terminated")),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let stopped = tokio::join!(
        gates.plain.stop(),
        gates.secured.stop(),
        gates.istio.stop(),
        gates.envoy_gateway.stop(),
        gates.remote.stop(),
    );
    (stopped.0.and(stopped.1).and(stopped.2)).and(stopped.3.and(stopped.4))?;
    gates.signed_models.stop().await?;
    let Table { rows, wrong } = outcome?;
    println!(
        "\n{rows} rows, {wrong} wrong; logs and rendered configuration in {}",
        state.display()
    );
    Ok(wrong == 0)
}

/// Sends every row and prints its line. `secured`: the state folder of the second gate.
async fn play(rows: &[Row], gates: &Gates, secured: &Path, alerts: &Alerts<'_>) -> Table {
    let mut table = Table::start();
    for row in rows {
        let answer = run(row, gates).await;
        table.add(row.title, &row.expect.to_string(), &answer);
    }
    rejections::play(secured, alerts.started, &mut table).await;
    alerts.play(gates.plain.address(), &mut table).await;
    table
}

/// Sends a row as often as it states and judges the last reply.
async fn run(row: &Row, gates: &Gates) -> Answer {
    let mut last = None;
    for _ in 0..row.times {
        last = Some(send(row, gates).await);
    }
    let (answer, reason, is_expected) = match last {
        Some(Ok(reply)) => judge(row, &reply),
        Some(Err(error)) if matches!(row.expect, Expect::Cut) => {
            // No reply at all within the time limit is a different result.
            let cut = match error.downcast_ref() {
                Some(ClientError::Io(_) | ClientError::Truncated) => true,
                Some(ClientError::H2(error)) => error.is_io(),
                _ => false,
            };
            ("none".into(), CUT.into(), cut)
        }
        Some(Err(error)) => ("none".into(), format!("{error:#}"), false),
        None => ("none".into(), "not sent".into(), false),
    };
    Answer {
        answer,
        reason,
        is_expected,
    }
}

async fn send(row: &Row, gates: &Gates) -> Result<Reply> {
    let gate = match row.server {
        Server::Usual => gates.plain.address(),
        Server::Istio => gates.istio.address(),
        Server::EnvoyGateway => gates.envoy_gateway.address(),
        Server::RemoteHost => gates.remote.address(),
    };
    let secured = gates.secured.address();
    Ok(match &row.request {
        Request::Rest {
            method,
            path,
            fields,
            body,
            framing,
        } => http1::send(gate, method, path, fields, body, *framing).await?,
        Request::Bytes(bytes) => http1::raw(gate, bytes).await?,
        Request::Grpc(call) => grpc::send(gate, call).await?,
        Request::Gateway { caller, call } => caller.call(gates.remote.host_address(), call).await?,
        Request::Tls { caller, bytes } => caller.connect(secured).await?.ask(bytes).await?,
        Request::Beside {
            caller,
            held,
            bytes,
        } => {
            let mut first = caller.connect(secured).await?;
            let body = first.begin(held).await?;
            let reply = caller.connect(secured).await?.ask(bytes).await?;
            let served = first.ask(body).await?;
            ensure!(
                served.status == 200,
                "the request in flight was answered {}",
                served.status
            );
            reply
        }
    })
}

/// The status code, the content, and whether they are the expected ones.
fn judge(row: &Row, reply: &Reply) -> (String, String, bool) {
    let grpc = reply.grpc_status();
    let answer = grpc.map_or_else(
        || reply.status.to_string(),
        |status| format!("grpc {status}"),
    );
    let served = reply.status == 200 && grpc.unwrap_or(0) == 0;
    match (&row.expect, reply.reason()) {
        (Expect::Denied(expected), Some(reason)) => {
            // Envoy rejects requests that are not HTTP before it assigns a request ID. A host has
            // it from the context.
            let named = reply.header("x-request-id").is_some()
                || matches!(row.request, Request::Bytes(_) | Request::Gateway { .. });
            let ok = !served && reason == *expected && named;
            (answer, reason, ok)
        }
        (Expect::Served { says, read }, None) => {
            let said = read(reply).unwrap_or_else(|| "not understood".into());
            let ok = served && said == *says;
            (answer, said, ok)
        }
        (_, reason) => (answer, reason.unwrap_or_else(|| "served".into()), false),
    }
}
