//! Building untrusted projects. Code that runs during the build reaches a copy of the project, and
//! nothing that persists.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tensorgate_cli_common::user_folders;

use super::{Project, story};

/// Every file below a folder that a build must not change, by its path, with its size.
fn files(folder: &Path, apart: &[&str]) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let below = path.strip_prefix(folder).unwrap();
            if apart.iter().any(|name| below.starts_with(name)) {
                continue;
            }
            if data.is_dir() {
                folders.push(path);
            } else {
                found.insert(path, data.len());
            }
        }
    }
    found
}

/// Writes into every folder that a handler sees during its build, and plants a file that any Python
/// would run at its start.
const WRITES: &str = r#"
import os
for folder in ["/", "/usr/local/lib", "/project", "/project/build", "/packages"]:
    for name in ["tensorgate_was_here.pth", "handler.yaml", "handler.py"]:
        try:
            with open(folder + "/" + name, "w") as file:
                file.write("import os\n")
        except Exception:
            pass
"#;

#[test]
fn files_that_a_python_handler_writes_during_its_build_do_not_persist() {
    let project = Project::unbuilt("stranger", "python", "preprocess");
    let source = std::fs::read_to_string(project.folder().join("handler.py")).unwrap();
    project.write("handler.py", &format!("{source}\n{WRITES}"));
    let own = project.beside("own");
    let packages = own.join("lib/python3/site-packages");
    std::fs::create_dir_all(&packages).unwrap();
    let runtimes = user_folders::runtimes().unwrap();
    let before = (files(&runtimes, &[]), files(project.folder(), &["build"]));
    // An author works in a virtual environment of their own.
    let environment = [("VIRTUAL_ENV", own.to_str().unwrap())];
    let ran = project.verb_with("build", &["--no-cache"], &environment);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let after = (files(&runtimes, &[]), files(project.folder(), &["build"]));
    assert_eq!(before.0, after.0, "the runtime that all projects share");
    assert_eq!(before.1, after.1, "the project's own files");
    assert_eq!(
        files(&own, &[]),
        BTreeMap::new(),
        "the author's environment"
    );
    let built: Vec<_> = files(&project.folder().join("build"), &[])
        .into_keys()
        .collect();
    assert_eq!(built, [project.component()]);
}

#[test]
fn a_project_whose_build_folder_is_a_link_is_not_built() {
    let project = Project::unbuilt("stranger", "js", "preprocess");
    let elsewhere = project.beside("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, project.folder().join("build")).unwrap();
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    assert!(
        ran.stderr.contains("build is a symbolic link"),
        "{}",
        ran.stderr
    );
    assert_eq!(files(&elsewhere, &[]), BTreeMap::new());
    std::fs::remove_file(project.folder().join("build")).unwrap();

    // A file that is written beside the component's path.
    std::fs::create_dir(project.folder().join("build")).unwrap();
    let precious = elsewhere.join("precious");
    std::fs::write(&precious, "mine").unwrap();
    for name in ["stranger.wasm.new", "made.wasm", "js", "wit"] {
        symlink(&precious, project.folder().join("build").join(name)).unwrap();
    }
    let ran = project.verb("build", &["--no-cache"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    assert!(project.component().is_file());
}

#[test]
fn linked_files_outside_a_project_are_not_in_its_component() {
    let project = Project::unbuilt("stranger", "js", "preprocess");
    let secret = project.beside("secret.js");
    std::fs::write(&secret, "export const secret = 'do not tell';\n").unwrap();
    symlink("../secret.js", project.folder().join("secret.js")).unwrap();
    std::fs::create_dir(project.folder().join("parts")).unwrap();
    project.write("parts/part.js", "export const part = 1;\n");
    symlink("parts/part.js", project.folder().join("part.js")).unwrap();
    let source = std::fs::read_to_string(project.folder().join("handler.js")).unwrap();
    project.write("handler.js", &format!("import \"./part.js\";\n{source}"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    project.write("handler.js", &format!("import \"./secret.js\";\n{source}"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(ran.stderr.contains("secret.js"), "{}", ran.stderr);
}
