//! Starts the whole gate, sends good and hostile requests, prints the table and stops everything. Exits 0 only if
//! every answer was the expected one.

mod gate;
mod request;
mod rows;
mod split;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tensorgate_client::{Reply, grpc, http1};
use tokio::signal::unix::{SignalKind, signal};

use crate::request::Request;
use crate::rows::{Expect, Row};

/// Paths, seen from the top of the tree.
const POLICY: &str = "examples/policies/digits/gate.yaml";
const HELD_OUT: &str = "examples/models/digits/heldout.bin";

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
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::set_current_dir(&top).with_context(|| format!("entering {}", top.display()))?;
    let target = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .context("the demo has no target folder")?
        .to_owned();

    let split = split::Split::read(Path::new(HELD_OUT))?;
    let rows = rows::rows(&split)?;
    let gate = gate::Gate::start(Path::new(POLICY), &target.join("demo")).await?;

    let mut terminated = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        wrong = play(&rows, gate.address()) => Ok(wrong),
        _ = terminated.recv() => Err(anyhow::anyhow!("terminated")),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    gate.stop().await?;
    let wrong = outcome?;
    println!(
        "\n{} requests, {wrong} wrong; logs and rendered configuration in {}",
        rows.len(),
        target.join("demo").display()
    );
    Ok(wrong == 0)
}

/// Sends every row and prints its line; how many were answered in another way than expected.
async fn play(rows: &[Row], gate: SocketAddr) -> usize {
    let mut wrong = 0_usize;
    print_line("request", "expected", "answer", "reason", "");
    for row in rows {
        let (answer, reason, ok) = run(row, gate).await;
        if !ok {
            wrong = wrong.saturating_add(1);
        }
        print_line(
            row.title,
            &row.expect.to_string(),
            &answer,
            &reason,
            if ok { "ok" } else { "WRONG" },
        );
    }
    wrong
}

fn print_line(request: &str, expected: &str, answer: &str, reason: &str, verdict: &str) {
    println!("{request:<52} {expected:<24} {answer:<10} {reason:<38} {verdict}");
}

/// Sends a row as often as it says and judges the last reply: the answer's code, what it said, whether that was expected.
async fn run(row: &Row, gate: SocketAddr) -> (String, String, bool) {
    let mut last = None;
    for _ in 0..row.times {
        last = Some(send(&row.request, gate).await);
    }
    match last {
        Some(Ok(reply)) => judge(row, &reply),
        Some(Err(error)) => ("none".into(), format!("{error:#}"), false),
        None => ("none".into(), "not sent".into(), false),
    }
}

async fn send(request: &Request, gate: SocketAddr) -> Result<Reply> {
    Ok(match request {
        Request::Rest {
            method,
            path,
            fields,
            body,
            framing,
        } => http1::send(gate, method, path, fields, body, *framing).await?,
        Request::Bytes(bytes) => http1::raw(gate, bytes).await?,
        Request::Grpc(call) => grpc::send(gate, call).await?,
    })
}

fn judge(row: &Row, reply: &Reply) -> (String, String, bool) {
    let grpc = reply.grpc_status();
    let answer = grpc.map_or_else(
        || reply.status.to_string(),
        |status| format!("grpc {status}"),
    );
    let served = reply.status == 200 && grpc.unwrap_or(0) == 0;
    match (&row.expect, reply.reason()) {
        (Expect::Denied(expected), Some(reason)) => {
            // What is no HTTP, Envoy refuses before it gives the request an id.
            let named =
                reply.header("x-request-id").is_some() || matches!(row.request, Request::Bytes(_));
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
