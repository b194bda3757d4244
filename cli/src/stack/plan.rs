//! Plans the processes of `tensorgate up` and their arguments, before anything is started.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_cli_common::state_folder::HOST_LOG;
use tensorgate_cli_common::{Failure, user_folders};
use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::values::BackendKind;
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::folders::Folders;

use super::certificates::Certificates;
use super::child::Spec;
use super::options::Options;
use super::probe::Target;
use super::ready::Ready;
use super::running::{Lock, Running, unusable};
use super::site::{OWN_FOLDERS, Site};
use super::{envoy, ports, verified_models};
use crate::programs;
use crate::render::envoy::{Driver, RenderOptions, key_sets};

/// Envoy's name for messages.
pub const ENVOY: &str = "Envoy";
/// The environment variable with the host's OS sandbox.
const HARDEN: &str = "TENSORGATE_HARDEN";
/// Those with the host's bounds on handlers.
const HANDLER_BOUNDS: [&str; 2] = ["TENSORGATE_HANDLER_THREADS", "TENSORGATE_HANDLER_MEMORY"];

/// A process to start.
#[derive(Clone, Debug)]
pub struct Part {
    /// How to start it.
    pub spec: Spec,
    /// Condition before the next process starts.
    pub ready: Ready,
}

/// Everything to start.
#[derive(Debug)]
pub struct Plan {
    /// Embedded backends.
    pub backends: Vec<Part>,
    /// The required processes in starting order: the host, and Envoy.
    pub parts: Vec<Part>,
    /// The configuration in force.
    pub site: Site,
    /// The listener's certificates, if the policy has TLS.
    pub certificates: Option<Certificates>,
    /// Index of the host in `parts`.
    pub host: usize,
    /// Index of Envoy in `parts`.
    pub proxy: usize,
    /// Admin address of the host on loopback.
    pub admin: SocketAddr,
    /// The same as a target of requests.
    pub host_admin: Target,
    /// Envoy's admin socket.
    pub envoy_admin: Target,
    /// Envoy's log.
    pub envoy_log: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// Ports that the system chose. No other process gets them, even while Envoy or the host is
    /// started again.
    _ports: ports::Reserved,
    /// Private folders: one for sockets and keys, one for Envoy. Deleted with the plan.
    _private: [PrivateDir; 2],
    /// Description of this gate for `tensorgate status`.
    pub running: Running,
    /// Lock on the state folder.
    pub lock: Lock,
}

/// Writes the files of all processes and plans their start.
pub fn plan(loaded: &Loaded, options: &Options) -> Result<Plan, Failure> {
    let module = options.filters.join(options.driver.file());
    if !module.is_file() {
        let advice = match (programs::in_source_tree(), options.driver) {
            (true, Driver::Wasm) => "run `make filters`, or give its folder with --filters",
            (true, Driver::Module) => "run `make build`, and add --filters target/debug",
            (false, _) => {
                "a release has it in `filters` beside tensorgate; unpack the whole release, or give its folder with --filters"
            }
        };
        return Err(Failure::Failed(format!(
            "no filter at {}: {advice}",
            module.display()
        )));
    }
    let envoy_binary = envoy::find_for(options.driver)?;
    folder(&options.state)?;
    let lock = Lock::claim(&options.state)?;
    let (listen, fix) = match options.listen {
        Some(address) => (address, ports::LISTEN_FLAG),
        None => (loaded.version.policy.listen().address(), ports::LISTEN),
    };
    let admin = (options.admin, options.console_public.is_some());
    let reserved = ports::check(listen, fix, admin, options.stats)?;
    // This process needs all of the admin server, without a secret.
    let admin = reserved.admin_local.unwrap_or(reserved.admin);
    let running = Running {
        pid: std::process::id(),
        policy: std::path::absolute(&loaded.source.file).unwrap_or_default(),
        listen: None,
        admin: Some(admin),
        ends: Vec::new(),
        owner: None,
    };
    lock.describe(&running)
        .map_err(|error| unusable(&options.state, &error))?;
    let private = || {
        PrivateDir::new()
            .map_err(|error| Failure::Failed(format!("cannot make a private folder: {error}")))
    };
    // Two folders, because a sandboxed host could connect to any socket whose path it knows. It can
    // learn the first folder's name, but never the second one's.
    let (private, envoys) = (private()?, private()?);
    let socket = |name: &str| private.path().join(name);
    // The only folder of these that the host writes to.
    let hosts = socket("host");
    folder(&hosts)?;
    let hosts = |name: &str| hosts.join(name);

    let mut backends = Vec::new();
    let mut endpoints: Vec<OsString> = Vec::new();
    let embedded = loaded
        .version
        .policy
        .backends()
        .iter()
        .filter(|(_, backend)| backend.kind() == BackendKind::Embedded);
    for (number, (name, backend)) in embedded.enumerate() {
        let path = socket(&format!("backend-{number}.sock"));
        let models = options.root.join(backend.models().unwrap_or_default());
        let required =
            verified_models::arguments(&loaded.version.policy, name, &models, &options.root)?;
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
        spec.arguments.extend(required);
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
    let render_options = RenderOptions {
        control_plane: options.control_plane,
        listen: reserved.listen.or(options.listen),
        driver: options.driver,
        filters: options.filters.clone(),
        chain: options.chain.filters().to_vec(),
        host_socket: hosts("host.sock"),
        admin_socket: envoys.path().join("envoy.sock"),
        ready_socket: None,
        stats: options.stats,
        audit_socket: hosts("audit.sock"),
        limits_socket: hosts("limits.sock"),
        remote_hosts: None,
        root: options.root.clone(),
        // The secrets contain the private key, so they are in a temporary folder.
        secrets: envoys.path().to_owned(),
        system_authorities: key_sets::system_authorities()
            .unwrap_or(Path::new(""))
            .into(),
        own_cgroup: false,
        sandbox_host: true,
    };
    authorities(loaded, &render_options)?;
    let certificates = (loaded.version.policy.listen().tls())
        .map(|tls| Certificates::write(tls, &options.root, &render_options.secrets))
        .transpose()?;
    let site = Site::new(loaded, options, render_options)?;

    let mut host = part("tensorgate-host", "host", &options.state.join(HOST_LOG))?;
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
        code_folder(options).into(),
    ]);
    host.arguments.extend([
        "--admin".into(),
        reserved.admin.to_string().into(),
        "--log".into(),
        "json".into(),
        "--wait-for-filter".into(),
    ]);
    host.arguments.extend(
        options
            .admin_public
            .then(|| OsString::from("--admin-public")),
    );
    if let Some(local) = reserved.admin_local {
        host.arguments.push("--admin-local".into());
        host.arguments.push(local.to_string().into());
    }
    if let Some(file) = &options.console_public {
        host.arguments.push("--console-public".into());
        host.arguments.push(file.clone().into());
    }
    host.arguments.extend(endpoints);
    // Handlers name a runtime by its digest: who can write to this folder can only withhold it.
    if let Some(folder) = user_folders::runtimes() {
        host.arguments.extend(["--runtimes".into(), folder.into()]);
    }
    if options.dev {
        host.arguments.push("--development".into());
        // Lines of handlers, too: their target begins as our crates' names do.
        let filter = "info,tensorgate=debug";
        host.environment.push(("RUST_LOG".into(), filter.into()));
    }
    let host_admin = Target::Tcp(admin);
    let host = Part {
        spec: host,
        // `/generations` answers once a policy is in force. The host is ready after a request
        // through Envoy.
        ready: Ready::Answers(host_admin.clone(), "/generations"),
    };

    let envoy_admin = Target::Unix(site.render_options.admin_socket.clone());
    let mut arguments = envoy::arguments(&site.envoy_file(), options);
    arguments.extend(envoy::drain_arguments(options.control_plane));
    let spec = Spec {
        name: ENVOY.into(),
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
        proxy: 1,
        admin,
        host_admin,
        envoy_admin,
        envoy_log,
        state: options.state.clone(),
        _ports: reserved,
        _private: [private, envoys],
        running,
        lock,
    })
}

