//! Detects changes of a policy's files, and when they have settled.
//!
//! Contents are compared, not timestamps: a file that is rewritten with the same bytes has not
//! changed. A file has settled when its contents stay the same for [`SETTLE`]. Before that, it may
//! be partially written, and a partial policy could be valid and allow more. Contents that were
//! read before count as settled immediately.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use tensorgate_policy_load::lists::Contents;
use tokio::time::{Instant, sleep};

/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a file's contents must stay the same.
const SETTLE: Duration = Duration::from_millis(400);
/// How long a file may keep changing before it is reported.
const UNSTABLE_AFTER: Duration = Duration::from_secs(2);
/// Age up to which timestamps may not distinguish two writes: the coarsest resolution of file
/// systems.
const COARSE: Duration = Duration::from_secs(2);
/// Largest file that is reread at every poll while its timestamps are that young, bytes.
const MAX_REREAD: u64 = 1 << 20;
/// Maximum length of a file that is compared, bytes: the host's limit for components.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A change of the watched files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At least one file differs from the previous poll.
    Fresh,
    /// All files have settled, and at least one differs from what was read.
    Settled,
}

/// The watched files.
#[derive(Debug)]
pub struct Watch {
    files: BTreeMap<PathBuf, Watched>,
    /// Whether to read again even without a change.
    again: bool,
}

#[derive(Debug)]
struct Watched {
    stamp: Option<Stamp>,
    /// Current contents; `None` if the file cannot be read.
    now: Option<Contents>,
    /// Time of the last change.
    since: Instant,
    /// Since when the file has not settled.
    unstable: Option<Instant>,
    /// Contents at the last read.
    read: Option<Contents>,
    /// Contents of the version in force.
    in_force: Option<Contents>,
}

/// Metadata that identify a file's state without reading it: device, inode, size, and the times of
/// the last changes of contents and metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
    /// Whether a later write could have left the same metadata.
    young: bool,
}

impl Watch {
    /// Watches these files. Their current contents count as in force.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let now = Instant::now();
        let files = files.into_iter().map(|path| {
            let watched = Watched::new(&path, now);
            (path, watched)
        });
        Self {
            files: files.collect(),
            again: false,
        }
    }

    /// Replaces the set of watched files and keeps the state of known ones. Returns whether all of
    /// them were watched already.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) -> bool {
        let now = Instant::now();
        let mut known = std::mem::take(&mut self.files);
        let mut all_known = true;
        for path in files {
            if self.files.contains_key(&path) {
                continue;
            }
            let watched = known.remove(&path).unwrap_or_else(|| {
                all_known = false;
                Watched::new(&path, now)
            });
            self.files.insert(path, watched);
        }
        all_known
    }

    /// Marks the current contents as read.
    pub fn begin(&mut self) {
        self.poll(Instant::now());
        self.again = false;
        for file in self.files.values_mut() {
            file.read = file.now;
        }
    }

    /// Whether no file has changed since it was read.
    pub fn is_unchanged(&mut self) -> bool {
        self.poll(Instant::now());
        self.files.values().all(|file| file.now == file.read)
    }

    /// Marks the contents that were read as in force.
    pub fn accept(&mut self) {
        for file in self.files.values_mut() {
            file.in_force = file.read;
        }
    }

    /// Requests another read after the files have settled, because the last one was abandoned.
    pub const fn again(&mut self) {
        self.again = true;
    }

    /// Digest of a file's contents at the last read; `None` if it could not be read.
    pub fn read_contents(&self, path: &Path) -> Option<Contents> {
        self.files.get(path)?.read
    }

    /// The files whose contents were read but are not in force.
    pub fn differing(&self) -> impl Iterator<Item = &Path> {
        let files = self.files.iter();
        let differing = files.filter(|(_, file)| file.read != file.in_force);
        differing.map(|(path, _)| path.as_path())
    }

    /// The files that keep changing and thereby delay all others.
    pub fn unstable(&self) -> impl Iterator<Item = &Path> {
        self.unstable_at(Instant::now())
    }

    fn unstable_at(&self, now: Instant) -> impl Iterator<Item = &Path> {
        let unstable = self.files.iter().filter(move |(_, file)| {
            let since = file.unstable;
            since.is_some_and(|since| now.saturating_duration_since(since) >= UNSTABLE_AFTER)
        });
        unstable.map(|(path, _)| path.as_path())
    }

    /// Whether contents that were just read are complete.
    pub fn is_whole(&self, path: &Path, contents: &Contents) -> bool {
        let file = self.files.get(path);
        file.is_some_and(|file| {
            file.now.as_ref() == Some(contents) && file.has_settled(Instant::now())
        })
    }

    /// Waits for a change. If cancelled, only a [`Change::Fresh`] may be lost.
    pub async fn changed(&mut self) -> Change {
        loop {
            sleep(POLL_INTERVAL).await;
            if let Some(change) = self.step(Instant::now()) {
                return change;
            }
        }
    }

    /// Waits until the files have settled with other contents.
    pub async fn settled(&mut self) {
        while self.changed().await != Change::Settled {}
    }

    fn step(&mut self, now: Instant) -> Option<Change> {
        if self.poll(now) {
            return Some(Change::Fresh);
        }
        let differs = |file: &Watched| file.now != file.read;
        let due = self.again || self.files.values().any(differs);
        let settled = self.files.values().all(|file| file.has_settled(now));
        (due && settled).then_some(Change::Settled)
    }

    /// Polls once; returns whether any file changed.
    fn poll(&mut self, now: Instant) -> bool {
        let mut fresh = false;
        for (path, file) in &mut self.files {
            fresh |= file.poll(path, now);
        }
        fresh
    }
}

