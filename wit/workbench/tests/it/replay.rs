//! Captured calls, replayed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_base::egress_log::ResolveFailure;
use tensorgate_base::payload::{Payload, Role};
use tensorgate_client::run::{Ran, Scratch};
use tensorgate_policy::hex;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::capture::{CaptureCounts, Captured, CapturedResource, Capturer, folder};
use tensorgate_sandbox::{
    CallContext, CapabilityRequest, EgressBusy, FeatureColumn, FetchedFile, ResolvedResource,
    ResourceResolver, Sandbox, SandboxConfig,
};
use tensorgate_settings::sealed_capture::CaptureKeys;

use super::{handler, lines, story};

/// One file at every URL except one, and a number for every key and feature except one.
struct World;

impl ResourceResolver for World {
    fn resolve<'b>(
        &'b self,
        asks: &'b [CapabilityRequest],
        _: &'b CallContext,
        _: Option<tokio::time::Instant>,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<Vec<ResolvedResource>, EgressBusy>> + Send + 'b>,
    > {
        let resources = asks.iter().map(|ask| match ask {
            CapabilityRequest::File(url) if url.ends_with("none") => {
                ResolvedResource::failed(ask, ResolveFailure::NotFound)
            }
            CapabilityRequest::File(_) => ResolvedResource::File(Ok(FetchedFile {
                content_type: "image/png".to_owned(),
                data: vec![0, 255, 7].into(),
            })),
            CapabilityRequest::Columns { features, keys, .. } => {
                let column = |(number, feature): (u32, &String)| FeatureColumn {
                    feature: feature.clone(),
                    values: (1..)
                        .zip(keys)
                        .map(|(key, _): (u32, _)| {
                            (key != 2).then(|| f64::from(number) + 1.0 / f64::from(key))
                        })
                        .collect(),
                };
                ResolvedResource::Columns(Ok((1..).zip(features).map(column).collect()))
            }
        });
        Box::pin(std::future::ready(Ok(resources.collect())))
    }
}

/// A change of a captured call.
type Change = fn(&mut Value);

/// A gate with one handler whose calls are captured, and the captured calls.
struct Gate {
    scratch: Scratch,
    gate: PathBuf,
    key: PathBuf,
    folder: PathBuf,
}

