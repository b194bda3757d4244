//! What the host is started with, read and checked: the bundle, the key, endpoints, components. Nothing runs yet.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tensorgate_artifact::MAX_SIGNATURE_BYTES;
use tensorgate_artifact::component::signature_of;
use tensorgate_policy::policy::{BUILTIN, Backend};
use tensorgate_policy::raw::{self, BackendKind};
use tensorgate_policy::{Bundle, Fault, Policy};
use tensorgate_wire::context::Key;

use crate::sandbox::Compiling;

/// A bundle, bytes: a policy with thousands of models is a few MiB.
const MAX_BUNDLE_BYTES: u64 = 64 << 20;
/// A key file, bytes: 64 hex digits and white space.
const MAX_KEY_BYTES: u64 = 1 << 10;
/// A component, bytes; the sandbox has a bound of its own on what it compiles.
const MAX_COMPONENT_BYTES: u64 = 256 << 20;

/// A policy that is valid, by the name under which the gate signs what it lets in.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its name.
    pub generation: String,
    /// SHA-256 of its canonical JSON: what two policies of one name differ in.
    pub digest: [u8; 32],
}

/// Everything that a host is made of.
#[derive(Clone)]
pub struct Settings {
    /// The policy to start with.
    pub policy: Candidate,
    /// The key that gate and host share.
    pub key: Key,
    /// Component paths are relative to it.
    pub root: PathBuf,
    /// The data plane's socket.
    pub socket: PathBuf,
    /// Where Envoy sends its access log.
    pub audit_socket: PathBuf,
    /// Where gates ask for what all of them share.
    pub limits_socket: PathBuf,
    /// The folder that the audit log's relative paths are below.
    pub audit_folder: PathBuf,
    /// Where the admin listens.
    pub admin: SocketAddr,
    /// Addresses of embedded backends, by name.
    pub endpoints: BTreeMap<String, String>,
    /// How long in-flight requests may take to end.
    pub drain: Duration,
    /// Where the components are that are installed with the host.
    pub builtins: PathBuf,
    /// How handlers are compiled.
    pub compiling: Compiling,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The bundle is not one.
    #[error("{path} is not a bundle: {cause}")]
    Bundle {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The policy has faults.
    #[error("the policy cannot be enforced: {}", list(.0))]
    Policy(Vec<Fault>),
    /// The policy has no canonical form.
    #[error("the policy cannot be written as json: {0}")]
    Canonical(String),
    /// Others can read the key.
    #[error(
        "{path} has mode {mode:04o}: the context key must be for its owner alone (0600 or 0400)"
    )]
    KeyMode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key is not 64 hex digits.
    #[error("{0} does not hold 64 hex digits")]
    KeyForm(PathBuf),
    /// The admin would listen to the world.
    #[error(
        "{0} is not a loopback address: the admin stays on loopback unless --admin-public is given"
    )]
    AdminPublic(SocketAddr),
    /// An endpoint that is not `NAME=URI`.
    #[error("--endpoint {0:?} is not NAME=URI")]
    EndpointForm(String),
    /// One backend got two addresses.
    #[error("backend {0:?} has two --endpoint addresses")]
    EndpointTwice(String),
    /// An endpoint for a backend that takes none.
    #[error("--endpoint {0:?}: the policy has no embedded backend of this name")]
    EndpointUnknown(String),
    /// An embedded backend without an address.
    #[error("backend {0:?} is embedded: give its address with --endpoint {0}=URI")]
    EndpointMissing(String),
    /// A component outside the root.
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

/// Reads and validates a bundle. Warnings go to the log.
pub fn bundle(path: &Path) -> Result<Candidate, ConfigError> {
    let file = open(path).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    candidate(&read_bundle(path, &file)?)
}

