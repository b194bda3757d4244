//! A Unix socket for gates. Only its owner and listed users can connect, from the moment it exists.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The path exists and is not a socket, so it must not be removed.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The path has no folder and name.
    #[error("{0} is not a path of a socket: it needs a folder and a name")]
    Path(PathBuf),
    /// An operation failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// A listening socket. Its file is removed on drop, if it is still the one that was created.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
    owner: u32,
    /// Other users who may connect.
    peer_uids: Vec<u32>,
}

impl Socket {
    /// Listens at `path` with mode 0600, or with mode 0666 if other users may connect: then the
    /// credentials that the kernel reports decide. The socket is created in a private folder and
    /// then renamed, so that no other user can connect before. The rename also replaces the stale
    /// socket of a process that died.
    pub fn bind(path: &Path, peer_uids: &[u32]) -> Result<Self, SocketError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io { what, path, source }
        };
        let folder = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) if path.file_name().is_some() => folder,
            _ => return Err(SocketError::Path(path.to_owned())),
        };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            // A live listener keeps the path. Only a refused connection proves that there is none.
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
                Err(error) => return Err(failed("probe", path)(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("inspect", path)(error)),
        }

        // A short name, because a socket path has at most 107 bytes.
        let private = Private::new(folder)?;
        let made = private.0.join("s");
        let listener = UnixListener::bind(&made).map_err(failed("listen at", &made))?;
        let mode = if peer_uids.is_empty() { 0o600 } else { 0o666 };
        fs::set_permissions(&made, Permissions::from_mode(mode))
            .map_err(failed("protect", &made))?;
        let metadata = fs::symlink_metadata(&made).map_err(failed("inspect", &made))?;
        fs::rename(&made, path).map_err(failed("move a socket to", path))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            owner: metadata.uid(),
            peer_uids: peer_uids.to_vec(),
        })
    }

    /// The listener.
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a peer may connect: the socket's owner, root, or a listed user.
    pub fn admits(&self, uid: u32) -> bool {
        uid == self.owner || uid == 0 || self.peer_uids.contains(&uid)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), cause = error.to_string(), "cannot remove the socket");
        }
    }
}

/// A temporary private folder.
struct Private(PathBuf);

impl Private {
    /// The number of names to try. Only a dead process with the same ID leaves one behind.
    const ATTEMPTS: u32 = 16;

    fn new(folder: &Path) -> Result<Self, SocketError> {
        let mut attempt = 0;
        loop {
            let path = folder.join(format!(".{}.{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && attempt < Self::ATTEMPTS =>
                {
                    attempt = attempt.saturating_add(1);
                }
                Err(source) => {
                    return Err(SocketError::Io {
                        what: "make folder",
                        path,
                        source,
                    });
                }
            }
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // A leftover socket of a failed start would keep the folder. Both are private and have no
        // data.
        drop(fs::remove_file(self.0.join("s")));
        drop(fs::remove_dir(&self.0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tg-socket-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn left(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_alone_and_leaves_nothing_behind() {
        let folder = folder("mode");
        let socket = Socket::bind(&folder.join("host.sock"), &[]).unwrap();
        let mode = fs::metadata(socket.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(left(&folder), ["host.sock"]);
        for (uid, expected) in [
            (socket.owner, true),
            (0, true),
            (socket.owner.wrapping_add(1), false),
        ] {
            assert_eq!(socket.admits(uid), expected, "uid {uid}");
        }
        drop(socket);
        assert_eq!(left(&folder), [""; 0]);
        fs::remove_dir(folder).unwrap();
    }

    #[tokio::test]
    async fn a_socket_for_other_users_admits_those_that_are_listed() {
        let folder = folder("others");
        let socket = Socket::bind(&folder.join("host.sock"), &[1337, 101]).unwrap();
        let mode = fs::metadata(socket.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o666);
        for (uid, expected) in [
            (socket.owner, true),
            (1337, true),
            (101, true),
            (1338, false),
        ] {
            assert_eq!(socket.admits(uid), expected, "uid {uid}");
        }
        drop(socket);
        fs::remove_dir(folder).unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
        let folder = folder("stale");
        let path = folder.join("host.sock");
        // A listener of the standard library leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, &[]).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(matches!(
            Socket::bind(&path, &[]),
            Err(SocketError::InUse(_))
        ));
        drop(socket);
        fs::write(&path, "data").unwrap();
        assert!(matches!(
            Socket::bind(&path, &[]),
            Err(SocketError::NotASocket(_))
        ));
        assert_eq!(fs::read(&path).unwrap(), b"data");
        assert_eq!(left(&folder), ["host.sock"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_successors_socket_is_not_removed() {
        let folder = folder("successor");
        let path = folder.join("host.sock");
        let first = Socket::bind(&path, &[]).unwrap();
        fs::remove_file(&path).unwrap();
        let second = Socket::bind(&path, &[]).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        fs::remove_dir(folder).unwrap();
    }
}
