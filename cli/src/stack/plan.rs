//! What one `up` starts, with which arguments: everything that can be known before anything runs.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_host::config::Folders;
use tensorgate_policy::raw::BackendKind;

use super::certificates::Certificates;
use super::child::{NOFOLLOW, Spec};
use super::envoy;
use super::private_dir::PrivateDir;
use super::probe::Target;
use super::site::{ENVOYS, Site};
use crate::Failure;
use crate::chain::Chain;
use crate::load::Loaded;
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::{Places, key_sets};

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that the policy's paths are relative to.
    pub root: PathBuf,
    /// Where logs and rendered configuration go.
    pub state: PathBuf,
    /// The folder of the filters' modules.
    pub filters: PathBuf,
    /// Which of them stand in front of the host, in order.
    pub chain: Chain,
    /// What Envoy is to be configured as if by.
    pub control_plane: ControlPlane,
    /// Where the gate listens, if not where the policy says.
    pub listen: Option<SocketAddr>,
    /// The host's admin address.
    pub admin: SocketAddr,
    /// Whether that may be one that others can reach.
    pub admin_public: bool,
    /// Envoy's worker threads.
    pub concurrency: Option<u16>,
    /// More detail in the logs.
    pub dev: bool,
}

/// How to see that a process is ready.
#[derive(Clone, Debug)]
pub enum Ready {
    /// It accepts connections.
    Accepts(Target),
    /// It answers 200.
    Answers(Target, &'static str),
}

/// One process to start.
#[derive(Clone, Debug)]
pub struct Part {
    /// How.
    pub spec: Spec,
    /// When the next may start.
    pub ready: Ready,
}

/// All of them.
#[derive(Debug)]
pub struct Plan {
    /// Embedded backends.
    pub backends: Vec<Part>,
    /// The processes without which there is no gate, in the order of starting: the host, and Envoy.
    pub parts: Vec<Part>,
    /// What is in force, and where another policy goes.
    pub site: Site,
    /// The listener's certificates, where the policy has TLS.
    pub certificates: Option<Certificates>,
    /// Which of them is the host.
    pub host: usize,
    /// The host's admin.
    pub host_admin: Target,
    /// Envoy's admin socket.
    pub envoy_admin: Target,
    /// Envoy's log.
    pub envoy_log: PathBuf,
    /// Sockets and keys, and Envoy's own; gone with the plan.
    _private: [PrivateDir; 2],
    /// Held while the state folder is ours.
    _lock: File,
}

/// Lays everything out on disk that the processes need.
pub fn plan(loaded: &Loaded, options: &Options) -> Result<Plan, Failure> {
    for filter in options.chain.filters() {
        let module = options.filters.join(format!("{}.wasm", filter.name()));
        if !module.is_file() {
            return Err(Failure::Failed(format!(
                "no filter at {}: run `make filters`, or say where with --filters",
                module.display()
            )));
        }
    }
    let envoy_binary = envoy::find()?;
    let lock = claim(&options.state)?;
    let private = || {
        PrivateDir::new()
            .map_err(|error| Failure::Failed(format!("cannot make a private folder: {error}")))
    };
    // A host behind its wall knows the first one's name, and no list of files or sockets that has the second's: no wall keeps a process
    // from a socket whose path it knows.
    let (private, envoys) = (private()?, private()?);
    let socket = |name: &str| private.path().join(name);
    // The one folder of these in which the host writes.
    let hosts = socket("host");
    folder(&hosts)?;
    let hosts = |name: &str| hosts.join(name);

    let mut backends = Vec::new();
    let mut endpoints: Vec<OsString> = Vec::new();
    let embedded = loaded
        .policy
        .backends()
        .iter()
        .filter(|(_, backend)| backend.kind() == BackendKind::Embedded);
    for (number, (name, backend)) in embedded.enumerate() {
        let path = socket(&format!("backend-{number}.sock"));
        let models = options.root.join(backend.models().unwrap_or_default());
        let mut spec = part(
            "tensorgate-embedded",
            &format!("backend {name}"),
            &options.state.join(format!("backend-{number}.log")),
        )?;
        spec.arguments = vec![
            "--models".into(),
            models.into(),
            "--listen".into(),
            concat("unix:", &path),
        ];
        backends.push(Part {
            spec,
            ready: Ready::Accepts(Target::Unix(path.clone())),
        });
        endpoints.extend(["--endpoint".into(), concat(&format!("{name}=unix:"), &path)]);
    }

    let key = envoy::context_key()?;
    let key_file = socket("context.key");
    write(&key_file, &key)?;
    own_folder(loaded, &options.state)?;
    let places = Places {
        control_plane: options.control_plane,
        listen: options.listen,
        filters: options.filters.clone(),
        chain: options.chain.filters().to_vec(),
        host_socket: hosts("host.sock"),
        admin_socket: envoys.path().join("envoy.sock"),
        audit_socket: hosts("audit.sock"),
        limits_socket: hosts("limits.sock"),
        root: options.root.clone(),
        // With the key, so in no folder that outlives the gate.
        secrets: envoys.path().to_owned(),
        system_authorities: key_sets::system_authorities()
            .unwrap_or(Path::new(""))
            .into(),
    };
    authorities(loaded, &places)?;
    let certificates = (loaded.policy.listen().tls())
        .map(|tls| Certificates::lay(tls, &options.root, &places.secrets))
        .transpose()?;
    let site = Site::new(loaded, options, places)?;

    let mut host = part("tensorgate-host", "host", &options.state.join("host.log"))?;
    host.arguments = vec![
        "--bundle".into(),
        site.bundle_file().into(),
        "--root".into(),
        options.root.clone().into(),
        "--builtins".into(),
        Folders::below(&options.root).builtins.into(),
    ];
    host.arguments.extend([
        "--socket".into(),
        hosts("host.sock").into(),
        "--audit-socket".into(),
        hosts("audit.sock").into(),
        "--limits-socket".into(),
        hosts("limits.sock").into(),
        "--audit-folder".into(),
        options.state.clone().into(),
        "--context-key-file".into(),
        key_file.into(),
        "--cache-folder".into(),
        options.state.join("compiled").into(),
    ]);
    host.arguments.extend([
        "--admin".into(),
        options.admin.to_string().into(),
        "--log".into(),
        "json".into(),
        "--wait-for-filter".into(),
    ]);
    host.arguments.extend(
        options
            .admin_public
            .then(|| OsString::from("--admin-public")),
    );
    host.arguments.extend(endpoints);
    if options.dev {
        host.environment
            .push(("RUST_LOG".into(), "info,tensorgate_host=debug".into()));
    }
    let host_admin = Target::Tcp(options.admin);
    let host = Part {
        spec: host,
        // It answers once a policy is in force; it is ready once a request has come through Envoy.
        ready: Ready::Answers(host_admin.clone(), "/generations"),
    };

    let envoy_admin = Target::Unix(site.places.admin_socket.clone());
    let mut arguments = envoy::arguments(&site.envoy_file(), options.concurrency, options.dev);
    arguments.extend(envoy::drain_arguments(options.control_plane));
    let spec = Spec {
        name: "Envoy".into(),
        program: envoy_binary,
        arguments,
        environment: vec![(CONTEXT_KEY_VARIABLE.into(), key.into())],
        log: options.state.join("envoy.log"),
    };
    let envoy_log = spec.log.clone();
    let envoy = Part {
        spec,
        ready: Ready::Answers(envoy_admin.clone(), "/ready"),
    };
    Ok(Plan {
        backends,
        parts: vec![host, envoy],
        site,
        certificates,
        host: 0,
        host_admin,
        envoy_admin,
        envoy_log,
        _private: [private, envoys],
        _lock: lock,
    })
}

/// Whether the authorities are there that the servers of key sets are held to. What is in them is Envoy's to judge.
fn authorities(loaded: &Loaded, places: &Places) -> Result<(), Failure> {
    for (issuer, url) in key_sets::of(&loaded.policy) {
        let file = match url.ca() {
            Some(file) => places.root.join(file),
            None if url.tls() && places.system_authorities.as_os_str().is_empty() => {
                return Err(Failure::Input(format!(
                    "this system has no file of authorities that it believes: name one with issuers.{issuer}.jwks.ca"
                )));
            }
            None => continue,
        };
        File::open(&file)
            .map_err(|error| Failure::Input(format!("cannot read {}: {error}", file.display())))?;
    }
    Ok(())
}

/// Whether the audit log has a folder to itself below the state's: what the host may write must hold nothing that Envoy reads.
fn own_folder(loaded: &Loaded, state: &Path) -> Result<(), Failure> {
    let audit = loaded.policy.audit();
    let state = &state.canonicalize().unwrap_or_else(|_| state.to_owned());
    for (field, file) in [("path", Some(audit.path())), ("key_file", audit.key_file())] {
        let Some(file) = file else { continue };
        let folder = state.join(file);
        let folder = folder.parent().unwrap_or(state);
        let taken = state.starts_with(folder)
            || ENVOYS
                .iter()
                .any(|name| folder.starts_with(state.join(name)));
        if taken {
            return Err(Failure::Input(format!(
                "audit.{field}: {file} lies among the gate's own files: give it another folder, as audit/decisions.jsonl has"
            )));
        }
    }
    Ok(())
}

/// Makes a folder that only its owner can enter.
fn folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::Failed(format!("cannot use {}: {error}", path.display())))
}

