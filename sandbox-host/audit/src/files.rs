//! The files of an audit log: the current one, closed ones named by the number of their first
//! record, and auxiliary files.
//!
//! `decisions.jsonl` is the current file. `decisions.jsonl.00000000000042` is closed and starts
//! with record 42. `.head` says where the log ends, `.pub` is the public key, `.key` the signing
//! key (unless the policy keeps it elsewhere), `.lock` excludes a second host, and `.export-NAME`
//! is the position of an exporter.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::line::{Line, MAX_LINE_BYTES};
use crate::record::Found;

/// The digits of a closed file's number: enough for a record each microsecond of a year. Names then
/// sort like numbers.
pub const SEQ_DIGITS: usize = 14;

/// The paths of a log.
#[derive(Clone, Debug)]
pub struct Paths {
    log: PathBuf,
}

impl Paths {
    /// Creates the paths of a log.
    pub fn new(log: &Path) -> Self {
        Self {
            log: log.to_owned(),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.log.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// The current file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The head file, which says where the log ends.
    pub fn head(&self) -> PathBuf {
        self.beside(".head")
    }

    /// The signing key, unless it is elsewhere.
    pub fn key(&self) -> PathBuf {
        self.beside(".key")
    }

    /// The public key.
    pub fn public(&self) -> PathBuf {
        self.beside(".pub")
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    /// The file with the position of an exporter.
    pub(crate) fn cursor(&self, exporter: &str) -> PathBuf {
        self.beside(&format!(".export-{exporter}"))
    }

    /// A closed file.
    pub fn closed(&self, first_seq: u64) -> PathBuf {
        self.beside(&format!(".{first_seq:0SEQ_DIGITS$}"))
    }

    /// The bytes that a crash left after the last complete record, moved aside before record `seq`.
    pub fn torn(&self, seq: u64) -> PathBuf {
        self.beside(&format!(".torn-{seq:0SEQ_DIGITS$}"))
    }

    /// A file with an unreadable first record, moved aside before record `seq`.
    pub fn damaged(&self, seq: u64) -> PathBuf {
        self.beside(&format!(".damaged-{seq:0SEQ_DIGITS$}"))
    }

    /// The closed files with the numbers of their first records, oldest first.
    pub fn all_closed(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut closed = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| {
                let own = self.log.file_name()?.to_str()?;
                let digits = name.strip_prefix(own)?.strip_prefix('.')?;
                let plain =
                    digits.len() == SEQ_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
                plain.then(|| digits.parse::<u64>().ok())?
            });
            if let Some(first) = number {
                closed.push((first, self.closed(first)));
            }
        }
        closed.sort();
        Ok(closed)
    }

    /// Files with the log's name and a number in another format, as rotations of another program
    /// create them.
    pub fn strangers(&self) -> io::Result<Vec<PathBuf>> {
        let mut strangers = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| {
                let own = self.log.file_name()?.to_str()?;
                name.strip_prefix(own)?.strip_prefix(['.', '-'])
            });
            if number.is_some_and(|number| {
                number.len() != SEQ_DIGITS
                    && number.starts_with(|first: char| first.is_ascii_digit())
            }) {
                strangers.push(self.log.with_file_name(name));
            }
        }
        strangers.sort();
        Ok(strangers)
    }

    fn folder(&self) -> &Path {
        let folder = self.log.parent();
        folder
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The open file is not at the log's path any more, or does not have the expected content.
    #[error("the file was found {}: {}", .0.what, .0.detail)]
    Displaced(Found),
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<AppendError> for io::Error {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Displaced(_) => Self::other(error),
            AppendError::Io(error) => error,
        }
    }
}

/// The storage of a log: a folder in a host, or a fake that fails in tests.
pub trait Store: Send + 'static {
    /// Appends complete records or nothing. Partial records are removed before the next attempt.
    ///
    /// Before and after the write it checks that the open file is at the log's path and has the
    /// records so far. Without records, only that check is done.
    fn append(&mut self, lines: &[u8]) -> Result<(), AppendError>;
    /// Moves aside the file at the log's path and creates a new one for records from `next_seq` on.
    /// Returns the number of the oldest record that is kept.
    fn reopen(&mut self, next_seq: u64) -> io::Result<u64>;
    /// The size of the current file in bytes.
    fn bytes(&self) -> u64;
    /// Writes where the log ends, completely or not at all.
    fn head(&mut self, text: &str) -> io::Result<()>;
    /// Closes the file that starts with record `first_seq`, creates a new one for records from
    /// `next_seq` on, and removes closed files beyond the limit. Returns the number of the oldest
    /// record that is kept.
    fn rotate(&mut self, first_seq: u64, next_seq: u64) -> io::Result<u64>;
}

