//! Starts `tensorgate up` as a user would, waits for its readiness line, and stops it as Ctrl-C
//! does.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::processes::{driver, end, ours};

/// Time from start to the readiness line. Components are compiled in this time.
const START_LIMIT: Duration = Duration::from_secs(90);

/// The prefix of the readiness line; a scheme and an address follow.
const READY: &str = "tensorgate ready: ";

/// A running gate.
pub struct Gate {
    child: Child,
    address: SocketAddr,
}

impl Gate {
    /// Starts it on free ports, to avoid conflicts with a running gate, and waits until it is
    /// ready. `more`: further arguments of `up`.
    pub async fn start(policy: &Path, state: &Path, more: &[&str]) -> Result<Self> {
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let binary = ours("tensorgate")?;
        let mut child = Command::new(&binary)
            .args([
                "up".as_ref(),
                "-c".as_ref(),
                policy.as_os_str(),
                "--state".as_ref(),
                state.as_os_str(),
            ])
            .args(["--listen", "127.0.0.1:0", "--admin", &admin.to_string()])
            .args(driver()?)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}; run `make build` first", binary.display()))?;
        let stdout = child
            .stdout
            .take()
            .context("the gate has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                println!("{line}");
                if let Some((address, _)) = line
                    .strip_prefix(READY)
                    .and_then(|rest| rest.split_once("://")?.1.split_once(' '))
                {
                    return Ok(address.parse()?);
                }
            }
            bail!("the gate stopped before it was ready")
        };
        let address = tokio::time::timeout(START_LIMIT, ready)
            .await
            .context("the gate was not ready in time")??;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address })
    }

    /// The address on which it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it; an error if it does not end cleanly.
    pub async fn stop(self) -> Result<()> {
        end(self.child).await.context("stopping a gate")
    }
}
