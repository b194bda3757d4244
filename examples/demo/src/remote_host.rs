//! A sandbox host that serves gateways over TCP with mutual TLS, as on another machine. All
//! certificates are generated at every start; the keys of gateways exist only in this process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::tls::Caller;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::gate::end;

/// The policy that it serves. No row gets as far as its backend, which does not exist.
const BUNDLE: &str = include_str!("remote_host/bundle.json");
/// The name of the gateway that it serves.
const GATEWAY: &str = "spiffe://demo.example/ns/gate/sa/gateway";
/// Time from start to its first connection. It has no handlers to compile.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The pause between two attempts to connect.
const ATTEMPT_EVERY: Duration = Duration::from_millis(10);

/// Gateways with certificates.
pub struct Gateways {
    /// The one that the host serves.
    pub listed: Caller,
    /// One with another name.
    pub unlisted: Caller,
    /// One with the right name, from another authority.
    pub impostor: Caller,
}

impl Gateways {
    /// Generates their certificates, and the host's files in a folder with access for its owner
    /// only.
    pub fn make(folder: &Path) -> Result<Self> {
        let (ours, other) = (Authority::new("demo hosts")?, Authority::new("others")?);
        let host = ours.issue(1, &["ip:127.0.0.1"])?;
        let name = format!("uri:{GATEWAY}");
        let listed = ours.issue(2, &[&name])?;
        let unlisted = ours.issue(3, &["uri:spiffe://demo.example/ns/other/sa/gateway"])?;
        let impostor = other.issue(2, &[&name])?;
        let mut key = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut key))
            .context("reading random bytes")?;
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("making {}", folder.display()))?;
        for (name, text) in [
            ("bundle.json", BUNDLE),
            ("tls.crt", &host.pem),
            ("tls.key", &host.key),
            ("ca.crt", &ours.pem),
            ("context.key", &key),
        ] {
            let file = folder.join(name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file)
                .and_then(|mut opened| opened.write_all(text.as_bytes()))
                .with_context(|| format!("writing {}", file.display()))?;
        }
        let caller = |leaf: &Leaf| -> Result<Caller> {
            Ok(Caller::new(&ours.pem, leaf.shown())?.with_http2())
        };
        Ok(Self {
            listed: caller(&listed)?,
            unlisted: caller(&unlisted)?,
            impostor: caller(&impostor)?,
        })
    }
}

/// A running host.
pub struct RemoteHost {
    child: Child,
    address: SocketAddr,
}

impl RemoteHost {
    /// Starts it with the files that [`Gateways::make`] has written, and waits until it listens.
    pub async fn start(folder: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let binary = std::env::current_exe()?.with_file_name("tensorgate-host");
        let log = folder.join("host.log");
        let log = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        let mut command = Command::new(&binary);
        for (flag, file) in [
            ("--bundle", "bundle.json"),
            ("--root", ""),
            ("--audit-folder", ""),
            ("--tls-cert", "tls.crt"),
            ("--tls-key", "tls.key"),
            ("--tls-client-ca", "ca.crt"),
            ("--context-key-file", "context.key"),
        ] {
            command.arg(flag).arg(folder.join(file));
        }
        let mut child = command
            .args(["--listen", &address.to_string()])
            .args(["--gateway", GATEWAY, "--admin", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}; run `make build` first", binary.display()))?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    bail!("the host over TCP stopped with {status}");
                }
                tokio::time::sleep(ATTEMPT_EVERY).await;
            }
            Ok(())
        };
        tokio::time::timeout(START_LIMIT, listens)
            .await
            .context("the host over TCP does not listen")??;
        Ok(Self { child, address })
    }

    /// The address on which it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it; an error if it does not end cleanly.
    pub async fn stop(self) -> Result<()> {
        end(self.child).await.context("stopping the host over TCP")
    }
}