/// The folder of the host's compiled handlers. With `--dev` it is that of `tensorgate handler`, so
/// that a handler is not compiled again after its tests.
///
/// A host in the OS sandbox never does. A guest that escaped into it could write code there, which
/// `tensorgate handler` would run outside of the OS sandbox.
fn code_folder(options: &Options) -> PathBuf {
    let confined = std::env::var_os(HARDEN).is_some_and(|value| value != "off");
    (options.dev && !confined)
        .then(user_folders::compiled_code)
        .flatten()
        .unwrap_or_else(|| options.state.join("compiled"))
}

/// Checks that the authority files for key set servers exist. Envoy validates their content.
fn authorities(loaded: &Loaded, render_options: &RenderOptions) -> Result<(), Failure> {
    for (issuer, url) in key_sets::fetched(&loaded.version.policy) {
        let file = match url.ca() {
            Some(file) => render_options.root.join(file),
            None if url.tls() && render_options.system_authorities.as_os_str().is_empty() => {
                return Err(Failure::Input(format!(
                    "this system has no file of certificate authorities: name one with issuers.{issuer}.jwks.ca"
                )));
            }
            None => continue,
        };
        File::open(&file)
            .map_err(|error| Failure::Input(format!("cannot read {}: {error}", file.display())))?;
    }
    Ok(())
}

/// Checks that the audit log has its own folder below the state folder. The host writes to that
/// folder, so Envoy must not read anything from it.
fn own_folder(loaded: &Loaded, state: &Path) -> Result<(), Failure> {
    let audit = loaded.version.policy.audit();
    let state = &state.canonicalize().unwrap_or_else(|_| state.to_owned());
    for (field, file) in [("path", Some(audit.path())), ("key_file", audit.key_file())] {
        let Some(file) = file else { continue };
        let folder = state.join(file);
        let folder = folder.parent().unwrap_or(state);
        let taken = state.starts_with(folder)
            || OWN_FOLDERS
                .iter()
                .any(|name| folder.starts_with(state.join(name)));
        if taken {
            return Err(Failure::Input(format!(
                "audit.{field}: {file} is among the gate's own files: choose another folder, for example audit/decisions.jsonl"
            )));
        }
    }
    Ok(())
}

/// Creates a folder that only its owner can enter.
fn folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| unusable(path, &error))
}

/// A process of one of tensorgate's binaries, from the folder of the running one.
fn part(binary: &str, name: &str, log: &Path) -> Result<Spec, Failure> {
    let program = programs::beside(binary).ok_or_else(|| {
        let fix = programs::how_to_get();
        Failure::Failed(format!("{binary} is not beside tensorgate: {fix}"))
    })?;
    // Variables that a process needs to find libraries and temporary folders; none of them contains
    // secrets.
    let environment = [
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "LD_LIBRARY_PATH",
        HARDEN,
    ]
    .into_iter()
    .chain(HANDLER_BOUNDS)
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
