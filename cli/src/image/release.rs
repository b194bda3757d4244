//! An unpacked release, as `tools/dist.sh` makes it. A file is only used if its digest is that of
//! the release's `SHA256SUMS`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, openat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tensorgate_base::files::at_most;
use tensorgate_models::files::open_folder::{FOLDER, open_below, open_file};
use tensorgate_policy::hex;

/// The list of digests.
const SUMS: &str = "SHA256SUMS";
/// The list of the archive of runtimes, if it was unpacked over the release.
const RUNTIME_SUMS: &str = "SHA256SUMS.runtimes";
/// The folder of all its other files.
const RUNTIMES: &str = "builtins/runtimes/";
/// The most bytes of the list.
const MAX_SUMS_BYTES: u64 = 1 << 20;
/// The most bytes of one file. The runtime for Python has 139 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Hex digits of a digest.
const DIGEST_CHARS: usize = 64;
/// The folder of the bundled handlers, their signatures and runtimes.
pub const BUILTINS: &str = "builtins";

/// Why a file of a release cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It cannot be opened or read.
    #[error("cannot read {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// It is a symbolic link, which may lead out of the release.
    #[error("{} is a symbolic link; a release has none: unpack it again", .0.display())]
    Link(PathBuf),
    /// It is a folder, a pipe or a device.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// It exceeds a limit.
    #[error("{} is larger than {most} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        most: u64,
    },
    /// The list of digests has another form.
    #[error(
        "{}:{line}: expected a SHA-256 digest in hex, two spaces and the relative path of a file, each path once",
        file.display()
    )]
    Sums {
        /// The list.
        file: PathBuf,
        /// The first such line.
        line: usize,
    },
    /// The list does not have it.
    #[error(
        "{} is not in {SUMS}; --release names the folder that a release's archive unpacks to",
        .0.display()
    )]
    Unlisted(PathBuf),
    /// Its digest is another.
    #[error("{} differs from {SUMS}: unpack the release again", .0.display())]
    Differs(PathBuf),
}

/// A release whose list of digests has been read.
#[derive(Debug)]
pub struct Release {
    path: PathBuf,
    folder: OwnedFd,
    /// Digests in hex by the paths of files.
    sums: BTreeMap<String, String>,
}

impl Release {
    /// Opens a release, and reads its list of digests, and the one of runtimes if there is one.
    ///
    /// # Errors
    /// The folder or a list cannot be read, or a list has another form.
    pub fn open(path: &Path) -> Result<Self, ReleaseError> {
        let unreadable = |error: Errno| ReleaseError::Read {
            file: path.to_owned(),
            cause: error.into(),
        };
        let folder = openat(CWD, path, FOLDER, Mode::empty()).map_err(unreadable)?;
        let mut release = Self {
            path: path.to_owned(),
            folder,
            sums: BTreeMap::new(),
        };
        release.sums = release.list(SUMS)?;
        match release.list(RUNTIME_SUMS) {
            Ok(mut listed) => {
                listed.retain(|name, _| name.starts_with(RUNTIMES));
                // About its own files the release's list decides.
                listed.append(&mut release.sums);
                release.sums = listed;
            }
            Err(ReleaseError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(release)
    }

    /// Reads a file, and compares its digest.
    ///
    /// # Errors
    /// It cannot be read, is not in the list, or differs from it.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ReleaseError> {
        let sha256 = self
            .sums
            .get(name)
            .ok_or_else(|| ReleaseError::Unlisted(self.path.join(name)))?;
        let content = self.content(name, MAX_FILE_BYTES)?;
        if hex(&Sha256::digest(&content)) == *sha256 {
            Ok(content)
        } else {
            Err(ReleaseError::Differs(self.path.join(name)))
        }
    }

    /// Paths of the bundled handlers, of their signatures and of runtimes with their licences,
    /// sorted.
    pub fn builtins(&self) -> impl Iterator<Item = &str> {
        let names = self.sums.keys().map(String::as_str);
        names.filter(|name| Path::new(name).starts_with(BUILTINS))
    }

    /// Where a file is, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A list of digests.
    fn list(&self, name: &str) -> Result<BTreeMap<String, String>, ReleaseError> {
        sums(&self.content(name, MAX_SUMS_BYTES)?).map_err(|line| ReleaseError::Sums {
            file: self.path.join(name),
            line,
        })
    }

    fn content(&self, name: &str, most: u64) -> Result<Vec<u8>, ReleaseError> {
        let path = || self.path.join(name);
        let unreadable = |cause| ReleaseError::Read {
            file: path(),
            cause,
        };
        let file = self.opened(name).map_err(|error| match error {
            Errno::LOOP => ReleaseError::Link(path()),
            other => unreadable(other.into()),
        })?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(ReleaseError::NotAFile(path()));
        }
        at_most(file, most)
            .map_err(unreadable)?
            .ok_or_else(|| ReleaseError::TooLarge { file: path(), most })
    }

    /// Opens a file without following a link on its path, and without waiting for a pipe's writer.
    fn opened(&self, name: &str) -> Result<File, Errno> {
        let open = |below: BorrowedFd<'_>, file: &str| open_file(below, OsStr::new(file));
        open_below(self.folder.as_fd(), name, |_, _| Ok(()), open).map(File::from)
    }
}

/// The digests of a list; otherwise the number of the first line that has another form.
fn sums(text: &[u8]) -> Result<BTreeMap<String, String>, usize> {
    let text = std::str::from_utf8(text).map_err(|_| 1_usize)?;
    let mut sums = BTreeMap::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let (sha256, name) = line
            .split_once("  ")
            .filter(|(sha256, name)| is_sha256(sha256) && is_relative(name))
            .ok_or(number)?;
        if sums.insert(name.to_owned(), sha256.to_owned()).is_some() {
            return Err(number);
        }
    }
    Ok(sums)
}

fn is_sha256(text: &str) -> bool {
    text.len() == DIGEST_CHARS
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path stays below the folder that it starts at.
fn is_relative(path: &str) -> bool {
    !path.contains(char::is_control) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::sums;

    #[test]
    fn only_a_plain_list_of_digests_is_read() {
        let sha256 = "0123456789abcdef".repeat(4);
        let line = |path: &str| format!("{sha256}  {path}\n");
        let two = line("a") + &line("b/c.wasm");
        assert_eq!(sums(two.as_bytes()).map(|sums| sums.len()), Ok(2));
        for path in ["", "/a", "../a", "a/../b", "a//b", "./a", "a\u{7}", "b/"] {
            let text = line("a") + &line(path);
            assert_eq!(sums(text.as_bytes()), Err(2), "{path:?}");
        }
        assert_eq!(sums((line("a") + &line("a")).as_bytes()), Err(2));
        assert_eq!(sums(line("a").to_uppercase().as_bytes()), Err(1));
        assert_eq!(sums(b"00  a\n"), Err(1));
        assert_eq!(sums(b"\xff"), Err(1));
    }
}
