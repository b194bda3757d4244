//! The environment of a run: folders, binaries, cores, and the context key that a gate and its host
//! share.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tensorgate_policy::hex;

use crate::child::Process;
use crate::cores::{CoreSet, Cores};
use crate::load::Address;
use crate::outcome::{Failure, Outcome, failure};

/// The environment variable that carries the context key into the filter.
const CONTEXT_KEY_VARIABLE: &str = "TENSORGATE_CONTEXT_KEY";

/// The environment of a run.
pub struct Lab {
    /// Sockets, configurations and logs. The path is short, because a socket's path has at most 107
    /// bytes.
    folder: PathBuf,
    /// The project's binaries.
    pub bin: PathBuf,
    /// The filter modules.
    pub filters: PathBuf,
    /// The handler components.
    pub components: PathBuf,
    /// The user's cache folder, where the peers are installed.
    pub cache: PathBuf,
    /// The repository.
    pub root: PathBuf,
    /// The available cores.
    pub cores: Cores,
    /// Runs one round of few requests, to check that every scenario works.
    pub quick: bool,
    envoy: PathBuf,
    key: String,
    count: AtomicUsize,
}

impl Lab {
    /// Finds the binaries and cores, and makes the run's folder.
    pub fn new(filters: PathBuf, components: PathBuf, quick: bool) -> Outcome<Self> {
        let bin = std::env::current_exe()?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default();
        for binary in ["tensorgate", "tensorgate-handler", "tensorgate-host"] {
            if !bin.join(binary).is_file() {
                return failure(format!(
                    "{binary} is not in {}: run `make bench`",
                    bin.display()
                ));
            }
        }
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .unwrap_or_default()
            .join("tensorgate");
        let envoy =
            std::env::var_os("ENVOY").map_or_else(|| cache.join("envoy/bin/envoy"), PathBuf::from);
        if !envoy.is_file() {
            return failure(format!("no Envoy at {}: run make setup", envoy.display()));
        }
        let folder = std::env::temp_dir().join(format!("tg-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let mut random = [0; 32];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
        Ok(Self {
            folder,
            bin,
            filters: filters.canonicalize()?,
            components: components.canonicalize()?,
            cache,
            root: std::env::current_dir()?,
            cores: Cores::of_this_process()?,
            quick,
            envoy,
            key: hex(&random),
            count: AtomicUsize::new(0),
        })
    }

    /// A new path in the run's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{number}-{name}"))
    }

    /// A new folder in the run's folder.
    pub fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.path(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Runs `tensorgate` and returns its standard output.
    pub fn tensorgate(&self, arguments: &[&std::ffi::OsStr]) -> Outcome<Vec<u8>> {
        let output = Command::new(self.bin.join("tensorgate"))
            .args(arguments)
            .output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        failure(format!(
            "tensorgate {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// The folder of runtimes, which handlers in Python import.
    pub fn runtimes(&self) -> PathBuf {
        self.cache.join("runtimes")
    }

    /// The folder of compiled handlers, which builds fill.
    pub fn compiled_code(&self) -> PathBuf {
        self.cache.join("compiled")
    }

    /// Writes the context key to a file that only this user can read.
    pub fn key_file(&self) -> Outcome<PathBuf> {
        let path = self.path("context.key");
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(self.key.as_bytes())?;
        Ok(path)
    }

    /// Starts Envoy with a bootstrap whose admin socket is `admin`, and returns where it listens.
    pub async fn envoy(
        &self,
        name: &str,
        bootstrap: &str,
        admin: &Path,
        workers: usize,
    ) -> Outcome<Envoy> {
        let file = self.path("envoy.yaml");
        std::fs::write(&file, bootstrap)?;
        let set = if workers > 1 {
            CoreSet::Anywhere
        } else {
            CoreSet::Subject
        };
        let mut command = Command::new(&self.envoy);
        command
            .arg("-c")
            .arg(&file)
            .args(["--disable-hot-restart", "-l", "warning", "--concurrency"])
            .arg(workers.to_string())
            .env(CONTEXT_KEY_VARIABLE, &self.key);
        let log = self.path(&format!("envoy-{name}.log"));
        let mut process = Process::start(name, &self.cores, set, &command, &log)?;
        let admin = Address::Unix(admin.to_owned());
        let address = process
            .until(async || {
                crate::admin::ask(&admin, http::Method::GET, "/ready")
                    .await
                    .ok()?;
                let listeners =
                    crate::admin::ask(&admin, http::Method::GET, "/listeners?format=json")
                        .await
                        .ok()?;
                listening(&listeners)
            })
            .await?;
        Ok(Envoy {
            process,
            address: Address::Tcp(address),
        })
    }

    /// Envoy's version.
    pub fn envoy_version(&self) -> String {
        let output = Command::new(&self.envoy).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default()
            .split('/')
            .find(|part| part.split('.').count() == 3)
            .unwrap_or("unknown")
            .to_owned()
    }

    /// The run's folder, to name what remains after a failure.
    pub fn run_folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces the paths of this machine in a text for the report.
    pub fn without_folders(&self, text: &str) -> String {
        let of_run = format!("{}/", self.folder.display());
        let of_tree = format!("{}/", self.root.display());
        text.replace(&of_run, "").replace(&of_tree, "")
    }

    /// Removes the run's folder.
    pub fn clear(&self) {
        // A folder that cannot be removed stays in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn listening(listeners: &[u8]) -> Option<std::net::SocketAddr> {
    let listeners: Value = serde_json::from_slice(listeners).ok()?;
    let address = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
    let ip = address.get("address")?.as_str()?.parse().ok()?;
    let port = u16::try_from(address.get("port_value")?.as_u64()?).ok()?;
    (port != 0).then(|| std::net::SocketAddr::new(ip, port))
}

/// A running Envoy.
pub struct Envoy {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: Address,
}

/// One of the bench's own servers.
pub struct Server {
    /// The process.
    pub process: Process,
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Its TCP port, if it has one.
    pub tcp: Option<std::net::SocketAddr>,
}

impl Server {
    /// Starts a server on the load's core.
    pub async fn start(lab: &Lab, kind: &str) -> Outcome<Self> {
        Self::start_with(lab, kind, &[]).await
    }

    /// Starts a server with further arguments.
    pub async fn start_with(lab: &Lab, kind: &str, more: &[&std::ffi::OsStr]) -> Outcome<Self> {
        let socket = lab.path(&format!("{kind}.sock"));
        let log = lab.path(&format!("{kind}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", kind, "--tcp", "127.0.0.1:0", "--unix"])
            .arg(&socket)
            .args(more);
        let mut process = Process::start(kind, &lab.cores, CoreSet::Load, &command, &log)?;
        let tcp = process
            .until(async || {
                let text = std::fs::read_to_string(&log).ok()?;
                text.lines()
                    .find_map(|line| line.strip_prefix("listening on ")?.parse().ok())
            })
            .await?;
        Ok(Self {
            process,
            socket,
            tcp: Some(tcp),
        })
    }

    /// Its TCP address; an error if it has none.
    pub fn tcp(&self) -> Outcome<std::net::SocketAddr> {
        self.tcp
            .ok_or_else(|| Failure::from("this server has no port"))
    }
}
