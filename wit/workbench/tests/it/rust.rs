//! Handlers in Rust.

use tensorgate_client::run::Scratch;

use super::{Project, handler, lines, story, tensorgate, works};

#[test]
fn a_new_project_works_at_once_and_its_cases_can_fail() {
    let project = Project::new("scale", "rust", "preprocess");
    works(&project);
    is_written_into_a_policy(&project);
    // A number that differs by more than the tolerance, and one within it.
    project.edit(
        "cases/scaled.json",
        "[-1, -0.5, 0, 1]",
        "[-1, -0.5, 0, 1.5]",
    );
    let fault = project.fault("scaled").unwrap();
    assert!(fault.contains("image[3] is 1, not 1.5"), "{fault}");
    project.edit("cases/scaled.json", "1e-6", "0.5");
    assert_eq!(project.fault("scaled"), None);
    // An expected error that does not occur, and one with another message.
    project.edit("cases/two-tensors.json", "bad-input", "trap");
    let fault = project.fault("two-tensors").unwrap();
    assert!(
        fault.contains("the case expects another rejection"),
        "{fault}"
    );
    project.edit("cases/no-number.json", "is not a number", "is a number");
    let fault = project.fault("no-number").unwrap();
    assert!(fault.contains("does not contain"), "{fault}");
    // The limits of the manifest hold, as a policy's would.
    project.write(
        "cases/starved.json",
        r#"{"input": {"tensors": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [0]}]}, "expect": {"refused": "fuel"}}"#,
    );
    let fault = project.fault("starved").unwrap();
    assert!(fault.contains("a rejection is expected"), "{fault}");
    project.edit("handler.yaml", "fuel: 10000000", "fuel: 500");
    assert_eq!(project.fault("starved"), None);
    project.edit("handler.yaml", "memory_bytes: 16MiB", "memory_bytes: 64KiB");
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(ran.stderr.contains("memory"), "{}", ran.stderr);
}

/// `build --into` writes what `check` accepts.
fn is_written_into_a_policy(project: &Project) {
    let policy = project.beside("gate.yaml");
    std::fs::write(&policy, "version: 1 # ours\n").unwrap();
    let into = policy.to_str().unwrap();
    for changed in [true, false] {
        let ran = project.verb("build", &["--into", into, "--name", "images"]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        let printed = lines(&ran).pop().unwrap();
        assert_eq!(printed["changed"], changed, "{printed}");
        let text = std::fs::read_to_string(&policy).unwrap();
        let expected = "version: 1 # ours\nhandlers:\n  images:\n";
        assert!(text.starts_with(expected), "{text}");
        let ran = tensorgate(&["check", into]);
        let is_found = !ran.stderr.contains("is missing");
        assert!(ran.code == 0 && is_found, "{text}{}", story(&ran));
    }
    std::fs::remove_file(&policy).unwrap();
}

#[test]
fn a_project_after_the_model_works_and_gets_no_body() {
    let project = Project::new("label", "rust", "postprocess");
    project.give_time();
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    project.write(
        "cases/body.json",
        r#"{"input": {"raw": {"content_type": "image/png", "text": "a"}}, "expect": {"tensors": []}}"#,
    );
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    assert!(ran.stderr.contains("not a raw body"), "{}", ran.stderr);
}

#[test]
fn the_folder_of_a_project_does_not_change_the_built_bytes() {
    let digest = |project: &Project| {
        let report = lines(&project.verb("inspect", &[])).remove(0);
        report["sha256"].as_str().unwrap().to_owned()
    };
    let one = Project::new("same", "rust", "preprocess");
    let other = Project::elsewhere("same", "rust", "preprocess");
    let ran = other.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert_ne!(one.folder(), other.folder());
    assert_eq!(digest(&one), digest(&other));
    let bytes = std::fs::read(other.component()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for path in [one.folder(), other.folder()] {
        assert!(!text.contains(path.to_str().unwrap()));
    }
}

#[test]
fn a_failed_build_reports_its_cause_and_keeps_the_previous_component() {
    let project = Project::new("broken", "rust", "preprocess");
    let built = std::fs::read(project.component()).unwrap();
    project.edit("src/lib.rs", "export_preprocess!(Handler);", "");
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(ran.stderr.contains("export_preprocess!"), "{}", ran.stderr);
    project.write("src/lib.rs", "fn broken( {}");
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(ran.stderr.contains("fn broken("), "{}", ran.stderr);
    assert_eq!(std::fs::read(project.component()).unwrap(), built);
}

#[test]
fn a_project_that_was_not_built_cannot_be_tested() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("scale");
    let into = folder.to_str().unwrap();
    let ran = handler(&["new", "--lang", "rust", "--into", into, "scale"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    for verb in ["test", "bench"] {
        let ran = handler(&[verb, into]);
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains("handler build"), "{}", ran.stderr);
    }
}

/// Opens connections, binds a port and looks up a name.
const NETWORK: &str = r#"
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};
struct Network;
impl Preprocess for Network {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        let peer = config("peer").unwrap_or_default();
        let addresses = peer.to_socket_addrs().map_err(Error::fault)?;
        for address in addresses {
            TcpStream::connect(address).map_err(Error::fault)?;
            UdpSocket::bind("0.0.0.0:0").map_err(Error::fault)?;
        }
        Ok(Vec::new())
    }
}
export_preprocess!(Network);
"#;

#[test]
fn a_project_that_uses_the_network_is_not_built_and_its_imports_are_named() {
    let project = Project::unbuilt("network", "rust", "preprocess");
    project.write("src/lib.rs", NETWORK);
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    for interface in ["tcp", "udp", "ip-name-lookup"] {
        let import = format!("wasi:sockets/{interface}@0.2.");
        assert!(ran.stderr.contains(&import), "{import}: {}", ran.stderr);
    }
    let reason = "which no host provides: a handler has no sockets";
    assert!(ran.stderr.contains(reason), "{}", ran.stderr);
    assert!(!project.component().exists());
}
