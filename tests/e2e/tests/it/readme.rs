//! The documentation does what it says. Every shell block of README and `docs` is executed.
//! Requests go to one gate with the demo's policy, as `make up` starts it. Every policy passes
//! `tensorgate check`, and the reference pages are what `tools/reference.py` writes.
//!
//! README's blocks run in the repository's root. A page of `docs` has a folder of its own, with
//! `tensorgate` in `PATH`, links to some folders of the repository, a small policy as `gate.yaml`,
//! and the files that its blocks write (`file=NAME`). Blocks with `needs=…` are not executed here;
//! a tidy test limits the reasons. `tests/triton/tutorial.py` executes all blocks of the first
//! tutorial.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tensorgate_tests::programs::{bin, free_address, program, target};
use tensorgate_tidy::book::{Block, Page, base_policy, blocks, pages};
use tensorgate_tidy::root;

/// The gate's address as the pages write it.
const WRITTEN: &str = "http://127.0.0.1:8080";

/// Folders of the repository that a page's folder links to.
const LINKED: [&str; 3] = ["examples", "target", "wit"];

/// `tensorgate up` with the demo's policy, on ports of its own.
struct Up {
    child: Child,
    address: String,
    state: PathBuf,
}

impl Up {
    fn start() -> Self {
        let admin = free_address();
        let state = target().join("e2e/readme");
        let mut child = Command::new(program("tensorgate"))
            .current_dir(root())
            .args(["--json", "up", "-c", "examples/policies/digits/gate.yaml"])
            .args(["--listen", "127.0.0.1:0", "--admin", &admin.to_string()])
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Warnings of `check` come first.
        let address = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                Some(line.get("ready")?.as_str()?.to_owned())
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

/// A page's folder, which is removed with it.
struct Desk(PathBuf);

impl Desk {
    fn new(purpose: &str, page: &Page) -> Self {
        let name = page.path.replace(['/', '.'], "-");
        let folder = target().join("e2e").join(purpose).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for name in LINKED {
            std::os::unix::fs::symlink(root().join(name), folder.join(name)).unwrap();
        }
        std::fs::write(folder.join("gate.yaml"), base_policy("tensors")).unwrap();
        Self(folder)
    }

    /// Writes the block, completed if it is a fragment, to the file that it names.
    fn write(&self, block: &Block) {
        if let Some(name) = block.attribute("file") {
            let file = self.0.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let text = block.policy().unwrap_or_else(|| block.body.clone());
            std::fs::write(file, format!("{text}\n")).unwrap();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(script: &str, folder: &Path) -> Output {
    let path = std::env::var("PATH").unwrap();
    Command::new("bash")
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", bin().display()))
        .args(["-euo", "pipefail", "-c", script])
        .output()
        .unwrap()
}

/// Pages whose commands one test runs. The groups' tests run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// Requests are sent to the demo's gate.
    Gate,
    /// Tutorials. One of them builds and compiles a handler in Python, which takes longest.
    Tutorials,
    /// All others.
    Offline,
}

impl Group {
    /// Every page has one group.
    fn of(page: &Page, blocks: &[Block]) -> Self {
        let asks = |block: &Block| block.is_executed() && block.body.contains(WRITTEN);
        if blocks.iter().any(asks) {
            Self::Gate
        } else if page.path.starts_with("docs/tutorial/") {
            Self::Tutorials
        } else {
            Self::Offline
        }
    }
}

/// Runs the commands of a group's pages, each page in its own folder. Returns how many blocks ran.
/// `address` is that of the demo's gate.
fn execute_pages(group: Group, address: Option<&str>) -> usize {
    let mut executed = 0;
    for page in &pages() {
        let blocks = page.blocks();
        let is_member = Group::of(page, &blocks) == group;
        if !is_member || !blocks.iter().any(Block::is_executed) {
            continue;
        }
        let is_in_book = page.path.starts_with("docs/");
        let desk = is_in_book.then(|| Desk::new("docs", page));
        let folder = desk.as_ref().map_or_else(root, |desk| desk.0.clone());
        for block in &blocks {
            if let Some(desk) = &desk {
                desk.write(block);
            }
            if block.is_executed() {
                execute(page, block, address, &folder);
                executed += 1;
            }
        }
    }
    executed
}

fn execute(page: &Page, block: &Block, address: Option<&str>, folder: &Path) {
    let command = program("tensorgate");
    let script = block
        .body
        .replace(WRITTEN, address.unwrap_or(WRITTEN))
        .replace("target/debug/tensorgate", command.to_str().unwrap());
    let output = run(&script, folder);
    let place = format!("{}:{}", page.path, block.line);
    assert!(output.status.success(), "{place}\n{script}\n{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let shows = block.shows.as_deref().unwrap_or_default().trim();
    assert!(
        printed.contains(shows),
        "{place}\n{script}\nshould print {shows}, prints {printed}"
    );
}

#[test]
fn commands_that_ask_the_demos_gate_give_the_shown_output() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.path == "README.md").unwrap();
    let shown = readme.blocks();
    let shown = shown.iter().filter(|block| block.shows.is_some()).count();
    assert!(
        shown >= 4,
        "README shows {shown} outputs, it had at least 4"
    );
    let gate = Up::start();
    let executed = execute_pages(Group::Gate, Some(&gate.address));
    assert!(executed >= 10, "only {executed} blocks found");
}

#[test]
fn commands_of_the_tutorials_give_the_shown_output() {
    let executed = execute_pages(Group::Tutorials, None);
    assert!(executed >= 10, "only {executed} blocks found");
}

#[test]
fn commands_without_a_gate_give_the_shown_output() {
    let executed = execute_pages(Group::Offline, None);
    assert!(executed >= 70, "only {executed} blocks found");
}

/// What `tensorgate check` says about a policy if it has faults.
fn faults(policy: &str, folder: &Path) -> Option<String> {
    std::fs::write(folder.join("checked.yaml"), policy).unwrap();
    let output = Command::new(program("tensorgate"))
        .current_dir(folder)
        .args(["check", "--no-files", "checked.yaml"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(text)
}

#[test]
fn every_policy_of_the_documentation_passes_check() {
    let (mut whole, mut fragments) = (0, 0);
    for page in pages() {
        let desk = Desk::new("policies", &page);
        // Files that shell blocks create: digests of keys, lists, keys of other programs.
        for name in ["web-app.keys", "ocr-batch.keys", "revoked-keys.txt"] {
            std::fs::write(desk.0.join(name), "").unwrap();
        }
        for name in ["jti", "certificates", "serials"] {
            std::fs::write(desk.0.join(format!("revoked-{name}.txt")), "").unwrap();
        }
        for block in page.blocks() {
            desk.write(&block);
            let Some(policy) = block.policy() else {
                continue;
            };
            match block.attribute("fragment") {
                Some(_) => fragments += 1,
                None => whole += 1,
            }
            if let Some(faults) = faults(&policy, &desk.0) {
                panic!("{}:{}\n{faults}\n{policy}", page.path, block.line);
            }
        }
    }
    assert!(
        whole + fragments >= 40,
        "only {whole} policies and {fragments} fragments found"
    );
}

#[test]
fn a_fragment_with_an_unknown_key_has_a_fault() {
    let page = Page {
        path: "unknown-key.md".to_owned(),
        text: "```yaml fragment=tensors\ngrants:\n  - name: scoring\n    rates: {}\n```\n"
            .to_owned(),
    };
    let desk = Desk::new("policies", &page);
    let policy = page.blocks()[0].policy().unwrap();
    let faults = faults(&policy, &desk.0).unwrap();
    assert!(faults.contains("grants[0].rates"), "{faults}");
}

#[test]
fn the_reference_pages_are_up_to_date() {
    let output = Command::new("python3")
        .current_dir(root())
        .args(["tools/reference.py", "--tensorgate"])
        .arg(program("tensorgate"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_output_belongs_to_the_block_right_before_it() {
    let text = "```sh\na\nb\n```\n\n```json\n{}\n```\n\n```sh needs=build\nc\n```\nwords\n```json\n[]\n```\n\
                ```sh\nd\n```\n\n```json file=e\n1\n```\n";
    let found: Vec<_> = blocks(text)
        .into_iter()
        .map(|block| (block.line, block.language, block.body, block.shows))
        .collect();
    let block = |line, language: &str, body: &str, shows: Option<&str>| {
        let shows = shows.map(str::to_owned);
        (line, language.to_owned(), body.to_owned(), shows)
    };
    assert_eq!(
        found,
        [
            block(1, "sh", "a\nb", Some("{}")),
            block(10, "sh", "c", None),
            block(14, "json", "[]", None),
            block(17, "sh", "d", None),
            block(21, "json", "1", None),
        ]
    );
    assert_eq!(blocks(text)[1].attribute("needs"), Some("build"));
}