/// A log on disk.
#[derive(Debug)]
pub struct Folder {
    paths: Paths,
    keep: usize,
    file: File,
    /// The bytes of complete records.
    whole: u64,
    /// Whether the file may have more than that.
    dirty: bool,
    /// Flushes the last closed file to the disk, in the background.
    syncing: Option<JoinHandle<()>>,
    lock: File,
}

impl Folder {
    /// Locks a log. Its folder is created if it is missing, accessible by its owner only.
    pub fn lock(paths: &Paths) -> io::Result<File> {
        if let Some(folder) = paths.log().parent().filter(|it| !it.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let lock = private(OpenOptions::new().create(true)).open(paths.lock())?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::other("another host has this audit log open"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens or creates the current file. `keep` is the number of closed files.
    pub fn open(paths: Paths, keep: usize, lock: File) -> io::Result<Self> {
        let file = append_to(paths.log())?;
        let whole = file.metadata()?.len();
        Ok(Self {
            paths,
            keep,
            file,
            whole,
            dirty: false,
            syncing: None,
            lock,
        })
    }
}

/// Whether both are the same file. The inode number of an open file is not reused.
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The metadata of a path, without following a link. `None` if nothing exists there.
fn lstat(path: &Path) -> io::Result<Option<Metadata>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(Some(there)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file for reading. A pipe is an error, because opening one may block forever.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular(path))
    }
}

fn not_regular(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not a regular file", path.display()))
}

/// The first record of a file.
pub(super) fn first_record(path: &Path) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    match open_regular(path) {
        Ok(file) => file
            .take(u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX))
            .read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let line = bytes.split(|byte| *byte == b'\n').next();
    Ok(line.and_then(|line| serde_json::from_slice(line).ok()))
}

/// Moves aside what exists at a log's path, so that a file for records from `next_seq` on can be
/// created there.
///
/// An empty file is removed. A file that starts with an earlier record becomes a closed file.
/// Anything else (another program's file, a link, a pipe, a folder) gets a `.damaged-` name.
pub(crate) fn move_aside(paths: &Paths, next_seq: u64) -> io::Result<()> {
    let Some(there) = lstat(paths.log())? else {
        return Ok(());
    };
    if there.is_file() && there.len() == 0 {
        return std::fs::remove_file(paths.log());
    }
    // An unreadable file is moved aside too.
    let line = first_record(paths.log()).ok().flatten();
    let line = line.filter(|line| there.is_file() && line.seq < next_seq);
    let closed = line.map(|line| paths.closed(line.seq));
    // No existing file is replaced.
    let damaged = (next_seq..).map(|seq| paths.damaged(seq));
    for aside in closed.into_iter().chain(damaged) {
        if lstat(&aside)?.is_none() {
            return std::fs::rename(paths.log(), aside);
        }
    }
    Ok(())
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    // Records name clients and their requests, so only the owner may read the file. Links are not
    // followed, and opening a pipe without a reader fails instead of blocking.
    options
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
}

/// Opens or creates a regular file for appending. The reader of a pipe could block the log, and
/// with it the gate.
fn append_to(path: &Path) -> io::Result<File> {
    if lstat(path)?.is_some_and(|there| !there.is_file()) {
        return Err(not_regular(path));
    }
    private(OpenOptions::new().append(true).create(true)).open(path)
}

impl Store for Folder {
    fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        self.remove_partial()?;
        self.check(self.whole)?;
        if lines.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        self.file.write_all(lines)?;
        let written = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let whole = self.whole.saturating_add(written);
        self.check(whole)?;
        (self.whole, self.dirty) = (whole, false);
        Ok(())
    }

    fn reopen(&mut self, next_seq: u64) -> io::Result<u64> {
        // Incomplete records go to the new file only.
        self.remove_partial()?;
        let lock = lstat(&self.paths.lock())?;
        let own = self.lock.metadata()?;
        if !lock.is_some_and(|lock| same_file(&lock, &own)) {
            self.lock = Self::lock(&self.paths)?;
        }
        self.create(next_seq)
    }

    fn bytes(&self) -> u64 {
        self.whole
    }

    fn head(&mut self, text: &str) -> io::Result<()> {
        replace_file(&self.paths.head(), text.as_bytes())
    }

    fn rotate(&mut self, first_seq: u64, next_seq: u64) -> io::Result<u64> {
        // If an earlier attempt failed below, the file already has its closed name.
        let there = lstat(self.paths.log())?;
        let own = self.file.metadata()?;
        if there.is_some_and(|there| same_file(&there, &own)) {
            let closed = self.paths.closed(first_seq);
            if lstat(&closed)?.is_some() {
                return Err(io::Error::other(format!(
                    "{} already exists",
                    closed.display()
                )));
            }
            std::fs::rename(self.paths.log(), closed)?;
        }
        self.create(next_seq)
    }
}

