//! Which of a policy's files hold something else than what was read of them, and whether they have settled.
//!
//! Contents count, not timestamps: a file that is rewritten with the same bytes has not changed. A file has
//! settled when it reads the same for [`SETTLE`]. Before that it may be half written, and half a policy can be a
//! valid one that allows more. What was read before counts as settled at once.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a file must read the same before it counts as whole.
const SETTLE: Duration = Duration::from_millis(400);
/// How long a file may go on changing before that is reported.
const RESTLESS: Duration = Duration::from_secs(2);
/// Age up to which a file's times do not tell two writes apart: the coarsest that file systems keep.
const COARSE: Duration = Duration::from_secs(2);
/// Largest file that is read at each look while its times are that young, bytes.
const MAX_REREAD: u64 = 1 << 20;
/// Most of a file that counts, bytes: as much as the host reads of a component.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// SHA-256 of a file's content.
pub type Contents = [u8; 32];

/// What happened to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At least one reads otherwise than at the look before.
    Fresh,
    /// All have settled, and at least one holds something else than what was read.
    Settled,
}

/// The files, as they were last seen.
#[derive(Debug)]
pub struct Watch {
    files: BTreeMap<PathBuf, Watched>,
    /// What was read is to be read again, changed or not.
    again: bool,
}

#[derive(Debug)]
struct Watched {
    stamp: Option<Stamp>,
    /// `None`: there is no file that can be read.
    now: Option<Contents>,
    /// Since when it reads so.
    since: Instant,
    /// Since when it has not settled.
    restless: Option<Instant>,
    /// As it was read last.
    read: Option<Contents>,
    /// As it was when what was read of it came into force.
    in_force: Option<Contents>,
}

/// What tells, without reading it, that a file is the same as before: device, number, size, and the times of the
/// last write and of the last change of its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
    /// It was so young that another write may have left it the same.
    young: bool,
}

impl Watch {
    /// Watches these files from now on, which are in force as they stand.
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

    /// Watches these files instead; whether each was watched already. What is known of one stays known.
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

    /// What stands in the files now is about to be read.
    pub fn begin(&mut self) {
        self.look(Instant::now());
        self.again = false;
        for file in self.files.values_mut() {
            file.read = file.now;
        }
    }

    /// Whether every file still stands as it did when it was read.
    pub fn stands(&mut self) -> bool {
        self.look(Instant::now());
        self.files.values().all(|file| file.now == file.read)
    }

    /// What was read is in force.
    pub fn accept(&mut self) {
        for file in self.files.values_mut() {
            file.in_force = file.read;
        }
    }

    /// What was read was given up: the files are to be read again once they have settled.
    pub const fn again(&mut self) {
        self.again = true;
    }

    /// The files of which something else was read than what is in force.
    pub fn differing(&self) -> impl Iterator<Item = &Path> {
        let files = self.files.iter();
        let differing = files.filter(|(_, file)| file.read != file.in_force);
        differing.map(|(path, _)| path.as_path())
    }

    /// The files that go on changing, and keep all others waiting.
    pub fn restless(&self) -> impl Iterator<Item = &Path> {
        self.restless_at(Instant::now())
    }

    fn restless_at(&self, now: Instant) -> impl Iterator<Item = &Path> {
        let restless = self.files.iter().filter(move |(_, file)| {
            let since = file.restless;
            since.is_some_and(|since| now.saturating_duration_since(since) >= RESTLESS)
        });
        restless.map(|(path, _)| path.as_path())
    }

    /// Whether a file is whole that was just read so.
    pub fn is_whole(&self, path: &Path, contents: &Contents) -> bool {
        let file = self.files.get(path);
        file.is_some_and(|file| {
            file.now.as_ref() == Some(contents) && file.has_settled(Instant::now())
        })
    }

    /// Waits until something happened. Cancelled, it has lost nothing but a [`Change::Fresh`].
    pub async fn changed(&mut self) -> Change {
        loop {
            sleep(LOOK_EVERY).await;
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
        if self.look(now) {
            return Some(Change::Fresh);
        }
        let differs = |file: &Watched| file.now != file.read;
        let due = self.again || self.files.values().any(differs);
        let settled = self.files.values().all(|file| file.has_settled(now));
        (due && settled).then_some(Change::Settled)
    }

    /// Looks once; whether any file reads otherwise than before.
    fn look(&mut self, now: Instant) -> bool {
        let mut fresh = false;
        for (path, file) in &mut self.files {
            fresh |= file.look(path, now);
        }
        fresh
    }
}

impl Watched {
    fn new(path: &Path, now: Instant) -> Self {
        let (stamp, contents) = see(path, None);
        Self {
            stamp,
            now: contents,
            since: now,
            restless: None,
            read: contents,
            in_force: contents,
        }
    }

    fn look(&mut self, path: &Path, now: Instant) -> bool {
        let (stamp, contents) = see(path, self.stamp.map(|stamp| (stamp, self.now)));
        self.stamp = stamp;
        let fresh = contents != self.now;
        if fresh {
            (self.now, self.since) = (contents, now);
        }
        if self.has_settled(now) {
            self.restless = None;
        } else if self.restless.is_none() {
            self.restless = Some(now);
        }
        fresh
    }

    /// Since what was read counts as settled, a file that is rewritten with the same bytes over and over holds
    /// nothing, though it is empty for a moment each time.
    fn has_settled(&self, now: Instant) -> bool {
        self.now == self.read || now.saturating_duration_since(self.since) >= SETTLE
    }
}

/// A file's stamp and contents; what is known of it is taken where its stamp is still the same.
fn see(path: &Path, known: Option<(Stamp, Option<Contents>)>) -> (Option<Stamp>, Option<Contents>) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return (None, None);
    };
    let stamp = Stamp::of(&metadata);
    // A pipe is not even opened: whoever writes to it would take that for its reader.
    let same = known.filter(|(before, _)| *before == stamp && !before.young);
    match same {
        Some((_, contents)) => (Some(stamp), contents),
        None if !metadata.is_file() => (Some(stamp), None),
        None => read(path).unwrap_or((Some(stamp), None)),
    }
}

fn read(path: &Path) -> io::Result<(Option<Stamp>, Option<Contents>)> {
    // Without waiting, if it has become a pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    // Taken before the content is read: what is written meanwhile has another stamp at the next look.
    let stamp = Stamp::of(&file.metadata()?);
    let mut digest = Sha256::new();
    io::copy(&mut file.take(MAX_FILE_BYTES), &mut digest)?;
    Ok((Some(stamp), Some(digest.finalize().into())))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let seconds = u64::try_from(changed.0).unwrap_or_default();
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        // One that lies in the future is as young as one can be.
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
