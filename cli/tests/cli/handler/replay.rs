//! Captured calls, run again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tensorgate_host::capture::{CaptureKey, Captured, Capturer, Folder};
use tensorgate_host::sandbox::{
    Ask, Behalf, Bring, Brought, Busy, File, Missing, Payload, Role, Sandbox, SandboxConfig,
};
use tensorgate_policy::{hex, raw, validate};

use super::{handler, lines, story};
use crate::program::Scratch;

/// One file at every URL but one.
struct Files;

impl Bring for Files {
    fn bring<'b>(
        &'b self,
        asks: &'b [Ask],
        _: &'b Behalf,
        _: Option<tokio::time::Instant>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<Brought>, Busy>> + Send + 'b>> {
        let brought = asks.iter().map(|ask| match ask {
            Ask::File(url) if url.ends_with("none") => Brought::nothing(ask, Missing::NotFound),
            Ask::File(_) => Brought::File(Ok(File {
                content_type: "image/png".to_owned(),
                data: vec![0, 255, 7].into(),
            })),
            Ask::Columns { .. } => Brought::nothing(ask, Missing::Refused),
        });
        Box::pin(std::future::ready(Ok(brought.collect())))
    }
}

#[test]
fn a_captured_call_is_the_same_again_and_what_was_changed_is_found_out() {
    let components = std::env::var_os("TENSORGATE_COMPONENTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/components"),
        PathBuf::from,
    );
    let component = std::fs::read(components.join("hostile_fetch.wasm")).unwrap();
    let scratch = Scratch::new();
    let key = scratch.file("capture.key", "07".repeat(32));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let root = key.parent().unwrap();
    scratch.file("h.wasm", &component);
    let document = json!({
        "version": 1,
        "handlers": {"h": {
            "component": "h.wasm", "sha256": hex(&Sha256::digest(&component)), "timeout_ms": 5000,
            "config": {"urls": "https://a.example/x\nhttps://a.example/none"},
            "fetch": {"hosts": ["a.example"]},
        }},
        "capture": {"folder": "captures", "key_file": "capture.key", "outcomes": ["answered", "rejected", "fault"]},
    });
    let gate = scratch.file("gate.yaml", document.to_string());
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let policy = validate::validate(&raw).unwrap().0;
    let rule = &policy.handlers()["h"];
    let sandbox = Sandbox::new(SandboxConfig {
        threads: 1,
        handlers: 1,
        ..SandboxConfig::default()
    });
    let sandbox = sandbox.unwrap();
    let capturer = Capturer::start(policy.capture().unwrap(), root).unwrap();
    let loaded = sandbox
        .load("h", rule, Role::Preprocess, &component)
        .unwrap();
    let kept = loaded
        .with(Arc::new(Files))
        .kept_by(capturer.of("m", "scorer"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let secret = "secret-of-a-client";
    for (number, input) in [
        Payload::Tensors(Vec::new()),
        Payload::Raw {
            content_type: "text/plain".to_owned(),
            data: format!("https://a.example/{secret}").into(),
        },
        // Not UTF-8: the handler calls it bad input.
        Payload::Raw {
            content_type: "text/plain".to_owned(),
            data: vec![255].into(),
        },
        // More than it may ask for.
        Payload::Raw {
            content_type: "text/plain".to_owned(),
            data: "https://a.example/\n".repeat(9).into(),
        },
    ]
    .into_iter()
    .enumerate()
    {
        drop(runtime.block_on(kept.preprocess(&format!("r{number}"), input)));
    }
    let folder = root.join("captures");
    let began = std::time::Instant::now();
    let files = loop {
        let files = Folder::files(&folder).unwrap();
        if files.len() == 4 {
            break files;
        }
        assert!(began.elapsed().as_secs() < 30, "{files:?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    for file in &files {
        let content = std::fs::read(file).unwrap();
        assert!(
            !content
                .windows(secret.len())
                .any(|bytes| bytes == secret.as_bytes())
        );
        assert_eq!(
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let replay = |path: &std::path::Path, key: &std::path::Path| {
        let paths = [path, gate.as_path(), key].map(|path| path.to_str().unwrap().to_owned());
        let [path, gate, key] = paths;
        handler(&["--json", "replay", &path, "-c", &gate, "--key", &key])
    };
    let ran = replay(&folder, &key);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let told = lines(&ran);
    assert_eq!(told.len(), 4);
    assert!(
        told.iter().all(|line| line["verdict"] == "same"),
        "{}",
        story(&ran)
    );
    for (number, what) in ["answered", "answered", "rejected", "asks"]
        .into_iter()
        .enumerate()
    {
        assert!(
            told[number]["detail"].as_str().unwrap().starts_with(what),
            "{}",
            story(&ran)
        );
    }

    // What was changed, under the same key, differs.
    let capture_key = CaptureKey::read(&key).unwrap();
    let first = capture_key
        .open(&std::fs::read(&files[0]).unwrap())
        .unwrap();
    let call: Captured = serde_json::from_slice(&first).unwrap();
    for (name, call, says) in [
        (
            "fuel",
            change(&call, |call| *call.outcome.fuel_used.as_mut().unwrap() += 1),
            "fuel",
        ),
        (
            "outputs",
            change(&call, |call| {
                call.outcome.outputs_sha256 = Some("00".repeat(32))
            }),
            "otherwise",
        ),
        (
            "brought",
            change(&call, |call| drop(call.brought.pop())),
            "fuel",
        ),
        (
            "config",
            change(&call, |call| call.handler.config.clear()),
            "fuel",
        ),
        (
            "component",
            change(&call, |call| call.handler.sha256 = "00".repeat(32)),
            "another component",
        ),
    ] {
        let sealed = capture_key
            .seal(serde_json::to_vec(&call).unwrap())
            .unwrap();
        let file = scratch.file(&format!("{name}.capture"), sealed);
        let ran = replay(&file, &key);
        assert_eq!(ran.code, 1, "{name}: {}", story(&ran));
        let detail = lines(&ran).remove(0)["detail"].to_string();
        assert!(detail.contains(says), "{name}: {detail}");
    }

    // Another key opens nothing, and a key that others can read is none.
    let other = scratch.file("other.key", "08".repeat(32));
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(replay(&folder, &other).code, 2);
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(replay(&folder, &other).code, 2);
}

fn change(call: &Captured, how: impl Fn(&mut Captured)) -> Captured {
    let mut call = call.clone();
    how(&mut call);
    call
}

#[test]
fn a_handlers_lines_are_found_in_the_hosts_log() {
    let scratch = Scratch::new();
    let log = scratch.file(
        "host.log",
        "2026-11-21T00:00:00Z  INFO tensorgate::handler: one handler=\"a\" request_id=\"r1\"\n\
         2026-11-21T00:00:00Z  INFO tensorgate_host: other handler=\"a\"\n\
         {\"level\":\"INFO\",\"message\":\"two\",\"handler\":\"b\",\"request_id\":\"r1\",\"target\":\"tensorgate::handler\"}\n",
    );
    let log = log.to_str().unwrap();
    for (arguments, expected) in [
        (vec![], 2),
        (vec!["--handler", "a"], 1),
        (vec!["--handler", "b", "--request-id", "r1"], 1),
        (vec!["--request-id", "r1"], 2),
        (vec!["--request-id", "r2"], 0),
    ] {
        let ran = handler(&[vec!["logs", log], arguments.clone()].concat());
        assert_eq!(ran.code, 0, "{}", story(&ran));
        assert_eq!(
            ran.stdout.lines().count(),
            expected,
            "{arguments:?}: {}",
            story(&ran)
        );
    }
}
