//! Hostile handlers behind the whole gate. Each breaks its own bound, its caller gets a neutral
//! error, and the log names the bound. Another client's requests are answered throughout. Replaying
//! the captured calls gives the same results.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::values::CallOutcome;
use tensorgate_policy_compiler::raw::{Accepts, Capture, Chain, Handler, Policy};
use tensorgate_tests::programs::program;
use tensorgate_tests::{Stack, ask, policy};

/// A handler's file, and what the host's log must say about its calls.
const HOSTILE: [(&str, &str); 3] = [
    ("hostile_loop", "fuel"),
    ("hostile_memory_bomb", "memory"),
    ("hostile_wrong_shape", "breaks the contract: shape"),
];

/// The fuel of a call. The memory bomb needs three quarters of it to reach its memory limit; the
/// loop burns all of it, so it is small enough for a busy machine.
const FUEL: u64 = 10_000_000;

/// The time limit of a call and of a request. No call is expected to reach it.
const TIMEOUT_MS: u64 = 60_000;

/// The outcome of each handler's calls, as the capture records it.
const CAPTURED: [(&str, &str); 3] = [
    ("hostile_loop", "fuel"),
    ("hostile_memory_bomb", "memory"),
    ("hostile_wrong_shape", "answered"),
];

/// Calls of each hostile handler, and of the other client while they run.
const CALLS: usize = 4;
const NEIGHBOURS: usize = 24;

/// The plain model, and one model per hostile handler. The latter takes an image and gives the
/// plain model's input.
fn besieged(captures: &Captures) -> Policy {
    let mut policy = policy::vectors_policy("raw.json");
    policy.listen.limits.timeout_ms = TIMEOUT_MS.into();
    let inputs = policy.models.get("vec").unwrap().inputs.clone();
    let images = policy.models.get("digits-png").unwrap().clone();
    for (name, _) in HOSTILE {
        let handler = Handler {
            component: Some(format!("{name}.wasm")),
            sha256: None,
            fuel: FUEL.into(),
            memory_bytes: (8 << 20).into(),
            timeout_ms: TIMEOUT_MS.into(),
            ..Handler::default()
        };
        policy.handlers.insert(name.to_owned(), handler);
        let mut model = images.clone();
        model.preprocess = Some(Chain(vec![name.to_owned()]));
        model.accepts = Some(Accepts {
            inputs: inputs.clone(),
            raw: None,
        });
        policy.models.insert(name.to_owned(), model);
        for grant in &mut policy.grants {
            grant.models.push(name.to_owned());
        }
    }
    let text = |path: &Path| Some(path.to_str().unwrap().to_owned());
    policy.capture = Some(Capture {
        folder: text(&captures.folder),
        key_file: text(&captures.key),
        outcomes: vec![CallOutcome::Fault],
        ..Capture::default()
    });
    policy
}

/// The folder of captured calls, and the key they are encrypted with. Both are removed with this
/// value.
struct Captures {
    place: PathBuf,
    folder: PathBuf,
    key: PathBuf,
}

impl Captures {
    fn new() -> Self {
        let place = std::env::temp_dir().join(format!("tg-hostile-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let key = place.join("capture.key");
        std::fs::write(&key, "a7".repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            folder: place.join("captures"),
            place,
            key,
        }
    }

    /// The captured calls, once there are so many.
    fn files(&self, wanted: usize) -> Vec<PathBuf> {
        let began = Instant::now();
        loop {
            let files: Vec<_> = std::fs::read_dir(&self.folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|it| it == "capture"))
                .collect();
            if files.len() >= wanted {
                return files;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{files:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Replays the calls with the policy of a gate.
    fn replay(&self, gate: &Path) -> Output {
        Command::new(program("tensorgate"))
            .args(["--json", "handler", "replay"])
            .arg(&self.folder)
            .arg("-c")
            .arg(gate)
            .arg("--key")
            .arg(&self.key)
            .output()
            .unwrap()
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.place));
    }
}

async fn call(gate: SocketAddr, model: &str) -> Reply {
    let path = format!("/v2/models/{model}/infer");
    let fields = ask::fields(&policy::key("scorer"));
    http1::send(
        gate,
        "POST",
        &path,
        &fields,
        ask::VALID.as_bytes(),
        Framing::Length,
    )
    .await
    .unwrap()
}

/// Calls a model until its handler ran: on a busy machine a call may wait too long for a thread.
async fn call_until_run(gate: SocketAddr, model: &str) -> Reply {
    let began = Instant::now();
    loop {
        let reply = call(gate, model).await;
        let overloaded = reply.reason().as_deref() == Some("overloaded");
        if !overloaded || began.elapsed() > ask::PATIENCE {
            return reply;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_handlers_are_contained_while_a_neighbour_is_answered() {
    let captures = Captures::new();
    let stack = Stack::start("hostile", besieged(&captures)).await;
    let gate = stack.gate;
    let attacks: Vec<_> = HOSTILE
        .into_iter()
        .flat_map(|(name, _)| [name; CALLS])
        .map(|name| tokio::spawn(async move { (name, call_until_run(gate, name).await) }))
        .collect();
    for n in 0..NEIGHBOURS {
        let reply = call(gate, "vec").await;
        assert_eq!(reply.status, 200, "neighbour {n}: {reply:?}");
    }
    for attack in attacks {
        let (name, reply) = attack.await.unwrap();
        assert_eq!(reply.status, 500, "{name}: {reply:?}");
        assert_eq!(reply.reason().as_deref(), Some("handler-fault"), "{name}");
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!said.contains("hostile"), "{name}: {said}");
    }
    for (name, cause) in HOSTILE {
        let told = || {
            let log = stack.log("host.log");
            log.lines()
                .any(|line| line.contains(name) && line.contains(cause))
        };
        // The answer may come before the log line.
        ask::met(&format!("{name}: the log says {cause:?}"), told).await;
    }
    assert_eq!(
        stack.backend.seen().len(),
        NEIGHBOURS,
        "nothing of a hostile handler reached the backend"
    );
    let files = captures.files(HOSTILE.len().saturating_mul(CALLS));
    for file in &files {
        let content = std::fs::read(file).unwrap();
        for secret in [policy::key("scorer").as_str(), "scorer", "hostile"] {
            let found = content
                .windows(secret.len())
                .any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{secret} stands in {}", file.display());
        }
    }
    let ran = captures.replay(&stack.state().join("gate.yaml"));
    let (told, said) = (&ran.stdout, String::from_utf8_lossy(&ran.stderr));
    let told = String::from_utf8_lossy(told);
    assert_eq!(ran.status.code(), Some(0), "{told}\n{said}");
    let lines: Vec<Value> = (told.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (name, what) in CAPTURED {
        let same = |line: &&Value| {
            line["handler"] == name && line["is"]["what"] == what && line["was"] == line["is"]
        };
        assert_eq!(lines.iter().filter(same).count(), CALLS, "{name}: {told}");
    }
}
