//! Reads files with secrets (the context keys, the key of the TLS certificate), and rejects those
//! that other users can read.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid, getgroups};

use crate::files::{at_most, open};

/// All permissions of the group and of others.
const SHARED: u32 = 0o077;
/// Read permission of the group.
const GROUP_READ: u32 = 0o040;

/// Why a file with a secret is not used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// Other users can read or change it.
    #[error(
        "{path} has mode {mode:04o}: only its owner may have access to a key (chmod 600); its group may read it (0440, 0640) only if root owns the file and this host runs as another user of that group"
    )]
    Mode {
        /// The path of the file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Owner, group and mode of a file.
#[derive(Clone, Copy, Debug)]
struct Permissions {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The user and the groups of a process.
#[derive(Clone, Debug)]
struct Identity {
    euid: u32,
    groups: Vec<u32>,
}

impl Identity {
    fn of_this_process() -> Self {
        // Without the list, no supplementary group counts.
        let groups = getgroups().unwrap_or_default();
        Self {
            euid: geteuid().as_raw(),
            groups: (groups.into_iter().chain([getegid()]))
                .map(|group| group.as_raw())
                .collect(),
        }
    }
}

/// Whether a file is for its owner alone, or is a mounted secret of Kubernetes: root's, and
/// readable for the group that the pod's `fsGroup` gives to this process.
fn is_private(file: Permissions, process: &Identity) -> bool {
    match file.mode & SHARED {
        0 => true,
        GROUP_READ => file.uid == 0 && process.euid != 0 && process.groups.contains(&file.gid),
        _ => false,
    }
}

/// Reads a regular file of at most this many bytes. The permissions of the opened file count.
///
/// # Errors
/// Returns an error if it cannot be read, or if other users have access to it.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, SecretFileError> {
    let failed = |error: io::Error| SecretFileError::File {
        path: path.to_owned(),
        cause: error.to_string(),
    };
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let permissions = Permissions {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    };
    if !is_private(permissions, &Identity::of_this_process()) {
        return Err(SecretFileError::Mode {
            path: path.to_owned(),
            mode: permissions.mode,
        });
    }
    at_most(file, max_bytes)
        .map_err(failed)?
        .ok_or_else(|| failed(io::Error::other(format!("larger than {max_bytes} bytes"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_or_for_the_group_that_root_gave_to_the_host() {
        for (mode, uid, gid, euid, groups, expected) in [
            (0o600, 7, 7, 7, &[7][..], true),
            (0o400, 7, 7, 7, &[][..], true),
            // The owner decides, whichever process can open it.
            (0o600, 0, 0, 0, &[0][..], true),
            // A secret that Kubernetes mounts with `fsGroup`.
            (0o440, 0, 2000, 65532, &[65532, 2000][..], true),
            (0o640, 0, 2000, 65532, &[2000][..], true),
            // Not of this process's groups, not root's, or the host is root.
            (0o440, 0, 2000, 65532, &[65532][..], false),
            (0o440, 7, 2000, 65532, &[2000][..], false),
            (0o440, 65532, 2000, 65532, &[2000][..], false),
            (0o440, 0, 0, 0, &[0][..], false),
            // The group may do no more than read, and others nothing.
            (0o660, 0, 2000, 65532, &[2000][..], false),
            (0o450, 0, 2000, 65532, &[2000][..], false),
            (0o444, 0, 2000, 65532, &[2000][..], false),
            (0o604, 7, 7, 7, &[7][..], false),
            (0o644, 0, 2000, 65532, &[2000][..], false),
        ] {
            let process = Identity {
                euid,
                groups: groups.to_vec(),
            };
            let found = is_private(Permissions { mode, uid, gid }, &process);
            assert_eq!(
                found, expected,
                "{mode:04o} {uid}:{gid} as {euid} {groups:?}"
            );
        }
    }
}
