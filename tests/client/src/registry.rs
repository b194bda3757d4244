//! An OCI registry for one test: the real program, over TLS, with one user.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::pki::Leaf;
use crate::program;
use crate::run::free_port;

/// The user who may push.
pub const LOGIN: &str = "pusher:wasm-secret";
/// How long the registry may take to start answering.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The number of attempts to start. A port is chosen before it is bound, and another process may
/// take it in between.
const ATTEMPTS: u32 = 5;
/// The user's password file: `wasm-secret`, bcrypt.
const PASSWORD: &str = "pusher:$2y$04$abcdefghijklmnopqrstuunlYhkTFbgRA54GboW54rggxAi/fdlcW\n";

/// A registry; it ends when this value is dropped.
pub struct Registry {
    address: SocketAddr,
    child: Child,
}

impl Registry {
    /// Starts a registry whose files are in a folder.
    pub fn start(folder: &Path, leaf: &Leaf) -> io::Result<Self> {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path.display().to_string())
        };
        let (certificate, key) = (file("tls.pem", &leaf.pem)?, file("tls.key", &leaf.key)?);
        let users = file("users", PASSWORD)?;
        let mut last = io::Error::other("no attempt");
        for _ in 0..ATTEMPTS {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let storage = folder.join("storage").display().to_string();
            let config = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\n\
                 http: {{addr: \"{address}\", secret: test, tls: {{certificate: {certificate}, key: {key}}}}}\nauth: {{htpasswd: {{realm: test, path: {users}}}}}\n"
            );
            let config = file("registry.yml", &config)?;
            let child = Command::new(program::find(
                "docker-registry",
                "registry",
                "DOCKER_REGISTRY",
            )?)
            .args(["serve", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
            let mut registry = Self { address, child };
            match registry.answers() {
                Ok(()) => return Ok(registry),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn answers(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("docker-registry ended: {status}")));
            }
            if std::net::TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::other("docker-registry does not answer"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
