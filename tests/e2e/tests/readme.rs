//! Every shell block of the README is run as a reader would run it, against the gate that `make up` starts; a JSON block right
//! after one must stand in what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The README's own address of the gate.
const WRITTEN: &str = "http://127.0.0.1:8080";

/// A shell block and the text that must stand in its output, if the README shows any.
#[derive(Debug, PartialEq)]
struct Block {
    script: String,
    shows: Option<String>,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Where cargo puts binaries: two folders above this test's own.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().to_owned()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut adjacent = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            adjacent &= line.is_empty();
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match language {
            "sh" => found.push(Block {
                script: body.join("\n"),
                shows: None,
            }),
            "json" if adjacent => found.last_mut().unwrap().shows = Some(body.join("\n")),
            _ => {}
        }
        adjacent = language == "sh";
    }
    found
}

/// `tensorgate up` with the README's policy, on ports of its own.
struct Up {
    child: Child,
    address: String,
    state: PathBuf,
}

impl Up {
    fn start() -> Self {
        let admin = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let state = binaries().join("../e2e/readme");
        let mut child = Command::new(binaries().join("tensorgate"))
            .current_dir(top())
            .args(["--json", "up", "-c", "examples/policies/digits/gate.yaml"])
            .args(["--listen", "127.0.0.1:0", "--admin", &admin.to_string()])
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What `check` warns of comes first.
        let address = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .find_map(|line| {
                let said: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                Some(said.get("ready")?.as_str()?.to_owned())
            })
            .unwrap_or_else(|| panic!("the gate stopped before it was ready"));
        Self {
            child,
            address,
            state,
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

#[test]
fn what_the_readme_shows_is_what_happens() {
    let readme = std::fs::read_to_string(top().join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let shown = blocks.iter().filter(|block| block.shows.is_some()).count();
    assert!(
        shown >= 4,
        "the tour shows {shown} outputs, it had at least 4"
    );
    let gate = Up::start();
    let command = binaries().join("tensorgate");
    for Block { script, shows } in blocks {
        let script = script
            .replace(WRITTEN, &gate.address)
            .replace("target/debug/tensorgate", command.to_str().unwrap());
        let output = Command::new("bash")
            .current_dir(top())
            .args(["-euo", "pipefail", "-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{script}\n{output:?}");
        assert!(
            said.contains(shows.as_deref().unwrap_or_default().trim()),
            "{script}\nshould say {shows:?}, says {said}"
        );
    }
}

#[test]
fn an_output_belongs_to_the_block_right_before_it() {
    let text = "```sh\na\nb\n```\n\n```json\n{}\n```\n\n```sh\nc\n```\nwords\n```json\n[]\n```\n";
    let block = |script: &str, shows: Option<&str>| Block {
        script: script.to_owned(),
        shows: shows.map(str::to_owned),
    };
    assert_eq!(blocks(text), [block("a\nb", Some("{}")), block("c", None)]);
}