/// Reads a bundle from its opened file; its policy is not validated yet.
pub fn read_bundle(path: &Path, file: &File) -> Result<Bundle, ConfigError> {
    let (json, _) = read_opened(path, file, MAX_BUNDLE_BYTES)?;
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

/// Validates a bundle. Warnings go to the log.
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
    })
}

/// SHA-256 of a policy's canonical JSON, in which every model is written out: it is digested as it is written, and never held, since of a bundle's
/// size it may be many times as much.
///
/// # Errors
/// It has something that JSON has no spelling for.
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
    // The writer gives a few bytes at a time.
    let mut to = io::BufWriter::new(Digested(Sha256::new()));
    serde_json::to_writer(&mut to, policy)?;
    let digested = to
        .into_inner()
        .map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(digested.0.finalize().into())
}

/// Reads the context key. The mode that counts is that of the file that was opened.
pub fn context_key(path: &Path) -> Result<Key, ConfigError> {
    let (text, mode) = read(path, MAX_KEY_BYTES)?;
    if mode & 0o077 != 0 {
        return Err(ConfigError::KeyMode {
            path: path.to_owned(),
            mode,
        });
    }
    let key = std::str::from_utf8(&text).ok().and_then(Key::from_hex);
    key.ok_or_else(|| ConfigError::KeyForm(path.to_owned()))
}

/// Where the admin may listen.
pub fn admin(address: SocketAddr, public: bool) -> Result<SocketAddr, ConfigError> {
    if public || address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(ConfigError::AdminPublic(address))
    }
}

/// Reads `NAME=URI` pairs, for the embedded backends of a policy and for no other.
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

/// Where components lie.
#[derive(Clone, Debug)]
pub struct Folders {
    /// What a policy's paths are relative to.
    pub root: PathBuf,
    /// Those that are installed with the host.
    pub builtins: PathBuf,
}

impl Folders {
    /// A policy's folder, and `$TENSORGATE_BUILTINS` or the folder `builtins` beside this program.
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

    /// A component's file; never one outside its folder by its name.
    ///
    /// # Errors
    /// If its name leads elsewhere.
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

/// Reads a component. Its digest is the sandbox's to check.
pub fn component(folders: &Folders, component: &str) -> Result<Vec<u8>, ConfigError> {
    Ok(read(&folders.file(component)?, MAX_COMPONENT_BYTES)?.0)
}

/// Reads the signature that lies beside a component. Whether it lets the component in is [`crate::signed`]'s to say.
pub fn signature(folders: &Folders, component: &str) -> Result<Vec<u8>, ConfigError> {
    let file = signature_of(&folders.file(component)?);
    let most = u64::try_from(MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX);
    Ok(read(&file, most)?.0)
}

/// A regular file's content within a bound, and its mode.
fn read(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, u32), ConfigError> {
    let failed = |cause: String| ConfigError::File {
        path: path.to_owned(),
        cause,
    };
    let file = open(path).map_err(|error| failed(error.to_string()))?;
    read_opened(path, &file, max_bytes)
}

/// Opens a file for reading, and waits for nobody: a pipe in its place would have its opener wait for a writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// The same of a file that is open.
fn read_opened(path: &Path, file: &File, max_bytes: u64) -> Result<(Vec<u8>, u32), ConfigError> {
    let failed = |cause: String| ConfigError::File {
        path: path.to_owned(),
        cause,
    };
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("not a regular file".to_owned()));
    }
    let content = at_most(file, max_bytes)
        .map_err(|error| failed(error.to_string()))?
        .ok_or_else(|| failed(format!("larger than {max_bytes} bytes")))?;
    Ok((content, metadata.permissions().mode() & 0o7777))
}

/// All that a reader gives; `None` if that is more than so many bytes.
///
/// # Errors
/// It cannot be read.
pub fn at_most(from: impl Read, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    // One byte more tells what is at the bound from what is beyond it.
    let read = from
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(u64::try_from(read)
        .is_ok_and(|read| read <= max_bytes)
        .then_some(content))
}
