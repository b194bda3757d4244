//! `tensorgate up --dev` follows a handler's project: an edit is live without a restart, and the
//! terminal shows what the handler prints, and why an edit cannot be built.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tensorgate_tests::ask;
use tensorgate_tests::backend::Backend;
use tensorgate_tests::programs::{program, target};
use tensorgate_tests::stack::processes_of;
use tokio::process::{Child, Command};

/// Longer than any step takes on a busy machine. The first build makes the language's runtime.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// Any free port.
const ANY: &str = "127.0.0.1:0";
/// What precedes the gate's address in its line of readiness.
const READY: &str = "tensorgate ready: http://";

/// A handler that prints a text, and sends the model a tensor with so many elements.
fn source(text: &str, elements: usize) -> String {
    format!(
        "import {{ Tensor }} from \"./tensorgate.js\";\n\n\
         export function preprocess() {{\n  \
         console.log(\"{text}\");\n  \
         return [Tensor.of(\"x\", \"FP32\", [{elements}], {:?})];\n}}\n",
        vec![1; elements]
    )
}

/// A handler that cannot be loaded, because of its second line.
const BROKEN: &str = "const table = null;\nexport const rows = table.rows;\n\
                      export function preprocess(input) {\n  return input;\n}\n";

/// A gate with one model, whose answer has as many elements as the handler's tensor.
fn policy() -> Value {
    let file = tensorgate_vectors::vectors_dir().join("policies/closed.json");
    let mut policy: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    policy["handlers"] = json!({"reply": {
        "component": "reply/build/reply.wasm", "sha256": "0".repeat(64),
        "fuel": 1_000_000_000, "memory_bytes": 64 << 20, "timeout_ms": 10_000,
    }});
    let input = |shape: Value| json!([{"name": "x", "datatype": "FP32", "shape": [shape], "range": [-1000, 1000]}]);
    let model = &mut policy["models"]["vec"];
    model["preprocess"] = json!("reply");
    model["accepts"] = json!({"inputs": input(json!({"max": 8}))});
    model["inputs"] = input(json!({"name": "n", "max": 8}));
    model["outputs"] = json!([{"name": "y", "datatype": "FP32", "shape": ["n"]}]);
    policy
}

/// A running gate of its own, because a borrowed one does not follow projects. Its output goes to a
/// file instead of a terminal.
struct Gate {
    folder: PathBuf,
    address: SocketAddr,
    up: Child,
    _backend: Backend,
}

impl Gate {
    /// Starts a gate with a new project, whose handler has this source.
    async fn start(source: &str) -> Self {
        let folder = target()
            .join("e2e")
            .join(format!("projects-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut new = Command::new(program("tensorgate-handler"));
        new.args(["new", "--lang", "js", "--world", "preprocess", "--into"]);
        let made = new.arg(folder.join("reply")).arg("reply").output().await;
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");

        let mut policy = policy();
        let backend = Backend::start(serde_json::from_value(policy.clone()).unwrap()).await;
        policy["backends"]["backend"]["endpoints"] = json!([format!("http://{}", backend.address)]);
        let text = serde_json::to_string_pretty(&policy).unwrap();
        std::fs::write(folder.join("gate.yaml"), text).unwrap();
        let terminal = File::create(folder.join("terminal")).unwrap();
        std::fs::write(folder.join("reply/handler.js"), source).unwrap();
        let mut up = Command::new(program("tensorgate"));
        up.args(["up", "--dev", "--listen", ANY, "--admin", ANY]);
        up.args(["--concurrency", "1", "-c"]);
        up.arg(folder.join("gate.yaml"));
        up.arg("--state").arg(folder.join("state"));
        up.arg("--filters").arg(target().join("filters"));
        up.env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal)
            .kill_on_drop(true);
        let mut gate = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            up: up.spawn().unwrap(),
            _backend: backend,
            folder,
        };
        gate.until_printed(READY).await;
        let printed = gate.terminal();
        let (_, rest) = printed.split_once(READY).unwrap();
        gate.address = rest.split(' ').next().unwrap().parse().unwrap();
        gate
    }

    /// Replaces the source of the handler.
    fn edit(&self, source: &str) {
        std::fs::write(self.folder.join("reply/handler.js"), source).unwrap();
    }

    /// All that was printed so far.
    fn terminal(&self) -> String {
        let printed = std::fs::read(self.folder.join("terminal")).unwrap_or_default();
        String::from_utf8_lossy(&printed).into_owned()
    }

    async fn until_printed(&mut self, text: &str) {
        let started = Instant::now();
        while !self.terminal().contains(text) {
            let ended = self.up.try_wait().unwrap();
            assert_eq!(ended, None, "never printed: {text}");
            assert!(started.elapsed() < LIMIT, "never printed: {text}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The status of a request, and the number of elements in the answer.
    async fn answer(&self) -> (u16, Option<u64>) {
        let reply = ask::good(self.address, &[]).await.unwrap();
        let document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let elements = document["outputs"][0]["shape"][0].as_u64();
        (reply.status, elements)
    }

    /// Waits for an answer with so many elements.
    async fn until_answered(&self, elements: u64) {
        let started = Instant::now();
        loop {
            let answer = self.answer().await;
            if answer == (200, Some(elements)) {
                return;
            }
            assert!(
                started.elapsed() < LIMIT,
                "{answer:?} instead of {elements}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stops the gate as Ctrl-C does.
    async fn stop(&mut self) -> ExitStatus {
        let pid = self.up.id().unwrap().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(killed.unwrap().success());
        let ended = tokio::time::timeout(LIMIT, self.up.wait()).await;
        ended.unwrap().unwrap()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The kernel ends its child processes with it.
        let _ = self.up.start_kill();
        if std::thread::panicking() {
            eprintln!("{}", self.terminal());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_project_is_live_and_a_broken_one_is_reported() {
    let mut gate = Gate::start(&source("the first source", 1)).await;
    gate.until_answered(1).await;
    gate.until_printed("reply: the first source").await;

    gate.edit(&source("the second source", 2));
    gate.until_answered(2).await;
    gate.until_printed("reply: the second source").await;

    assert!(!gate.terminal().contains("handler.js:2"));
    gate.edit(BROKEN);
    gate.until_printed("handler.js:2").await;
    assert!(gate.terminal().contains("error: TypeError"));
    assert_eq!(gate.answer().await, (200, Some(2)));

    gate.edit(&source("the third source", 3));
    gate.until_answered(3).await;
    assert!(gate.stop().await.success());
    let mark = gate.folder.to_str().unwrap().to_owned();
    ask::met("no process is left", || processes_of(&mark).is_empty()).await;
}
