//! Whether a policy's files have changed. A change counts once it has stopped: an editor that writes in pieces is waited for.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// Between two looks. What two looks see alike has stopped changing.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// A file's device, number, size and time of change in seconds and nanoseconds; nothing if it is not there.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// The files, as they were last seen.
#[derive(Debug)]
pub struct Watch {
    seen: Vec<(PathBuf, Mark)>,
}

impl Watch {
    /// Watches these files from now on.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        files.dedup();
        let seen = files.into_iter().map(|file| {
            let mark = mark(&file);
            (file, mark)
        });
        Self {
            seen: seen.collect(),
        }
    }

    /// What stands there now is known.
    pub fn renew(&mut self) {
        self.seen = self.look();
    }

    /// Watches these files instead. What is known of one stays known.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let known = std::mem::replace(self, Self::new(files)).seen;
        for (file, mark) in &mut self.seen {
            if let Some((_, before)) = known.iter().find(|(name, _)| name == file) {
                *mark = *before;
            }
        }
    }

    /// Waits until something changed, and then until nothing does any more. Cancelled, it has seen nothing.
    pub async fn changed(&mut self) {
        let mut last = self.look();
        loop {
            sleep(LOOK_EVERY).await;
            let now = self.look();
            if now == last && now != self.seen {
                self.seen = now;
                return;
            }
            last = now;
        }
    }

    fn look(&self) -> Vec<(PathBuf, Mark)> {
        let look = |(file, _): &(PathBuf, Mark)| (file.clone(), mark(file));
        self.seen.iter().map(look).collect()
    }
}

fn mark(file: &Path) -> Mark {
    let metadata = std::fs::metadata(file).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn a_change_in_place_a_replacement_and_an_arrival_count_once() {
        let folder = crate::stack::private_dir::PrivateDir::new().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::write(place("a"), "1").unwrap();
        let mut watch = Watch::new([place("a"), place("b")]);
        let still = async |watch: &mut Watch| {
            tokio::time::timeout(LOOK_EVERY * 4, watch.changed())
                .await
                .is_err()
        };
        assert!(still(&mut watch).await, "nothing changed");
        for (change, what) in [("a", "in place"), ("b", "there now")] {
            std::fs::write(place(change), "22").unwrap();
            watch.changed().await;
            assert!(still(&mut watch).await, "{what}: told once");
        }
        std::fs::write(place("new"), "22").unwrap();
        std::fs::rename(place("new"), place("a")).unwrap();
        watch.changed().await;
        std::fs::remove_file(place("b")).unwrap();
        watch.changed().await;
    }
}
