//! Cache of what the tools for Python and JavaScript made, by a digest of all that they were given.
//!
//! The tools start a language's runtime, which takes seconds, and no two runs give the same bytes.
//! A build that is found here keeps its digest, so its compiled code is found, too. An entry that
//! cannot be read or written is no failure: the tools run again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::user_folders;
use tensorgate_policy::hex;
use tensorgate_settings::folders::MAX_COMPONENT_BYTES;

/// Maximum number of entries. The least recently used ones are removed.
const MAX_ENTRIES: usize = 128;
/// Maximum size of all entries, bytes. One of Python has 20 MB, with pandas 100 MB.
const MAX_BYTES: u64 = 2 << 30;
/// Maximum size of one entry, bytes: that of the largest component that a host compiles.
const MAX_ENTRY_BYTES: usize = MAX_COMPONENT_BYTES;
/// Bytes of the digest at the start of an entry.
const DIGEST_BYTES: usize = 32;
/// Mode of an entry: readable and writable by the owner only.
const MODE: u32 = 0o600;

/// Variables of the environment by which the tools, or the runtimes that they start, load code.
const VARIABLES: [&str; 6] = [
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NAPI_RS_FORCE_WASI",
    "NAPI_RS_NATIVE_LIBRARY_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
];

/// The key of a build: a digest of its inputs, each with its length.
pub struct Key(Sha256);

impl Key {
    /// The key of a build with the tools of this list of versions.
    pub fn new(tools: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.add(tools.as_bytes());
        key
    }

    /// Adds one input.
    pub fn add(&mut self, input: &[u8]) {
        let bytes = u64::try_from(input.len()).unwrap_or(u64::MAX);
        self.0.update(bytes.to_le_bytes());
        self.0.update(input);
    }

    /// Adds a folder: the names of its entries, the content of files, and where links lead.
    ///
    /// # Errors
    /// An entry cannot be read.
    pub fn add_folder(&mut self, folder: &Path) -> std::io::Result<()> {
        self.add_tree(folder, true)
    }

    /// The same with the size and the time of each file in place of its content: for large folders.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn add_listing(&mut self, folder: &Path) -> std::io::Result<()> {
        self.add_tree(folder, false)
    }

    fn add_tree(&mut self, folder: &Path, with_content: bool) -> std::io::Result<()> {
        let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        // The count ends the folder, so that no other tree has the same digest.
        self.add(&entries.len().to_le_bytes());
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type()?);
            self.add(entry.file_name().as_encoded_bytes());
            if kind.is_dir() {
                self.add(b"folder");
                self.add_tree(&path, with_content)?;
            } else if kind.is_symlink() {
                self.add(b"link");
                self.add(std::fs::read_link(path)?.as_os_str().as_encoded_bytes());
            } else if with_content {
                self.add(b"file");
                self.add(&std::fs::read(path)?);
            } else {
                let found = entry.metadata()?;
                self.add(&found.size().to_le_bytes());
                self.add(&found.mtime().to_le_bytes());
                self.add(&found.mtime_nsec().to_le_bytes());
            }
        }
        Ok(())
    }

    /// Adds the arguments of a tool. Those below `root`, which each build has at another path, are
    /// added without it.
    pub fn add_arguments<'a>(&mut self, arguments: impl Iterator<Item = &'a OsStr>, root: &Path) {
        for argument in arguments {
            let below = Path::new(argument).strip_prefix(root);
            let argument = below.map_or(argument, Path::as_os_str);
            self.add(argument.as_encoded_bytes());
        }
    }

    /// Adds the variables that decide which code runs. What one environment made is not used in
    /// another.
    pub fn add_environment(&mut self, variable: impl Fn(&'static str) -> Option<OsString>) {
        for name in VARIABLES {
            self.add(variable(name).unwrap_or_default().as_encoded_bytes());
        }
    }

    fn name(&self) -> String {
        format!("{}.wasm", hex(&self.0.clone().finalize()))
    }

    /// The digest at the start of an entry. It covers the key, so a renamed entry is not used.
    fn entry_digest(&self, made: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut digest = Sha256::new();
        digest.update(self.0.clone().finalize());
        digest.update(made);
        digest.finalize().into()
    }
}

/// The folder of entries, which only this user can read and write.
pub struct BuildCache {
    folder: PathBuf,
}

impl BuildCache {
    /// The cache in the user's cache folder, if there is one that no other user can write to.
    pub fn open() -> Option<Self> {
        let folder = user_folders::builds()?;
        Some(Self { folder })
    }

    /// What the tools made of these inputs earlier.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let file = self.folder.join(key.name());
        let max_bytes = u64::try_from(MAX_ENTRY_BYTES).unwrap_or(u64::MAX);
        let mut entry = read_at_most(&file, max_bytes).ok()??;
        let (digest, made) = entry.split_first_chunk::<DIGEST_BYTES>()?;
        if key.entry_digest(made) != *digest {
            return None;
        }
        // Entries are removed by their time of last use.
        let _ = File::open(file).and_then(|file| file.set_modified(SystemTime::now()));
        entry.drain(..DIGEST_BYTES);
        Some(entry)
    }

    /// Keeps what the tools made, and removes the least recently used entries beyond the limits.
    pub fn put(&self, key: &Key, made: &[u8]) {
        let entry = [key.entry_digest(made).as_slice(), made].concat();
        if entry.len() <= MAX_ENTRY_BYTES {
            let _ = replace(&self.folder.join(key.name()), entry, Mode::Exact(MODE));
        }
        self.prune(MAX_ENTRIES, MAX_BYTES);
    }

    /// Files that a killed process left are entries here, which become the oldest.
    fn prune(&self, max_entries: usize, max_bytes: u64) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut entries: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let found = entry.metadata().ok()?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect();
        // Latest first.
        entries.sort_by(|one, other| other.cmp(one));
        let mut bytes = 0_u64;
        for (index, (_, size, path)) in entries.iter().enumerate() {
            bytes = bytes.saturating_add(*size);
            if index >= max_entries || bytes > max_bytes {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
