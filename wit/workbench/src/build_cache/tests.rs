//! Tests that every input is part of the key, and that a damaged entry is not used.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tensorgate_client::run::Scratch;

use super::*;

const MADE: &[u8] = b"what the tools made";

/// A project of two files, a folder and a link.
fn project() -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("parts")).unwrap();
    scratch.file("handler.py", "import parts");
    scratch.file("parts/table.json", "{}");
    symlink("handler.py", scratch.path().join("link.py")).unwrap();
    scratch
}

fn key(tools: &str, project: &Scratch, arguments: &[&str]) -> Key {
    let mut key = Key::new(tools);
    key.add_folder(project.path()).unwrap();
    key.add_arguments(arguments.iter().map(OsStr::new), project.path());
    key
}

/// A cache in a folder of its own, and a key of an entry in it.
fn kept() -> (Scratch, BuildCache, Key) {
    let scratch = Scratch::new();
    let folder = scratch.path().to_owned();
    let (cache, key) = (BuildCache { folder }, Key::new("tools"));
    cache.put(&key, MADE);
    (scratch, cache, key)
}

#[test]
fn a_listing_has_the_names_and_sizes_of_files() {
    let listing = |project: &Scratch| {
        let mut key = Key::new("");
        key.add_listing(project.path()).unwrap();
        key.name()
    };
    let project = project();
    let before = listing(&project);
    assert_eq!(listing(&project), before);
    project.file("parts/table.json", "{\"longer\": 1}");
    let longer = listing(&project);
    assert_ne!(longer, before);
    project.file("other.py", "");
    assert_ne!(listing(&project), longer);
}

#[test]
fn each_input_of_a_build_changes_its_key() {
    type Change = fn(&Path);
    let plain = key("tools 1", &project(), &["-w", "preprocess"]).name();
    // Each project is in another folder.
    assert_eq!(
        key("tools 1", &project(), &["-w", "preprocess"]).name(),
        plain
    );
    let changes: [(&str, Change); 6] = [
        ("one byte", |folder| {
            std::fs::write(folder.join("handler.py"), "import Parts").unwrap();
        }),
        ("a byte further down", |folder| {
            std::fs::write(folder.join("parts/table.json"), "[]").unwrap();
        }),
        ("a new file", |folder| {
            std::fs::write(folder.join("new.py"), "").unwrap();
        }),
        ("another name", |folder| {
            let (from, to) = (folder.join("handler.py"), folder.join("Handler.py"));
            std::fs::rename(from, to).unwrap();
        }),
        ("another folder", |folder| {
            let (from, to) = (folder.join("parts/table.json"), folder.join("table.json"));
            std::fs::rename(from, to).unwrap();
        }),
        ("a file for a link", |folder| {
            std::fs::remove_file(folder.join("link.py")).unwrap();
            std::fs::write(folder.join("link.py"), "handler.py").unwrap();
        }),
    ];
    for (what, change) in changes {
        let project = project();
        change(project.path());
        let changed = key("tools 1", &project, &["-w", "preprocess"]).name();
        assert_ne!(changed, plain, "{what}");
    }
    for (tools, arguments) in [
        ("tools 2", ["-w", "preprocess"].as_slice()),
        ("tools 1", &["-w", "postprocess"]),
        ("tools 1", &["-wpreprocess"]),
        ("tools 1", &["-w"]),
    ] {
        let changed = key(tools, &project(), arguments).name();
        assert_ne!(changed, plain, "{tools} {arguments:?}");
    }
    let within = |set: &str| {
        let mut key = Key::new("tools 1");
        key.add_environment(|name| (name == set).then(|| "--require ./other.js".into()));
        key.name()
    };
    for name in VARIABLES {
        assert_ne!(within(name), within("LANG"), "{name}");
    }
    let project = project();
    let [one, other] = [&project, &self::project()].map(|of| {
        let inside = of.path().join("wit");
        key("tools 1", of, &[inside.to_str().unwrap()]).name()
    });
    assert_eq!(one, other, "an argument below the project's folder");
}

#[test]
fn an_entry_is_found_as_it_was_and_a_damaged_one_is_made_again() {
    type Damage = fn(&Path, &[u8]);
    let damages: [(&str, Damage); 5] = [
        ("a byte of it", |file, entry| {
            let mut changed = entry.to_vec();
            changed[DIGEST_BYTES] ^= 1;
            std::fs::write(file, changed).unwrap();
        }),
        ("cut short", |file, entry| {
            std::fs::write(file, &entry[..entry.len() - 1]).unwrap();
        }),
        ("cut to less than a digest", |file, entry| {
            std::fs::write(file, &entry[..5]).unwrap();
        }),
        ("longer", |file, entry| {
            std::fs::write(file, [entry, b"more"].concat()).unwrap();
        }),
        ("of another key", |file, _| {
            let other = file.with_file_name(Key::new("other tools").name());
            std::fs::copy(other, file).map(drop).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let (scratch, cache, key) = kept();
        cache.put(&Key::new("other tools"), MADE);
        let file = scratch.path().join(key.name());
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, MODE);
        assert_eq!(cache.get(&key).unwrap(), MADE);
        damage(&file, &std::fs::read(&file).unwrap());
        assert_eq!(cache.get(&key), None, "{what}");
        cache.put(&key, MADE);
        assert_eq!(cache.get(&key).unwrap(), MADE, "{what}");
    }
}

#[test]
fn the_least_recently_used_entries_are_removed() {
    let (scratch, cache, _) = kept();
    let keys = ["one", "two", "three"].map(Key::new);
    for (age_seconds, key) in [30, 20, 10].into_iter().zip(&keys) {
        cache.put(key, MADE);
        let file = File::open(scratch.path().join(key.name())).unwrap();
        let age = std::time::Duration::from_secs(age_seconds);
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    let [one, two, three] = &keys;
    assert!(cache.get(one).is_some(), "now the latest");
    cache.prune(3, u64::MAX);
    assert_eq!(
        [two, three].map(|key| cache.get(key).is_some()),
        [false, true]
    );
    let entry = std::fs::metadata(scratch.path().join(one.name())).unwrap();
    cache.prune(3, entry.len());
    assert!(cache.get(one).is_none() && cache.get(three).is_some());
}
