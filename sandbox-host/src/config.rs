//! Reads and checks the host's settings: bundle, key, endpoints and components.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_judge::context_keys::{ContextKeys, KeyFileError};
use tensorgate_models::scan::supervisor::ScannerSupervisor;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::Backend;
use tensorgate_policy::values::BackendKind;
use tensorgate_sandbox::CompilerConfig;
use tensorgate_settings::bundle::{BundleError, Candidate};
use tensorgate_settings::permitted::Permitted;

use crate::server::listeners::{AllowedPeers, ServiceAddress};
use crate::server::reader_credential::{CredentialError, ReaderCredential};
use crate::server::tls::{ServerTls, ServerTlsError, TlsFiles};

/// The user that Linux reports in place of one that has no number in this user namespace
/// (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65_534;

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
    /// Whether lines of the audit log are also written to standard output, whatever the policy
    /// says.
    pub audit_stdout: bool,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// A second address of the admin server, on loopback.
    pub admin_local: Option<SocketAddr>,
    /// What readers at `admin` need for more than probes and metrics.
    /// `None` if they get no more at a public address.
    pub console_public: Option<ReaderCredential>,
    /// The addresses of embedded backends, by name.
    pub endpoints: BTreeMap<String, String>,
    /// The time that in-flight requests get to finish at shutdown.
    pub drain: Duration,
    /// The folder of bundled components.
    pub builtins: PathBuf,
    /// How handlers are compiled.
    pub compiler: CompilerConfig,
    /// The most concurrent calls of one handler. `None`: as many as the machine has processors.
    pub handler_threads: Option<NonZeroUsize>,
    /// The limit on the memory of all handlers together, in bytes.
    pub handler_memory: usize,
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
    /// The policy or a file of it cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
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
    /// The credential of `--console-public` cannot be used.
    #[error("--console-public: {0}")]
    Console(#[from] CredentialError),
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
    /// The second address of the admin server is public.
    #[error("--admin-local {0} is not a loopback address")]
    AdminLocal(SocketAddr),
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
}

/// Checks the address of the admin server.
pub fn admin(address: SocketAddr, public: bool) -> Result<SocketAddr, ConfigError> {
    if public || address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(ConfigError::AdminPublic(address))
    }
}

/// Checks the second address of the admin server.
pub fn admin_local(address: Option<SocketAddr>) -> Result<Option<SocketAddr>, ConfigError> {
    match address {
        Some(address) if !address.ip().is_loopback() => Err(ConfigError::AdminLocal(address)),
        address => Ok(address),
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
