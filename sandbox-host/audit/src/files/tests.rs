//! Tests of the log's folder: rotation, and files that were removed, truncated or replaced.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

fn folder(keep: usize) -> (PathBuf, Folder) {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("tg-files-{}-{number}", std::process::id()));
    let paths = Paths::new(&root.join("log.jsonl"));
    let lock = Folder::lock(&paths).unwrap();
    (root, Folder::open(paths, keep, lock).unwrap())
}

fn displaced(log: &mut Folder, lines: &[u8]) -> String {
    match log.append(lines) {
        Err(AppendError::Displaced(found)) => found.what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rotation_that_is_tried_again_destroys_nothing() {
    let (root, mut log) = folder(4);
    log.append(b"one\n").unwrap();
    // An attempt that has moved the file and then failed.
    std::fs::rename(log.paths.log(), log.paths.closed(1)).unwrap();
    assert_eq!(log.rotate(1, 2).unwrap(), 1);
    log.append(b"two\n").unwrap();
    assert_eq!(std::fs::read(log.paths.closed(1)).unwrap(), b"one\n");
    assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"two\n");
    assert_eq!(log.bytes(), 4);
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn an_old_file_that_cannot_be_removed_holds_nothing_up() {
    let (root, mut log) = folder(1);
    // A folder with that name, which `remove_file` rejects.
    std::fs::create_dir(log.paths.closed(1)).unwrap();
    log.append(b"two\n").unwrap();
    assert_eq!(log.rotate(2, 3).unwrap(), 2);
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
    assert!(log.rotate(1, 2).is_err());
    assert_eq!(std::fs::read(log.paths.closed(1)).unwrap(), b"kept");
    assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"one\n");
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn lines_that_were_written_to_a_moved_file_are_removed_from_it() {
    let (root, mut log) = folder(4);
    log.append(b"one\n").unwrap();
    let moved = root.join("moved");
    // Between the check before a write and the write.
    log.dirty = true;
    log.file.write_all(b"two\n").unwrap();
    std::fs::rename(log.paths.log(), &moved).unwrap();
    assert_eq!(displaced(&mut log, b""), "gone");
    assert_eq!(log.reopen(2).unwrap(), 2);
    assert_eq!(std::fs::read(&moved).unwrap(), b"one\n");
    log.append(b"two\n").unwrap();
    assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"two\n");
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_file_that_was_truncated_during_a_write_does_not_grow_again() {
    let (root, mut log) = folder(4);
    log.append(b"one\n").unwrap();
    log.dirty = true;
    log.file.set_len(2).unwrap();
    assert_eq!(displaced(&mut log, b"two\n"), "truncated");
    assert_eq!(std::fs::read(log.paths.log()).unwrap(), b"on");
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn files_that_are_moved_aside_replace_none() {
    let (root, mut log) = folder(4);
    for (number, text) in ["first", "second", "third"].into_iter().enumerate() {
        std::fs::write(log.paths.log(), text).unwrap();
        assert_eq!(log.reopen(7).unwrap(), 7, "{number}");
    }
    for (seq, text) in [(7, "first"), (8, "second"), (9, "third")] {
        assert_eq!(
            std::fs::read_to_string(log.paths.damaged(seq)).unwrap(),
            text
        );
    }
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_log_that_another_host_has_locked_is_not_created_again() {
    let (root, mut log) = folder(4);
    std::fs::remove_dir_all(&root).unwrap();
    let other = Folder::lock(&log.paths).unwrap();
    assert_eq!(displaced(&mut log, b"one\n"), "gone");
    assert!(log.reopen(1).is_err());
    assert!(!log.paths.log().exists());
    drop(other);
    assert_eq!(log.reopen(1).unwrap(), 1);
    // The lock is this log's own again.
    assert!(Folder::lock(&log.paths).is_err());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn each_line_is_in_one_file_however_often_the_file_is_moved_meanwhile() {
    const MOVES: usize = 300;
    let (root, mut log) = folder(4);
    let path = log.paths.log().to_owned();
    let moved = |number: usize| root.join(format!("moved-{number}"));
    let mut written = 0;
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            for number in 0..MOVES {
                while std::fs::rename(&path, moved(number)).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        while !mover.is_finished() {
            let line = format!("{written}\n");
            match log.append(line.as_bytes()) {
                Ok(()) => written += 1,
                // A new file may be moved away before it is found at its path.
                Err(AppendError::Displaced(_)) => while log.reopen(1).is_err() {},
                Err(AppendError::Io(error)) => panic!("{error}"),
            }
        }
    });
    let mut lines = Vec::new();
    for file in (0..MOVES).map(moved).chain([path]) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        lines.extend(text.lines().map(|line| line.parse::<u32>().unwrap()));
    }
    let expected: Vec<u32> = (0..written).collect();
    assert_eq!(lines, expected);
    std::fs::remove_dir_all(root).unwrap();
}
