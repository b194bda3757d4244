//! The listener, which only the own user or machine can reach.
//!
//! The server has no authentication. Therefore the listener restricts access: a Unix socket that
//! has mode 0600 from its creation, or a loopback address. It rejects public addresses.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener, UnixStream};

/// A listen address: `unix:/path` or a loopback `address:port`. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// Why a listener could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not a valid address.
    #[error("`{0}` is neither unix:/path nor address:port")]
    Spelling(String),
    /// Not a loopback address.
    #[error(
        "{0} is not a loopback address, and this server has no authentication: put a gate before it"
    )]
    Public(SocketAddr),
    /// The path exists and is not a socket.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// Another server listens there.
    #[error("another server listens at {0}")]
    InUse(PathBuf),
    /// The system returned an error.
    #[error("cannot listen at {address}: {source}")]
    System {
        /// The address.
        address: Address,
        /// The error.
        source: io::Error,
    },
}

impl FromStr for Address {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match Path::new(path).file_name() {
                Some(_) => Ok(Self::Unix(path.into())),
                None => Err(ListenError::Spelling(text.into())),
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| ListenError::Spelling(text.into()))?;
        if address.ip().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err(ListenError::Public(address))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// A loopback address.
    Tcp(TcpListener),
    /// A Unix socket, and the guard that removes its file.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds an address. Replaces the stale socket of a dead server; any other existing file is an
    /// error.
    pub async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |source| ListenError::System {
            address: address.clone(),
            source,
        };
        match address {
            Address::Tcp(socket) => Ok(Self::Tcp(TcpListener::bind(socket).await.map_err(failed)?)),
            Address::Unix(path) => {
                // A longer path could be renamed to, but clients could not connect to it.
                std::os::unix::net::SocketAddr::from_pathname(path).map_err(failed)?;
                match fs::symlink_metadata(path) {
                    Ok(found) if !found.file_type().is_socket() => {
                        return Err(ListenError::NotASocket(path.clone()));
                    }
                    // Only a refused connection proves that there is no listener.
                    Ok(_) => match UnixStream::connect(path).await {
                        Ok(_) => return Err(ListenError::InUse(path.clone())),
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                        Err(error) => return Err(failed(error)),
                    },
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
                bind_private(path).map_err(failed)
            }
        }
    }

    /// The listen address, with the actual port.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }
}

/// Creates the socket in a private folder, sets mode 0600 and renames it to its path. So no other
/// user can connect at any moment, whatever the umask is.
fn bind_private(path: &Path) -> io::Result<Listener> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // A short name, because this path too must fit the 107 bytes of a socket address.
    let folder = parent.join(format!(".e{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let made = folder.join("s");
    let moved = (|| {
        let listener = UnixListener::bind(&made)?;
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(&made)?;
        fs::rename(&made, path)?;
        let file = SocketFile {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        };
        Ok(Listener::Unix(listener, file))
    })();
    if moved.is_err() {
        // The file exists only if the bind succeeded. The first error is the one to report.
        let _ = fs::remove_file(&made);
    }
    fs::remove_dir(&folder)?;
    moved
}

/// Removes a socket's file when dropped, if it is still the same file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), cause = %error, "cannot remove the socket");
        }
    }
}
