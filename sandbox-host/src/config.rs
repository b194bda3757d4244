//! Reads and checks the host's settings: bundle, key, endpoints and components.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tensorgate_artifact::MAX_SIGNATURE_BYTES;
use tensorgate_artifact::component::signature_of;
use tensorgate_policy::policy::{BUILTIN, Backend};
use tensorgate_policy::raw::{self, BackendKind};
use tensorgate_policy::{Bundle, Fault, HeaderMode, Policy};

use crate::context_keys::{ContextKeys, KeyFileError};
use crate::files::{at_most, open};
use crate::models::scan::supervisor::ScannerSupervisor;
use crate::sandbox::CompilerConfig;
use crate::sandbox::os_sandbox::Permitted;
use crate::server::listeners::{AllowedPeers, ServiceAddress};
use crate::server::tls::{ServerTls, ServerTlsError, TlsFiles};

/// The largest bundle in bytes. A policy with thousands of models has a few MiB.
const MAX_BUNDLE_BYTES: u64 = 64 << 20;
/// The user that Linux reports in place of one that has no number in this user namespace
/// (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65_534;
/// The largest component in bytes, as in the sandbox.
const MAX_COMPONENT_BYTES: u64 = 64 << 20;

/// A valid policy, with the version that gates sign.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The version of the policy.
    pub generation: String,
    /// The SHA-256 digest of its canonical JSON, which distinguishes two policies of the same
    /// version.
    pub digest: [u8; 32],
    /// How the filter treats headers while it evaluates a body.
    pub headers: HeaderMode,
    /// The version that this one restricts, or is identical to.
    pub tightens: Option<String>,
}

/// All settings of a host.
#[derive(Clone)]
pub struct Settings {
    /// The initial policy.
    pub policy: Candidate,
    /// The keys that gates and host share.
    pub context_keys: ContextKeys,
    /// The folder for relative component paths.
    pub root: PathBuf,
    /// Where the data plane listens.
    pub data_plane: ServiceAddress,
    /// Where Envoy's access log is received.
    pub access_log: ServiceAddress,
    /// Whether other hosts receive the access log of the same gateways.
    pub audit_shared: bool,
    /// Where the rate-limit service listens.
    pub rate_limits: ServiceAddress,
    /// Who may connect to these three.
    pub allowed_peers: AllowedPeers,
    /// The folder for relative paths of the audit log.
    pub audit_folder: PathBuf,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// The addresses of embedded backends, by name.
    pub endpoints: BTreeMap<String, String>,
    /// The time that in-flight requests get to finish at shutdown.
    pub drain: Duration,
    /// The folder of bundled components.
    pub builtins: PathBuf,
    /// How handlers are compiled.
    pub compiler: CompilerConfig,
    /// Scans files of models; or why they cannot be scanned.
    pub scanner: Result<Arc<ScannerSupervisor>, String>,
    /// Whether the host is not ready before a request has passed the filter.
    pub wait_for_filter: bool,
    /// The file that describes the policy's source files (`admission`). It may be missing.
    pub sources: PathBuf,
    /// What the OS sandbox permits. `None` without it.
    pub permitted: Option<Permitted>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// The file is not a bundle.
    #[error("{path} is not a policy bundle: {cause}")]
    Bundle {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// The policy has faults.
    #[error("the policy cannot be enforced: {}", list(.0))]
    Policy(Vec<Fault>),
    /// The policy has no canonical form.
    #[error("the policy cannot be written as json: {0}")]
    Canonical(String),
    /// The file of the context keys cannot be used.
    #[error(transparent)]
    ContextKeys(#[from] KeyFileError),
    /// The user stands for many.
    #[error(
        "--peer-uid {0}: the kernel reports this user for every user that this host's user namespace does not know"
    )]
    PeerUid(u32),
    /// A file or name for the TCP ports cannot be used.
    #[error(transparent)]
    ServerTls(#[from] ServerTlsError),
    /// TCP ports have no certificates.
    #[error(
        "a TCP port needs --tls-cert, --tls-key and --tls-client-ca: the host serves gateways with mutual TLS only"
    )]
    TlsMissing,
    /// There is no folder for the audit log.
    #[error("give --audit-folder: without --socket, the audit log has no default folder")]
    AuditFolder,
    /// The admin server would listen on a public address.
    #[error(
        "{0} is not a loopback address: the admin stays on loopback unless --admin-public is given"
    )]
    AdminPublic(SocketAddr),
    /// An endpoint is not `NAME=URI`.
    #[error("--endpoint {0:?} is not NAME=URI")]
    EndpointForm(String),
    /// A backend has two addresses.
    #[error("backend {0:?} has two --endpoint addresses")]
    EndpointTwice(String),
    /// An address for a backend that takes none.
    #[error("--endpoint {0:?}: the policy has no embedded backend of this name")]
    EndpointUnknown(String),
    /// An embedded backend has no address.
    #[error("backend {0:?} is embedded: give its address with --endpoint {0}=URI")]
    EndpointMissing(String),
    /// A component path leads outside its folder.
    #[error("component {0:?} is not a relative path below its folder")]
    ComponentPath(String),
}

