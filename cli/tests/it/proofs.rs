//! How a client is identified by a policy's files and by the command line. Key sets and lists in
//! files, certificates, addresses, and the filters that check them.

use serde_json::Value;
use sha2::Digest as _;
use tensorgate_client::pki::Authority;

use crate::program::{Ran, Scratch, run, run_with, small_filters};

/// A key of the vectors' form, and a placeholder for its digest in the policy below.
const KEY: &str = "tg_CwxHlR3Jb1XAodAjZuNn3xtnKDe3qv01B";
/// Everything that is read from a file.
const FILES: &str = r#"version: 1
listen: {address: "127.0.0.1:0", tls: {cert: gate.pem, key: gate.key, client_ca: ca.pem}}
issuers:
  corp: {issuer: https://login.example.com, audiences: [gate], algorithms: [EdDSA], jwks: {file: corp.jwks.json}, max_lifetime_s: 600}
clients:
  web: {jwt: {issuer: corp, subject: svc}}
  batch: {api_keys_file: batch.keys, sources: [10.0.0.0/8]}
  engine: {mtls: {spiffe: spiffe://prod/engine}}
  night: {mtls: {dns: night.example.com}}
revoked: {jti_file: jti.txt, keys_file: revoked.txt}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 64, queue: 128, timeout_ms: 2000}
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
  - {name: g, clients: [web, batch, engine, night], models: [m], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;
/// RFC 8037, A.1: public.
const JWKS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// The policy in a folder with all its files. `batch` has the key's digest, with a note and an
/// empty line around it.
fn beside() -> Scratch {
    let scratch = Scratch::new();
    let digest = run_with_key();
    scratch.file("gate.yaml", FILES);
    scratch.file("corp.jwks.json", JWKS);
    scratch.file("batch.keys", format!("# batch\n\n{digest} 2099-12-31\n"));
    scratch.file("jti.txt", "stolen\n");
    scratch.file("revoked.txt", format!("{} lost\n", "a".repeat(64)));
    let authority = Authority::new("clients").unwrap();
    let gate = authority.issue(1, &["ip:127.0.0.1"]).unwrap();
    for (name, text) in [
        ("gate.pem", &gate.pem),
        ("gate.key", &gate.key),
        ("ca.pem", &authority.pem),
    ] {
        scratch.file(name, text);
    }
    scratch
}

fn run_with_key() -> String {
    let ran = run_with(&["keys", "hash"], KEY);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.trim().to_owned()
}

fn check(scratch: &Scratch) -> Ran {
    let policy = scratch.path().join("gate.yaml");
    run(&["check".as_ref(), "--json".as_ref(), policy.as_os_str()])
}

#[test]
fn faults_of_named_files_are_reported_where_the_policy_names_them() {
    let ran = check(&beside());
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let long = "a".repeat((8 << 20) + 1);
    let keys = format!("{}\n", "0".repeat(63));
    for (file, text, path, told) in [
        (
            "corp.jwks.json",
            Some("{}"),
            "issuers.corp.jwks.file",
            "is not a JSON Web Key Set",
        ),
        (
            "corp.jwks.json",
            None,
            "issuers.corp.jwks.file",
            "does not exist",
        ),
        (
            "corp.jwks.json",
            Some(r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#),
            "issuers.corp.jwks",
            "",
        ),
        (
            "batch.keys",
            Some(keys.as_str()),
            "clients.batch.api_keys",
            "",
        ),
        (
            "batch.keys",
            None,
            "clients.batch.api_keys_file",
            "does not exist",
        ),
        (
            "jti.txt",
            Some(long.as_str()),
            "revoked.jti_file",
            "is larger than",
        ),
        ("revoked.txt", Some("unknown\n"), "revoked.keys", ""),
        ("revoked.txt", None, "revoked.keys_file", "does not exist"),
    ] {
        let scratch = beside();
        match text {
            Some(text) => drop(scratch.file(file, text)),
            None => std::fs::remove_file(scratch.path().join(file)).unwrap(),
        }
        let ran = check(&scratch);
        assert_eq!(ran.code, 2, "{file}: {}", ran.stdout);
        let found = ran.stdout.lines().any(|line| {
            let fault: Value = serde_json::from_str(line).unwrap();
            let says = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
            says("severity") == "error"
                && says("path").starts_with(path)
                && says("message").contains(told)
                && fault["line"].as_u64().is_some_and(|line| line > 1)
        });
        assert!(found, "{file} {path}: {}", ran.stdout);
        assert!(!ran.stdout.contains("c2VjcmV0"), "{}", ran.stdout);
    }
    let scratch = beside();
    scratch.file("jti.txt", b"\xff\n");
    assert!(check(&scratch).stdout.contains("is not UTF-8"));
}

/// `client`, or the reason of a rejection; the exit code where there was neither.
fn explain(scratch: &Scratch, fields: &str, body: &str, more: &[&str]) -> String {
    let message = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nHost: g\r\n{fields}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (policy, file) = (
        scratch.path().join("gate.yaml"),
        scratch.file("m.http", message),
    );
    let mut arguments = vec!["explain", "--json", "--now", "1800000000", "-c"];
    arguments.extend([policy.to_str().unwrap(), "--http", file.to_str().unwrap()]);
    arguments.extend(more);
    let ran = run(&arguments);
    if ran.code == 2 {
        return "2".to_owned();
    }
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    let told = if line["verdict"] == "allow" {
        &line["client"]
    } else {
        &line["reason"]
    };
    told.as_str().unwrap_or_default().to_owned()
}

const GOOD: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[0,1]}]}"#;

#[test]
fn the_command_line_sets_the_callers_certificate_address_and_filters() {
    let scratch = beside();
    let key = format!("x-api-key: {KEY}\r\n");
    let no = "unauthenticated";
    for (fields, more, expected) in [
        (
            "",
            ["--tls-peer", "spiffe://prod/engine"].as_slice(),
            "engine",
        ),
        ("", &["--tls-peer", "dns:night.example.com"], "night"),
        ("", &["--tls-peer", "dns:NIGHT.example.com"], "night"),
        ("", &["--tls-peer", "spiffe://prod/other"], no),
        (
            "",
            &[
                "--tls-peer",
                "spiffe://prod/engine",
                "--tls-peer",
                "dns:night.example.com",
            ],
            no,
        ),
        (
            "",
            &[
                "--tls-peer",
                "spiffe://prod/engine",
                "--tls-peer",
                "spiffe://prod/other",
            ],
            no,
        ),
        ("", &["--tls-peer", "engine"], "2"),
        ("", &["--tls-peer", "sha256:00"], "2"),
        (
            "",
            &[
                "--tls-peer",
                "spiffe://prod/engine",
                "--tls-peer",
                "engine.pem",
            ],
            "2",
        ),
        ("", &[], no),
        (&key, &["--source", "10.1.2.3"], "batch"),
        (&key, &["--source", "192.0.2.1"], no),
        (&key, &["--source", "::ffff:10.1.2.3"], "batch"),
        (&key, &["--source", "10.1.2"], "2"),
        (
            &key,
            &["--source", "10.1.2.3", "--tls-peer", "spiffe://prod/engine"],
            "ambiguous-request",
        ),
    ] {
        assert_eq!(explain(&scratch, fields, GOOD, more), expected, "{more:?}");
    }
    scratch.file("gate.yaml", FILES.replace(", client_ca: ca.pem", ""));
    let peer = ["--tls-peer", "spiffe://prod/engine"];
    assert_eq!(
        explain(&scratch, "", GOOD, &peer),
        "2",
        "no filter requests it"
    );
}

#[test]
fn a_certificate_is_given_by_file_or_digest_and_revoked_by_digest_or_serial() {
    let scratch = beside();
    let authority = Authority::new("clients").unwrap();
    let leaf = authority
        .issue(0x0a0b, &["uri:spiffe://prod/engine", "dns:x.example.com"])
        .unwrap();
    let file = scratch.file("engine.pem", format!("engine's own\n{}", leaf.pem));
    let file = file.to_str().unwrap();
    let digest = tensorgate_policy::hex(&<[u8; 32]>::from(sha2::Sha256::digest(&leaf.der)));
    let colons: Vec<_> = digest
        .as_bytes()
        .chunks(2)
        .map(|it| str::from_utf8(it).unwrap())
        .collect();
    let sha256 = format!("sha256:{}", colons.join(":").to_uppercase());
    let by_digest = [
        "--tls-peer",
        "spiffe://prod/engine",
        "--tls-peer",
        sha256.as_str(),
    ];
    let no = "unauthenticated";
    for (revoked, by_file, by_digest_alone) in [
        ("", "engine", "engine"),
        ("certificates_file: list.txt", no, no),
        ("serials_file: serials.txt", no, no),
        ("serials_file: others.txt", "engine", no),
        ("serials_file: theirs.txt", "engine", no),
        ("serials_file: none.txt", "engine", no),
    ] {
        scratch.file("list.txt", format!("{}\n", colons.join(":").to_uppercase()));
        scratch.file("serials.txt", "# lost\n0A0B\n");
        scratch.file("others.txt", "0A0C\n");
        scratch.file("theirs.txt", format!("0A0B {}\n", "01:".repeat(19) + "01"));
        scratch.file("none.txt", "# none yet\n");
        scratch.file(
            "gate.yaml",
            FILES.replace(
                "keys_file: revoked.txt",
                &format!("keys_file: revoked.txt, {revoked}"),
            ),
        );
        assert_eq!(
            explain(&scratch, "", GOOD, &["--tls-peer", file]),
            by_file,
            "{revoked}"
        );
        assert_eq!(
            explain(&scratch, "", GOOD, &by_digest),
            by_digest_alone,
            "{revoked}"
        );
    }
    scratch.file("gate.yaml", FILES);
    let odd = scratch.file(
        "odd.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    assert_eq!(
        explain(&scratch, "", GOOD, &["--tls-peer", odd.to_str().unwrap()]),
        "2"
    );
}

#[test]
fn a_trusted_proxy_names_its_clients_certificate() {
    let scratch = beside();
    let policy = FILES.replace(
        "client_ca: ca.pem",
        "client_ca: ca.pem, forwarded_by: [{dns: lb.example.com}]",
    );
    scratch.file(
        "gate.yaml",
        policy.replace("listen: {", "listen: {trusted_hops: 1, "),
    );
    let leaf = Authority::new("clients")
        .unwrap()
        .issue(7, &["dns:night.example.com"])
        .unwrap();
    let digest = tensorgate_policy::hex(&<[u8; 32]>::from(sha2::Sha256::digest(&leaf.der)));
    let escaped = leaf
        .pem
        .replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    let shown = format!("x-forwarded-client-cert: Hash={digest};Cert=\"{escaped}\"\r\n");
    let (proxy, stranger) = (
        ["--tls-peer", "dns:lb.example.com"],
        ["--tls-peer", "dns:x.example.com"],
    );
    let no = "unauthenticated";
    assert_eq!(explain(&scratch, &shown, GOOD, &proxy), "night");
    assert_eq!(explain(&scratch, &shown, GOOD, &stranger), no);
    assert_eq!(explain(&scratch, &shown, GOOD, &[]), no);
    assert_eq!(explain(&scratch, "", GOOD, &proxy), no);
}

#[test]
fn a_chain_decides_as_the_gate_and_the_host_covers_missing_filters() {
    let scratch = beside();
    let peer = ["--tls-peer", "spiffe://prod/engine"];
    let wide = GOOD.replace("[2]", "[3]");
    for chain in ["gate", "auth,rate-limit,tensor-guard", "auth"] {
        let ask = |body: &str, peer: &[&str]| {
            explain(&scratch, "", body, &[&["--chain", chain], peer].concat())
        };
        assert_eq!(ask(GOOD, &peer), "engine", "{chain}");
        assert_eq!(ask(GOOD, &[]), "unauthenticated", "{chain}");
        // Without tensor-guard the host rejects it.
        assert_eq!(ask(&wide, &peer), "shape", "{chain}");
    }
    for chain in ["gate,auth", "rate-limit,auth", "unknown"] {
        assert_eq!(explain(&scratch, "", GOOD, &["--chain", chain]), "2");
    }
}

#[test]
fn a_real_envoy_validates_tls_with_the_files_that_the_policy_names() {
    let scratch = beside();
    let (policy, folder, filters) = (
        scratch.path().join("gate.yaml"),
        scratch.path().to_owned(),
        small_filters(),
    );
    let ran = run(&[
        "render",
        "-c",
        policy.to_str().unwrap(),
        "envoy",
        "--filters",
        filters.to_str().unwrap(),
        "--tls-dir",
        folder.to_str().unwrap(),
        "--validate",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("require_client_certificate: false"),
        "{}",
        ran.stdout
    );
}
