//! `up` and a changed policy: what is restored when Envoy rejects it, and what SIGHUP does. The
//! host is a stand-in that accepts everything; Envoy and the filter are real. The end-to-end tests
//! cover the whole stack under load.

use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tensorgate_policy::Compiled;

use crate::program::{Scratch, free_port, host_policy, small_filters, tree};
use crate::up::{ANY, Stack, program};

/// A host that serves its bundle, and reads it again on a signal. It reports the files beside the
/// bundle, as the real one does.
pub const HOST: &str = r#"#!/usr/bin/env python3
import http.server, json, os, signal, sys
def argument(name): return sys.argv[sys.argv.index(name) + 1]
# After a header of 24 bytes: the version, a digest, the number of the target and its two options.
def bundle():
    fields = open(argument("--bundle"), "rb").read()[24:]
    generation, fields = fields[1:1 + fields[0]].decode(), fields[33 + fields[0]:]
    tightens, hold = fields[1], fields[2 + (1 + fields[2] if fields[1] else 0)]
    return {"generation": generation, "tightens": tightens, "hold": hold}
def beside(name): return os.path.join(os.path.dirname(argument("--bundle")), name)
state = {"serving": bundle()["generation"], "attempts": 0, "last": None}
def again(*_):
    state["serving"] = bundle()["generation"]
    state["attempts"] += 1
signal.signal(signal.SIGHUP, again)
class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = json.dumps({**state, **json.load(open(beside("sources.json")))}).encode()
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_): pass
address, port = argument("--admin").split(":")
http.server.HTTPServer((address, int(port)), Admin).serve_forever()
"#;

/// An Envoy that accepts one change of its listener and none of its filter.
pub const ENVOY: &str = r#"#!/usr/bin/env python3
import http.server, json, os, re, socketserver, sys
config = sys.argv[sys.argv.index("-c") + 1]
socket = re.search(r"/[^\s\"']*envoy\.sock", open(config).read()).group(0)
filter = "extension_config_discovery.http_filter.tensorgate.gate"
files = {"cluster_manager.cds": "cds.yaml", "listener_manager.lds": "lds.yaml", filter: "ecds-tensorgate.gate.yaml"}
most = {"cluster_manager.cds": 9, "listener_manager.lds": 2, filter: 1}
class Part:
    seen, taken, in_force, rejected = None, 0, None, 0
parts = {name: Part() for name in files}
def look(name):
    text = open(os.path.join(os.path.dirname(config), "dynamic", files[name])).read()
    part, version = parts[name], re.search(r"version_info: [\"']?([0-9a-f]{16})", text).group(1)
    if version != part.seen:
        part.seen = version
        if version == part.in_force: pass
        elif part.taken < most[name]: part.taken, part.in_force = part.taken + 1, version
        else: part.rejected += 1
def stats():
    for name, part in parts.items():
        look(name)
        yield f"{name}.update_rejected: {part.rejected}\n{name}.version_text: \"{part.in_force}\"\n"
    yield "cluster_manager.warming_clusters: 0\nlistener_manager.total_listeners_warming: 0\n"
class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        listener = {"name": "gate", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}
        said = "".join(stats()) if self.path.startswith("/stats") else json.dumps({"listener_statuses": [listener]})
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers()
        self.wfile.write(said.encode())
    do_POST = do_GET
    def log_message(self, *_): pass
if os.path.exists(socket): os.unlink(socket)
socketserver.ThreadingUnixStreamServer(socket, Admin).serve_forever()
"#;

/// The same, which accepts every change.
pub fn willing_envoy() -> String {
    ENVOY.replace("filter: 1}", "filter: 99}")
}

/// The policy version in a line such as `reloaded: policy 0123456789abcdef instead of …`.
pub fn generation(line: &str) -> String {
    let after = line.split("policy ").nth(1).unwrap_or_default();
    after.chars().take(16).collect()
}

#[test]
fn a_change_that_envoy_rejects_is_rolled_back_everywhere() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    let (module, sound) = (
        mine.path().join("gate.wasm"),
        small_filters().join("gate.wasm"),
    );
    std::fs::copy(&sound, &module).unwrap();
    let mut stack = Stack::start_with(HOST, ANY, &policy, mine.path());
    let line = stack.line();
    let first = generation(&line);
    let state = stack.scratch.path().join("state");
    let says = |file: &str, generation: &str| {
        let content = std::fs::read(state.join(file)).unwrap();
        String::from_utf8_lossy(&content).contains(generation)
    };
    let files = ["policy/bundle.bin", "dynamic/ecds-tensorgate.gate.yaml"];
    assert!(files.iter().all(|file| says(file, &first)), "{line}");

    let changed = text.replace("quota: ", "quota: 1");
    assert_ne!(text, changed);
    mine.file("gate.wasm", "no module");
    mine.file("gate.yaml", &changed);
    stack.signal("HUP");
    stack.until_printed("not reloaded", 1);
    assert!(
        stack
            .terminal_text()
            .contains("Envoy rejects the filter tensorgate.gate"),
        "{}",
        stack.terminal_text()
    );
    assert!(files.iter().all(|file| says(file, &first)), "put back");

    std::fs::copy(&sound, &module).unwrap();
    stack.signal("HUP");
    let line = stack.line();
    assert!(
        line.starts_with("reloaded: policy "),
        "{line:?}{}",
        stack.terminal_text()
    );
    let second = generation(&line);
    assert_ne!(first, second);
    assert!(files.iter().all(|file| says(file, &second)), "in force");
    assert!(!says("envoy.yaml", &first) && !says("envoy.yaml", &second));
}

