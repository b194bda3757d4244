//! Policy reloads under load: the time until a change is in force, and its effect on valid
//! requests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::child::Process;
use crate::cores::CoreSet;
use crate::figures::{number, quantile};
use crate::lab::{Lab, Server};
use crate::load::{Address, Client, Expect, Http, Shot};
use crate::models::{SMALL, grpc_shot, json_shot};
use crate::outcome::{Failure, Outcome, failure};
use crate::policy::{Shape, key};
use crate::report::Report;

/// Clients before and after a change. The last client is removed and added again.
const CLIENTS: usize = 10;
/// A change that is not in force after this time has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests in one volley of the load.
const TURN: usize = 50;

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let changes = if lab.quick { 2 } else { 40 };
    report.section("A policy that changes under load", "`tensorgate up` runs while the policy file is replaced and SIGHUP is sent. Two connections keep sending requests with a key that stays valid. The time is from the signal to the first response under the new policy. It includes validation, the host's new policy version and the filter's reload.");
    let upstream = Server::start(lab, "upstream").await?;
    let folder = lab.folder("reload")?;
    let (with, without) = (shape(&upstream, 1)?, shape(&upstream, 0)?);
    let file = folder.join("gate.yaml");
    put(&file, &without)?;
    let (up, gate) = start(lab, &folder, CoreSet::Subject, &[]).await?;

    let stopping = Arc::new(AtomicBool::new(false));
    let (sent, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (stopping, sent, failed) = (
            Arc::clone(&stopping),
            Arc::clone(&sent),
            Arc::clone(&failed),
        );
        let shot = grpc_shot(SMALL)?.with("x-api-key", &key(0))?;
        let mut client = Client::new(Address::Tcp(gate), Http::Two, Expect::Grpc, 2);
        async move {
            let mut first_failure = None;
            while !stopping.load(Ordering::Relaxed) {
                let volley = client
                    .volley_with_failures(std::slice::from_ref(&shot), 0, TURN)
                    .await?;
                sent.fetch_add(TURN, Ordering::Relaxed);
                failed.fetch_add(volley.failed, Ordering::Relaxed);
                first_failure = first_failure.or(volley.first_failure);
            }
            Ok::<_, Failure>(first_failure)
        }
    };
    let newcomer = json_shot(SMALL)?.with("x-api-key", &key(CLIENTS))?;
    let change = async {
        let mut took = Vec::new();
        for number in 0..changes {
            let known = number % 2 == 0;
            put(&file, if known { &with } else { &without })?;
            let began = Instant::now();
            hang_up(&up)?;
            let status = if known { 200 } else { 401 };
            in_force(gate, &newcomer, status, Duration::from_millis(1)).await?;
            took.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        stopping.store(true, Ordering::Relaxed);
        Ok::<_, Failure>(took)
    };
    let (first_failure, took) = tokio::join!(load, change);
    let (first_failure, mut took) = (first_failure?, took?);
    took.sort_by(f64::total_cmp);
    let failed = failed.load(Ordering::Relaxed);
    report.table(
        &[
            "changes",
            "p50 ms",
            "slowest ms",
            "valid requests meanwhile",
            "failed",
        ],
        &[vec![
            changes.to_string(),
            format!("{:.0}", quantile(&took, 0.5)),
            format!("{:.0}", quantile(&took, 1.0)),
            sent.load(Ordering::Relaxed).to_string(),
            failed.to_string(),
        ]],
    );
    if let Some(text) = first_failure {
        report.line(&format!("The first failure: {text}"));
    }
    report.reached("reload", quantile(&took, 0.5));
    report.reached("reload-failed", number(failed));
    Ok(())
}

fn shape(upstream: &Server, more: usize) -> Outcome<String> {
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.clients = CLIENTS.saturating_add(more);
    Ok(crate::policy::text(&shape.to_json()))
}

/// Replaces a file atomically, as editors and volume mounts do.
fn put(file: &Path, text: &str) -> Outcome<()> {
    let beside: PathBuf = file.with_extension("next");
    std::fs::write(&beside, text)?;
    Ok(std::fs::rename(&beside, file)?)
}

/// Starts a gate on these cores, with the policy `gate.yaml` of the folder and further arguments.
pub async fn start(
    lab: &Lab,
    folder: &Path,
    set: CoreSet,
    more: &[&str],
) -> Outcome<(Process, SocketAddr)> {
    let log = lab.path("up.log");
    let mut command = Command::new(lab.bin.join("tensorgate"));
    command
        .args([
            "--json",
            "up",
            "--listen",
            "127.0.0.1:0",
            "--concurrency",
            "1",
            "--admin",
        ])
        .arg(
            std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .to_string(),
        )
        .args(more)
        .arg("-c")
        .arg(folder.join("gate.yaml"))
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--filters")
        .arg(&lab.filters);
    let mut up = Process::start("up", &lab.cores, set, &command, &log)?;
    let gate = up
        .until(async || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.lines().find_map(|line| {
                let said: serde_json::Value = serde_json::from_str(line).ok()?;
                said.get("ready")?
                    .as_str()?
                    .strip_prefix("http://")?
                    .parse()
                    .ok()
            })
        })
        .await?;
    Ok((up, gate))
}

fn hang_up(up: &Process) -> Outcome<()> {
    let pid = i32::try_from(up.pid())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| Failure::from("a process without an ID"))?;
    Ok(rustix::process::kill_process(
        pid,
        rustix::process::Signal::HUP,
    )?)
}

/// Sends a request at this interval until the response has the status of the change.
pub async fn in_force(
    gate: SocketAddr,
    shot: &Shot,
    status: u16,
    interval: Duration,
) -> Outcome<()> {
    let began = Instant::now();
    let mut client = Client::new(Address::Tcp(gate), Http::One, Expect::Status(status), 1);
    while began.elapsed() < PATIENCE {
        let volley = client
            .volley_with_failures(std::slice::from_ref(shot), 0, 1)
            .await?;
        if volley.failed == 0 {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
    failure(format!(
        "no answer {status} within {PATIENCE:?} of a change"
    ))
}