impl Watched {
    fn new(path: &Path, now: Instant) -> Self {
        let (stamp, contents) = inspect(path, None);
        Self {
            stamp,
            now: contents,
            since: now,
            unstable: None,
            read: contents,
            in_force: contents,
        }
    }

    fn poll(&mut self, path: &Path, now: Instant) -> bool {
        let (stamp, contents) = inspect(path, self.stamp.map(|stamp| (stamp, self.now)));
        self.stamp = stamp;
        let fresh = contents != self.now;
        if fresh {
            (self.now, self.since) = (contents, now);
        }
        if self.has_settled(now) {
            self.unstable = None;
        } else if self.unstable.is_none() {
            self.unstable = Some(now);
        }
        fresh
    }

    /// Contents that were read count as settled. So a file that is repeatedly rewritten with the
    /// same bytes delays nothing, even if it is briefly empty.
    fn has_settled(&self, now: Instant) -> bool {
        self.now == self.read || now.saturating_duration_since(self.since) >= SETTLE
    }
}

/// A file's stamp and contents. If the stamp is unchanged, the known contents are reused.
fn inspect(
    path: &Path,
    known: Option<(Stamp, Option<Contents>)>,
) -> (Option<Stamp>, Option<Contents>) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return (None, None);
    };
    let stamp = Stamp::from_metadata(&metadata);
    // A pipe is not opened, because its writer would take this process for the reader.
    let same = known.filter(|(before, _)| *before == stamp && !before.young);
    match same {
        Some((_, contents)) => (Some(stamp), contents),
        None if !metadata.is_file() => (Some(stamp), None),
        None => read(path).unwrap_or((Some(stamp), None)),
    }
}

fn read(path: &Path) -> io::Result<(Option<Stamp>, Option<Contents>)> {
    // Does not block if the file has become a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    // Taken before the contents are read, so that a concurrent write gives another stamp at the
    // next poll.
    let stamp = Stamp::from_metadata(&file.metadata()?);
    let mut digest = Sha256::new();
    io::copy(&mut file.take(MAX_FILE_BYTES), &mut digest)?;
    Ok((Some(stamp), Some(digest.finalize().into())))
}

impl Stamp {
    fn from_metadata(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let seconds = u64::try_from(changed.0).unwrap_or_default();
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        // Timestamps in the future count as young.
        let age = at.and_then(|at| at.elapsed().ok()).unwrap_or_default();
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            young: age <= COARSE && metadata.size() <= MAX_REREAD,
        }
    }
}

#[cfg(test)]
mod tests;