impl Folder {
    /// Checks that the open file is at the log's path and has this length.
    fn check(&self, bytes: u64) -> Result<(), AppendError> {
        let own = self.file.metadata()?;
        let (what, detail) = match lstat(self.paths.log())? {
            None => ("gone", "no file is at its path".to_owned()),
            Some(there) if !same_file(&there, &own) => {
                ("replaced", "another file is at its path".to_owned())
            }
            // The length comes from the open file, because on some file systems that of a path lags
            // behind.
            Some(_) if own.len() < bytes => {
                let detail = format!("it has {} of its {bytes} bytes", own.len());
                ("truncated", detail)
            }
            Some(_) if own.len() > bytes => {
                let detail = format!("it has {} bytes, of which {bytes} were written", own.len());
                ("grown", detail)
            }
            Some(_) => return Ok(()),
        };
        let what = what.to_owned();
        Err(AppendError::Displaced(Found { what, detail }))
    }

    /// Removes what a failed write left after the complete records.
    fn remove_partial(&mut self) -> io::Result<()> {
        if self.dirty {
            // The file may have become shorter. It must not grow.
            if self.file.metadata()?.len() > self.whole {
                self.file.set_len(self.whole)?;
            }
            self.dirty = false;
        }
        Ok(())
    }

    /// Creates a new file at the log's path. Returns the number of the oldest record that is kept.
    fn create(&mut self, next_seq: u64) -> io::Result<u64> {
        move_aside(&self.paths, next_seq)?;
        let log = self.paths.log();
        let new = private(OpenOptions::new().append(true).create_new(true)).open(log)?;
        // On a file system without stable inode numbers every check would fail, and every batch
        // would create a file.
        let own = new.metadata()?;
        if !lstat(log)?.is_some_and(|there| same_file(&there, &own)) {
            return Err(io::Error::other("the new log file was moved or removed"));
        }
        let full = std::mem::replace(&mut self.file, new);
        self.whole = 0;
        self.sync(full);
        Ok(self.prune(next_seq))
    }

    /// Flushes a closed file to the disk while the next one is written. A disk may take seconds for
    /// it, and responses wait for their records. At most one flush runs: if it takes longer than
    /// the next file takes to fill, writing waits.
    fn sync(&mut self, full: File) {
        self.synced();
        let sync = move || {
            if let Err(error) = full.sync_data() {
                tracing::error!(
                    cause = error.to_string(),
                    "cannot sync a closed audit file to disk"
                );
            }
        };
        let thread = std::thread::Builder::new().name("audit-sync".to_owned());
        match thread.spawn(sync) {
            Ok(syncing) => self.syncing = Some(syncing),
            Err(error) => tracing::error!(
                cause = error.to_string(),
                "cannot sync a closed audit file to disk"
            ),
        }
    }

    /// Waits for the last closed file.
    fn synced(&mut self) {
        if let Some(syncing) = self.syncing.take() {
            // The thread cannot panic, and has logged errors.
            let _ = syncing.join();
        }
    }

    /// Removes closed files beyond the limit. Files that cannot be removed stay, and writing
    /// continues. Returns the number of the oldest record.
    fn prune(&self, next_seq: u64) -> u64 {
        let failed = |error: &io::Error| {
            tracing::warn!(
                cause = error.to_string(),
                "cannot remove a closed audit file"
            );
        };
        let mut closed = self
            .paths
            .all_closed()
            .inspect_err(failed)
            .unwrap_or_default();
        let extra = closed.len().saturating_sub(self.keep);
        for (_, path) in closed.drain(..extra) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => failed(&error),
                _ => {}
            }
        }
        closed.first().map_or(next_seq, |(oldest, _)| *oldest)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.synced();
    }
}

/// Replaces a file atomically, so that a reader sees the old or the new content.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.to_owned().into_os_string();
    name.push(".new");
    let new = PathBuf::from(name);
    // An earlier one was left by a crash, or is a link that another user has planted.
    let _ = std::fs::remove_file(&new);
    private(OpenOptions::new().create_new(true))
        .open(&new)?
        .write_all(content)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests;
