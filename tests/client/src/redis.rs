//! A Redis server for one test, which can be killed, suspended, restarted and queried directly.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::program;
use crate::run::free_port;

/// How long the server may take to start answering.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The number of attempts to start. A port is chosen before it is bound, and another process may
/// take it in between.
const ATTEMPTS: u32 = 5;

/// A Redis server.
pub struct Redis {
    address: SocketAddr,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Child,
}

impl Redis {
    /// Starts a server whose files are in a folder.
    pub async fn start(folder: &Path) -> io::Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// The same with further command-line arguments.
    pub async fn start_with(folder: &Path, arguments: &[&str]) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let mut last = io::Error::other("no attempt");
        for _ in 0..ATTEMPTS {
            let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
            match spawn(free, folder, &arguments).await {
                Ok(child) => {
                    return Ok(Self {
                        address: free,
                        folder: folder.to_owned(),
                        arguments,
                        child,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `redis://…`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills the server as a crash would: nothing that it held comes back.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Starts the server again at the same address, empty.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(self.address, &self.folder, &self.arguments).await?;
        Ok(())
    }

    /// Suspends the server: the kernel still accepts connections, but no reply comes.
    pub async fn freeze(&self) -> io::Result<()> {
        self.signal("STOP").await
    }

    /// Resumes the server.
    pub async fn thaw(&self) -> io::Result<()> {
        self.signal("CONT").await
    }

    async fn signal(&self, name: &str) -> io::Result<()> {
        let pid = self.child.id().unwrap_or_default().to_string();
        let done = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .await?;
        if done.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("kill -{name} {pid}")))
        }
    }

    /// Sends one command on a connection of its own and returns everything that the server answers.
    pub async fn ask(&self, command: &str) -> io::Result<String> {
        ask(self.address, command).await
    }

    /// Every key.
    pub async fn keys(&self) -> io::Result<Vec<String>> {
        let answer = self.ask("KEYS *").await?;
        let lines = answer.lines().filter(|line| !line.starts_with(['*', '$']));
        Ok(lines.map(str::to_owned).collect())
    }
}

async fn spawn(address: SocketAddr, folder: &Path, arguments: &[String]) -> io::Result<Child> {
    let mut child = Command::new(program::find("redis-server", "redis", "REDIS_SERVER")?)
        .args(["--bind", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let answers = async {
        loop {
            // A server with a password answers that it needs one.
            if ask(address, "PING")
                .await
                .is_ok_and(|answer| !answer.is_empty())
            {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("redis-server ended: {status}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(START_LIMIT, answers)
        .await
        .map_err(|_| io::Error::other("redis-server does not answer"))??;
    Ok(child)
}

async fn ask(address: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let told = answer.trim_end();
    Ok(told
        .strip_suffix("+OK")
        .unwrap_or(told)
        .trim_end()
        .to_owned())
}
