//! Python model servers that do the same work as a handler. `tools/bench-peers.sh` installs them
//! where it can.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::child::Process;
use crate::cores::CoreSet;
use crate::lab::Lab;
use crate::load::{Address, Client, Expect, Http};
use crate::models::{PHOTO, grpc_shot};
use crate::outcome::{Outcome, failure};

/// A running peer.
pub struct Peer {
    /// The process. Its children's CPU time is included.
    pub process: Process,
    /// Its gRPC address.
    pub address: Address,
}

/// Starts a peer. `backend` is where a peer that forwards sends its requests. The inner error says
/// why a peer is not installed.
pub async fn start(lab: &Lab, name: &str, backend: SocketAddr) -> Outcome<Result<Peer, String>> {
    let installed = lab.cache.join(format!("bench-{name}"));
    if !installed.is_dir() {
        return Ok(Err(format!(
            "{name} is not installed (tools/bench-peers.sh)"
        )));
    }
    let port = free_port()?;
    let command = match name {
        "kserve" => kserve(lab, &installed, port, backend)?,
        "triton" => triton(lab, &installed, port)?,
        "mlserver" => mlserver(lab, &installed, port)?,
        _ => return failure(format!("unknown peer {name}")),
    };
    let log = lab.path(&format!("{name}.log"));
    let mut process = Process::start(name, &lab.cores, CoreSet::Subject, &command, &log)?;
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    let shot = grpc_shot(PHOTO)?;
    process
        .until(async || {
            let mut client = Client::new(address.clone(), Http::Two, Expect::Grpc, 1);
            client.volley(std::slice::from_ref(&shot), 0, 1).await.ok()
        })
        .await?;
    Ok(Ok(Peer { process, address }))
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One uvicorn worker and one gRPC server, as its documentation starts a transformer.
fn kserve(lab: &Lab, installed: &Path, port: u16, backend: SocketAddr) -> Outcome<Command> {
    let mut command = Command::new(installed.join("bin/python"));
    command
        .arg(lab.root.join("bench/peers/kserve/transformer.py"))
        .args(["--model_name", "photo", "--predictor_protocol", "grpc-v2"])
        .args(["--grpc_port", &port.to_string()])
        .args(["--http_port", &free_port()?.to_string()])
        .args(["--predictor_host", &backend.to_string()])
        .args(["--enable_docs_url", "False"]);
    Ok(command)
}

/// Models cannot change while it runs, and only gRPC is enabled.
fn triton(lab: &Lab, installed: &Path, port: u16) -> Outcome<Command> {
    let mut command = Command::new(installed.join("bin/tritonserver"));
    command
        .env("LD_LIBRARY_PATH", installed.join("libraries"))
        .env("PATH", joined(&installed.join("bin")))
        .env("PYTHONPATH", site_packages(installed)?)
        .arg("--model-repository")
        .arg(lab.root.join("bench/peers/triton"))
        .arg("--backend-directory")
        .arg(installed.join("backends"))
        .args(["--allow-http", "false", "--allow-metrics", "false"])
        .args(["--grpc-address", "127.0.0.1"])
        .args(["--grpc-port", &port.to_string()])
        .args(["--log-info", "false"]);
    Ok(command)
}

/// One process without a worker pool: on one core, a pool would only add to the cost.
fn mlserver(lab: &Lab, installed: &Path, port: u16) -> Outcome<Command> {
    let folder = lab.root.join("bench/peers/mlserver");
    let mut command = Command::new(installed.join("bin/mlserver"));
    command
        .env("MLSERVER_HOST", "127.0.0.1")
        .env("MLSERVER_GRPC_PORT", port.to_string())
        .env("MLSERVER_HTTP_PORT", free_port()?.to_string())
        .env("MLSERVER_METRICS_PORT", free_port()?.to_string())
        .env("MLSERVER_PARALLEL_WORKERS", "0")
        .env("MLSERVER_DEBUG", "false")
        .env("PYTHONPATH", &folder)
        .arg("start")
        .arg(&folder);
    Ok(command)
}

fn joined(first: &Path) -> std::ffi::OsString {
    let mut path = first.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn site_packages(installed: &Path) -> Outcome<std::path::PathBuf> {
    for entry in std::fs::read_dir(installed.join("lib"))? {
        let folder = entry?.path().join("site-packages");
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    failure(format!("{} has no packages", installed.display()))
}