impl Gate {
    /// A gate with a handler whose component `make components` builds.
    fn new(component: &str, handler: Value, lookups: Value) -> Self {
        let components = std::env::var_os("TENSORGATE_COMPONENTS").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/components"),
            PathBuf::from,
        );
        let component = std::fs::read(components.join(component)).unwrap();
        let scratch = Scratch::new();
        let key = scratch.file("capture.key", "07".repeat(32));
        private(&key);
        scratch.file("h.wasm", &component);
        let mut document = json!({
            "version": 1,
            "handlers": {"h": {"component": "h.wasm", "sha256": hex(&Sha256::digest(&component)), "timeout_ms": 5000}},
            "lookups": lookups,
            "capture": {"folder": "captures", "key_file": "capture.key", "outcomes": ["answered", "rejected", "fault"]},
        });
        let rule = document["handlers"]["h"].as_object_mut().unwrap();
        rule.extend(handler.as_object().unwrap().clone());
        let gate = scratch.file("gate.yaml", document.to_string());
        let folder = key.parent().unwrap().join("captures");
        Self {
            scratch,
            gate,
            key,
            folder,
        }
    }

    /// Calls the handler as the host does, and waits until all calls are stored.
    fn call(&self, inputs: Vec<Payload>) -> Vec<PathBuf> {
        let text = std::fs::read(&self.gate).unwrap();
        let raw: raw::Policy = serde_json::from_slice(&text).unwrap();
        let policy = validate::validate(&raw).unwrap().0;
        let root = self.key.parent().unwrap();
        let sandbox = Sandbox::new(SandboxConfig {
            threads: 1,
            handlers: 1,
            queue_wait_ms: 60_000,
            ..SandboxConfig::default()
        });
        let counts = CaptureCounts::default();
        let rule = policy.capture().unwrap();
        let capturer = Capturer::start(rule, root, counts.clone()).unwrap();
        let component = std::fs::read(root.join("h.wasm")).unwrap();
        let loaded =
            sandbox
                .unwrap()
                .load("h", &policy.handlers()["h"], Role::Preprocess, &component);
        let loaded = loaded.unwrap().with_resolver(Arc::new(World));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let expected = inputs.len();
        for (number, input) in inputs.into_iter().enumerate() {
            let behalf = CallContext {
                capture: capturer.for_request("m", "scorer"),
                ..CallContext::default()
            };
            let handler = loaded.with_context(behalf);
            drop(runtime.block_on(handler.preprocess(&format!("r{number}"), input)));
            // One after the other, because files are ordered by time.
            let began = std::time::Instant::now();
            while counts.kept.get() <= u64::try_from(number).unwrap() {
                assert!(began.elapsed().as_secs() < 30, "{counts:?}");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        let names = folder::names(&self.folder).unwrap();
        let files: Vec<_> = names.iter().map(|name| self.folder.join(name)).collect();
        assert_eq!(files.len(), expected);
        files
    }

    fn replay(&self, path: &Path, more: &[&str]) -> Ran {
        let [path, gate, key] = [path, &self.gate, &self.key].map(|path| path.to_str().unwrap());
        let arguments = ["--json", "replay", path, "-c", gate, "--key", key];
        handler(&[&arguments, more].concat())
    }

    /// A captured call, changed and encrypted again with the same key.
    fn changed(&self, name: &str, file: &Path, how: impl Fn(&mut Value)) -> PathBuf {
        let keys = CaptureKeys::read(&self.key).unwrap();
        let text = keys.open(std::fs::read(file).unwrap()).unwrap();
        let mut call = serde_json::from_slice(&text).unwrap();
        how(&mut call);
        let sealed = keys.seal(serde_json::to_vec(&call).unwrap()).unwrap();
        self.scratch.file(&format!("{name}.capture"), sealed)
    }
}

fn private(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn body(text: impl Into<Vec<u8>>) -> Payload {
    Payload::Raw {
        content_type: "text/plain".to_owned(),
        data: text.into().into(),
    }
}

fn fetching() -> Gate {
    let rule = json!({
        "config": {"urls": "https://a.example/x\nhttps://a.example/none"}, "fetch": {"hosts": ["a.example"]},
    });
    Gate::new("hostile_fetch.wasm", rule, json!({}))
}

#[test]
fn replaying_a_captured_call_gives_the_same_result() {
    let gate = fetching();
    let secret = "secret-of-a-client";
    let files = gate.call(vec![
        Payload::Tensors(Vec::new()),
        body(format!("https://a.example/{secret}")),
        // Not UTF-8: the handler reports bad input.
        body([255]),
        // More than it may request.
        body("https://a.example/\n".repeat(9)),
    ]);
    for file in &files {
        let content = std::fs::read(file).unwrap();
        let holds =
            |secret: &str| (content.windows(secret.len())).any(|it| it == secret.as_bytes());
        assert!(!holds(secret) && !holds("a.example"));
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let ran = gate.replay(&gate.folder, &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let results = lines(&ran);
    let whats = ["answered", "answered", "rejected", "asks"];
    assert_eq!(results.len(), whats.len());
    for (line, what) in results.iter().zip(whats) {
        assert_eq!(line["verdict"], "same", "{}", story(&ran));
        assert_eq!(
            (&line["was"]["what"], &line["was"]),
            (&json!(what), &line["is"])
        );
        assert!(line["was"]["fuel_used"].as_u64().unwrap() > 0, "{line}");
    }

    // Older keys decrypt too, from one file or several. Without them nothing can be read, and a key
    // file that others can read is rejected.
    let (old, new) = ("07".repeat(32), "08".repeat(32));
    let other = gate.scratch.file("other.key", &new);
    private(&other);
    let with = |path: &Path, keys: &[&Path]| {
        let mut arguments = vec![
            "replay",
            path.to_str().unwrap(),
            "-c",
            gate.gate.to_str().unwrap(),
        ];
        arguments.extend(keys.iter().flat_map(|key| ["--key", key.to_str().unwrap()]));
        handler(&arguments)
    };
    let ran = with(&gate.folder, &[&other]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    assert!(
        ran.stderr.contains("4 of 4") && ran.stderr.contains("captured under key"),
        "{}",
        story(&ran)
    );
    assert!(!story(&ran).contains(&new), "{}", story(&ran));
    assert_eq!(with(&gate.folder, &[&other, &gate.key]).code, 0);
    std::fs::write(&other, format!("{new}\n{old}\n")).unwrap();
    assert_eq!(with(&gate.folder, &[&other]).code, 0);
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(with(&gate.folder, &[&other]).code, 2);

    // A truncated or changed file is not read, and does not prevent the others from being replayed.
    let original = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &original[..original.len() - 1]).unwrap();
    let ran = gate.replay(&gate.folder, &[]);
    assert_eq!((ran.code, lines(&ran).len()), (2, 3), "{}", story(&ran));
    assert!(ran.stderr.contains("cut off"), "{}", story(&ran));
}

#[test]
fn differences_in_a_replay_are_reported_and_invalid_captures_are_rejected() {
    let gate = fetching();
    let files = gate.call(vec![Payload::Tensors(Vec::new())]);
    let cases: [(&str, Change, &str, &str); 11] = [
        (
            "fuel",
            |call| call["outcome"]["fuel_used"] = json!(1),
            "differs",
            "was answered, 1 fuel, is answered",
        ),
        (
            "outputs",
            |call| call["outcome"]["sha256"] = json!("00".repeat(32)),
            "differs",
            "with another answer",
        ),
        (
            "brought",
            |call| drop(call["brought"].as_array_mut().unwrap().pop()),
            "differs",
            "fuel",
        ),
        (
            "config",
            |call| call["handler"]["config"] = json!({}),
            "differs",
            "fuel",
        ),
        (
            "asks",
            |call| call["handler"]["files"] = json!(1),
            "differs",
            "is asks",
        ),
        (
            "component",
            |call| call["handler"]["sha256"] = json!("00".repeat(32)),
            "cannot",
            "the captured component is 00",
        ),
        (
            "ungranted",
            |call| call["handler"]["files"] = json!(null),
            "cannot",
            "fetch",
        ),
        (
            "renamed",
            |call| call["handler"]["name"] = json!("other"),
            "cannot",
            "no handler",
        ),
        (
            "time",
            |call| call["outcome"]["what"] = json!("deadline"),
            "cannot",
            "ended by a timeout cannot be replayed",
        ),
        (
            "memory",
            |call| call["handler"]["memory_bytes"] = json!(1_u64 << 40),
            "cannot",
            "the captured handler is invalid",
        ),
        (
            "missing",
            |call| call["brought"][0]["file"]["missing"] = json!("why"),
            "cannot",
            "for a missing resource",
        ),
    ];
    for (name, how, verdict, message) in cases {
        let ran = gate.replay(&gate.changed(name, &files[0], how), &[]);
        assert_eq!(ran.code, 1, "{name}: {}", story(&ran));
        let line = lines(&ran).remove(0);
        assert_eq!(line["verdict"], verdict, "{name}: {line}");
        assert!(
            line["detail"].as_str().unwrap().contains(message),
            "{name}: {line}"
        );
    }
    // Another engine is reported where results differ, and only there.
    let engine = |call: &mut Value| call["engine"] = json!("another 1");
    let ran = gate.replay(&gate.changed("engine", &files[0], engine), &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let both = |call: &mut Value| {
        call["engine"] = json!("another 1");
        call["outcome"]["fuel_used"] = json!(1);
    };
    let ran = gate.replay(&gate.changed("both", &files[0], both), &[]);
    assert!(
        ran.code == 1 && ran.stdout.contains("it was captured on another 1"),
        "{}",
        story(&ran)
    );

    // A host before WASI captured no time and no seed.
    let older = |call: &mut Value| {
        call["format"] = json!(1);
        call.as_object_mut().unwrap().remove("wasi");
    };
    let ran = gate.replay(&gate.changed("older", &files[0], older), &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));

    // A call that no host would write is not run at all.
    let hostile: [(&str, Change, &str); 8] = [
        ("format", |call| call["format"] = json!(3), "format 3"),
        (
            "seed",
            |call| call["wasi"] = json!({"unix_ms": 0, "seed": "AAAA"}),
            "a seed of 3 bytes",
        ),
        ("more", |call| call["more"] = json!(1), "unknown field"),
        (
            "less",
            |call| drop(call.as_object_mut().unwrap().remove("outcome")),
            "missing field",
        ),
        (
            "shape",
            |call| {
                call["input"] = json!({"tensors": [{"name": "x", "datatype": "FP32", "shape": [1_u64 << 62, 4], "data": ""}]});
            },
            "more elements than fit into memory",
        ),
        (
            "bytes",
            |call| {
                call["input"] = json!({"tensors": [{"name": "x", "datatype": "FP32", "shape": [2], "data": "AAAA"}]});
            },
            "another number of elements",
        ),
        (
            "asked",
            |call| call["brought"] = json!(vec![call["brought"][0].clone(); 17]),
            "17 things",
        ),
        (
            "base64",
            |call| call["input"] = json!({"raw": {"content_type": "a", "data": "?"}}),
            "not a captured call",
        ),
    ];
    for (name, how, message) in hostile {
        let ran = gate.replay(&gate.changed(name, &files[0], how), &[]);
        assert_eq!(ran.code, 2, "{name}: {}", story(&ran));
        assert!(ran.stderr.contains(message), "{name}: {}", story(&ran));
        assert!(ran.stdout.is_empty(), "{name}: {}", story(&ran));
    }
    // Nor is a file that is not a capture, a link, or a folder without captures.
    let link = gate.folder.join("0-link.capture");
    std::os::unix::fs::symlink(&files[0], &link).unwrap();
    assert_eq!(gate.replay(&link, &[]).code, 2);
    let empty = gate.folder.join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(gate.replay(&empty, &[]).code, 2);
    assert_eq!(gate.replay(Path::new("/dev/zero"), &[]).code, 2);
}

#[test]
fn replaying_with_another_component_reports_that_it_differs() {
    let gate = fetching();
    let files = gate.call(vec![Payload::Tensors(Vec::new())]);
    let component = gate.key.with_file_name("h.wasm");
    let built = std::fs::read(&component).unwrap();
    // A custom section at the end gives another digest and the same code.
    std::fs::write(&component, [&built[..], &[0, 2, 1, b'x']].concat()).unwrap();
    let ran = gate.replay(&files[0], &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    let line = lines(&ran).remove(0);
    assert_eq!(line["verdict"], "cannot");
    assert!(
        line["detail"]
            .as_str()
            .unwrap()
            .starts_with("the captured component is"),
        "{line}"
    );
    let ran = gate.replay(&files[0], &["--any-component"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    // Without a policy, by the component file alone.
    let kept = gate.scratch.file("kept.wasm", &built);
    let paths = [&files[0], &gate.key, &kept].map(|path| path.to_str().unwrap());
    let [file, key, kept] = paths;
    let ran = handler(&["replay", file, "--key", key, "--component", kept]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert!(ran.stdout.starts_with("same "), "{}", story(&ran));
    let logged = ran.stdout.lines().nth(1);
    assert_eq!(logged, Some("        INFO  h r0: asked"), "{}", story(&ran));
    assert_eq!(
        handler(&["replay", file, "--key", key]).code,
        2,
        "of which component"
    );
}

#[test]
fn replayed_lookups_return_the_captured_values() {
    let rule = json!({
        "config": {"lookup": "users", "features": "age\nscore", "keys": "k1\nk2", "times": "3"}, "lookups": ["users"],
    });
    let lookups = json!({"users": {
        "kind": "feast", "endpoint": "https://feast.example:443", "entity": "user", "features": ["age", "score"], "max_requests": 3,
    }});
    let gate = Gate::new("hostile_lookup.wasm", rule, lookups);
    let files = gate.call(vec![Payload::Tensors(Vec::new())]);
    let ran = gate.replay(&gate.folder, &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let line = lines(&ran).remove(0);
    assert_eq!(line["was"]["what"], "answered", "{line}");
    // One bit of one value changed gives another answer.
    let keys = CaptureKeys::read(&gate.key).unwrap();
    let text = keys.open(std::fs::read(&files[0]).unwrap()).unwrap();
    let call = Captured::decode(&text).unwrap();
    let last = |call: &Captured| {
        let mut call = call.clone();
        for resource in &mut call.resources {
            if let CapturedResource::Columns { values, .. } = resource {
                values[0].0[1] ^= 1;
            }
        }
        call
    };
    let sealed = keys.seal(last(&call).encode().unwrap()).unwrap();
    let ran = gate.replay(&gate.scratch.file("bit.capture", sealed), &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(
        ran.stdout.contains("with another answer"),
        "{}",
        story(&ran)
    );
}

#[test]
fn captured_calls_become_cases_that_pass() {
    let gate = fetching();
    gate.call(vec![
        Payload::Tensors(Vec::new()),
        body("https://a.example/of-a-client"),
        // Not UTF-8: the handler reports bad input.
        body([255]),
        // More than it may request.
        body("https://a.example/\n".repeat(9)),
    ]);
    let manifest = "name: h\nlanguage: rust\nworld: preprocess\nlimits: {timeout_ms: 10000}\n\
                    fetch: {hosts: [a.example], content_types: [image/png]}\n";
    let project = gate.scratch.path().join("project");
    let cases = project.join("cases");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("handler.yaml"), manifest).unwrap();
    let as_case = ["--as-case", cases.to_str().unwrap()];
    let ran = gate.replay(&gate.folder, &as_case);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    for (number, line) in lines(&ran).iter().enumerate() {
        let log = &line["log"][0];
        assert_eq!(log["message"], "asked", "{line}");
        assert_eq!(log["request_id"], format!("r{number}"), "{line}");
        let case = Path::new(line["case"].as_str().unwrap());
        let mode = std::fs::metadata(case).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let component = gate.key.with_file_name("h.wasm");
    let paths = [&component, &project].map(|path| path.to_str().unwrap());
    let test = ["--json", "test", "--component", paths[0], paths[1]];
    let ran = handler(&test);
    assert_eq!((ran.code, lines(&ran).len()), (0, 4), "{}", story(&ran));

    // A call that read its request has it in its case, too.
    let request = json!({
        "version": "2", "operation": "stream", "time_unix_ms": 5, "parameters": [["a", {"uint64": 5}]],
        "tensors": [["x", [3]]], "media_type": null, "media_bytes": 12, "carry": "AQI=",
    });
    let file = folder::names(&gate.folder).unwrap().remove(0);
    let read = |call: &mut Value| call["request"] = request.clone();
    let ran = gate.replay(
        &gate.changed("read", &gate.folder.join(file), read),
        &as_case,
    );
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let case = std::fs::read(cases.join("read.json")).unwrap();
    let case: Value = serde_json::from_slice(&case).unwrap();
    let expected = json!({
        "request_id": "r0", "client": "scorer", "model": "m", "version": "2", "operation": "stream",
        "time": 5, "parameters": {"a": {"uint64": 5}},
        "input": {"tensors": [{"name": "x", "shape": [3]}], "media_type": null, "media_bytes": 12},
    });
    assert_eq!(case["context"], expected);
    assert_eq!(case["carry"], json!({"base64": "AQI="}));
    let ran = handler(&test);
    assert_eq!((ran.code, lines(&ran).len()), (0, 5), "{}", story(&ran));

    // An existing case is not written again, and a call with another result becomes none.
    let ran = gate.replay(&gate.folder, &as_case);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(ran.stdout.contains("already exists"), "{}", story(&ran));
    let fuel = |call: &mut Value| call["outcome"]["fuel_used"] = json!(1);
    let file = folder::names(&gate.folder).unwrap().remove(0);
    let changed = gate.changed("other", &gate.folder.join(file), fuel);
    let ran = gate.replay(&changed, &as_case);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(!cases.join("other.json").exists());
}
