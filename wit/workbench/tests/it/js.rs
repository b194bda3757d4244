//! Handlers in JavaScript.

use std::process::Command;

use tensorgate_client::run::{Scratch, tree};

use super::{Project, lines, story, works};

#[test]
fn a_new_project_works_at_once_and_its_failures_are_distinguished() {
    let project = Project::new("scale-js", "js", "preprocess");
    works(&project);
    project.write_own_cases("TypeError");
    project.write(
        "given.js",
        "export const given = (tensor) => tensor.items();\n",
    );
    project.write(
        "handler.js",
        "import { BadInput, Raw, Tensor } from \"./tensorgate.js\";\nimport { given } from \"./given.js\";\n\nexport function preprocess(input) {\n  if (input instanceof Raw) throw new BadInput(`${input.contentType} ${input.data.length}`);\n  return [Tensor.ofItems(input[0].name, given(input[0]))];\n}\n",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert_eq!(project.failed("own-"), Vec::<String>::new());
    project.write(
        "handler.js",
        "import fs from \"node:fs\";\nexport const preprocess = () => fs;\n",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(ran.stderr.contains("node:fs"), "{}", ran.stderr);
}

#[test]
fn the_same_files_give_their_last_build_and_the_same_code_its_functions() {
    let project = Project::unbuilt("again-js", "js", "preprocess");
    let build = |more: &[&str]| {
        let ran = project.verb("build", more);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        lines(&ran).remove(0)["sha256"].clone()
    };
    // No two runs of the tools give the same bytes.
    let built = build(&["--no-cache"]);
    assert_eq!(build(&[]), built);
    let scratch = Scratch::new();
    let compiled = || {
        let cache = scratch.path().to_str().unwrap();
        let ran = project.verb_with("inspect", &[], &[("XDG_CACHE_HOME", cache)]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        let kept = std::fs::read_dir(scratch.path().join("tensorgate/compiled")).unwrap();
        let names = kept.map(|entry| entry.unwrap().file_name());
        let code = names.filter(|name| name.to_string_lossy().ends_with(".cwasm"));
        code.count()
    };
    assert_eq!(compiled(), 2, "its code, and its functions");
    project.edit("README.md", "A tensorgate", "a tensorgate");
    assert_ne!(build(&[]), built);
    assert_eq!(compiled(), 3, "the other one's code, of the same functions");
}

#[test]
fn a_handler_without_the_function_of_its_world_is_not_built() {
    let project = Project::unbuilt("misspelt-js", "js", "preprocess");
    project.edit(
        "handler.js",
        "export function preprocess(",
        "export function process(",
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert_eq!(
        ran.stderr,
        "error: handler.js exports no function preprocess(input)\nfound: process; did you mean preprocess?\n"
    );
    assert!(!project.component().exists());
}

#[test]
fn a_project_after_the_model_works() {
    let project = Project::new("label-js", "js", "postprocess");
    project.give_time();
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
}

/// Tests the modules in Node.js, as an author's own tests do.
#[test]
fn the_modules_pass_their_tests() {
    let output = Command::new("node")
        .args([
            "--test",
            "test_development.mjs",
            "test_kit.mjs",
            "test_random.mjs",
            "test_results.mjs",
        ])
        .args([
            "test_story.mjs",
            "test_tensorgate.mjs",
            "test_types.mjs",
            "test_world_check.mjs",
        ])
        .current_dir(tree().join("wit/js"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("pass 28"), "{printed}");
}
