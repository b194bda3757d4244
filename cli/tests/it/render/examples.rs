//! The folders of `examples/mesh`: the commands of its README write the same files again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::program::{Scratch, binary, tree};

/// The folders, all of which the commands write.
const FOLDERS: [&str; 4] = ["gateway", "istio-gateway", "istio-sidecar", "kubernetes"];

/// The files of these folders, by path.
fn files(of: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(of.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            files.insert(format!("{folder}/{name}"), text);
        }
    }
    files
}

/// The shell block of a page.
fn commands(page: &str) -> &str {
    let (_, rest) = page.split_once("```sh\n").unwrap();
    let (commands, _) = rest.split_once("\n```").unwrap();
    commands
}

#[test]
fn the_examples_are_what_their_readme_renders() {
    let (committed, scratch) = (tree().join("examples/mesh"), Scratch::new());
    let page = std::fs::read_to_string(committed.join("README.md")).unwrap();
    let policy = std::fs::read(committed.join("gate.yaml")).unwrap();
    scratch.file("gate.yaml", policy);
    let programs = binary().parent().unwrap().display();
    let path = std::env::var("PATH").unwrap();
    let ran = Command::new("bash")
        .current_dir(scratch.path())
        .env("PATH", format!("{programs}:{path}"))
        .args(["-euo", "pipefail", "-c", commands(&page)])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let rendered = files(scratch.path());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for folder in FOLDERS {
            std::fs::remove_dir_all(committed.join(folder)).unwrap();
            std::fs::create_dir(committed.join(folder)).unwrap();
        }
        for (name, text) in &rendered {
            std::fs::write(committed.join(name), text).unwrap();
        }
    }
    let committed = files(&committed);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&committed),
        names(&rendered),
        "run with UPDATE_GOLDEN=1"
    );
    for (name, text) in &rendered {
        let differs = committed[name]
            .lines()
            .zip(text.lines())
            .find(|(before, now)| before != now);
        assert!(
            committed[name] == *text,
            "run with UPDATE_GOLDEN=1 and read the difference; the first in {name} is {differs:#?}"
        );
    }
}
