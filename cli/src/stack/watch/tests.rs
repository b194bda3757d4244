//! What counts as a change, look by look.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::os::unix::fs::symlink;

use super::*;
use crate::stack::private_dir::PrivateDir;

/// A watch, and the time at which it looks.
struct Looks {
    watch: Watch,
    now: Instant,
}

impl Looks {
    fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            watch: Watch::new(files),
            now: Instant::now(),
        }
    }

    /// What the next look says.
    fn next(&mut self) -> Option<Change> {
        self.now += LOOK_EVERY;
        self.watch.step(self.now)
    }

    /// What all looks say while a file could settle, and one more.
    fn all(&mut self) -> Vec<Change> {
        let looks = SETTLE.as_millis() / LOOK_EVERY.as_millis() + 2;
        (0..looks).filter_map(|_| self.next()).collect()
    }

    /// Whether nothing is to be read.
    fn is_quiet(&mut self) -> bool {
        self.all().is_empty()
    }

    /// Waits until the files have settled, and reads them.
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
        assert!(self.watch.stands());
        assert!(self.is_quiet());
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_change_is_other_contents_however_they_came() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut looks = Looks::new([b.clone(), a.clone(), a.clone()]);
    assert!(looks.is_quiet(), "nothing changed");
    std::fs::write(&a, "1").unwrap();
    replace(&b, "1");
    assert!(looks.is_quiet(), "the same bytes");
    replace(&a, "2");
    looks.settle("renamed over");
    std::fs::write(&a, "3").unwrap();
    looks.settle("rewritten in place, with the same size");
    std::fs::remove_file(&a).unwrap();
    looks.settle("gone");
    std::fs::write(&a, "4").unwrap();
    looks.settle("there again");
}

#[test]
fn a_swapped_link_on_the_way_to_a_file_counts() {
    let folder = PrivateDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    // As kubelet mounts a ConfigMap: gate.yaml -> ..data/gate.yaml, ..data -> ..1.
    for version in ["..1", "..2"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("gate.yaml"), version).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/gate.yaml", at("gate.yaml")).unwrap();
    let mut looks = Looks::new([at("gate.yaml")]);
    symlink("..2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    looks.settle("swapped");
}

#[test]
fn a_file_settles_when_it_reads_the_same_for_a_while_and_keeps_others_waiting() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut looks = Looks::new([a.clone(), b.clone()]);
    replace(&b, "2");
    let contents = |text: &str| Sha256::digest(text).into();
    for half in ["", "x", "xx", "xxx"] {
        std::fs::write(&a, half).unwrap();
        assert_eq!(looks.next(), Some(Change::Fresh));
        assert!(!looks.watch.is_whole(&a, &contents(half)), "{half}");
        assert_eq!(looks.next(), None, "{half}");
    }
    assert!(
        !looks.watch.is_whole(&a, &contents("x")),
        "not as it stands"
    );
    assert!(looks.all().contains(&Change::Settled));
    looks.read();
    assert!(looks.watch.is_whole(&a, &contents("xxx")));
    assert!(looks.watch.is_whole(&b, &contents("2")));
}

#[test]
fn a_file_that_is_rewritten_with_the_same_bytes_over_and_over_holds_nothing() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut looks = Looks::new([a.clone(), b.clone()]);
    replace(&b, "2");
    let mut said = Vec::new();
    for _ in 0..10 {
        for text in ["", "1"] {
            std::fs::write(&a, text).unwrap();
            said.extend(looks.next());
            said.extend(looks.next());
        }
    }
    assert!(said.contains(&Change::Settled), "{said:?}");
    looks.watch.begin();
    assert_eq!(looks.watch.differing().collect::<Vec<_>>(), [b]);
    assert_eq!(looks.watch.restless().count(), 0);
}

#[test]
fn what_changed_while_it_was_read_is_read_again() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "1").unwrap();
    let mut looks = Looks::new([a.clone()]);
    looks.watch.begin();
    std::fs::write(&a, "2").unwrap();
    assert!(!looks.watch.stands());
    assert!(looks.all().contains(&Change::Settled));
    looks.read();
    looks.watch.again();
    assert!(looks.all().contains(&Change::Settled), "given up");
    looks.read();
}

#[test]
fn what_is_in_force_is_what_was_read_when_it_was_accepted() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "1").unwrap();
    let mut watch = Watch::new([a.clone()]);
    let differing = |watch: &Watch| watch.differing().count();
    std::fs::write(&a, "2").unwrap();
    watch.begin();
    assert_eq!(differing(&watch), 1);
    std::fs::write(&a, "3").unwrap();
    watch.stands();
    watch.accept();
    assert_eq!(differing(&watch), 0, "what was read of it");
    watch.begin();
    assert_eq!(differing(&watch), 1, "and not what came after");
}

#[test]
fn a_file_that_goes_on_changing_is_reported_until_it_has_settled() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "0").unwrap();
    let mut looks = Looks::new([a.clone()]);
    let begun = looks.now;
    let mut number = 0_u32;
    while looks.watch.restless_at(looks.now).count() == 0 {
        number += 1;
        assert!(number < 100, "never");
        std::fs::write(&a, number.to_string()).unwrap();
        assert_eq!(looks.next(), Some(Change::Fresh));
    }
    assert!(looks.now - begun >= RESTLESS);
    looks.watch.begin();
    looks.next();
    assert_eq!(looks.watch.restless_at(looks.now).count(), 0, "it was read");
}

#[test]
fn a_pipe_is_no_file_and_nothing_waits_for_it() {
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
    let mut looks = Looks::new([a.clone()]);
    assert!(looks.is_quiet());
    replace(&a, "1");
    looks.settle("a file in its place");
}

#[test]
fn what_is_known_of_a_file_stays_known_when_others_are_followed() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut looks = Looks::new([a.clone()]);
    std::fs::write(&a, "2").unwrap();
    assert!(!looks.watch.follow([a.clone(), b.clone()]), "one is new");
    assert!(looks.watch.follow([b.clone(), a.clone()]));
    looks.settle("a change of the one that was known");
    std::fs::write(&b, "2").unwrap();
    looks.settle("a change of the new one");
}
