//! The log's files: the one that is written, closed ones named by their first line's number, and what stands beside them.
//!
//! `decisions.jsonl` is written; `decisions.jsonl.00000000000042` was, and begins with line 42. `.head` says where the log ends,
//! `.pub` is the key to verify with, `.key` the one that signs (unless the policy keeps it elsewhere), `.lock` keeps a second
//! host away.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Digits of a closed file's number: enough for a line each microsecond of a year and more, and names sort as numbers do.
pub const SEQ_DIGITS: usize = 14;

/// Where a log is.
#[derive(Clone, Debug)]
pub struct Paths {
    log: PathBuf,
}

impl Paths {
    /// Of a log that is written here.
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

    /// The file that is written.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where the log ends.
    pub fn head(&self) -> PathBuf {
        self.beside(".head")
    }

    /// The signing key, unless it is elsewhere.
    pub fn key(&self) -> PathBuf {
        self.beside(".key")
    }

    /// The verifying key.
    pub fn public(&self) -> PathBuf {
        self.beside(".pub")
    }

    /// What keeps a second host away.
    pub fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    /// A closed file.
    pub fn closed(&self, first_seq: u64) -> PathBuf {
        self.beside(&format!(".{first_seq:0SEQ_DIGITS$}"))
    }

    /// Bytes that a crash left after the last whole line, set apart before line `seq`.
    pub fn torn(&self, seq: u64) -> PathBuf {
        self.beside(&format!(".torn-{seq:0SEQ_DIGITS$}"))
    }

    /// A file whose first line cannot be read, set apart before line `seq`.
    pub fn damaged(&self, seq: u64) -> PathBuf {
        self.beside(&format!(".damaged-{seq:0SEQ_DIGITS$}"))
    }

    /// The closed files with their first lines' numbers, oldest first.
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

    /// Files that begin with the log's name and end in a number that is none of its own, as copies that another program has rotated do.
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

/// Where lines go. The file system's in a host; a test's own where a disk must fail.
pub trait Store: Send + 'static {
    /// Writes whole lines, or nothing: what was half written is taken back before the next try.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Bytes of the file that is written.
    fn bytes(&self) -> u64;
    /// Says where the log ends, at once or not at all.
    fn head(&mut self, text: &str) -> io::Result<()>;
    /// Closes the file that began with line `first_seq`, begins a new one, and lets go of what is more than is kept. Says
    /// which line is then the oldest.
    fn rotate(&mut self, first_seq: u64) -> io::Result<u64>;
}

/// A log on disk.
#[derive(Debug)]
pub struct Folder {
    paths: Paths,
    keep: usize,
    file: File,
    /// Bytes of whole lines.
    whole: u64,
    /// More than that may stand in the file.
    dirty: bool,
    /// The file that was closed last, by its first line.
    closed: Option<u64>,
    /// Forces that file to the disk, which the lines that follow do not wait for.
    syncing: Option<JoinHandle<()>>,
    _lock: File,
}

