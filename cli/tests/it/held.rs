//! Held changes: a component that differs from its digest, and `keys revoke` while a change is
//! held. The command waits until the running gate rejects the key, and reports if none does. The
//! host is a stand-in that can be made to fail; Envoy and the filter are real, or stand-ins too.

use std::path::PathBuf;

use serde_json::{Value, json};
use tensorgate_policy::{Policy, hex};

use crate::program::{Ran, Scratch, compiled_in, free_port, run, small_filters, tree};
use crate::reload::{ENVOY, HOST, generation, in_force, rename_over};
use crate::up::{ANY, Stack};

/// A key's digest.
const KEY: &str = "7d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7";
const LIST: &str = "revoked-keys.txt";

/// A policy that names a list of revoked keys, in a folder of its own.
struct Listed {
    mine: Scratch,
    text: String,
    policy: PathBuf,
}

impl Listed {
    fn new() -> Self {
        let mine = Scratch::new();
        let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
        let text = format!("{text}\nrevoked: {{keys_file: {LIST}}}\n");
        let policy = mine.file("gate.yaml", &text);
        mine.file(LIST, "# none yet\n");
        Self { mine, text, policy }
    }

    /// The same policy with a longer time limit for streams, which changes Envoy's listener.
    fn other(&self) -> String {
        let other = self.text.replace("stream_ms: 60000", "stream_ms: 70000");
        assert_ne!(other, self.text);
        other
    }

    fn revoke(&self, admin: &str, sha256: &str, more: &[&str]) -> Ran {
        let config = self.policy.to_str().unwrap();
        let command = [
            "keys", "revoke", "-c", config, "--sha256", sha256, "--admin", admin,
        ];
        run(&[command.as_slice(), more].concat())
    }

    fn listed(&self) -> String {
        std::fs::read_to_string(self.mine.path().join(LIST)).unwrap()
    }
}

