//! Whether a policy's files are others than they were. Only a file that was replaced counts: another renamed over it, a symbolic link
//! on the way to it swapped. What is rewritten in place may be half of a change, and half a policy can be a whole one that allows more:
//! that is told, and never taken for a change.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::time::sleep;

/// Between two looks. What two looks see alike has stopped changing.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// What happened to the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One was replaced, and none stands there that may be half of itself.
    Whole,
    /// These were rewritten in place; told once.
    InPlace(Vec<PathBuf>),
    /// One was replaced, and these still stand as they were rewritten in place.
    Beside(Vec<PathBuf>),
}

/// The files, as they were last seen.
#[derive(Debug)]
pub struct Watch {
    files: Vec<Watched>,
    /// One was replaced since that was last told.
    replaced: bool,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    seen: Option<Seen>,
    /// It was rewritten in place since it was taken in.
    in_place: bool,
    told: bool,
}

/// A file that was there.
#[derive(Debug)]
struct Seen {
    /// While it is held, no other file can have its number.
    _held: File,
    device: u64,
    number: u64,
    /// Size in bytes, time of the last write in seconds and nanoseconds.
    content: (u64, i64, i64),
}

impl Watch {
    /// Watches these files from now on.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        files.dedup();
        let files = files.into_iter().map(|path| Watched {
            seen: see(&path).ok(),
            path,
            in_place: false,
            told: false,
        });
        Self {
            files: files.collect(),
            replaced: false,
        }
    }

    /// What stands there now is taken in, however it came there.
    pub fn renew(&mut self) {
        let paths: Vec<_> = self.files.drain(..).map(|file| file.path).collect();
        *self = Self::new(paths);
    }

    /// Reads, and then watches the files that what was read came from or names. One that was not watched while it was read may have
    /// changed before it was: then reads again.
    pub fn settle<T, E>(
        &mut self,
        mut read: impl FnMut() -> Result<T, E>,
        files: impl Fn(&T) -> Vec<PathBuf>,
    ) -> Result<T, E> {
        loop {
            let read = read()?;
            if self.follow(files(&read)) {
                return Ok(read);
            }
        }
    }

    /// Watches these files instead; whether each was watched already. What is known of one stays known.
    fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) -> bool {
        let known = std::mem::replace(self, Self::new(files));
        self.replaced = known.replaced;
        let mut fresh = self.files.len();
        for before in known.files {
            if let Some(file) = self.files.iter_mut().find(|file| file.path == before.path) {
                *file = before;
                fresh = fresh.saturating_sub(1);
            }
        }
        fresh == 0
    }

    /// Whether every file still stands as it was last seen. If not, what was read of them counts for nothing, and the next
    /// [`Self::changed`] says what to do.
    pub fn stands(&mut self) -> bool {
        let stands = !self.look();
        self.replaced |= !stands;
        stands
    }

    /// Waits until something happened, and then until nothing does any more. Cancelled, it has lost nothing.
    pub async fn changed(&mut self) -> Change {
        loop {
            sleep(LOOK_EVERY).await;
            if let Some(change) = self.step() {
                return change;
            }
        }
    }

    /// Looks once; what there is to tell, if nothing is other than at the look before.
    fn step(&mut self) -> Option<Change> {
        if self.look() {
            return None;
        }
        let mut news = Vec::new();
        for file in &mut self.files {
            if file.in_place && !file.told {
                file.told = true;
                news.push(file.path.clone());
            }
        }
        if !news.is_empty() {
            return Some(Change::InPlace(news));
        }
        if !std::mem::take(&mut self.replaced) {
            return None;
        }
        let in_place = self.files.iter().filter(|file| file.in_place);
        let in_place: Vec<_> = in_place.map(|file| file.path.clone()).collect();
        Some(if in_place.is_empty() {
            Change::Whole
        } else {
            Change::Beside(in_place)
        })
    }

    /// Looks once; whether anything is other than before.
    fn look(&mut self) -> bool {
        let mut differs = false;
        for file in &mut self.files {
            let now = see(&file.path).ok();
            let in_place = match (&file.seen, &now) {
                (None, None) => continue,
                (Some(before), Some(now)) if before.is_same_file(now) => {
                    if before.content == now.content {
                        continue;
                    }
                    true
                }
                // Nobody says how it came there: it may still be written.
                (None, Some(_)) => true,
                (_, _) => false,
            };
            differs = true;
            file.seen = now;
            if in_place {
                file.in_place = true;
            } else {
                (file.in_place, file.told) = (false, false);
                self.replaced = true;
            }
        }
        differs
    }
}

impl Seen {
    const fn is_same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.number == other.number
    }
}

/// Holds a file without reading it, so that nothing on the way, a pipe for one, can make it wait.
fn see(path: &Path) -> io::Result<Seen> {
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let held = File::from(held);
    let metadata = held.metadata()?;
    Ok(Seen {
        device: metadata.dev(),
        number: metadata.ino(),
        content: (metadata.size(), metadata.mtime(), metadata.mtime_nsec()),
        _held: held,
    })
}

#[cfg(test)]
mod tests;