impl Folder {
    /// Locks a log; its folder is made, for its owner alone, if it is not there.
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
                Err(io::Error::other("another host writes this audit log"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens the file that is written, made if it is not there. `keep`: closed files.
    pub fn open(paths: Paths, keep: usize, lock: File) -> io::Result<Self> {
        let file = append_to(paths.log())?;
        let whole = file.metadata()?.len();
        Ok(Self {
            paths,
            keep,
            file,
            whole,
            dirty: false,
            closed: None,
            syncing: None,
            _lock: lock,
        })
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    // Lines name clients and what they ask for: they are their owner's. What a link leads to is none of these files.
    options
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
}

/// A regular file and nothing else: a pipe's reader could hold the log up, and with it the gate.
fn append_to(path: &Path) -> io::Result<File> {
    if std::fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

impl Store for Folder {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.whole)?;
            self.dirty = false;
        }
        self.dirty = true;
        self.file.write_all(lines)?;
        self.dirty = false;
        let written = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.whole = self.whole.saturating_add(written);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.whole
    }

    fn head(&mut self, text: &str) -> io::Result<()> {
        write_whole(&self.paths.head(), text)
    }

    fn rotate(&mut self, first_seq: u64) -> io::Result<u64> {
        // A try that failed further down has closed the file already: a second rename would put the new one in its place.
        if self.closed != Some(first_seq) {
            let closed = self.paths.closed(first_seq);
            if closed.try_exists()? {
                return Err(io::Error::other(format!(
                    "{} is in the way",
                    closed.display()
                )));
            }
            std::fs::rename(self.paths.log(), closed)?;
            self.closed = Some(first_seq);
        }
        let full = std::mem::replace(&mut self.file, append_to(self.paths.log())?);
        self.whole = self.file.metadata()?.len();
        self.sync(full);
        Ok(self.prune(first_seq))
    }
}

impl Folder {
    /// Forces a closed file to the disk beside the writing of the next: a disk may take seconds for it, and answers wait for their lines.
    /// One at a time: where a disk takes longer for a file than the next takes to fill, writing waits for it.
    fn sync(&mut self, full: File) {
        self.synced();
        let sync = move || {
            if let Err(error) = full.sync_data() {
                tracing::error!(
                    cause = error.to_string(),
                    "a closed audit file may not be on the disk"
                );
            }
        };
        let thread = std::thread::Builder::new().name("audit-sync".to_owned());
        match thread.spawn(sync) {
            Ok(syncing) => self.syncing = Some(syncing),
            Err(error) => tracing::error!(
                cause = error.to_string(),
                "a closed audit file may not be on the disk"
            ),
        }
    }

    /// Waits for the file that was closed last.
    fn synced(&mut self) {
        if let Some(syncing) = self.syncing.take() {
            // It cannot panic, and has told what went wrong.
            let _ = syncing.join();
        }
    }

    /// Lets go of what is more than is kept; what cannot be removed stays, and writing goes on. Says which line is then the oldest.
    fn prune(&self, first_seq: u64) -> u64 {
        let failed = |error: &io::Error| {
            tracing::warn!(
                cause = error.to_string(),
                "a closed audit file cannot be removed"
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
        closed.first().map_or(first_seq, |(oldest, _)| *oldest)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.synced();
    }
}

/// Writes a file so that a reader sees the old content or the new, and nothing between.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.to_owned().into_os_string();
    name.push(".new");
    let new = PathBuf::from(name);
    private(OpenOptions::new().create(true).truncate(true))
        .open(&new)?
        .write_all(text.as_bytes())?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn folder(keep: usize) -> (PathBuf, Folder) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tg-files-{}-{number}", std::process::id()));
        let paths = Paths::new(&root.join("log.jsonl"));
        let lock = Folder::lock(&paths).unwrap();
        (root, Folder::open(paths, keep, lock).unwrap())
    }

    #[test]
    fn a_rotation_that_is_tried_again_destroys_nothing() {
        let (root, mut log) = folder(4);
        log.append(b"one\n").unwrap();
        assert_eq!(log.rotate(1).unwrap(), 1);
        log.append(b"two\n").unwrap();
        assert_eq!(log.rotate(1).unwrap(), 1);
        assert_eq!(std::fs::read(log.paths.closed(1)).unwrap(), b"one\n");
        assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"two\n");
        assert_eq!(log.bytes(), 4);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_old_file_that_cannot_be_removed_holds_nothing_up() {
        let (root, mut log) = folder(1);
        // A folder of that name: `remove_file` refuses it.
        std::fs::create_dir(log.paths.closed(1)).unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(log.rotate(2).unwrap(), 2);
        log.append(b"three\n").unwrap();
        assert_eq!(std::fs::read(log.paths.closed(2)).unwrap(), b"two\n");
        assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"three\n");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_that_is_in_the_way_is_not_written_over() {
        let (root, mut log) = folder(4);
        std::fs::write(log.paths.closed(1), "kept").unwrap();
        log.append(b"one\n").unwrap();
        assert!(log.rotate(1).is_err());
        assert_eq!(std::fs::read(log.paths.closed(1)).unwrap(), b"kept");
        assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"one\n");
        std::fs::remove_dir_all(root).unwrap();
    }
}
