//! Edits of policies in every layout, and what happens to the file.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tensorgate_cli_common::private_dir::PrivateDir;

use super::*;

/// The digest that is written.
const NEW: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// A digest that the policy has.
const OLD: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The policy with `NEW` and `OLD` written out.
fn spelt(text: &str) -> String {
    text.replace("NEW", NEW).replace("OLD", OLD)
}

/// Compares the policy after the handler `scale` was pinned; `None` if it cannot be edited.
fn check(text: &str, expected: Option<&str>) {
    let entry = Entry {
        name: "scale",
        component: "scale/build/scale.wasm",
        sha256: NEW,
    };
    let edited = with_entry(&spelt(text), &entry);
    assert_eq!(edited, expected.map(spelt), "{text}");
}

#[test]
fn path_and_digest_of_an_entry_are_replaced_and_nothing_else() {
    check(
        "# ours\nversion: 1\nhandlers:\n  scale:   # images\n    component: \"old.wasm\"  # built\n    sha256: \"OLD\"   # printed\n    fuel: 5\nmodels: {}\n",
        Some(
            "# ours\nversion: 1\nhandlers:\n  scale:   # images\n    component: \"scale/build/scale.wasm\"  # built\n    sha256: \"NEW\"   # printed\n    fuel: 5\nmodels: {}\n",
        ),
    );
    // Plain, in single quotes, in flow style and as JSON; with another line end; without one at the
    // end.
    check(
        "handlers: {é: {component: scale/build/scale.wasm, sha256: NEW}, scale: {sha256: OLD, component: 'it''s.wasm'}}",
        Some(
            "handlers: {é: {component: scale/build/scale.wasm, sha256: NEW}, scale: {sha256: \"NEW\", component: scale/build/scale.wasm}}",
        ),
    );
    check(
        "{\"handlers\": {\"scale\": {\"component\": \"a\\\"b.wasm\", \"sha256\": \"OLD\"}}}",
        Some(
            "{\"handlers\": {\"scale\": {\"component\": \"scale/build/scale.wasm\", \"sha256\": \"NEW\"}}}",
        ),
    );
    check(
        "version: 1\r\nhandlers:\r\n  scale:\r\n    sha256: OLD\r\n",
        Some(
            "version: 1\r\nhandlers:\r\n  scale:\r\n    component: scale/build/scale.wasm\r\n    sha256: \"NEW\"\r\n",
        ),
    );
    // An entry that is right already keeps its spelling, and one with faults can be pinned.
    let right = "handlers: {scale: {component: 'scale/build/scale.wasm', sha256: NEW, fuel: x}}\n";
    check(right, Some(right));
}

#[test]
fn a_missing_member_entry_or_section_is_added() {
    let members = "    component: scale/build/scale.wasm\n    sha256: \"NEW\"\n";
    let entry = format!("  scale:\n{members}");
    for before in ["version: 1\n", "", "version: 1\n# end\n"] {
        let after = format!("{before}handlers:\n{entry}");
        check(before, Some(&after));
    }
    check(
        "version: 1",
        Some(&format!("version: 1\nhandlers:\n{entry}")),
    );
    // Behind the other handlers, and before the comment of the next section.
    let others =
        "handlers:   # ours\n  other: {component: o.wasm, sha256: OLD}\n  # the last one\n";
    let models = "\n# Models.\nmodels: {}\n";
    check(
        &format!("{others}{models}"),
        Some(&format!("{others}{entry}{models}")),
    );
    check(
        &format!("handlers:\n{models}"),
        Some(&format!("handlers:\n{entry}{models}")),
    );
    // With the indentation of the other handlers.
    let deep = "handlers:\n    other: {component: o.wasm, sha256: OLD}\n";
    check(
        deep,
        Some(&format!(
            "{deep}    scale:\n      component: scale/build/scale.wasm\n      sha256: \"NEW\"\n"
        )),
    );
    // Below the name of the entry.
    check(
        "handlers:\n  scale:\n    # Enough for a picture.\n    fuel: 5\n",
        Some(&format!(
            "handlers:\n{entry}    # Enough for a picture.\n    fuel: 5\n"
        )),
    );
    check(
        "handlers:\n  scale:\nmodels: {}\n",
        Some(&format!("handlers:\n{entry}models: {{}}\n")),
    );
    // In flow style.
    let flow = "\"scale\": {\"component\": \"scale/build/scale.wasm\", \"sha256\": \"NEW\"}";
    for (before, after) in [
        ("handlers: {}\n", format!("handlers: {{{flow}}}\n")),
        (
            "handlers: {other: {fuel: 5}}\n",
            format!("handlers: {{{flow}, other: {{fuel: 5}}}}\n"),
        ),
        (
            "{\"version\": 1}",
            format!("{{\"handlers\": {{{flow}}}, \"version\": 1}}"),
        ),
        (
            "handlers: {scale: {fuel: 5}}\n",
            format!("handlers: {{{}\n", flow.replace('}', ", fuel: 5}}"))
                .replace("\"scale\"", "scale"),
        ),
    ] {
        check(before, Some(&after));
    }
}

