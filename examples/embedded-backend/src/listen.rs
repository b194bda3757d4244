//! Where the server listens, and the proof that nobody else can connect.
//!
//! There is no authentication behind this door, so the door decides: a Unix socket of mode 0600 from its first moment
//! on, or a loopback address. Never a public address.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Where to listen: `unix:/path` or a loopback `address:port`; port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Neither spelling.
    #[error("`{0}` is neither unix:/path nor address:port")]
    Spelling(String),
    /// Not loopback.
    #[error(
        "{0} is not a loopback address, and this server knows no clients: put a gate before it"
    )]
    Public(SocketAddr),
    /// Something that is no socket lies there.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// Another server answers there.
    #[error("another server listens at {0}")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen at {address}: {source}")]
    System {
        /// Where.
        address: Address,
        /// Why not.
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
    /// Binds an address. The stale file of a server that died is replaced; anything else that lies there stays.
    pub async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |source| ListenError::System {
            address: address.clone(),
            source,
        };
        match address {
            Address::Tcp(socket) => Ok(Self::Tcp(TcpListener::bind(socket).await.map_err(failed)?)),
            Address::Unix(path) => {
                // A longer path could be moved into place, and nobody could connect to it.
                std::os::unix::net::SocketAddr::from_pathname(path).map_err(failed)?;
                match fs::symlink_metadata(path) {
                    Ok(found) if !found.file_type().is_socket() => {
                        return Err(ListenError::NotASocket(path.clone()));
                    }
                    // Only a refused connection proves that nobody listens.
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

    /// Where it listens, the chosen port included.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }
}

/// Makes the socket in a folder that only we can enter, and moves it into place once its mode is 0600: at no moment can
/// anybody else connect, whatever the umask.
fn bind_private(path: &Path) -> io::Result<Listener> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Short: this path too must fit into the 107 bytes of a socket's.
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
        // It is there only if the bind succeeded; the error to report is the one that came first.
        let _ = fs::remove_file(&made);
    }
    fs::remove_dir(&folder)?;
    moved
}

/// Removes a socket's file when dropped, if it is still the one that was made.
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