#[test]
fn a_failed_rollback_in_envoy_is_reported() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    mine.file("gate.wasm", "no module");
    let mut stack = Stack::start_under(Some(ENVOY), HOST, ANY, &policy, mine.path());
    let line = stack.line();
    let first = generation(&line);
    // The change of the listener is accepted, and that of the filter is rejected. Then the listener
    // must be restored, which is rejected too.
    let changed = text.replace("stream_ms: 60000", "stream_ms: 70000");
    assert_ne!(text, changed);
    mine.file("gate.yaml", &changed);
    stack.signal("HUP");
    stack.until_printed("not reloaded", 1);
    let said = stack.terminal_text();
    assert!(
        said.contains("Envoy rejects the filter tensorgate.gate")
            && said.contains("the previous policy cannot be restored: Envoy rejects the listener"),
        "{said}"
    );
    let state = stack.scratch.path().join("state");
    for file in [
        "policy/bundle.bin",
        "dynamic/lds.yaml",
        "dynamic/ecds-tensorgate.gate.yaml",
    ] {
        let content = std::fs::read(state.join(file)).unwrap();
        let text = String::from_utf8_lossy(&content);
        assert!(text.contains(&first), "{file}: {line}");
    }
}

/// The host's policy.
pub fn in_force(stack: &Stack) -> Compiled {
    host_policy(&stack.scratch.path().join("state/policy/bundle.bin"))
}

/// Replaces a file by a complete one, as an editor or a deployment does.
pub fn rename_over(file: &std::path::Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Sets a flag when it is dropped.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_complete_policy_is_loaded_however_it_was_saved_and_a_partial_one_never() {
    let mine = Scratch::in_memory();
    // As kubelet mounts a ConfigMap: gate.yaml -> ..data/gate.yaml, ..data -> ..1.
    let volume = |version: &str| mine.path().join(version).join("gate.yaml");
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.path().join("gate.yaml");
    std::fs::create_dir(mine.path().join("..1")).unwrap();
    std::fs::write(volume("..1"), &text).unwrap();
    std::os::unix::fs::symlink("..1", mine.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/gate.yaml", &policy).unwrap();
    let mut stack = Stack::start_with(HOST, ANY, &policy, small_filters());
    let first = generation(&stack.line());

    // Truncated where the rest is valid and allows more: the rate is lost.
    let at = text.find(", rate:").unwrap();
    let weaker = format!("{}}}\n", &text[..at]);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // In place and never empty: no two reads see the same text.
            let file = std::fs::File::create(volume("..1")).unwrap();
            for count in 0_u64.. {
                let text = format!("{weaker}# {count:020}\n");
                file.write_all_at(text.as_bytes(), 0).unwrap();
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::yield_now();
            }
        });
        // A failed assertion ends the writer, too.
        let _writing = EndOnDrop(&ended);
        stack.until_printed("gate.yaml: the file keeps changing", 1);
        assert_eq!(in_force(&stack).generation, first);
    });
    let line = stack.line();
    assert!(line.contains(&format!(" instead of {first}")), "{line}");
    let second = generation(&line);

    std::fs::create_dir(mine.path().join("..2")).unwrap();
    std::fs::write(volume("..2"), &text).unwrap();
    std::os::unix::fs::symlink("..2", mine.path().join("..data_tmp")).unwrap();
    std::fs::rename(mine.path().join("..data_tmp"), mine.path().join("..data")).unwrap();
    let line = stack.line();
    assert_eq!(generation(&line), first, "the link was swapped: {line}");

    rename_over(&policy, &weaker);
    let line = stack.line();
    assert_eq!(generation(&line), second, "renamed over the link: {line}");
    std::fs::write(&policy, &text).unwrap();
    let line = stack.line();
    assert_eq!(generation(&line), first, "saved in place: {line}");
    let changed = stack.terminal_text().matches("keeps changing").count();
    assert_eq!(changed, 1, "{}", stack.terminal_text());
}

/// Starts a program in a terminal of its own, signals it, closes the terminal, and prints how it
/// ended.
const TERMINAL: &str = r#"
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
def until(text):
    global said
    while text not in said:
        said += os.read(terminal, 4096)
until(b"tensorgate ready")
os.kill(pid, signal.SIGHUP)
until(b"nothing changed")
signal.alarm(60)
os.close(terminal)
_, status = os.waitpid(pid, 0)
print("ended", os.waitstatus_to_exitcode(status))
"#;

#[test]
fn sighup_reloads_and_a_closed_terminal_stops_up() {
    let (scratch, program) = program(HOST);
    let ran = Command::new("python3")
        .args(["-c", TERMINAL])
        .arg(program)
        .args(["up", "-c"])
        .arg(tree().join("envoy/gate.yaml"))
        .arg("--filters")
        .arg(small_filters())
        .arg("--state")
        .arg(scratch.path().join("state"))
        .args(["--listen", ANY, "--concurrency", "1", "--admin"])
        .arg(format!("127.0.0.1:{}", free_port()))
        .env("XDG_RUNTIME_DIR", scratch.path().join("run"))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "ended 0\n",
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
