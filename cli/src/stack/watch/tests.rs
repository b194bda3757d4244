//! Change detection, poll by poll.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::os::unix::fs::symlink;

use tensorgate_cli_common::private_dir::PrivateDir;

use super::*;

/// A watch and its simulated time.
struct Polls {
    watch: Watch,
    now: Instant,
}

impl Polls {
    fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            watch: Watch::new(files),
            now: Instant::now(),
        }
    }

    /// The result of the next poll.
    fn next(&mut self) -> Option<Change> {
        self.now += POLL_INTERVAL;
        self.watch.step(self.now)
    }

    /// The results of enough polls for a file to settle.
    fn all(&mut self) -> Vec<Change> {
        let polls = SETTLE.as_millis() / POLL_INTERVAL.as_millis() + 2;
        (0..polls).filter_map(|_| self.next()).collect()
    }

    /// Whether there is nothing to read.
    fn is_quiet(&mut self) -> bool {
        self.all().is_empty()
    }

    /// Polls until the files have settled, and reads them.
    fn settle(&mut self, what: &str) {
        assert_eq!(self.next(), Some(Change::Fresh), "{what}");
        let later = self.all();
        assert!(
            !later.is_empty() && later.iter().all(|change| *change == Change::Settled),
            "{what}: {later:?}"
        );
        self.read();
    }

    fn read(&mut self) {
        self.watch.begin();
        assert!(self.watch.is_unchanged());
        assert!(self.is_quiet());
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn only_different_contents_are_a_change() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut polls = Polls::new([b.clone(), a.clone(), a.clone()]);
    assert!(polls.is_quiet(), "nothing changed");
    std::fs::write(&a, "1").unwrap();
    replace(&b, "1");
    assert!(polls.is_quiet(), "the same bytes");
    replace(&a, "2");
    polls.settle("renamed over");
    std::fs::write(&a, "3").unwrap();
    polls.settle("rewritten in place, with the same size");
    std::fs::remove_file(&a).unwrap();
    polls.settle("gone");
    std::fs::write(&a, "4").unwrap();
    polls.settle("there again");
}

#[test]
fn a_replaced_symlink_is_a_change() {
    let folder = PrivateDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    // The layout of a ConfigMap mounted by kubelet: gate.yaml -> ..data/gate.yaml, ..data -> ..1.
    for version in ["..1", "..2"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("gate.yaml"), version).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/gate.yaml", at("gate.yaml")).unwrap();
    let mut polls = Polls::new([at("gate.yaml")]);
    symlink("..2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    polls.settle("swapped");
}

#[test]
fn a_file_settles_when_it_stays_the_same_and_delays_others_until_then() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut polls = Polls::new([a.clone(), b.clone()]);
    replace(&b, "2");
    let contents = |text: &str| Sha256::digest(text).into();
    for half in ["", "x", "xx", "xxx"] {
        std::fs::write(&a, half).unwrap();
        assert_eq!(polls.next(), Some(Change::Fresh));
        assert!(!polls.watch.is_whole(&a, &contents(half)), "{half}");
        assert_eq!(polls.next(), None, "{half}");
    }
    assert!(
        !polls.watch.is_whole(&a, &contents("x")),
        "not as it stands"
    );
    assert!(polls.all().contains(&Change::Settled));
    polls.read();
    assert!(polls.watch.is_whole(&a, &contents("xxx")));
    assert!(polls.watch.is_whole(&b, &contents("2")));
}

#[test]
fn a_file_that_is_rewritten_with_the_same_bytes_delays_nothing() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut polls = Polls::new([a.clone(), b.clone()]);
    replace(&b, "2");
    let mut said = Vec::new();
    for _ in 0..10 {
        for text in ["", "1"] {
            std::fs::write(&a, text).unwrap();
            said.extend(polls.next());
            said.extend(polls.next());
        }
    }
    assert!(said.contains(&Change::Settled), "{said:?}");
    polls.watch.begin();
    assert_eq!(polls.watch.differing().collect::<Vec<_>>(), [b]);
    assert_eq!(polls.watch.unstable().count(), 0);
}

#[test]
fn files_that_change_during_a_read_are_read_again() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "1").unwrap();
    let mut polls = Polls::new([a.clone()]);
    polls.watch.begin();
    std::fs::write(&a, "2").unwrap();
    assert!(!polls.watch.is_unchanged());
    assert!(polls.all().contains(&Change::Settled));
    polls.read();
    polls.watch.again();
    assert!(polls.all().contains(&Change::Settled), "given up");
    polls.read();
}

#[test]
fn contents_in_force_are_those_read_before_acceptance() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "1").unwrap();
    let mut watch = Watch::new([a.clone()]);
    let differing = |watch: &Watch| watch.differing().count();
    std::fs::write(&a, "2").unwrap();
    watch.begin();
    assert_eq!(differing(&watch), 1);
    std::fs::write(&a, "3").unwrap();
    watch.is_unchanged();
    watch.accept();
    assert_eq!(differing(&watch), 0, "what was read of it");
    watch.begin();
    assert_eq!(differing(&watch), 1, "and not what came after");
}

#[test]
fn a_file_that_keeps_changing_is_reported_until_it_settles() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "0").unwrap();
    let mut polls = Polls::new([a.clone()]);
    let begun = polls.now;
    let mut number = 0_u32;
    while polls.watch.unstable_at(polls.now).count() == 0 {
        number += 1;
        assert!(number < 100, "never");
        std::fs::write(&a, number.to_string()).unwrap();
        assert_eq!(polls.next(), Some(Change::Fresh));
    }
    assert!(polls.now - begun >= UNSTABLE_AFTER);
    polls.watch.begin();
    polls.next();
    assert_eq!(polls.watch.unstable_at(polls.now).count(), 0, "it was read");
}

#[test]
fn a_pipe_is_not_read() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &a,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let mut polls = Polls::new([a.clone()]);
    assert!(polls.is_quiet());
    replace(&a, "1");
    polls.settle("a file in its place");
}

#[test]
fn state_of_a_file_is_kept_when_others_are_added() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut polls = Polls::new([a.clone()]);
    std::fs::write(&a, "2").unwrap();
    assert!(!polls.watch.follow([a.clone(), b.clone()]), "one is new");
    assert!(polls.watch.follow([b.clone(), a.clone()]));
    polls.settle("a change of the one that was known");
    std::fs::write(&b, "2").unwrap();
    polls.settle("a change of the new one");
}
