//! Hosts and gateways as separate processes that speak TCP with mutual TLS, each on a node of its
//! own.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tensorgate_client::http1::{self, Framing};
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_policy::Compiled;
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::ask::PATIENCE;
use tensorgate_tests::programs::{envoy, program, target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

use super::network::Node;

/// The name in the certificate of each host.
const HOST_NAME: &str = "host.example";
/// The name of gateways that the hosts accept.
pub const GATEWAY: &str = "spiffe://test.example/ns/gate/sa/gateway";
/// The secret of those who read a host's admin server over the network.
const READER_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The pause between two looks at another process.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many bytes of a log a failed test prints.
const LOG_TAIL: usize = 4 << 10;

/// Replaces a file as a renewal does. Only its owner can read it.
pub fn replace(file: &Path, content: &[u8]) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, content).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

/// Ends a process as an orchestrator does.
async fn terminate(child: &mut Child) {
    let pid = child.id().expect("it runs").to_string();
    let signalled = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(signalled.unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    let ended = ended.expect("it ends in time").unwrap();
    assert!(ended.success(), "{ended}");
}

fn log_file(folder: &Path) -> File {
    let mut options = File::options();
    options.create(true).append(true);
    options.open(log(folder)).unwrap()
}

fn log(folder: &Path) -> PathBuf {
    folder.join("process.log")
}

/// Prints the end of a process's log if the test has failed.
fn print_log(folder: &Path) {
    if std::thread::panicking() {
        let text = std::fs::read(log(folder)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL)..];
        eprintln!(
            "--- {}\n{}",
            folder.display(),
            String::from_utf8_lossy(tail)
        );
    }
}

/// A sandbox host without Unix sockets.
pub struct Host {
    node: Node,
    folder: PathBuf,
    requests: SocketAddr,
    access_log: SocketAddr,
    limits: SocketAddr,
    admin: SocketAddr,
    process: Option<Child>,
}

impl Host {
    /// Writes the files of a host. It does not run yet.
    pub fn new(node: Node, folder: PathBuf, authority: &Authority, context_keys: &str) -> Self {
        std::fs::create_dir(&folder).unwrap();
        let leaf = authority.issue(1, &[&format!("dns:{HOST_NAME}")]).unwrap();
        replace(&folder.join("tls.crt"), leaf.pem.as_bytes());
        replace(&folder.join("tls.key"), leaf.key.as_bytes());
        replace(&folder.join("ca.crt"), authority.pem.as_bytes());
        replace(&folder.join("reader.secret"), READER_SECRET.as_bytes());
        let host = Self {
            folder,
            requests: node.free_address(),
            access_log: node.free_address(),
            limits: node.free_address(),
            admin: node.free_address(),
            node,
            process: None,
        };
        host.give_keys(context_keys);
        host
    }

    /// Replaces its context keys.
    pub fn give_keys(&self, keys: &str) {
        replace(&self.folder.join("context.key"), keys.as_bytes());
    }

    /// Replaces its policy. It may run or not.
    pub fn give_policy(&self, bundle: &[u8]) {
        replace(&self.folder.join("bundle.bin"), bundle);
    }

    /// Starts it, and waits until it is ready.
    pub async fn start(&mut self) {
        let mut command = self.node.command(program("tensorgate-host"));
        for (flag, file) in [
            ("--bundle", "bundle.bin"),
            ("--root", ""),
            ("--audit-folder", ""),
            ("--tls-cert", "tls.crt"),
            ("--tls-key", "tls.key"),
            ("--tls-client-ca", "ca.crt"),
            ("--context-key-file", "context.key"),
        ] {
            command.arg(flag).arg(self.folder.join(file));
        }
        for (flag, address) in [
            ("--listen", self.requests),
            ("--audit-listen", self.access_log),
            ("--limits-listen", self.limits),
            ("--admin", self.admin),
        ] {
            command.args([flag, &address.to_string()]);
        }
        let process = command
            .args(["--gateway", GATEWAY, "--admin-public", "--log", "json"])
            // As long as a request may take.
            .args(["--drain-s", "60"])
            .arg("--console-public")
            .arg(self.folder.join("reader.secret"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file(&self.folder))
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.unwrap());
        self.shows("/readyz", |(status, _)| *status == 200).await;
    }

    /// Stops it as an orchestrator does, and waits for its end.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        terminate(&mut process).await;
    }

    /// Waits until its admin server answers in this way: with a status and a body.
    pub async fn shows(&self, path: &str, wanted: impl Fn(&(u16, String)) -> bool) {
        let started = Instant::now();
        loop {
            let fields = [("authorization", format!("Bearer {READER_SECRET}"))];
            let sent = http1::send(self.admin, "GET", path, &fields, b"", Framing::Length);
            let answer = match sent.await {
                Ok(reply) => (reply.status, String::from_utf8(reply.body).unwrap()),
                Err(error) => (0, error.to_string()),
            };
            if wanted(&answer) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{path}: {answer:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What it has logged since its first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log(&self.folder)).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        print_log(&self.folder);
    }
}

