//! Cache of compiled components in a folder that only its owner can write.
//!
//! Compiled code runs without further checks. So a file is used only if the folder's own key
//! authenticates it for this engine and the requested digest. The file is read completely before it
//! is checked, so it cannot change in between.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, Mac as _};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::Sha256;
use tensorgate_policy::hex;

use crate::component_cache::Digest;
use crate::fixed_limits::{MAX_CACHE_BYTES, MAX_CACHE_FILES, MAX_COMPILED_BYTES};

/// The first bytes of a file, with the version of its format.
const MAGIC: &[u8; 8] = b"tgcwasm1";
const TAG_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + TAG_BYTES;
const KEY_BYTES: usize = 32;
const KEY: &str = "key";
const SUFFIX: &str = ".cwasm";

/// Why a file in the cache is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheFault {
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    #[error("{0} is not a regular file")]
    Kind(String),
    #[error("{name} belongs to user {owner}, not to this process")]
    Owner { name: String, owner: u32 },
    #[error("{name} has mode {mode:04o}: others can read or write it")]
    Access { name: String, mode: u32 },
    #[error("{0} is too large, or too small")]
    Size(String),
    #[error("{0} was not written by this host for this component and engine")]
    Tag(String),
}

/// The cache folder.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
    folder: OwnedFd,
    key: [u8; KEY_BYTES],
    /// The version and configuration of the engine.
    engine: [u8; 32],
}

impl Cache {
    /// Opens or creates the folder. A key that cannot be trusted is replaced, which invalidates all
    /// files.
    pub(super) fn open(path: &Path, engine: [u8; 32]) -> Result<Self, CacheFault> {
        let named = path.display().to_string();
        let failed = |error: Errno| CacheFault::Io(named.clone(), error.into());
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        check_owner(&named, &rustix::fs::fstat(&folder).map_err(failed)?)?;
        let mut cache = Self {
            path: path.to_owned(),
            folder,
            key: [0; KEY_BYTES],
            engine,
        };
        cache.key = cache.read_or_make_key()?;
        Ok(cache)
    }

    fn read_or_make_key(&self) -> Result<[u8; KEY_BYTES], CacheFault> {
        match self.read(KEY, KEY_BYTES) {
            Ok(Some(key)) => {
                if let Ok(key) = key.try_into() {
                    return Ok(key);
                }
                tracing::warn!(folder = %self.path.display(), "key of the compilation cache has another size: making a new key and recompiling all components");
            }
            Ok(None) => {}
            Err(fault) => {
                tracing::warn!(folder = %self.path.display(), cause = fault.to_string(), "key of the compilation cache is not trustworthy: making a new key and recompiling all components");
            }
        }
        let mut key = [0; KEY_BYTES];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut key))
            .map_err(|error| CacheFault::Io("/dev/urandom".to_owned(), error))?;
        self.replace(KEY, &[&key])?;
        Ok(key)
    }

    /// The compiled code for this digest, if it is in the cache and authentic.
    pub(super) fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, CacheFault> {
        let name = name(digest);
        let Some(mut file) = self.read(&name, MAX_COMPILED_BYTES.saturating_add(HEAD_BYTES))?
        else {
            return Ok(None);
        };
        let tagged = file.split_at_checked(HEAD_BYTES);
        let authentic = tagged.is_some_and(|(head, code)| {
            let (magic, tag) = head.split_at(MAGIC.len());
            magic == MAGIC && self.tag(digest, code).verify_slice(tag).is_ok()
        });
        if !authentic {
            return Err(CacheFault::Tag(name));
        }
        file.drain(..HEAD_BYTES);
        Ok(Some(file))
    }

    /// Adds compiled code, and removes the oldest files beyond the limits.
    pub(super) fn put(&self, digest: &Digest, code: &[u8]) -> Result<(), CacheFault> {
        let tag = self.tag(digest, code).finalize().into_bytes();
        self.replace(&name(digest), &[MAGIC, tag.as_slice(), code])?;
        self.prune();
        Ok(())
    }

    /// The MAC covers all that decides whether code may run: the format, the engine, the component
    /// and the code.
    fn tag(&self, digest: &Digest, code: &[u8]) -> Hmac<Sha256> {
        let bytes = u64::try_from(code.len()).unwrap_or(u64::MAX);
        // HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap_or_else(|_| unreachable!());
        for part in [MAGIC, &self.engine[..], digest, &bytes.to_le_bytes(), code] {
            mac.update(part);
        }
        mac
    }

    /// The content of a file, if it exists and only this process' user could have written it.
    fn read(&self, name: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, CacheFault> {
        let failed = |error: std::io::Error| CacheFault::Io(name.to_owned(), error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(CacheFault::Kind(name.to_owned()));
        }
        check_owner(name, &stat)?;
        let bytes = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if bytes > max_bytes {
            return Err(CacheFault::Size(name.to_owned()));
        }
        let mut content = Vec::with_capacity(bytes);
        let most = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        File::from(file)
            .take(most)
            .read_to_end(&mut content)
            .map_err(failed)?;
        Ok(Some(content))
    }

    /// Writes to a temporary file and renames it, so that other processes see a complete file.
    fn replace(&self, name: &str, parts: &[&[u8]]) -> Result<(), CacheFault> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let failed = |error: std::io::Error| CacheFault::Io(name.to_owned(), error);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = format!(".{}-{number}-{name}", std::process::id());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Removes the file of a crashed process with the same ID.
        let _ = rustix::fs::unlinkat(&self.folder, &beside, AtFlags::empty());
        let file = rustix::fs::openat(&self.folder, &beside, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        let placed = written.and_then(|()| {
            Ok(rustix::fs::renameat(
                &self.folder,
                &beside,
                &self.folder,
                name,
            )?)
        });
        placed.map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.folder, &beside, AtFlags::empty());
            failed(error)
        })
    }

    /// Removes the oldest files beyond the limits. Entries that cannot be read are skipped.
    fn prune(&self) {
        let Ok(listed) = rustix::fs::Dir::read_from(self.folder.as_fd()) else {
            return;
        };
        let mut files: Vec<_> = listed
            .flatten()
            .filter(|entry| entry.file_name().to_bytes().ends_with(SUFFIX.as_bytes()))
            .filter_map(|entry| {
                let name = entry.file_name().to_owned();
                let stat =
                    rustix::fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                Some((
                    stat.st_mtime,
                    u64::try_from(stat.st_size).unwrap_or(0),
                    name,
                ))
            })
            .collect();
        // Latest first.
        files.sort_by(|one, other| other.cmp(one));
        let mut bytes = 0_u64;
        for (place, (_, size, name)) in files.iter().enumerate() {
            bytes = bytes.saturating_add(*size);
            if place >= MAX_CACHE_FILES || bytes > MAX_CACHE_BYTES {
                let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
            }
        }
    }
}

fn name(digest: &Digest) -> String {
    format!("{}{SUFFIX}", hex(digest))
}

/// Checks that a file belongs to this user and that no one else can read or write it.
fn check_owner(name: &str, stat: &Stat) -> Result<(), CacheFault> {
    let owner = stat.st_uid;
    if owner != rustix::process::geteuid().as_raw() {
        let name = name.to_owned();
        return Err(CacheFault::Owner { name, owner });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        let name = name.to_owned();
        return Err(CacheFault::Access { name, mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
