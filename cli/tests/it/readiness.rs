//! When `up` reports ready. Host and embedded backends are stand-ins, Envoy is real.

use std::path::PathBuf;
use std::process::Command;

use crate::program::{Scratch, free_port, small_filters, tree};
use crate::up::{ANY, HOST, Stack};

/// An embedded backend that accepts connections, unless its folder of models has a file `broken`.
pub const EMBEDDED: &str = r#"#!/usr/bin/env python3
import os, socket, sys
models, listen = (sys.argv[sys.argv.index(flag) + 1] for flag in ("--models", "--listen"))
if os.path.exists(os.path.join(models, "broken")):
    sys.exit("this is why")
path = listen.removeprefix("unix:")
if os.path.exists(path):
    os.remove(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    server.accept()
"#;

/// A policy whose backend is embedded, and its folder of models, both below this folder.
fn embedded(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let policy = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let kind = r#"kind: open-inference, endpoints: ["http://127.0.0.1:8001"]"#;
    assert!(policy.contains(kind));
    let policy = policy.replace(kind, "kind: embedded, models: models");
    let models = scratch.path().join("models");
    std::fs::create_dir(&models).unwrap();
    (scratch.file("gate.yaml", policy), models)
}

/// Waits until standard error has these texts.
fn until_printed(stack: &Stack, texts: &[&str]) {
    stack.until(&texts.join(", "), || {
        let printed = stack.terminal_text();
        texts.iter().all(|text| printed.contains(*text))
    });
}

/// A host that compiles a handler and is never ready.
const COMPILING: &str = r#"#!/usr/bin/env python3
import http.server, sys
address, port = sys.argv[sys.argv.index("--admin") + 1].split(":")
class Compiling(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = b"compiling handlers\ncompiling handler digit-image\n"
        self.send_response(503); self.send_header("content-length", str(len(text))); self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_): pass
http.server.HTTPServer((address, int(port)), Compiling).serve_forever()
"#;

#[test]
fn a_handler_that_compiles_for_long_is_named_on_standard_error() {
    let mut stack = Stack::start(COMPILING, ANY);
    until_printed(&stack, &["compiling handler digit-image …\n"]);
    stack.signal("TERM");
    assert_eq!(stack.wait(), Some(0));
    // Standard output has the readiness line only.
    assert_eq!(stack.line(), "");
    stack.check_nothing_is_left("127.0.0.1:1");
}

#[test]
fn a_gate_starts_without_its_embedded_backend_and_starts_it_again_whenever_it_ends() {
    let folder = Scratch::new();
    let (policy, models) = embedded(&folder);
    let broken = models.join("broken");
    std::fs::write(&broken, "").unwrap();
    let mut stack = Stack::start_with(HOST, ANY, &policy, small_filters());
    let gate = stack.gate();
    until_printed(&stack, &["backend gpu ended unexpectedly", "this is why"]);
    std::fs::remove_file(broken).unwrap();
    stack.until_found("it listens", || {
        let listens = |folder: &PathBuf| folder.join("backend-0.sock").exists();
        stack.sockets().into_iter().find(listens)
    });
    let runs = |stack: &Stack| stack.pid_of("tensorgate-embedded");
    let first = runs(&stack).unwrap();
    let killed = Command::new("kill").args(["-KILL", &first]).status();
    assert!(killed.unwrap().success());
    stack.until_found("it runs again", || runs(&stack).filter(|pid| *pid != first));
    assert!(
        stack
            .terminal_text()
            .contains("backend gpu ended unexpectedly (signal: 9")
    );
    std::net::TcpStream::connect(&gate).unwrap();
    stack.signal("TERM");
    assert_eq!(stack.wait(), Some(0), "{}", stack.terminal_text());
    stack.check_nothing_is_left(&gate);
}

#[test]
fn a_port_that_is_taken_during_the_start_is_reported_with_envoys_message() {
    let port = free_port();
    let takes = format!(
        "import http.server, socket, sys\ntaken = socket.create_server((\"127.0.0.1\", {port}))"
    );
    let host = HOST.replace("import http.server, sys", &takes);
    let mut stack = Stack::start(&host, &format!("127.0.0.1:{port}"));
    assert_eq!(stack.line(), "");
    assert_eq!(stack.wait(), Some(1));
    assert!(
        stack.terminal_text().contains("Envoy does not listen")
            && stack.terminal_text().contains("ddress already in use"),
        "{}",
        stack.terminal_text()
    );
    stack.check_nothing_is_left("127.0.0.1:1");
}

#[test]
fn a_filter_that_envoy_rejects_is_named_and_nothing_is_ready() {
    let filters = Scratch::new();
    filters.file("gate.wasm", "no module");
    let policy = tree().join("envoy/gate.yaml");
    let mut stack = Stack::start_with(HOST, ANY, &policy, filters.path());
    assert_eq!(stack.line(), "", "it says that it is ready");
    assert_eq!(stack.wait(), Some(1));
    let said = stack.terminal_text();
    assert!(
        said.contains("Envoy rejected the filter tensorgate.gate")
            && said.contains("Failed to load Wasm code"),
        "{said}"
    );
    stack.check_nothing_is_left("127.0.0.1:1");
}
