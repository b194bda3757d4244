//! The real host with a model whose files must be signed: it sends requests to the model's server
//! only while the files on disk are the verified ones, and the server has loaded no others.

use std::fs::{File, create_dir_all, read, read_to_string, remove_file, rename, write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, Seed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_artifact::model_signing::{
    Exclusions, ModelSigningKey, Pieces, Rules, sign_with_key,
};
use tensorgate_models::files::{Options, hash_folder};

use crate::support::backend::{Act, Backend};
use crate::support::spawned::Spawned;
use crate::support::{GENERATION, folder, policy, until};

/// The seed of the signer's key.
const SEED: [u8; 32] = [7; 32];
/// When models are signed: on 2026-11-26.
const SIGNED_S: u64 = 1_795_651_200;
/// What comes before the seed in PKCS #8.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The time in which a changed file makes its model unready.
const NOTICED: Duration = Duration::from_secs(1);

/// The folder of a model with one file of weights.
struct Model(PathBuf);

impl Model {
    fn write(&self, weights: &[u8]) {
        write(self.weights(), weights).unwrap();
    }

    fn weights(&self) -> PathBuf {
        self.0.join("weights.safetensors")
    }

    fn signature(&self) -> PathBuf {
        self.0.join("model.sig")
    }

    /// Signs what is there.
    fn sign(&self) {
        let signature = self.signature();
        drop(remove_file(&signature));
        let rules = Rules {
            pieces: Pieces::Files,
            follow_links: false,
            exclusions: Exclusions::new([]).unwrap(),
        };
        let hashed = hash_folder(&self.0, "vec".to_owned(), rules, &Options::default()).unwrap();
        let key = STANDARD.encode([&PKCS8[..], &SEED[..]].concat());
        let key = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
        let key = ModelSigningKey::from_pem(&key).unwrap();
        let manifest = hashed.manifest.signed_at(SIGNED_S);
        write(signature, sign_with_key(&manifest, &key).unwrap()).unwrap();
    }
}

/// A file in the format safetensors with one number.
fn safetensors(number: f32) -> Vec<u8> {
    let mut header = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_owned();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let length = u64::try_from(header.len()).unwrap().to_le_bytes();
    [&length[..], header.as_bytes(), &number.to_le_bytes()[..]].concat()
}

fn with_artifact(uri: &str) -> Value {
    let mut policy = policy(uri, json!({}), json!({}));
    let key = KeyPair::from_seed(Seed::new(SEED)).pk;
    policy["keys"] = json!({"release": {"ed25519": tensorgate_policy::hex(&*key)}});
    policy["models"]["vec"]["artifact"] =
        json!({"path": "models/vec", "signed_by": ["release"], "formats": ["safetensors"]});
    policy
}

/// The records about models in the audit log.
fn audited(folder: &Path) -> Vec<Value> {
    let text = read_to_string(folder.join("run/audit/decisions.jsonl")).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let is_of_model = |line: &Value| line["type"] == "artifact" && line["kind"] == "model";
    lines.filter(is_of_model).collect()
}

/// Waits until the model is rejected with this text. A file that is being written may be rejected
/// for another reason before.
fn rejected(host: &mut Spawned, part: &str) {
    loop {
        let line = host.line("files of a model are rejected");
        if line["cause"].as_str().unwrap().contains(part) {
            return;
        }
    }
}

/// Waits until the next policy is loaded and files are rejected, in either order: both follow from
/// the policy.
fn loaded_and_rejected(host: &mut Spawned, part: &str) {
    let (mut is_loaded, mut is_rejected) = (false, false);
    host.line_that(part, |line| {
        is_loaded |= line["message"] == "policy" && line["outcome"] == "loaded";
        is_rejected |= line["message"] == "files of a model are rejected"
            && line["cause"].as_str().unwrap().contains(part);
        is_loaded && is_rejected
    });
}

/// Waits until the files are verified, and only a load of them is missing. Returns their digest and
/// the number of the wait.
fn awaiting_load(host: &mut Spawned) -> (String, u64) {
    let line = host.line("a model awaits a load of its verified files");
    let digest = line["digest"].as_str().unwrap().to_owned();
    (digest, line["wait"].as_u64().unwrap())
}

/// Restarts the server after the host has seen it ready.
async fn restart(server: &mut Backend, host: &mut Spawned) {
    let looked = server.looked();
    // The first health check may have begun before the files were verified.
    let is_seen = || server.looked() >= looked + 2;
    until("health checks see the server", is_seen).await;
    server.die();
    host.line("backend is not ready");
    *server = Backend::start_at(Act::Answer, server.address);
}

/// Writes what an operator confirms.
fn confirm(there: &Path, digest: &str, wait: u64) {
    let confirmation = json!({
        "model": "vec", "version": "7", "digest": digest, "wait": wait, "by": "user 7", "unix_ms": 1
    });
    let beside = there.join("model-loads.new");
    write(&beside, json!({"confirmed": [confirmation]}).to_string()).unwrap();
    rename(beside, there.join("model-loads.json")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_served_only_while_its_files_are_the_verified_ones() {
    let mut server = Backend::start(Act::Answer);
    let there = folder();
    let model = Model(there.join("root/models/vec"));
    create_dir_all(&model.0).unwrap();
    create_dir_all(there.join("run")).unwrap();
    let weights = safetensors(1.0);
    model.write(&weights);
    Spawned::bundle(&there, GENERATION, &with_artifact(&server.uri()));
    let mut host = Spawned::start(there.clone(), "best-effort");
    host.line("tensorgate-host is ready");

    // Without a signature.
    let is_rejected = || audited(&there).iter().any(|it| it["action"] == "rejected");
    until("a model without a signature is rejected", is_rejected).await;
    let answer = host.gate().infer(&[1.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (503, "backend-unavailable")
    );

    model.sign();
    awaiting_load(&mut host);
    restart(&mut server, &mut host).await;
    host.comes_to(200).await;

    // Another byte.
    let mut tampered = weights.clone();
    *tampered.last_mut().unwrap() ^= 1;
    model.write(&tampered);
    let changed = Instant::now();
    host.comes_to(503).await;
    assert!(changed.elapsed() < NOTICED, "{:?}", changed.elapsed());
    rejected(&mut host, "weights.safetensors");

    model.write(&weights);
    let (digest, wait) = awaiting_load(&mut host);
    host.comes_to(503).await;
    for (digest, wait) in [("ab".repeat(32), wait), (digest.clone(), wait + 1)] {
        confirm(&there, &digest, wait);
        host.line(
            "a confirmation is refused: no load is awaited of verified files with this digest and wait",
        );
        host.comes_to(503).await;
    }
    confirm(&there, &digest, wait);
    host.comes_to(200).await;

    // Another policy that says the same of the files.
    let mut other = with_artifact(&server.uri());
    other["models"]["vec"]["parameters"]["priority"] = json!({"int": [0, 11]});
    let checks = || {
        let records = audited(&there).into_iter();
        records.filter(|it| it["action"] == "verified").count()
    };
    let before = checks();
    Spawned::bundle(&there, "fedcba9876543210", &other);
    assert_eq!(host.reloaded(), "loaded");
    tokio::time::sleep(NOTICED).await;
    host.comes_to(200).await;
    assert_eq!(checks(), before);

    // Another file for a moment, which the server may have read.
    let aside = there.join("aside");
    rename(model.weights(), &aside).unwrap();
    model.write(&tampered);
    rename(&aside, model.weights()).unwrap();
    rejected(&mut host, "put back");
    awaiting_load(&mut host);
    host.comes_to(503).await;

    // Signatures that cannot be read.
    let signature = read(model.signature()).unwrap();
    let too_long = File::create(model.signature()).unwrap();
    too_long.set_len(100 << 20).unwrap();
    rejected(&mut host, "larger than");
    write(model.signature(), "{}").unwrap();
    rejected(&mut host, "none of the signers");
    write(model.signature(), signature).unwrap();
    awaiting_load(&mut host);

    // A file that no signature names.
    write(model.0.join("more.json"), "{}").unwrap();
    rejected(&mut host, "more.json");
    remove_file(model.0.join("more.json")).unwrap();
    awaiting_load(&mut host);

    // A signed pickle under another name.
    model.write(b"\x80\x02cos\nsystem\nU\x02id\x85R.");
    model.sign();
    rejected(&mut host, "\"weights.safetensors\" is ");
    host.comes_to(503).await;

    // Other weights, which are signed, under the same version.
    model.write(&safetensors(2.0));
    model.sign();
    rejected(&mut host, "another version");
    host.comes_to(503).await;

    model.write(&weights);
    model.sign();
    awaiting_load(&mut host);
    restart(&mut server, &mut host).await;
    host.comes_to(200).await;
    assert_eq!(read(model.weights()).unwrap(), weights);

    let records = audited(&there);
    let actions = records.iter();
    let mut actions: Vec<_> = actions
        .map(|record| record["action"].as_str().unwrap())
        .collect();
    // A file that is being written may be rejected more than once.
    actions.dedup();
    let start = ["rejected", "scanned", "verified", "loaded"];
    assert_eq!(actions.get(..start.len()), Some(&start[..]), "{actions:?}");
    // The change ends the load and is checked: either may be recorded first.
    let mut change: Vec<_> = actions.iter().skip(start.len()).take(2).collect();
    change.sort_unstable();
    assert_eq!(change, [&"rejected", &"unloaded"], "{actions:?}");
    let loaded = records.iter().find(|record| record["action"] == "loaded");
    let loaded = loaded.unwrap();
    assert_eq!(loaded["signer"], "release");
    assert_eq!(loaded["version"], "7");
    assert_eq!(loaded["digest"].as_str().unwrap().len(), 64);
    assert_eq!(loaded["detail"], "a load was seen");
    let confirmed = |record: &&Value| record["detail"] == "confirmed by user 7";
    assert_eq!(records.iter().filter(confirmed).count(), 1);
}

/// The policy with these members of the artifact.
fn with_members(uri: &str, members: &[(&str, Value)]) -> Value {
    let mut policy = with_artifact(uri);
    let artifact = &mut policy["models"]["vec"]["artifact"];
    artifact.as_object_mut().unwrap().remove("formats");
    for (name, value) in members {
        artifact[*name] = value.clone();
    }
    policy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_triton_python_model_is_ready_if_the_policy_accepts_its_files() {
    let server = Backend::start(Act::Answer);
    let there = folder();
    let model = Model(there.join("root/models/vec"));
    create_dir_all(model.0.join("7")).unwrap();
    create_dir_all(there.join("run")).unwrap();
    let pickle = b"\x80\x02cos\nsystem\nU\x02id\x85R.";
    write(model.0.join("7/state.pkl"), pickle).unwrap();
    write(
        model.0.join("7/model.py"),
        "class TritonPythonModel:\n    pass\n",
    )
    .unwrap();
    let configuration = "backend: \"python\"\nmax_batch_size: 8\n";
    write(model.0.join("config.pbtxt"), configuration).unwrap();
    model.sign();

    let digest: [u8; 32] = Sha256::digest(pickle).into();
    let excepted = |until: &str| {
        let sha256 = tensorgate_policy::hex(&digest);
        json!([{
            "sha256": sha256, "path": "7/state.pkl", "reason": "read by hand", "until": until,
        }])
    };
    let members = |subject: &str, not_before: &str, until: &str| {
        let uri = server.uri();
        let members = [
            ("subject", json!(subject)),
            ("not_before", json!(not_before)),
            ("exceptions", excepted(until)),
            ("allow", json!(["triton-python"])),
        ];
        with_members(&uri, &members)
    };
    let accepted = members("vec", "2026-11-26", "2999-12-31");
    Spawned::bundle(&there, GENERATION, &accepted);
    let mut host = Spawned::start(there.clone(), "best-effort");
    host.line("tensorgate-host is ready");
    host.comes_to(200).await;
    let records = audited(&there);
    let scanned = records.iter().find(|record| record["action"] == "scanned");
    assert_eq!(
        scanned.unwrap()["detail"],
        "files accepted by exceptions: 1, until 2999-12-31 at least; files with allowed code: 2"
    );

    let cases = [
        (members("cats", "2026-11-26", "2999-12-31"), "is not enough"),
        (members("vec", "2026-11-27", "2999-12-31"), "is not enough"),
        (
            members("vec", "2026-11-26", "2020-01-01"),
            "its exception (\"read by hand\") ended after 2020-01-01",
        ),
    ];
    for (generation, (policy, cause)) in (1..).zip(&cases) {
        Spawned::bundle(&there, &format!("{generation:016x}"), policy);
        loaded_and_rejected(&mut host, cause);
    }
    let uri = server.uri();
    let without = with_members(&uri, &[("exceptions", excepted("2999-12-31"))]);
    Spawned::bundle(&there, "00000000000000bb", &without);
    loaded_and_rejected(&mut host, "is executable: ");
}

/// The processes with an argument whose parent is the host.
fn supervisors(host: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let is_supervisor = |process: &u32| {
        let read =
            |file: &str| read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let parent = format!("PPid:\t{host}\n");
        read("status").contains(&parent) && read("cmdline").contains("model-scanner-supervisor")
    };
    processes.filter_map(number).filter(is_supervisor).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_supervisor_that_was_killed_is_started_again() {
    let server = Backend::start(Act::Answer);
    let there = folder();
    let model = Model(there.join("root/models/vec"));
    create_dir_all(&model.0).unwrap();
    create_dir_all(there.join("run")).unwrap();
    model.write(&safetensors(1.0));
    model.sign();
    Spawned::bundle(&there, GENERATION, &with_artifact(&server.uri()));
    let mut host = Spawned::start(there.clone(), "best-effort");
    host.line("tensorgate-host is ready");
    host.comes_to(200).await;
    let before = supervisors(host.child.id());
    assert_eq!(before.len(), 2, "{before:?}");
    for supervisor in before {
        let pid = rustix::process::Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        host.line("a scanner supervisor has ended: it is started again");
        // The other one starts it, and must not be ended before.
        host.line("a scanner supervisor was started");
    }
    // Its files can be scanned: nothing waits for a repeated check after ten seconds.
    model.write(&safetensors(2.0));
    model.sign();
    rejected(&mut host, "another version");
}

/// A field of a message of ONNX with these bytes.
fn field(key: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[key, length][..], value].concat()
}

/// A model of ONNX with a tensor of two floats, which is the content of `w.data`.
fn external() -> Vec<u8> {
    let entry = [field(0x0a, b"location"), field(0x12, b"w.data")].concat();
    let tensor = [&[0x08, 2, 0x10, 1, 0x70, 1][..], &field(0x6a, &entry)].concat();
    [&[0x08, 8][..], &field(0x3a, &field(0x2a, &tensor))].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_its_tensors_in_another_file_is_served() {
    let server = Backend::start(Act::Answer);
    let there = folder();
    let model = Model(there.join("root/models/vec"));
    create_dir_all(model.0.join("7")).unwrap();
    create_dir_all(there.join("run")).unwrap();
    write(model.0.join("7/model.onnx"), external()).unwrap();
    write(model.0.join("7/w.data"), [0xa5; 8]).unwrap();
    model.sign();
    let mut policy = with_artifact(&server.uri());
    policy["models"]["vec"]["artifact"]["formats"] = json!(["onnx", "onnx data"]);
    Spawned::bundle(&there, GENERATION, &policy);
    let mut host = Spawned::start(there, "best-effort");
    host.line("tensorgate-host is ready");
    host.comes_to(200).await;
    // A byte that is no tensor.
    write(model.0.join("7/w.data"), [0xa5; 9]).unwrap();
    model.sign();
    rejected(&mut host, "no tensor lies in these 1 bytes");
}