/// Makes the state folder ours alone: two stacks in one would write over each other's logs.
fn claim(state: &Path) -> Result<File, Failure> {
    let failed =
        |error: std::io::Error| Failure::Failed(format!("cannot use {}: {error}", state.display()));
    folder(state)?;
    let lock = (OpenOptions::new().write(true).create(true).truncate(true))
        .custom_flags(NOFOLLOW)
        .open(state.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::Failed(format!(
            "another tensorgate runs in {}: choose another folder with --state",
            state.display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// One of our own binaries: beside the one that runs.
fn part(binary: &str, name: &str, log: &Path) -> Result<Spec, Failure> {
    let program = beside(binary).ok_or_else(|| {
        Failure::Failed(format!(
            "{binary} is not beside tensorgate: a release has it there, and `make build` builds it"
        ))
    })?;
    // What a process needs of ours to find libraries and to say where it is; nothing that could hold a secret.
    let environment = [
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "LD_LIBRARY_PATH",
        "TENSORGATE_HARDEN",
    ]
    .into_iter()
    .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
    .collect();
    Ok(Spec {
        name: name.to_owned(),
        program,
        arguments: Vec::new(),
        environment,
        log: log.to_owned(),
    })
}

fn beside(binary: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(binary);
    path.is_file().then_some(path)
}

/// Writes a file that only its owner can read.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
}

fn concat(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push::<&OsStr>(path.as_ref());
    text
}
