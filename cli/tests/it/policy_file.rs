//! Every verb finds its policy as an argument, with `-c`, or as `gate.yaml` in the current folder.

use crate::program::{Scratch, digits, run, run_in, tree};

/// A folder with a valid policy of that name and a message.
fn folder(name: &str) -> Scratch {
    let scratch = Scratch::new();
    let policy = std::fs::read(tree().join("envoy/gate.yaml")).unwrap();
    scratch.file(name, policy);
    scratch.file("m.http", "GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    scratch
}

#[test]
fn a_policy_is_an_argument_an_option_or_the_default() {
    let (default, other) = (folder("gate.yaml"), folder("my.yaml"));
    for verb in [&["check"][..], &["render", "envoy"]] {
        let run = |folder: &Scratch, more: &[&str]| {
            let ran = run_in(folder.path(), &[verb, more].concat());
            assert_eq!(ran.code, 0, "{verb:?} {more:?}: {}", ran.stderr);
            ran.stdout.replace("my.yaml", "gate.yaml")
        };
        let expected = run(&default, &[]);
        assert_eq!(run(&other, &["my.yaml"]), expected);
        assert_eq!(run(&other, &["-c", "my.yaml"]), expected);
        let both = [verb, &["my.yaml", "-c", "my.yaml"]].concat();
        assert_eq!(run_in(other.path(), &both).code, 2, "{verb:?}");
    }
    let before = ["render", "-c", "my.yaml", "envoy"];
    assert_eq!(run_in(other.path(), &before).code, 0);
    let both = ["render", "-c", "my.yaml", "envoy", "my.yaml"];
    assert_eq!(run_in(other.path(), &both).code, 2);
    for more in [&[][..], &["-c", "gate.yaml"]] {
        let explain = [&["explain", "--http", "m.http"], more].concat();
        let ran = run_in(default.path(), &explain);
        assert!(ran.stdout.contains("unauthenticated"), "{}", ran.stderr);
    }
}

#[test]
fn a_missing_default_says_what_to_do() {
    let empty = Scratch::new();
    for verb in [
        &["check"][..],
        &["up"],
        &["render", "envoy"],
        &["explain", "--http", "m.http"],
        &["keys", "list"],
    ] {
        let ran = run_in(empty.path(), verb);
        assert_eq!(ran.code, 2, "{verb:?}");
        assert!(ran.stderr.contains("has no gate.yaml"), "{}", ran.stderr);
    }
}

#[test]
fn up_reads_the_policy_that_its_argument_names() {
    let empty = Scratch::new();
    let policy = digits();
    for more in [&[][..], &["-c"]] {
        let named = [
            &["up", "--filters", "none"],
            more,
            &[policy.to_str().unwrap()],
        ]
        .concat();
        let state = ["--state", empty.path().to_str().unwrap()];
        let ran = run_in(empty.path(), &[named, state.to_vec()].concat());
        assert!(ran.stderr.contains("no filter at"), "{}", ran.stderr);
    }
}

#[test]
fn an_unknown_option_comes_without_advice_to_pass_it_as_a_value() {
    let ran = run(&["up", "--polcy", "gate.yaml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("'--polcy'"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("-- --polcy"), "{}", ran.stderr);
}

#[test]
fn a_named_policy_that_does_not_exist_is_reported_with_what_to_do() {
    let ran = run(&["check", "no-such-folder/other.yaml"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let expected = "there is no policy no-such-folder/other.yaml: correct the path";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}
