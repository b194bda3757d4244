//! `up` and processes that are killed: they run again at the same addresses, until too many have
//! ended. The host is a stand-in; Envoy is real, with a small filter.

use std::path::PathBuf;
use std::process::Command;

use crate::program::{Scratch, binary, small_filters, tree};
use crate::reload::{self, generation};
use crate::up::{ANY, HOST, Stack};

/// What only the command line of one process has, below its folder.
const PROCESSES: [(&str, &str); 2] = [("host", "tensorgate-host"), ("Envoy", "state/envoy.yaml")];

/// Kills the process that runs now.
fn kill(stack: &Stack, mark: &str) {
    let pid = stack.pid_of(mark).unwrap();
    let killed = Command::new("kill").args(["-KILL", &pid]).status();
    assert!(killed.unwrap().success());
}

fn state(stack: &Stack) -> PathBuf {
    stack.scratch.path().join("state")
}

#[test]
fn killed_processes_run_again_until_five_have_ended_within_a_minute() {
    let mut stack = Stack::start(HOST, ANY);
    let gate = stack.gate();
    for times in 1..=2 {
        for (process, mark) in PROCESSES {
            kill(&stack, mark);
            stack.until_printed(&format!("{process} runs again ("), times);
            // Envoy has the port that the system chose at the start.
            std::net::TcpStream::connect(&gate).unwrap();
        }
    }
    let status = Command::new(binary())
        .args(["--json", "status", "--state"])
        .arg(state(&stack))
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let ends = status["ends"].as_array().unwrap();
    let ended: Vec<_> = ends.iter().map(|end| end["process"].as_str()).collect();
    let names = [Some("host"), Some("Envoy"), Some("host"), Some("Envoy")];
    assert_eq!(ended, names, "{status}");
    for end in ends {
        assert_eq!(end["how"], "signal: 9 (SIGKILL)", "{end}");
        assert!(end["again"].is_string(), "{end}");
        let log = state(&stack).join(end["log"].as_str().unwrap());
        assert!(log.is_file(), "{end}");
    }
    kill(&stack, "tensorgate-host");
    assert_eq!(stack.wait(), Some(1));
    let text = stack.terminal_text();
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("; it starts again "), 4, "{text}");
    assert_eq!(lines("; it starts again at once; "), 2, "{text}");
    assert!(
        text.contains("host ended unexpectedly (signal: 9 (SIGKILL)), and processes of the gate have now ended 5 times within 60 s"),
        "{text}"
    );
    stack.check_nothing_is_left(&gate);
}

#[test]
fn a_policy_that_changes_while_the_host_is_down_is_in_force_after_its_restart() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    // Its second run starts slowly.
    let slow = reload::HOST
        .replace("import http.server,", "import time, http.server,")
        .replace(
            "state = {",
            "ran = sys.argv[0] + \".ran\"\nif os.path.exists(ran): time.sleep(1)\nopen(ran, \"w\")\nstate = {",
        );
    let mut stack = Stack::start_with(&slow, ANY, &policy, small_filters());
    let first = generation(&stack.line());
    kill(&stack, "tensorgate-host");
    stack.until_printed("it starts again at once", 1);
    let changed = text.replace("quota: ", "quota: 1");
    assert_ne!(text, changed);
    mine.file("gate.yaml", &changed);
    stack.signal("HUP");
    let line = stack.line();
    assert!(
        line.starts_with("reloaded: policy "),
        "{line}{}",
        stack.terminal_text()
    );
    let second = generation(&line);
    assert_ne!(first, second);
    assert_eq!(reload::in_force(&stack).generation, second);
    assert!(
        !stack.terminal_text().contains("not reloaded"),
        "{}",
        stack.terminal_text()
    );
    stack.signal("TERM");
    assert_eq!(stack.wait(), Some(0), "{}", stack.terminal_text());
}

/// A host that ends whenever it is given a changed policy.
#[test]
fn a_policy_that_ends_the_host_is_rejected_and_the_previous_one_stays() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    let changed = text.replace("quota: ", "quota: 1");
    assert_ne!(text, changed);
    let frail = reload::HOST.replace(
        "def again(*_):",
        "first = sys.argv[0] + \".first\"\nif not os.path.exists(first): open(first, \"w\").write(state[\"serving\"])\ndef again(*_):\n    if bundle()[\"generation\"] != open(first).read(): os._exit(3)",
    );
    let mut stack = Stack::start_with(&frail, ANY, &policy, small_filters());
    let first = generation(&stack.line());
    mine.file("gate.yaml", &changed);
    stack.signal("HUP");
    stack.until_printed("not reloaded, policy ", 1);
    stack.until_printed("host runs again (", 2);
    check_previous_stays(
        stack,
        &first,
        "the host ended while it loaded the policy, 2 times",
    );
}

/// Checks that the terminal names why a policy was rejected, that the previous one stays, and that
/// the gate still ends as it should.
fn check_previous_stays(mut stack: Stack, previous: &str, cause: &str) {
    let text = stack.terminal_text();
    assert!(text.contains(cause), "{text}");
    assert_eq!(reload::in_force(&stack).generation, previous, "{text}");
    stack.signal("TERM");
    assert_eq!(stack.wait(), Some(0), "{}", stack.terminal_text());
}

/// An Envoy that ends whenever it reads a changed resource.
#[test]
fn a_policy_that_ends_envoy_is_rejected_and_the_previous_one_stays() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    let frail = reload::willing_envoy().replace(
        "    if version != part.seen:",
        "    first = sys.argv[0] + \".\" + name\n    if not os.path.exists(first): open(first, \"w\").write(version)\n    if version != open(first).read(): os._exit(3)\n    if version != part.seen:",
    );
    let mut stack = Stack::start_under(Some(&frail), reload::HOST, ANY, &policy, small_filters());
    let first = generation(&stack.line());
    mine.file("gate.yaml", text.replace("quota: ", "quota: 1"));
    stack.signal("HUP");
    stack.until_printed("not reloaded, policy ", 1);
    check_previous_stays(
        stack,
        &first,
        "Envoy ended while it loaded the policy, 2 times",
    );
}