fn list(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Reads and validates a bundle. Warnings are logged.
pub fn bundle(path: &Path) -> Result<Candidate, ConfigError> {
    let file = open(path).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    candidate(&read_bundle(path, &file)?)
}

/// Reads a bundle from its opened file. Its policy is not validated.
pub fn read_bundle(path: &Path, file: &File) -> Result<Bundle, ConfigError> {
    let json = read_opened(path, file, MAX_BUNDLE_BYTES)?;
    let bundle: Bundle = serde_json::from_slice(&json).map_err(|error| ConfigError::Bundle {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    if bundle.generation.is_empty() {
        return Err(ConfigError::Bundle {
            path: path.to_owned(),
            cause: "it has no generation".to_owned(),
        });
    }
    Ok(bundle)
}

/// Validates a bundle. Warnings are logged.
pub fn candidate(bundle: &Bundle) -> Result<Candidate, ConfigError> {
    let digest = canonical_digest(&bundle.policy)
        .map_err(|error| ConfigError::Canonical(error.to_string()))?;
    let (policy, warnings) =
        tensorgate_policy::validate::validate(&bundle.policy).map_err(ConfigError::Policy)?;
    for warning in warnings {
        tracing::warn!(warning = warning.to_string(), "policy");
    }
    Ok(Candidate {
        policy: Arc::new(policy),
        generation: bundle.generation.clone(),
        digest,
        headers: bundle.headers,
        tightens: bundle.tightens.clone(),
    })
}

/// The SHA-256 digest of a policy's canonical JSON, with every model written in full. The JSON is
/// digested as a stream, because it can be many times as large as the bundle.
///
/// # Errors
/// Returns an error if the policy has a value that JSON cannot represent.
pub fn canonical_digest(policy: &raw::Policy) -> serde_json::Result<[u8; 32]> {
    struct Digested(Sha256);
    impl io::Write for Digested {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // The serializer writes a few bytes at a time.
    let mut to = io::BufWriter::new(Digested(Sha256::new()));
    serde_json::to_writer(&mut to, policy)?;
    let digested = to
        .into_inner()
        .map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(digested.0.finalize().into())
}

/// Checks the address of the admin server.
pub fn admin(address: SocketAddr, public: bool) -> Result<SocketAddr, ConfigError> {
    if public || address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(ConfigError::AdminPublic(address))
    }
}

/// Checks the other users who may connect to the sockets.
pub fn peer_uids(uids: Vec<u32>) -> Result<Vec<u32>, ConfigError> {
    let many = |uid: &u32| *uid == OVERFLOW_UID || *uid == u32::MAX;
    if let Some(uid) = uids.iter().copied().find(many) {
        return Err(ConfigError::PeerUid(uid));
    }
    Ok(uids)
}

/// Reads the identity for TCP ports and the names of gateways. `None` if the host has no port.
pub fn server_tls(
    services: &[&ServiceAddress],
    files: [Option<PathBuf>; 3],
    gateways: &[String],
) -> Result<Option<Arc<ServerTls>>, ConfigError> {
    if services.iter().all(|service| service.tcp.is_none()) {
        return Ok(None);
    }
    let [Some(cert), Some(key), Some(client_ca)] = files else {
        return Err(ConfigError::TlsMissing);
    };
    let files = TlsFiles {
        cert,
        key,
        client_ca,
    };
    Ok(Some(Arc::new(ServerTls::read(files, gateways)?)))
}

/// Reads `NAME=URI` pairs, only for the embedded backends of a policy.
pub fn endpoints(
    pairs: &[String],
    policy: &Policy,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut endpoints = BTreeMap::new();
    for pair in pairs {
        let (name, uri) = pair
            .split_once('=')
            .filter(|(name, uri)| !name.is_empty() && !uri.is_empty())
            .ok_or_else(|| ConfigError::EndpointForm(pair.clone()))?;
        if !policy
            .backends()
            .get(name)
            .is_some_and(|backend| backend.kind() == BackendKind::Embedded)
        {
            return Err(ConfigError::EndpointUnknown(name.to_owned()));
        }
        if endpoints.insert(name.to_owned(), uri.to_owned()).is_some() {
            return Err(ConfigError::EndpointTwice(name.to_owned()));
        }
    }
    Ok(endpoints)
}

/// The addresses of one backend.
pub fn addresses(
    name: &str,
    backend: &Backend,
    endpoints: &BTreeMap<String, String>,
) -> Result<Vec<String>, ConfigError> {
    match backend.kind() {
        BackendKind::OpenInference
        | BackendKind::TfServing
        | BackendKind::TorchServe
        | BackendKind::OpenAi
        | BackendKind::HttpJson => Ok(backend.endpoints().to_vec()),
        BackendKind::Embedded => {
            let uri = endpoints
                .get(name)
                .ok_or_else(|| ConfigError::EndpointMissing(name.to_owned()))?;
            Ok(vec![uri.clone()])
        }
    }
}

/// The folders of components.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The folder for relative paths of a policy.
    pub root: PathBuf,
    /// The folder of bundled components.
    pub builtins: PathBuf,
}

impl Folders {
    /// Returns a policy's folder, and `$TENSORGATE_BUILTINS` or the folder `builtins` beside this
    /// program.
    pub fn below(root: &Path) -> Self {
        let named = std::env::var_os("TENSORGATE_BUILTINS").filter(|named| !named.is_empty());
        let beside = || {
            let program = std::env::current_exe().ok()?;
            Some(program.parent()?.join("builtins"))
        };
        Self {
            root: root.to_owned(),
            builtins: (named.map(PathBuf::from).or_else(beside)).unwrap_or_default(),
        }
    }

    /// The path of a component's file. It never leads outside its folder by name.
    ///
    /// # Errors
    /// Returns an error if the name leads elsewhere.
    pub fn file(&self, component: &str) -> Result<PathBuf, ConfigError> {
        let (folder, name) = match component.strip_prefix(BUILTIN) {
            Some(name) => (&self.builtins, format!("{name}.wasm")),
            None => (&self.root, component.to_owned()),
        };
        let relative = Path::new(&name);
        let below = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if component.is_empty() || !below {
            return Err(ConfigError::ComponentPath(component.to_owned()));
        }
        Ok(folder.join(relative))
    }
}

/// Reads a component. The sandbox checks its digest.
pub fn component(folders: &Folders, component: &str) -> Result<Vec<u8>, ConfigError> {
    read(&folders.file(component)?, MAX_COMPONENT_BYTES)
}

/// Reads the signature file of a component. `policy_store::signed` verifies it.
pub fn signature(folders: &Folders, component: &str) -> Result<Vec<u8>, ConfigError> {
    let file = signature_of(&folders.file(component)?);
    let most = u64::try_from(MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX);
    read(&file, most)
}

/// Reads a regular file within a size limit.
fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ConfigError> {
    let failed = |cause: String| ConfigError::File {
        path: path.to_owned(),
        cause,
    };
    let file = open(path).map_err(|error| failed(error.to_string()))?;
    read_opened(path, &file, max_bytes)
}

/// Reads an opened file, as [`read`] does.
fn read_opened(path: &Path, file: &File, max_bytes: u64) -> Result<Vec<u8>, ConfigError> {
    let failed = |cause: String| ConfigError::File {
        path: path.to_owned(),
        cause,
    };
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("not a regular file".to_owned()));
    }
    at_most(file, max_bytes)
        .map_err(|error| failed(error.to_string()))?
        .ok_or_else(|| failed(format!("larger than {max_bytes} bytes")))
}
