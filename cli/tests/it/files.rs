//! Files of certificates, keys and passwords, and components. `check`, `render` and `up` report
//! each file's faults at the policy line that names it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorgate_client::pki::Authority;
use tensorgate_policy::hex;

use crate::program::{Ran, Scratch, filters, run};

const POLICY: &str = r#"version: 1
listen: {address: "127.0.0.1:0", tls: {cert: gate.pem, key: gate.key, client_ca: ca.pem, client_crl: crl.pem}}
rate_limit_service: {redis: {url: "rediss://redis.example.com/0", ca: redis.pem, password_file: redis.password}}
watch: {webhook: {url: "https://alerts.example.com/gate", secret_file: webhook.secret, ca: webhook.pem}}
issuers:
  corp: {issuer: https://login.example.com, audiences: [gate], algorithms: [EdDSA], jwks: {url: https://login.example.com/keys, ca: corp.pem, refresh_s: 300, stale_s: 3600}, max_lifetime_s: 600}
clients:
  engine: {mtls: {spiffe: spiffe://prod/engine}}
backends:
  gpu: {kind: open-inference, endpoints: ["https://gpu.example.com:8001"], tls: {ca: gpu.pem, cert: gpu-gate.pem, key: gpu-gate.key}, max_in_flight: 64, queue: 128, timeout_ms: 2000}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs:
      - {name: x, datatype: FP32, shape: [2], range: [0, 1]}
    outputs:
      - {name: y, datatype: FP32, shape: [1]}
grants:
  - {name: g, clients: [engine], models: [m], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;

/// The base64 of 24 bytes.
const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

/// A policy with all its files, which are valid; and a key that does not belong to the certificate.
fn beside(policy: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    let authority = Authority::new("clients").unwrap();
    let gate = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
    let list = authority.revoke(1, &[]).unwrap();
    for (name, text) in [
        ("gate.yaml", policy),
        ("gate.pem", &gate.pem),
        ("gate.key", &gate.key),
        ("ca.pem", &authority.pem),
        ("crl.pem", &list),
        ("redis.pem", &authority.pem),
        ("redis.password", "secret\n"),
        ("webhook.secret", WEBHOOK_SECRET),
        ("webhook.pem", &authority.pem),
        ("corp.pem", &authority.pem),
        ("gpu.pem", &authority.pem),
        ("gpu-gate.pem", &gate.pem),
        ("gpu-gate.key", &gate.key),
    ] {
        scratch.file(name, text);
    }
    let secret = scratch.path().join("webhook.secret");
    std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let stranger = authority.issue(2, &["ip:127.0.0.1"]).unwrap();
    (scratch, stranger.key)
}

fn check(scratch: &Scratch, more: &[&str]) -> Ran {
    let policy = scratch.path().join("gate.yaml");
    let mut arguments = vec!["check", "--json", policy.to_str().unwrap()];
    arguments.extend(more);
    run(&arguments)
}

/// The positions and messages of the errors. Each has a fix and a line of the policy.
fn errors(ran: &Ran) -> Vec<(String, String)> {
    let lines = ran.stdout.lines();
    let faults = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let errors = faults.filter(|fault| fault["severity"] == "error");
    let errors = errors.map(|fault| {
        let text = |name: &str| fault[name].as_str().unwrap().to_owned();
        assert!(
            !text("fix").is_empty() && fault["line"].as_u64() > Some(1),
            "{fault}"
        );
        (text("path"), text("message"))
    });
    errors.collect()
}

#[test]
fn check_validates_every_file_that_the_policy_names() {
    let (scratch, stranger) = beside(POLICY);
    let ran = check(&scratch, &[]);
    assert_eq!((ran.code, errors(&ran)), (0, vec![]), "{}", ran.stderr);
    for (file, text, path, message) in [
        (
            "gate.key",
            Some(stranger.as_str()),
            "listen.tls.key",
            "is not the key of",
        ),
        ("gate.pem", None, "listen.tls.cert", "No such file"),
        (
            "ca.pem",
            Some("junk"),
            "listen.tls.client_ca",
            "contains no certificate",
        ),
        (
            "crl.pem",
            Some(""),
            "listen.tls.client_crl",
            "admit every revoked certificate",
        ),
        (
            "redis.pem",
            Some(""),
            "rate_limit_service.redis.ca",
            "no certificate",
        ),
        (
            "redis.password",
            None,
            "rate_limit_service.redis.password_file",
            "No such file",
        ),
        (
            "corp.pem",
            Some("junk"),
            "issuers.corp.jwks.ca",
            "contains no certificate",
        ),
        (
            "webhook.secret",
            Some("secret"),
            "watch.webhook.secret_file",
            "whsec_",
        ),
        (
            "webhook.pem",
            Some(""),
            "watch.webhook.ca",
            "contains no certificate",
        ),
        (
            "gpu.pem",
            Some(""),
            "backends.gpu.tls.ca",
            "contains no certificate",
        ),
        (
            "gpu-gate.key",
            Some(&stranger),
            "backends.gpu.tls.cert",
            "KeyMismatch",
        ),
        ("gpu-gate.key", None, "backends.gpu.tls.key", "No such file"),
    ] {
        let right = std::fs::read(scratch.path().join(file)).unwrap();
        match text {
            Some(text) => drop(scratch.file(file, text)),
            None => std::fs::remove_file(scratch.path().join(file)).unwrap(),
        }
        let ran = check(&scratch, &[]);
        let told = errors(&ran);
        assert_eq!(ran.code, 2, "{file}: {told:?}");
        assert!(
            matches!(&told[..], [(at, said)] if at == path && said.contains(message)),
            "{file}: {told:?}"
        );
        assert_eq!(check(&scratch, &["--no-files"]).code, 0, "{file}");
        scratch.file(file, right);
    }
}

#[test]
fn render_and_up_reject_unusable_certificates() {
    let (scratch, stranger) = beside(POLICY);
    let file = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (policy, folder, filters) = (file("gate.yaml"), file(""), filters());
    let render = || run(&["render", "-c", &policy, "envoy", "--tls-dir", &folder]);
    let up = || {
        let filters = filters.to_str().unwrap();
        run(&[
            "up",
            "-c",
            &policy,
            "--state",
            &file("state"),
            "--filters",
            filters,
        ])
    };
    assert_eq!(render().code, 0, "{}", render().stderr);
    let absent = run(&["render", "-c", &policy, "envoy", "--tls-dir", "/nowhere"]);
    assert_eq!(
        absent.code, 0,
        "of Envoy's machine, not of this one: {}",
        absent.stderr
    );
    assert!(
        absent
            .stderr
            .contains("does not exist here and was not checked"),
        "{}",
        absent.stderr
    );
    let (list, key) = (
        std::fs::read(file("crl.pem")).unwrap(),
        std::fs::read(file("gate.key")).unwrap(),
    );
    scratch.file("crl.pem", "");
    for ran in [render(), up()] {
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("listen.tls.client_crl"),
            "{}",
            ran.stderr
        );
    }
    scratch.file("crl.pem", &list);
    scratch.file("gate.key", stranger);
    for ran in [render(), up()] {
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("is not the key of"), "{}", ran.stderr);
    }
    scratch.file("gate.key", key);
    // Envoy watches one folder for authorities and their lists.
    std::fs::create_dir(file("lists")).unwrap();
    scratch.file("lists/crl.pem", list);
    let text = std::fs::read_to_string(&policy).unwrap();
    scratch.file(
        "gate.yaml",
        text.replace("client_crl: crl.pem", "client_crl: lists/crl.pem"),
    );
    assert_eq!(check(&scratch, &[]).code, 0, "for `up` that is as good");
    let ran = render();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("has to be in the folder of listen.tls.client_ca"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_response_larger_than_the_memory_budget_is_a_fault_of_the_policy() {
    let policy = |most: u64| {
        let policy = POLICY.lines().filter(|line| {
            !["listen", "rate", "issuers", "  corp"]
                .iter()
                .any(|start| line.starts_with(start))
        });
        let policy: Vec<_> = policy.collect();
        policy.join("\n").replace("clients:\n", "listen: {address: \"127.0.0.1:0\", limits: {buffered_bytes: 128MiB}}\nclients:\n")
            .replace("engine: {mtls: {spiffe: spiffe://prod/engine}}", "engine: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}")
            .replace("inputs:\n      - {name: x, datatype: FP32, shape: [2], range: [0, 1]}", "inputs:\n      - {name: x, datatype: FP32, shape: [{name: t, max: 4096}], range: [0, 1]}")
            .replace("{name: y, datatype: FP32, shape: [1]}", &format!("{{name: y, datatype: BYTES, shape: [t], max_item_bytes: {most}}}"))
    };
    let (scratch, _) = beside(&policy(1 << 20));
    let told = errors(&check(&scratch, &[]));
    assert!(
        matches!(&told[..], [(path, message)] if path == "models.m" && message.contains("4295012352 bytes")),
        "{told:?}"
    );
    scratch.file("gate.yaml", policy(1 << 10));
    assert_eq!(errors(&check(&scratch, &[])), []);
}

#[test]
fn check_and_up_compare_components_with_their_digests() {
    let scratch = Scratch::new();
    // The SHA-256 digests of `abc` (FIPS 180-2, appendix B.1) and of `\\0asm`.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let other = "cd5d4935a48c0672cb06407bb443bc0087aff947c6b864bac886982c73b3027f";
    let entry = format!("  scale: {{component: scale.wasm, sha256: \"{digest}\"}}");
    let policy = scratch.file("gate.yaml", format!("version: 1\nhandlers:\n{entry}\n"));
    let state = scratch.path().join("state");
    let up = || {
        let (policy, state) = (policy.to_str().unwrap(), state.to_str().unwrap());
        run(&["up", policy, "--state", state, "--filters", "none"])
    };
    // Severity, position and path of each fault of the component.
    let faults = |ran: &Ran| {
        let faults = ran.stdout.lines().map(|line| {
            let fault: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| fault[name].as_str().unwrap().to_owned();
            let number = |name: &str| usize::try_from(fault[name].as_u64().unwrap()).unwrap();
            let position = (number("line"), number("column"));
            (text("severity"), position, text("path"))
        });
        let faults = faults.filter(|(.., path)| path.starts_with("handlers.scale."));
        faults.collect::<Vec<_>>()
    };
    let column = |text: &str| entry.find(text).unwrap() + 1;
    let fault = |severity: &str, column: usize, field: &str| {
        let path = format!("handlers.scale.{field}");
        (severity.to_owned(), (3, column), path)
    };

    let ran = check(&scratch, &[]);
    let expected = fault("warning", column("scale.wasm"), "component");
    assert_eq!((ran.code, faults(&ran)), (0, vec![expected]));
    assert!(ran.stdout.contains("component scale.wasm is missing"));
    let ran = up();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let missing = "error: component scale.wasm is missing";
    assert!(ran.stderr.contains(missing), "{}", ran.stderr);

    scratch.file("scale.wasm", "\0asm");
    let ran = check(&scratch, &[]);
    let expected = fault("error", column("\""), "sha256");
    assert_eq!((ran.code, faults(&ran)), (2, vec![expected]));
    let fix = format!("sha256: \\\"{other}\\\"");
    assert!(ran.stdout.contains(&fix), "{}", ran.stdout);
    let ran = check(&scratch, &["--no-files"]);
    assert_eq!((ran.code, faults(&ran)), (0, vec![]));
    let ran = up();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let differs = "component scale.wasm differs from its sha256";
    assert!(ran.stderr.contains(differs), "{}", ran.stderr);
    assert!(!state.exists(), "nothing was started");

    scratch.file("scale.wasm", "abc");
    let ran = check(&scratch, &[]);
    assert_eq!((ran.code, faults(&ran)), (0, vec![]));
    assert!(up().stderr.contains("no filter at"), "{}", up().stderr);
}

/// A component that exports this function, in the text format.
fn exporting(name: &str) -> String {
    format!(
        r#"(component (core module $module (func (export "f")))
            (core instance $instance (instantiate $module))
            (func (export "{name}") (canon lift (core func $instance "f"))))"#
    )
}

#[test]
fn check_and_up_name_a_component_that_its_model_cannot_call() {
    let component = |text: &str| wat::parse_str(text).unwrap();
    let module = r#"(module (func (export "preprocess")))"#;
    for (name, file, expected) in [
        ("a.wasm", component(&exporting("preprocess")), ""),
        (
            "a.wasm",
            component(&exporting("postprocess")),
            "component a.wasm exports postprocess, and model m uses it as preprocess",
        ),
        (
            "a.wasm",
            component(module),
            "is a core module of WebAssembly, and no component",
        ),
        (
            "a.py",
            b"def preprocess(input):\n".to_vec(),
            "it is source in Python",
        ),
        ("a.wasm", b"ab".to_vec(), "it has 2 bytes"),
    ] {
        let digest = hex(&Sha256::digest(&file));
        let entry = format!("handlers: {{h: {{component: {name}, sha256: \"{digest}\"}}}}\n");
        let scratch = Scratch::new();
        let policy = format!("version: 1\n{entry}{CALLS_A_HANDLER}");
        let policy = scratch.file("gate.yaml", policy);
        scratch.file(name, &file);
        let ran = check(&scratch, &[]);
        let found = errors(&ran);
        if expected.is_empty() {
            assert_eq!((ran.code, found), (0, vec![]));
            continue;
        }
        let [(path, message)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(path, "handlers.h.component", "{name}");
        assert!(message.contains(expected), "{message}");
        let state = scratch.path().join("state");
        let up = [
            "up",
            policy.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
        ];
        let ran = run(&[&up[..], &["--filters", "none"]].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert!(!state.exists(), "nothing was started");
    }
}

/// The rest of a policy whose model uses handler `h` first.
const CALLS_A_HANDLER: &str = r#"listen: {address: "127.0.0.1:0"}
clients:
  app: {api_keys: [{sha256: a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700}]}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"]}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    accepts: {raw: {content_types: [image/png], max_bytes: 65536}}
    preprocess: h
    inputs: [{name: x, datatype: FP32, shape: [8], range: [0, 1]}]
    outputs: [{name: y, datatype: FP32, shape: [1]}]
grants:
  - {name: g, clients: [app], models: [m], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;