/// An Envoy with the configuration of `render envoy --host`.
pub struct Gateway {
    node: Node,
    folder: PathBuf,
    /// Where clients connect.
    pub address: SocketAddr,
    process: Option<Child>,
}

impl Gateway {
    /// Writes the files of a gateway. It does not run yet.
    pub fn new(node: Node, folder: PathBuf, authority: &Authority, leaf: &Leaf) -> Self {
        std::fs::create_dir_all(folder.join("tls")).unwrap();
        replace(&folder.join("tls/ca.crt"), authority.pem.as_bytes());
        let gateway = Self {
            folder,
            address: node.free_address(),
            node,
            process: None,
        };
        gateway.give_certificate(leaf);
        gateway
    }

    /// Renews its certificate.
    pub fn give_certificate(&self, leaf: &Leaf) {
        replace(&self.folder.join("tls/tls.crt"), leaf.pem.as_bytes());
        replace(&self.folder.join("tls/tls.key"), leaf.key.as_bytes());
    }

    /// Renders a policy into a folder of its own. Returns the bundle for the hosts.
    pub async fn render(&self, policy: &Policy, hosts: &[Host]) -> Vec<u8> {
        let file = self.folder.join("gate.yaml");
        std::fs::write(&file, serde_json::to_vec(policy).unwrap()).unwrap();
        let mut command = Command::new(program("tensorgate"));
        command.args(["render", "-c"]).arg(&file).arg("envoy");
        for (flag, path) in [
            ("-o", self.next()),
            ("--dynamic", self.folder.join("dynamic")),
            ("--secrets", self.folder.clone()),
            ("--tls-dir", self.folder.clone()),
            ("--filters", target().join("filters")),
            ("--admin-socket", self.folder.join("admin.sock")),
        ] {
            command.arg(flag).arg(path);
        }
        for host in hosts {
            command.args(["--host", &host.requests.to_string()]);
            command.args(["--limits-host", &host.limits.to_string()]);
        }
        let access_log = hosts[0].access_log.to_string();
        let rendered = command
            .args([
                "--listen",
                &self.address.to_string(),
                "--stats",
                "127.0.0.1:0",
            ])
            .args(["--audit-host", &access_log, "--host-name", HOST_NAME])
            .args(["--host-ca", "tls/ca.crt", "--host-cert", "tls/tls.crt"])
            .args(["--host-key", "tls/tls.key"])
            .output()
            .await
            .unwrap();
        let errors = String::from_utf8_lossy(&rendered.stderr);
        assert!(rendered.status.success(), "{errors}");
        std::fs::read(self.next().join("bundle.bin")).unwrap()
    }

    fn next(&self) -> PathBuf {
        self.folder.join("next")
    }

    /// Puts what was rendered last in place of a gateway that does not run.
    pub fn install(&self) {
        for name in [
            "envoy.yaml",
            "host-certificate.yaml",
            "host-authorities.yaml",
            "dynamic",
        ] {
            std::fs::rename(self.next().join(name), self.folder.join(name)).unwrap();
        }
    }

    /// Gives what was rendered last to the running gateway: clusters, listener, filter.
    pub fn change(&self) {
        for part in ["cds", "lds", "ecds-tensorgate.gate"] {
            let name = format!("dynamic/{part}.yaml");
            std::fs::rename(self.next().join(&name), self.folder.join(&name)).unwrap();
        }
    }

    /// Starts it with a context key. It listens once [`Self::ready`] returns.
    pub fn start(&mut self, context_key: &str) {
        let process = self
            .node
            .command(envoy())
            .args(["--disable-hot-restart", "--concurrency", "1", "-c"])
            .arg(self.folder.join("envoy.yaml"))
            .env("TENSORGATE_CONTEXT_KEY", context_key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file(&self.folder))
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Waits until it listens.
    pub async fn ready(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            let process = self.process.as_mut().expect("it was started");
            assert!(process.try_wait().unwrap().is_none(), "it has ended");
            assert!(started.elapsed() < 2 * PATIENCE, "it does not listen");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops it, and waits for its end.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        terminate(&mut process).await;
    }

    /// How often its TLS settings for requests to hosts were renewed.
    pub async fn renewals(&self) -> u64 {
        let socket = self.folder.join("admin.sock");
        let mut admin = UnixStream::connect(socket).await.unwrap();
        let name = "cluster.tensorgate-host.client_ssl_socket_factory.ssl_context_update_by_sds";
        let request = format!(
            "GET /stats?filter={name} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
        );
        admin.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        admin.read_to_string(&mut answer).await.unwrap();
        let count = |line: &str| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok();
        answer.lines().find_map(count).expect("it counts them")
    }

    /// Waits until its TLS settings were renewed more often than this.
    pub async fn renewed(&self, before: u64) {
        let started = Instant::now();
        while self.renewals().await <= before {
            assert!(started.elapsed() < PATIENCE, "nothing was renewed");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        print_log(&self.folder);
    }
}

/// The version of a rendered policy.
pub fn generation(bundle: &[u8]) -> String {
    Compiled::load(bundle).unwrap().generation
}
