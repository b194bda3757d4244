//! Tests that a modified file is never used.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

const DIGEST: Digest = [7; 32];
const OTHER: Digest = [8; 32];
const ENGINE: [u8; 32] = [1; 32];
const CODE: &[u8] = b"what a compiler made";

/// A cache with one entry, and its path.
fn kept(name: &str) -> (Cache, PathBuf) {
    let path = std::env::temp_dir().join(format!("tg-cache-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&path));
    let cache = Cache::open(&path, ENGINE).unwrap();
    cache.put(&DIGEST, CODE).unwrap();
    (cache, path)
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_kept_is_found_by_the_same_host_alone() {
    let (cache, path) = kept("found");
    assert_eq!(cache.get(&DIGEST).unwrap().unwrap(), CODE);
    assert!(cache.get(&OTHER).unwrap().is_none());
    let again = Cache::open(&path, ENGINE).unwrap();
    assert_eq!(again.get(&DIGEST).unwrap().unwrap(), CODE);
    let other_engine = Cache::open(&path, [2; 32]).unwrap();
    assert!(matches!(other_engine.get(&DIGEST), Err(CacheFault::Tag(_))));
    for (file, expected) in [
        (path.join(name(&DIGEST)), 0o600),
        (path.join(KEY), 0o600),
        (path.clone(), 0o700),
    ] {
        let found = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, expected, "{}", file.display());
    }
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_file_that_was_touched_is_not_used() {
    let whole = {
        let (_, path) = kept("whole");
        let whole = std::fs::read(path.join(name(&DIGEST))).unwrap();
        std::fs::remove_dir_all(path).unwrap();
        whole
    };
    type Touch = fn(&Path, &[u8]);
    let cases: [(&str, Touch, &str); 11] = [
        (
            "a byte of its code",
            |file, _| flip(file, HEAD_BYTES),
            "not written by this host",
        ),
        (
            "a byte of its tag",
            |file, _| flip(file, MAGIC.len()),
            "not written by this host",
        ),
        (
            "its form",
            |file, _| flip(file, 0),
            "not written by this host",
        ),
        (
            "cut short",
            |file, whole| std::fs::write(file, &whole[..whole.len() - 1]).unwrap(),
            "not written by this host",
        ),
        (
            "cut to its head",
            |file, whole| std::fs::write(file, &whole[..HEAD_BYTES]).unwrap(),
            "not written by this host",
        ),
        (
            "cut to less than its head",
            |file, whole| std::fs::write(file, &whole[..5]).unwrap(),
            "not written by this host",
        ),
        (
            "empty",
            |file, _| std::fs::write(file, b"").unwrap(),
            "not written by this host",
        ),
        (
            "longer",
            |file, whole| std::fs::write(file, [whole, b"more"].concat()).unwrap(),
            "not written by this host",
        ),
        (
            "open to its group",
            |file, _| mode(file, 0o640),
            "mode 0640",
        ),
        ("open to all", |file, _| mode(file, 0o602), "mode 0602"),
        (
            "a link",
            |file, _| {
                let elsewhere = file.with_extension("elsewhere");
                std::fs::rename(file, &elsewhere).unwrap();
                symlink(elsewhere, file).unwrap();
            },
            "",
        ),
    ];
    for (what, touch, expected) in cases {
        let (cache, path) = kept("touched");
        touch(&path.join(name(&DIGEST)), &whole);
        let fault = cache.get(&DIGEST).unwrap_err().to_string();
        assert!(fault.contains(expected), "{what}: {fault}");
        // The file is replaced by newly compiled code.
        cache.put(&DIGEST, CODE).unwrap();
        assert_eq!(cache.get(&DIGEST).unwrap().unwrap(), CODE, "{what}");
        std::fs::remove_dir_all(path).unwrap();
    }
}

fn flip(file: &Path, at: usize) {
    let mut content = std::fs::read(file).unwrap();
    content[at] ^= 1;
    std::fs::write(file, content).unwrap();
}

#[test]
fn what_was_made_of_one_component_is_not_taken_for_another() {
    let (cache, path) = kept("swapped");
    std::fs::rename(path.join(name(&DIGEST)), path.join(name(&OTHER))).unwrap();
    assert!(matches!(cache.get(&OTHER), Err(CacheFault::Tag(_))));
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_folder_that_others_can_write_is_not_used_and_a_key_that_they_can_read_is_replaced() {
    let (_, path) = kept("folder");
    mode(&path, 0o770);
    assert!(matches!(
        Cache::open(&path, ENGINE),
        Err(CacheFault::Access { .. })
    ));
    mode(&path, 0o700);
    mode(&path.join(KEY), 0o644);
    let renewed = Cache::open(&path, ENGINE).unwrap();
    assert!(
        matches!(renewed.get(&DIGEST), Err(CacheFault::Tag(_))),
        "all of it is compiled again"
    );
    let link = path.with_extension("link");
    drop(std::fs::remove_file(&link));
    symlink(&path, &link).unwrap();
    assert!(
        Cache::open(&link, ENGINE).is_err(),
        "a link to a folder is none"
    );
    std::fs::remove_file(link).unwrap();
    std::fs::write(path.join("file"), "").unwrap();
    assert!(Cache::open(&path.join("file"), ENGINE).is_err());
    std::fs::remove_dir_all(path).unwrap();
}
