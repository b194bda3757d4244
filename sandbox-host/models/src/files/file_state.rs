//! Whether a file has changed while it was read.

use std::fs::File;
use std::thread;
use std::time::Duration;

use rustix::fs::{Stat, fstat};
use rustix::time::{ClockId, clock_gettime};

/// The pause between two looks at the clock, which advances once in 1 to 10 milliseconds.
const CLOCK_PAUSE: Duration = Duration::from_millis(1);
/// Seconds between two times of a file system that stores no parts of a second. FAT stores every
/// other second.
const COARSEST_S: i64 = 2;

/// Whether two states are of one file without a change in between. A program can set the time of
/// modification, but not that of the last change.
pub fn is_same(before: &Stat, after: &Stat) -> bool {
    is_same_or_absent(Some(before), Some(after))
}

/// Whether two states are of one file without a change in between, or both are absent.
pub fn is_same_or_absent(before: Option<&Stat>, after: Option<&Stat>) -> bool {
    let identity = |state: &Stat| {
        let file = (state.st_dev, state.st_ino, state.st_mode, state.st_size);
        let modified = (state.st_mtime, state.st_mtime_nsec);
        (file, modified, state.st_ctime, state.st_ctime_nsec)
    };
    before.map(identity) == after.map(identity)
}

/// The state of a file on a local file system that gets another state with each later change.
/// `None` if its last change was in the current tick of the clock, or if it has no state.
pub fn settled_state(file: &File) -> Option<Stat> {
    // A later change has this time, or a later one.
    let now = clock_gettime(ClockId::RealtimeCoarse);
    let state = fstat(file).ok()?;
    let changed = (state.st_ctime, i128::from(state.st_ctime_nsec));
    is_settled(changed, (now.tv_sec, i128::from(now.tv_nsec))).then_some(state)
}

/// Whether every change from `now` on gets another time than `changed`. Both are seconds and
/// nanoseconds.
const fn is_settled(changed: (i64, i128), now: (i64, i128)) -> bool {
    if changed.1 == 0 {
        return changed.0.saturating_add(COARSEST_S) <= now.0;
    }
    changed.0 < now.0 || (changed.0 == now.0 && changed.1 < now.1)
}

/// Waits until the clock has advanced from which local file systems take the times of changes.
///
/// Before Linux 6.13, changes within one tick of that clock have the same time. So a file that is
/// read in the tick of the look at it could change after that and keep its state.
pub fn wait_for_next_tick() {
    let tick = || clock_gettime(ClockId::RealtimeCoarse);
    let start = tick();
    while tick() == start {
        thread::sleep(CLOCK_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_time_without_parts_of_a_second_may_come_again_for_two_seconds() {
        for (changed, now, expected) in [
            ((10, 5), (10, 5), false),
            ((10, 5), (10, 6), true),
            ((10, 5), (11, 0), true),
            ((11, 5), (10, 6), false),
            ((10, 0), (10, 999), false),
            ((10, 0), (11, 999), false),
            ((10, 0), (12, 0), true),
        ] {
            assert_eq!(is_settled(changed, now), expected, "{changed:?} {now:?}");
        }
    }

    #[test]
    fn a_file_that_was_replaced_is_not_the_same() {
        let folder = std::env::temp_dir().join(format!("tg-file-state-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model");
        std::fs::write(&path, "one").unwrap();
        let file = File::open(&path).unwrap();
        let before = fstat(&file).unwrap();
        assert!(is_same(&before, &fstat(&file).unwrap()));
        let beside = folder.join("other");
        std::fs::write(&beside, "two").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        let named = fstat(File::open(&path).unwrap()).unwrap();
        assert!(!is_same(&before, &named));
        // A byte more is a change, even within one tick of the file system's clock.
        std::fs::write(&path, "twofold").unwrap();
        let grown = fstat(File::open(&path).unwrap()).unwrap();
        assert!(!is_same(&named, &grown));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