#[test]
fn a_layout_that_would_change_something_else_is_not_edited() {
    for text in [
        // The other entry would change, too.
        "handlers:\n  other: &o {component: o.wasm, sha256: OLD}\n  scale: *o\n",
        // Values of several lines, and none.
        "handlers:\n  scale:\n    component: >-\n      o.wasm\n    sha256: OLD\n",
        "handlers:\n  scale:\n    component: \"o\n      .wasm\"\n    sha256: OLD\n",
        "handlers:\n  scale:\n    component:\n    sha256: OLD\n",
        "handlers:\n  scale: ~\n",
        // Nothing may follow the end of a document.
        "version: 1\n...\n",
        "handlers: []\n",
        "handlers: {scale: 5}\n",
        "- version\n",
    ] {
        check(text, None);
    }
}

/// A folder with a project's folder and a policy.
fn folder(policy: &str) -> (PrivateDir, PathBuf) {
    let folder = PrivateDir::new().unwrap();
    std::fs::create_dir(folder.path().join("scale")).unwrap();
    let file = folder.path().join("gate.yaml");
    std::fs::write(&file, policy).unwrap();
    (folder, file)
}

fn pin(folder: &Path, policy: &Path, name: &str) -> Result<Pin, Failure> {
    Pin::new(
        policy,
        name,
        false,
        (&folder.join("scale"), Path::new("build/scale.wasm")),
    )
}

#[test]
fn the_file_is_replaced_with_its_mode_and_a_link_to_it_stays() {
    let (folder, file) = folder("version: 1\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link.yaml");
    symlink("gate.yaml", &link).unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let before = files();
    let pin = pin(folder.path(), &link, "risk/scale").unwrap();
    assert!(pin.write(NEW).unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    let expected = "version: 1\nhandlers:\n  risk/scale:\n    component: scale/build/scale.wasm\n    sha256: \"NEW\"\n";
    assert_eq!(text, spelt(expected));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!pin.write(NEW).unwrap(), "nothing to change");
    assert_eq!(files(), before, "no temporary file");
}

#[test]
fn a_file_that_cannot_be_edited_stays_and_the_lines_are_printed() {
    let text = "version: 1\nhandlers:\n  scale: ~\n";
    let (folder, file) = folder(text);
    let pin = pin(folder.path(), &file, "scale").unwrap();
    let failure = pin.write(NEW).unwrap_err().to_string();
    let lines = "handlers:\n  scale:\n    component: scale/build/scale.wasm\n    sha256: \"NEW\"";
    assert!(failure.ends_with(&spelt(lines)), "{failure}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn what_no_policy_could_name_is_rejected_before_the_build() {
    let (folder, file) = folder("version: 1\n");
    let outside = PrivateDir::new().unwrap();
    let policy = outside.path().join("gate.yaml");
    std::fs::write(&policy, "version: 1\n").unwrap();
    let other = folder.path().join("other.yaml");
    std::fs::write(&other, "handlers: {scale: {component: other.wasm}}\n").unwrap();
    let repeated = folder.path().join("repeated.yaml");
    std::fs::write(&repeated, "version: 1\nversion: 1\n").unwrap();
    // What `up --dev` has written is this project's, too.
    let developed = folder.path().join("developed.yaml");
    let text = "handlers: {scale: {component: scale/build/scale.dev.wasm}}\n";
    std::fs::write(&developed, text).unwrap();
    pin(folder.path(), &developed, "scale").unwrap();
    for (policy, name, expected) in [
        (&file, "sc ale", "which is not allowed"),
        (&policy, "scale", "below its own folder"),
        (&repeated, "scale", "has faults"),
        (&other, "scale", "confirm the change with --name scale"),
        (
            &folder.path().join("none.yaml"),
            "scale",
            "there is no policy",
        ),
    ] {
        let failure = pin(folder.path(), policy, name).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
}