/// What the stand-in for the host reports.
fn sources(stack: &Stack) -> Value {
    let file = stack.scratch.path().join("state/policy/sources.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Checks that the host's and Envoy's configurations revoke the key, and that the command has said
/// so.
fn check_revoked(stack: &Stack, ran: &Ran) {
    stack.check_succeeded(ran);
    assert!(
        ran.stdout.contains("rejected by the gate at"),
        "{}",
        ran.stdout
    );
    assert_eq!(revoked(&in_force(stack).policy), [KEY]);
    let filter = stack
        .scratch
        .path()
        .join("state/dynamic/ecds-tensorgate.gate.yaml");
    let filter = std::fs::read_to_string(filter).unwrap();
    assert_eq!(revoked(&compiled_in(&filter).policy), [KEY]);
}

/// The digests of revoked keys.
fn revoked(policy: &Policy) -> Vec<String> {
    policy.revoked().keys().iter().map(|key| hex(key)).collect()
}

/// The digests of a client's keys.
fn digests_of(policy: &Policy, client: &str) -> Vec<String> {
    let keys = policy.keys_of(policy.client_id(client).unwrap());
    keys.map(|key| hex(key.sha256())).collect()
}

#[test]
fn a_revocation_is_confirmed_by_the_gate_and_keeps_the_policy_version() {
    let listed = Listed::new();
    let mut stack = Stack::start_with(HOST, ANY, &listed.policy, small_filters());
    let first = generation(&stack.line());
    let ran = listed.revoke(&stack.admin(), KEY, &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    let tightened = stack.line();
    let (was, version) = (format!(" instead of {first} "), generation(&tightened));
    assert!(
        tightened.starts_with("tightened: ") && tightened.contains(&was),
        "{tightened}"
    );
    assert_eq!(shown["confirmed"], true);
    assert_eq!(shown["version"], version.as_str());
    let line = stack.line();
    assert!(
        line.starts_with("reloaded: ") && line.contains(&was),
        "{line}"
    );
    assert_eq!(generation(&line), version, "nothing else changed");
    let again = listed.revoke(&stack.admin(), KEY, &[]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    // The state folder names the policy and the admin address.
    let state = stack.scratch.path().join("state");
    let state = state.to_str().unwrap();
    let by_state = run(&["keys", "revoke", "--sha256", KEY, "--state", state]);
    assert_eq!(by_state.code, 0, "{}", by_state.stderr);
    let expected = format!("rejected by the gate at {}", stack.admin());
    assert!(by_state.stdout.contains(&expected), "{}", by_state.stdout);
    assert!(sources(&stack)["held"].as_array().unwrap().is_empty());
}

#[test]
fn all_keys_of_a_client_are_revoked_and_confirmed_together() {
    let listed = Listed::new();
    let mut stack = Stack::start_with(HOST, ANY, &listed.policy, small_filters());
    stack.line();
    let before = in_force(&stack).policy;
    let client = &before.clients()[0];
    let mut digests = digests_of(&before, client.name());
    let policy = listed.policy.to_str().unwrap();
    let admin = stack.admin();
    let ran = run(&[
        "keys",
        "revoke",
        policy,
        "--client",
        client.name(),
        "--admin",
        &admin,
    ]);
    assert_eq!(ran.code, 0, "{}{}", ran.stderr, stack.terminal_text());
    assert!(
        ran.stdout.contains("rejected by the gate at"),
        "{}",
        ran.stdout
    );
    digests.sort();
    assert_eq!(revoked(&in_force(&stack).policy), digests);
}

#[test]
fn a_change_that_envoy_rejects_does_not_delay_a_revocation() {
    let listed = Listed::new();
    listed.mine.file("gate.wasm", "no module");
    // It rejects every change of its listener, and accepts any change of its filter.
    let envoy = ENVOY
        .replace("\"listener_manager.lds\": 2", "\"listener_manager.lds\": 1")
        .replace("filter: 1}", "filter: 99}");
    let folder = listed.mine.path();
    let mut stack = Stack::start_under(Some(&envoy), HOST, ANY, &listed.policy, folder);
    stack.line();
    rename_over(&listed.policy, &listed.other());
    stack.until_printed("Envoy rejects the listener", 1);
    stack.until("it is held", || {
        sources(&stack)["held"][0]["file"] == listed.policy.to_str().unwrap()
    });
    let ran = listed.revoke(&stack.admin(), KEY, &[]);
    check_revoked(&stack, &ran);
}

#[test]
fn a_host_that_is_loading_another_policy_does_not_delay_a_revocation() {
    let listed = Listed::new();
    // Loading a policy that is not only a restriction never ends.
    let host = HOST.replace(
        "def again(*_):\n",
        "def again(*_):\n    if not bundle()[\"tightens\"]: return\n",
    );
    assert_ne!(host, HOST);
    let mut stack = Stack::start_with(&host, ANY, &listed.policy, small_filters());
    let first = generation(&stack.line());
    rename_over(&listed.policy, &listed.other());
    stack.until("it is being loaded", || {
        in_force(&stack).policy.listen().limits().stream_ms == 70_000
    });
    let ran = listed.revoke(&stack.admin(), KEY, &[]);
    stack.check_succeeded(&ran);
    let line = stack.line();
    assert!(line.contains(&format!(" instead of {first} ")), "{line}");
    assert!(
        ran.stdout.contains(&generation(&line)),
        "{}{line}",
        ran.stdout
    );
    // Then the other policy is loaded again, with the key revoked.
    stack.until("it is loaded again", || {
        let policy = in_force(&stack).policy;
        policy.listen().limits().stream_ms == 70_000 && revoked(&policy) == [KEY]
    });
}

#[test]
fn a_revocation_that_no_process_applies_is_not_confirmed_and_is_retried() {
    let listed = Listed::new();
    let host = HOST.replace(
        "def again(*_):\n",
        "def again(*_):\n    if os.path.exists(sys.argv[0] + \".refuses\"):\n        state[\"attempts\"] += 1\n        state[\"last\"] = {\"outcome\": \"refused\", \"generation\": bundle()[\"generation\"], \"faults\": [\"no room\"]}\n        return\n",
    );
    assert_ne!(host, HOST);
    let mut stack = Stack::start_with(&host, ANY, &listed.policy, small_filters());
    stack.line();
    let refuses = stack.scratch.file("tensorgate-host.refuses", "");
    let ran = listed.revoke(&stack.admin(), KEY, &[]);
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.ends_with(&format!("{KEY} added\n")),
        "{}",
        ran.stdout
    );
    let why = ran.stderr.replace('\n', " ");
    assert!(
        why.contains("no gate confirms") && why.contains("no room"),
        "{}",
        ran.stderr
    );
    assert!(
        stack
            .terminal_text()
            .contains("revocations are NOT in force"),
        "{}",
        stack.terminal_text()
    );
    assert!(
        sources(&stack)["revocations_held"]
            .as_str()
            .unwrap()
            .contains("no room")
    );
    std::fs::remove_file(refuses).unwrap();
    let line = stack.line();
    assert!(
        line.starts_with("tightened: "),
        "{line}{}",
        stack.terminal_text()
    );
    let ran = listed.revoke(&stack.admin(), KEY, &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(sources(&stack)["revocations_held"], Value::Null);
}

#[test]
fn a_policy_that_is_not_yaml_does_not_delay_a_revocation() {
    let listed = Listed::new();
    let mut stack = Stack::start_with(HOST, ANY, &listed.policy, small_filters());
    let first = generation(&stack.line());
    std::fs::write(&listed.policy, "version: [1\n").unwrap();
    stack.until_printed("held: ", 1);
    let ran = listed.revoke(&stack.admin(), KEY, &[]);
    check_revoked(&stack, &ran);
    let target = in_force(&stack).target.host().unwrap();
    assert_eq!(target.tightens, Some(first));
    // Nothing is known here about another gate's policy.
    let other = Listed::new();
    std::fs::write(&other.policy, "version: [1\n").unwrap();
    assert_eq!(other.revoke(&stack.admin(), KEY, &[]).code, 2);
}

#[test]
fn a_revocation_list_that_only_the_faulty_policy_names_is_applied() {
    let listed = Listed::new();
    let other = listed.mine.file("others.txt", "");
    let mut stack = Stack::start_with(HOST, ANY, &listed.policy, small_filters());
    stack.line();
    let faulty = listed
        .text
        .replace(LIST, "others.txt")
        .replace("quota: ", "qota: ");
    rename_over(&listed.policy, &faulty);
    stack.until_printed("held: ", 1);
    let ran = listed.revoke(&stack.admin(), KEY, &[]);
    check_revoked(&stack, &ran);
    assert!(std::fs::read_to_string(other).unwrap().contains(KEY));
}

#[test]
fn a_key_removed_from_a_clients_file_is_rejected_although_the_policy_has_faults() {
    let listed = Listed::new();
    let text = listed.text.replace(
        "clients:\n",
        "clients:\n  filed: {api_keys_file: filed.txt}\n",
    );
    assert_ne!(text, listed.text);
    std::fs::write(&listed.policy, &text).unwrap();
    let other = KEY.replace('a', "b");
    let keys = listed.mine.file("filed.txt", format!("{KEY}\n{other}\n"));
    let mut stack = Stack::start_with(HOST, ANY, &listed.policy, small_filters());
    stack.line();
    rename_over(&listed.policy, &text.replace("quota: ", "qota: "));
    stack.until_printed("held: ", 1);
    std::fs::write(&keys, format!("{other}\n")).unwrap();
    let line = stack.line();
    assert!(
        line.starts_with("tightened: "),
        "{line}{}",
        stack.terminal_text()
    );
    let left = in_force(&stack).policy;
    assert_eq!(digests_of(&left, "filed"), [other]);
}

#[test]
fn without_a_gate_the_list_is_written_and_the_exit_code_says_that_nothing_confirms_it() {
    let listed = Listed::new();
    let nowhere = format!("127.0.0.1:{}", free_port());
    let ran = listed.revoke(&nowhere, KEY, &[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains(&format!("nothing listens at {nowhere}")),
        "{}",
        ran.stderr
    );
    assert!(listed.listed().contains(KEY));
    let ran = listed.revoke(&nowhere, KEY, &["--json"]);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &shown["confirmed"], &shown["added"]),
        (1, &json!(false), &json!(false))
    );
    let ran = listed.revoke(&nowhere, KEY, &["--no-wait"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("not confirmed by"), "{}", ran.stdout);
}

#[test]
fn a_component_that_differs_from_its_digest_is_held_and_removals_take_effect() {
    let mine = Scratch::new();
    // The SHA-256 digest of `abc` (FIPS 180-2, appendix B.1).
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let client = format!("  leaver: {{api_keys: [{{sha256: {KEY}}}]}}\n");
    let text = text.replace("clients:\n", &format!("clients:\n{client}"));
    let handler = format!("{{component: scale.wasm, sha256: \"{digest}\"}}");
    let text = format!("{text}\nhandlers:\n  scale: {handler}\n");
    let policy = mine.file("gate.yaml", &text);
    let component = mine.file("scale.wasm", "abc");
    // It accepts any change of its filter.
    let envoy = ENVOY.replace("filter: 1}", "filter: 99}");
    let mut stack = Stack::start_under(Some(&envoy), HOST, ANY, &policy, small_filters());
    let first = generation(&stack.line());
    let errors =
        |stack: &Stack| std::fs::read_to_string(stack.scratch.path().join("up.err")).unwrap();

    rename_over(&component, "abd");
    let held = format!(
        "held: {}: line {} of gate.yaml: handlers.scale.sha256: component scale.wasm differs from its sha256",
        component.display(),
        text.lines().count()
    );
    stack.until("it is reported", || errors(&stack).contains(&held));

    rename_over(&policy, &text.replace(&client, ""));
    let tightened = stack.line();
    assert!(
        tightened.starts_with("tightened: "),
        "{tightened}{}",
        errors(&stack)
    );
    stack.signal("HUP");
    stack.until("it is read a third time", || {
        errors(&stack).matches("not reloaded").count() >= 3
    });
    let files = sources(&stack)["held"].to_string();
    assert!(files.contains("scale.wasm"), "{files}");

    rename_over(&component, "abc");
    let reloaded = stack.line();
    let was = format!(" instead of {first} ");
    assert!(
        reloaded.starts_with("reloaded: ") && reloaded.contains(&was),
        "{reloaded}"
    );
    stack.until("nothing is held", || {
        sources(&stack)["held"].as_array().unwrap().is_empty()
    });
    stack.signal("TERM");
    let next = stack.line();
    assert!(
        !next.starts_with("reloaded: "),
        "the policy was not held: {next}"
    );
    stack.wait();
}
