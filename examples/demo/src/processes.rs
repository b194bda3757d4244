//! Starts, awaits and ends programs of this repository.

use std::env::VarError;
use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Time from the start of a program to its first connection. Envoy compiles the filter in it.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Time from SIGTERM to exit.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// The pause between two attempts to connect.
const ATTEMPT_EVERY: Duration = Duration::from_millis(10);

/// A program of this repository, which is beside this one.
pub fn ours(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// How Envoy runs the filters, and their folder, as arguments of `up` and of `render envoy`: the
/// native module if the variable `DRIVER` asks for it.
pub fn driver() -> Result<[OsString; 4]> {
    let (driver, folder) = match std::env::var("DRIVER").as_deref() {
        Ok("module") => ("module", ours("")?),
        Ok("" | "wasm") | Err(VarError::NotPresent) => ("wasm", ours("..")?.join("filters")),
        _ => bail!("DRIVER is wasm or module"),
    };
    Ok([
        "--driver".into(),
        driver.into(),
        "--filters".into(),
        folder.into(),
    ])
}

/// Runs a program to its end. Returns what it printed; an error if it fails.
pub async fn run(mut command: Command) -> Result<String> {
    let name = PathBuf::from(command.as_std().get_program());
    let done = command.kill_on_drop(true).stdin(Stdio::null()).output();
    let done = done
        .await
        .with_context(|| format!("starting {}", name.display()))?;
    if !done.status.success() {
        let cause = String::from_utf8_lossy(&done.stderr);
        bail!("{} {}: {cause}", name.display(), done.status);
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// Starts a program with its log in a file, and waits until it listens.
pub async fn started(mut command: Command, log: &Path, address: SocketAddr) -> Result<Child> {
    let file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting the program of {}", log.display()))?;
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("it stopped with {status}");
            }
            tokio::time::sleep(ATTEMPT_EVERY).await;
        }
        Ok(())
    };
    let what = || format!("waiting for the program of {}", log.display());
    tokio::time::timeout(START_LIMIT, listens)
        .await
        .context("it does not listen in time")
        .with_context(what)?
        .with_context(what)?;
    Ok(child)
}

/// Stops a process as Ctrl-C does; an error if it does not end cleanly.
pub async fn end(mut child: Child) -> Result<()> {
    let pid = child.id().context("it stopped by itself")?;
    let signalled = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .await?;
    if !signalled.success() {
        bail!("it could not be signalled");
    }
    let status = tokio::time::timeout(STOP_LIMIT, child.wait())
        .await
        .context("it did not stop in time")??;
    if !status.success() {
        bail!("it stopped with {status}");
    }
    Ok(())
}
