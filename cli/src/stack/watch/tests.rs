//! What counts as a change, file by file.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::symlink;

use super::*;
use crate::stack::private_dir::PrivateDir;

/// What is told once nothing moves any more.
fn told(watch: &mut Watch) -> Option<Change> {
    (0..3).find_map(|_| watch.step())
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_file_renamed_over_counts_and_one_rewritten_in_place_is_told_once() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut watch = Watch::new([b.clone(), a.clone(), a.clone()]);
    assert_eq!(told(&mut watch), None, "nothing changed");

    replace(&a, "22");
    assert_eq!(told(&mut watch), Some(Change::Whole));
    assert_eq!(told(&mut watch), None, "once");

    std::fs::write(&a, "333").unwrap();
    assert_eq!(told(&mut watch), Some(Change::InPlace(vec![a.clone()])));
    std::fs::write(&a, "4444").unwrap();
    assert_eq!(told(&mut watch), None, "told once, and not taken");
    replace(&b, "22");
    let beside = Some(Change::Beside(vec![a.clone()]));
    assert_eq!(told(&mut watch), beside, "half of a change beside it");
    replace(&a, "55555");
    assert_eq!(told(&mut watch), Some(Change::Whole), "both whole");

    std::fs::write(&a, "666666").unwrap();
    watch.renew();
    assert_eq!(told(&mut watch), None, "taken in as it stands");
    std::fs::write(&a, "7").unwrap();
    assert_eq!(
        told(&mut watch),
        Some(Change::InPlace(vec![a.clone()])),
        "the next one is told again"
    );
}

#[test]
fn what_came_where_nothing_stood_may_still_be_written() {
    let folder = PrivateDir::new().unwrap();
    let a = folder.path().join("a");
    std::fs::write(&a, "1").unwrap();
    let mut watch = Watch::new([a.clone()]);
    std::fs::remove_file(&a).unwrap();
    assert_eq!(told(&mut watch), Some(Change::Whole), "it is gone");
    std::fs::write(&a, "1").unwrap();
    assert_eq!(told(&mut watch), Some(Change::InPlace(vec![a.clone()])));
    replace(&a, "1");
    assert_eq!(told(&mut watch), Some(Change::Whole));
}

#[test]
fn a_swapped_link_on_the_way_to_a_file_counts() {
    let folder = PrivateDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    // As kubelet mounts a ConfigMap: gate.yaml -> ..data/gate.yaml, ..data -> ..1.
    for version in ["..1", "..2"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("gate.yaml"), "1").unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/gate.yaml", at("gate.yaml")).unwrap();
    let mut watch = Watch::new([at("gate.yaml")]);
    assert_eq!(told(&mut watch), None);
    symlink("..2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(told(&mut watch), Some(Change::Whole));
}

#[test]
fn what_changed_while_it_was_read_is_looked_at_again() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "1").unwrap();
    let mut watch = Watch::new([a.clone(), b.clone()]);
    assert!(watch.stands());
    replace(&a, "1");
    assert_eq!(told(&mut watch), Some(Change::Whole));
    std::fs::write(&b, "").unwrap();
    assert!(!watch.stands(), "rewritten while the other was read");
    let in_place = vec![b.clone()];
    assert_eq!(told(&mut watch), Some(Change::InPlace(in_place.clone())));
    assert_eq!(told(&mut watch), Some(Change::Beside(in_place)));
    replace(&a, "1");
    assert_eq!(told(&mut watch), Some(Change::Beside(vec![b.clone()])));
    replace(&b, "1");
    assert_eq!(told(&mut watch), Some(Change::Whole));
    assert!(watch.stands());
    replace(&b, "1");
    assert!(!watch.stands(), "replaced while it was read");
    assert_eq!(told(&mut watch), Some(Change::Whole));
}

#[test]
fn a_file_that_is_named_for_the_first_time_was_watched_before_it_was_read() {
    let folder = PrivateDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&a, "1").unwrap();
    std::fs::write(&b, "old").unwrap();
    let mut watch = Watch::new([a.clone()]);
    let mut reads = 0;
    let read = || -> Result<String, io::Error> {
        let text = std::fs::read_to_string(&b)?;
        reads += 1;
        if reads == 1 {
            // After its first look at it, before anybody watches it.
            replace(&b, "new");
        }
        Ok(text)
    };
    let settled = watch.settle(read, |_| vec![a.clone(), b.clone()]);
    assert_eq!((settled.unwrap().as_str(), reads), ("new", 2));
    assert_eq!(told(&mut watch), None, "it was taken in");
    replace(&b, "newer");
    assert_eq!(told(&mut watch), Some(Change::Whole));
}
