//! `handler port`: what it reports about a handler in Python, and projects that build and list what
//! is missing.

use std::path::PathBuf;

use tensorgate_client::run::{Scratch, tree};

use super::{handler, lines, story};

fn ported(name: &str) -> PathBuf {
    tree().join("wit/workbench/tests/ported").join(name)
}

#[test]
fn code_that_cannot_be_ported_is_reported_with_its_line_and_cause() {
    let file = ported("torchserve_image.py");
    let ran = handler(&["port", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    for text in [
        "written for TorchServe, class ProductClassifier",
        "preprocess() becomes a preprocess handler",
        "subprocess.run (line 41 in initialize)",
        "a handler cannot start processes",
        "examples/handlers/image-classifier",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let ran = handler(&["--json", "port", file.to_str().unwrap()]);
    let report = lines(&ran).remove(0);
    assert_eq!(report["framework"], "torchserve", "{report}");
    let lost = report["findings"].as_array().unwrap();
    let lost = lost
        .iter()
        .find(|one| one["name"] == "subprocess.run")
        .unwrap();
    assert_eq!(
        (&lost["becomes"], &lost["lines"][0]),
        (&"lost".into(), &41.into())
    );
}

#[test]
fn a_ported_project_builds_and_reports_unported_code() {
    // Each world once: an interpreter takes long to build.
    for (lang, file, world) in [
        ("python", "kserve_text.py", "preprocess"),
        ("rust", "torchserve_image.py", "postprocess"),
    ] {
        let scratch = Scratch::new();
        let into = scratch.path().to_str().unwrap();
        let file = ported(file);
        let file = file.to_str().unwrap();
        let ran = handler(&[
            "port", "--lang", lang, "--into", into, "--name", "shop", file,
        ]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        let project = scratch.path().join(format!("shop-{world}"));
        let project = project.to_str().unwrap();
        for verb in ["build", "test"] {
            let ran = handler(&[verb, project]);
            assert_eq!(ran.code, 0, "{lang} {verb}: {}", story(&ran));
        }
        let ran = handler(&[
            "port", "--lang", lang, "--into", into, "--name", "shop", file,
        ]);
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains("already exists"), "{}", ran.stderr);
    }
}

#[test]
fn a_file_that_is_not_a_handler_is_bad_input() {
    let scratch = Scratch::new();
    for (name, content, says) in [
        ("a.mar", b"import os".as_slice(), "zip archive"),
        ("a.py", b"\xff", "not text"),
        ("b.py", b"x = (1", "is not closed"),
    ] {
        let file = scratch.file(name, content);
        let ran = handler(&["port", file.to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{name}: {}", story(&ran));
        assert!(ran.stderr.contains(says), "{name}: {}", ran.stderr);
    }
    let ran = handler(&["port", "no-such-file.py"]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
}
