//! A gate whose sandbox host is reached over TCP with mutual TLS, as on another machine. All
//! certificates and keys are generated at every start.

mod gateways;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use tensorgate_client::program;
use tensorgate_client::run::free_port;
use tokio::process::{Child, Command};

use crate::processes::{driver, end, ours, run, started};
pub use gateways::Gateways;

/// The name of the gateway that the host serves.
const GATEWAY: &str = "spiffe://demo.example/ns/gate/sa/gateway";
/// The name of the host.
const HOST: &str = "host.demo.example";
/// The context key, which both have.
const CONTEXT_KEY: &str = "context.key";
/// The folder of the rendered policy.
const RENDERED: &str = "rendered";

/// Where the programs of the gate listen.
struct Addresses {
    gate: SocketAddr,
    /// The host's three ports.
    requests: SocketAddr,
    access_log: SocketAddr,
    limits: SocketAddr,
    models: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        let free = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self {
            gate: free(),
            requests: free(),
            access_log: free(),
            limits: free(),
            models: free(),
        }
    }
}

/// A running gate.
pub struct RemoteGate {
    envoy: Child,
    host: Child,
    models: Child,
    addresses: Addresses,
}

impl RemoteGate {
    /// Renders a policy and starts its programs, each once the one behind it listens. The folder
    /// has the files that [`Gateways::make`] has written. `models`: the folder of the models.
    pub async fn start(folder: &Path, policy: &Path, models: &Path) -> Result<Self> {
        let addresses = Addresses::free();
        render(folder, policy, &addresses).await?;
        let mut command = Command::new(ours("tensorgate-embedded")?);
        command.arg("--models").arg(models);
        command.args(["--listen", &addresses.models.to_string()]);
        let models = started(command, &folder.join("models.log"), addresses.models).await?;
        let host = start_host(folder, &addresses).await?;
        let envoy = start_envoy(folder, &addresses).await?;
        Ok(Self {
            envoy,
            host,
            models,
            addresses,
        })
    }

    /// The address of the gate.
    pub const fn address(&self) -> SocketAddr {
        self.addresses.gate
    }

    /// The address at which its host serves gateways.
    pub const fn host_address(&self) -> SocketAddr {
        self.addresses.requests
    }

    /// Stops it; an error if a program does not end cleanly.
    pub async fn stop(self) -> Result<()> {
        for (name, child) in [
            ("Envoy before the host over TCP", self.envoy),
            ("the host over TCP", self.host),
            ("the models of the host over TCP", self.models),
        ] {
            end(child)
                .await
                .with_context(|| format!("stopping {name}"))?;
        }
        Ok(())
    }
}

/// Writes Envoy's configuration and the host's bundle.
async fn render(folder: &Path, policy: &Path, addresses: &Addresses) -> Result<()> {
    let rendered = folder.join(RENDERED);
    let mut command = Command::new(ours("tensorgate")?);
    command
        .args(["render", "envoy", "--whole"])
        .arg(policy)
        .arg("--output")
        .arg(&rendered)
        .arg("--secrets")
        .arg(&rendered)
        .arg("--tls-dir")
        .arg(folder)
        .args(driver()?)
        .arg("--admin-socket")
        .arg(folder.join("envoy.sock"))
        .args(["--stats", "127.0.0.1:0"])
        .args(["--host-ca", "ca.crt", "--host-name", HOST])
        .args(["--host-cert", "envoy.crt", "--host-key", "envoy.key"]);
    for (flag, address) in [
        ("--listen", addresses.gate),
        ("--host", addresses.requests),
        ("--audit-host", addresses.access_log),
        ("--limits-host", addresses.limits),
    ] {
        command.args([flag, &address.to_string()]);
    }
    run(command).await.context("render envoy").map(drop)
}

async fn start_host(folder: &Path, addresses: &Addresses) -> Result<Child> {
    let mut command = Command::new(ours("tensorgate-host")?);
    command
        .arg("--bundle")
        .arg(folder.join(RENDERED).join("bundle.bin"));
    for (flag, file) in [
        ("--root", ""),
        ("--audit-folder", ""),
        ("--tls-cert", "host.crt"),
        ("--tls-key", "host.key"),
        ("--tls-client-ca", "ca.crt"),
        ("--context-key-file", CONTEXT_KEY),
    ] {
        command.arg(flag).arg(folder.join(file));
    }
    for (flag, address) in [
        ("--listen", addresses.requests),
        ("--audit-listen", addresses.access_log),
        ("--limits-listen", addresses.limits),
    ] {
        command.args([flag, &address.to_string()]);
    }
    command
        .args(["--gateway", GATEWAY, "--admin", "127.0.0.1:0"])
        .args(["--endpoint", &format!("cpu=http://{}", addresses.models)]);
    started(command, &folder.join("host.log"), addresses.requests).await
}

async fn start_envoy(folder: &Path, addresses: &Addresses) -> Result<Child> {
    let key = folder.join(CONTEXT_KEY);
    let key =
        std::fs::read_to_string(&key).with_context(|| format!("reading {}", key.display()))?;
    let mut command = Command::new(program::find("envoy", "envoy/bin", "ENVOY")?);
    command
        .args(["--disable-hot-restart", "--concurrency", "1", "-c"])
        .arg(folder.join(RENDERED).join("envoy.yaml"))
        .env("TENSORGATE_CONTEXT_KEY", key);
    started(command, &folder.join("envoy.log"), addresses.gate).await
}
