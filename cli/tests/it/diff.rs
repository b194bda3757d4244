//! `diff`: which clients gain, which lose, what else changes; and no output where nothing changes.

use std::path::Path;

use serde_json::json;
use tensorgate_policy::FilterConfiguration;

use crate::program::{Ran, Scratch, compiled_in, run, run_with};

const BEFORE: &str = r#"version: 1
clients:
  app: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}
  job: {api_keys: [{sha256: 7d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 64, queue: 128, timeout_ms: 2000}
models:
  m:
    backend: gpu
    versions: ["1", "2"]
    protocols: [oip-rest]
    inputs:
      - {name: x, datatype: FP32, shape: [{name: n, max: 4}, 2], range: [0, 1]}
      - {name: z, datatype: FP32, shape: [2], range: [0, 1]}
    outputs:
      - {name: y, datatype: FP32, shape: [n]}
grants:
  - {name: g, clients: [app], models: [m@1], operations: [infer, ready], rate: {quota: 6, window_s: 60}}
  - {name: h, clients: [job], models: [m], operations: [ready]}
"#;

fn diff(after: &str) -> (i32, Vec<String>, Vec<serde_json::Value>) {
    let scratch = Scratch::new();
    let a = scratch.file("a.yaml", BEFORE);
    let b = scratch.file("b.yaml", after);
    let told = run(&["diff".as_ref(), a.as_os_str(), b.as_os_str()]);
    let json = run(&[
        "diff".as_ref(),
        a.as_os_str(),
        b.as_os_str(),
        "--json".as_ref(),
    ]);
    assert_eq!(told.code, json.code, "{}", told.stderr);
    (
        told.code,
        told.stdout.lines().map(str::to_owned).collect(),
        json.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn check(change: (&str, &str), expected: &[&str]) {
    let after = BEFORE.replace(change.0, change.1);
    assert_ne!(after, BEFORE, "{}", change.0);
    let (code, told, json) = diff(&after);
    assert_eq!(told, expected, "{change:?}");
    assert_eq!(code, i32::from(!expected.is_empty()));
    assert_eq!(json.len(), expected.len());
}

#[test]
fn every_change_is_one_plain_line() {
    check(("version: 1\n", "# a comment\nversion: 1\n"), &[]);
    check(
        ("quota: 6", "quota: 60"),
        &[
            "+ app may have more (grant g): 6 requests in 60 s -> 60 requests in 60 s",
            "~ grants[g].rate.quota: 6 -> 60",
        ],
    );
    // It is a notable change that client data is stored from now on.
    check(
        (
            "version: 1\n",
            "version: 1\ncapture: {folder: c, key_file: k, clients: [app]}\n",
        ),
        &[r#"~ capture: new, {"clients":["app"],"folder":"c","key_file":"k"}"#],
    );
    check(
        (
            "operations: [infer, ready]",
            "operations: [infer, metadata]",
        ),
        &[
            "+ app gains metadata on m@1 (grant g)",
            "- app loses ready on m@1 (grant g)",
            "~ grants[g].operations: [\"infer\",\"ready\"] -> [\"infer\",\"metadata\"]",
        ],
    );
    check(
        ("models: [m@1]", "models: [m]"),
        &[
            "+ app gains infer on m@2 (grant g)",
            "+ app gains ready on m@2 (grant g)",
            "~ grants[g].models: [\"m@1\"] -> [\"m\"]",
        ],
    );
    check(
        (
            "{name: z, datatype: FP32, shape: [2], range: [0, 1]}",
            "{name: z, datatype: FP32, shape: [2]}",
        ),
        &["~ models.m.inputs[z].range: gone, was [0.0,1.0]"],
    );
    check(
        ("[{sha256: 6d", "[{sha256: 8d"),
        &[
            "~ clients.app.api_keys[6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7]: gone, was {\"sha256\":\"6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7\"}",
            "~ clients.app.api_keys[8d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7]: new, {\"sha256\":\"8d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7\"}",
        ],
    );
}

#[test]
fn diff_names_clients_that_gain_or_lose_access() {
    let rate = "rate: {quota: 6, window_s: 60}";
    let check = |before: &str, after: &str, expected: &str| {
        let scratch = Scratch::new();
        let file = |name: &str, limits: &str| scratch.file(name, BEFORE.replace(rate, limits));
        let (a, b) = (file("a.yaml", before), file("b.yaml", after));
        let told = run(&["diff".as_ref(), a.as_os_str(), b.as_os_str()]);
        assert_eq!(
            told.stdout.lines().next(),
            Some(expected),
            "{}",
            told.stderr
        );
    };
    check(
        rate,
        "rate: {quota: 6, window_s: 60}, cost: {elements: 100, window_s: 60}",
        "- app may have less (grant g): no limit -> 100 elements in 60 s",
    );
    check(
        "cost: {bytes: 200, elements: 50, window_s: 60}",
        "cost: {bytes: 400, elements: 50, window_s: 60}",
        "+ app may have more (grant g): 200 bytes in 60 s -> 400 bytes in 60 s",
    );
    check(
        "budget: {elements: 100, per: day}",
        "budget: {elements: 99, per: day}",
        "- app may have less (grant g): 100 elements a day -> 99 elements a day",
    );
    check(
        "budget: {elements: 100, per: day}",
        rate,
        "- app may have less (grant g): no limit -> 6 requests in 60 s",
    );
    check(
        "rate: {quota: 6, window_s: 60, burst: 3}",
        "rate: {quota: 3, window_s: 60, burst: 3}",
        "- app may have less (grant g): 6 requests in 60 s, 3 at once -> 3 requests in 60 s",
    );
    check(
        "cost: {elements: 100, window_s: 60}",
        "cost: {elements: 200, window_s: 6000}",
        "~ app has another limit (grant g): 100 elements in 60 s -> 200 elements in 6000 s",
    );
    check(
        rate,
        "rate: {quota: 6, window_s: 60}, mode: shadow",
        "+ app may have more (grant g): 6 requests in 60 s -> 6 requests in 60 s, in shadow",
    );
    check(
        "rate: {quota: 6, window_s: 60}, mode: {rate: shadow}",
        "rate: {quota: 9, window_s: 60}, mode: {rate: enforce}",
        "- app may have less (grant g): 6 requests in 60 s, in shadow -> 9 requests in 60 s",
    );
}

#[test]
fn a_shared_limit_counts_as_less_than_one_per_gateway() {
    let service = "version: 1\nrate_limit_service: {redis: {url: redis://127.0.0.1}}";
    let own = BEFORE.replace("version: 1", service);
    let shared = own.replace("window_s: 60", "window_s: 60, scope: global");
    let scratch = Scratch::new();
    let (own, shared) = (scratch.file("a.yaml", own), scratch.file("b.yaml", shared));
    for (before, after, expected) in [
        (
            &own,
            &shared,
            "- app may have less (grant g): 6 requests in 60 s -> 6 requests in 60 s for all gateways",
        ),
        (
            &shared,
            &own,
            "+ app may have more (grant g): 6 requests in 60 s for all gateways -> 6 requests in 60 s",
        ),
    ] {
        let told = run(&["diff".as_ref(), before.as_os_str(), after.as_os_str()]);
        let first = told.stdout.lines().next();
        assert_eq!(first, Some(expected), "{}", told.stderr);
    }
}

#[test]
fn diff_names_clients_that_get_more_or_less_of_responses() {
    let first = |before: &str, after: &str, expected: &[&str]| {
        let scratch = Scratch::new();
        let output = "{name: y, datatype: FP32, shape: [n]}";
        let grant = "rate: {quota: 6, window_s: 60}";
        let file = |name: &str, change: &str| {
            let (outputs, more) = change.split_once(" | ").unwrap();
            let text = BEFORE.replace(output, outputs).replace(grant, more);
            scratch.file(name, text)
        };
        let (a, b) = (file("a.yaml", before), file("b.yaml", after));
        let told = run(&["diff".as_ref(), a.as_os_str(), b.as_os_str()]);
        let lines: Vec<_> = told
            .stdout
            .lines()
            .filter(|it| !it.starts_with('~'))
            .collect();
        assert_eq!(lines, expected, "{before} {after} {}", told.stderr);
    };
    let both = "{name: y, datatype: FP32, shape: [n]}\n      - {name: s, datatype: FP32, shape: [n, 9], role: class-scores, round_decimals: 9} | ";
    let with = |more: &str| format!("{both}{more}");
    first(
        &with("outputs: [y, s]"),
        &with("outputs: [s]"),
        &["- app sees less (grant g): y of m: all -> nothing"],
    );
    first(
        &with("outputs: [y]"),
        &with("round_decimals: 9"),
        &[
            "+ app sees more (grant g): s of m: nothing -> 9 decimals",
            "- app sees less (grant g): y of m: all -> 9 decimals",
        ],
    );
    first(
        &with("top_k: 5"),
        &with("top_k: 3"),
        &["- app sees less (grant g): s of m: top 5, 9 decimals -> top 3, 9 decimals"],
    );
    first(
        &with("top_k: 5, round_decimals: 2"),
        &with("top_k: 5"),
        &[
            "+ app sees more (grant g): s of m: top 5, 2 decimals -> top 5, 9 decimals",
            "+ app sees more (grant g): y of m: 2 decimals -> all",
        ],
    );
    // A new output of the model goes to every client that may have all outputs.
    first(
        "{name: y, datatype: FP32, shape: [n]} | rate: {quota: 6, window_s: 60}",
        &with("rate: {quota: 6, window_s: 60}"),
        &["+ app sees more (grant g): s of m: nothing -> 9 decimals"],
    );
}

#[test]
fn diff_names_clients_that_need_more_or_fewer_credentials() {
    let check = |before: &str, after: &str, expected: &[&str]| {
        let scratch = Scratch::new();
        let file = |name: &str, requires: &str| {
            let keyed = "app: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}";
            let both = keyed.replace("]}", "], metadata: {filter: f, claim: c}}");
            let text = BEFORE.replace(keyed, &both);
            scratch.file(
                name,
                text.replace(
                    "    backend: gpu\n",
                    &format!("    backend: gpu\n{requires}"),
                ),
            )
        };
        let (a, b) = (file("a.yaml", before), file("b.yaml", after));
        let told = run(&["diff".as_ref(), a.as_os_str(), b.as_os_str()]);
        let lines: Vec<_> = told
            .stdout
            .lines()
            .filter(|it| !it.starts_with("~ models"))
            .collect();
        assert_eq!(lines, expected, "{before} {after} {}", told.stderr);
    };
    let (key, word) = (
        "    requires: {any_of: [api_key]}\n",
        "    requires: {any_of: [metadata]}\n",
    );
    let all = "    requires: {all_of: [api_key, metadata]}\n";
    check(
        "",
        key,
        &["- app needs more proofs for m: any proof -> api_key"],
    );
    check(
        all,
        key,
        &[
            "+ job gains ready on m@1 (grant h)",
            "+ job gains ready on m@2 (grant h)",
            "+ app needs fewer proofs for m: api_key and metadata -> api_key",
        ],
    );
    // A client without such a credential is rejected, whatever it is granted.
    check(
        key,
        word,
        &[
            "- job loses ready on m@1 (grant h)",
            "- job loses ready on m@2 (grant h)",
            "~ app needs other proofs for m: api_key -> metadata",
        ],
    );
}

#[test]
fn access_that_moves_to_another_grant_is_reported() {
    let after = BEFORE.replace("name: h", "name: k");
    let (code, told, json) = diff(&after);
    assert_eq!(code, 1);
    assert_eq!(
        told.first().unwrap(),
        "~ job has ready on m@1 by grant k, not h"
    );
    let first = json.first().unwrap();
    assert_eq!(first["change"], "moves");
    assert_eq!(first["client"], "job");
    assert_eq!(first["before"], "h");
}

#[test]
fn a_policy_with_faults_cannot_be_compared() {
    assert_eq!(diff(&BEFORE.replace("max: 4", "min: 1")).0, 2);
}

/// What each target writes, and where the policy is in it.
const TARGETS: [(&str, &str, &[&str]); 4] = [
    ("kubernetes", "", &["--envoy-image"]),
    ("kubernetes", "configmap-policy.yaml", &["--envoy-image"]),
    ("helm", "", &["--envoy-image"]),
    ("istio", "trafficextension.yaml", &["--filter-image"]),
];

/// A policy for a cluster, with a limit that is divided by the number of pods.
fn in_cluster() -> String {
    BEFORE
        .replace("127.0.0.1:8001", "triton.ml.svc:8001")
        .replace("quota: 6,", "quota: 6, local_share: replicas,")
}

/// Renders a policy; the folder is `out` below the scratch folder.
fn render(scratch: &Scratch, policy: &str, target: &str, images: &[&str]) {
    let policy = scratch.file("gate.yaml", policy);
    let folder = scratch.path().join("out");
    let image = format!("r.example/image@sha256:{}", "1".repeat(64));
    let mut arguments = vec!["render", target, policy.to_str().unwrap()];
    arguments.extend(["-o", folder.to_str().unwrap(), "--host-image", &image]);
    for option in images {
        arguments.extend([*option, &image]);
    }
    let ran = run(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn what_was_rendered_is_compared_with_a_policy() {
    let policy = in_cluster();
    let changed = policy.replace("quota: 6,", "quota: 60,");
    for (target, file, images) in TARGETS {
        let scratch = Scratch::new();
        render(&scratch, &policy, target, images);
        let rendered = scratch.path().join("out").join(file);
        let rendered = rendered.to_str().unwrap();
        let diff = |policy: &str, more: &[&str]| -> Ran {
            let policy = scratch.file("next.yaml", policy);
            run(&[&["diff", rendered, policy.to_str().unwrap()][..], more].concat())
        };
        let same = diff(&policy, &["--replicas", "2"]);
        assert_eq!(
            (same.code, same.stdout.as_str()),
            (0, ""),
            "{}",
            same.stderr
        );
        assert!(!same.stderr.contains("warning"), "{}", same.stderr);
        let named: Vec<_> = same
            .stderr
            .lines()
            .filter_map(|line| line.split_once(": generation "))
            .map(|(_, generation)| generation)
            .collect();
        assert!(
            matches!(named[..], [before, after] if before == after && before.len() == 16),
            "{}",
            same.stderr
        );
        let more = diff(&changed, &["--replicas", "2"]);
        let gain = "+ app may have more (grant g): 3 requests in 60 s -> 30 requests in 60 s";
        assert!(more.stdout.contains(gain), "{target}: {}", more.stdout);
        let undivided = diff(&policy, &[]);
        assert_eq!(undivided.code, 1, "{}", undivided.stdout);
        assert!(
            undivided.stderr.contains("--replicas"),
            "{}",
            undivided.stderr
        );
    }
}

#[test]
fn an_object_of_the_cluster_comes_from_standard_input() {
    let scratch = Scratch::new();
    let policy = BEFORE.replace("127.0.0.1:8001", "triton.ml.svc:8001");
    render(&scratch, &policy, "kubernetes", &["--envoy-image"]);
    let map = scratch.path().join("out/configmap-policy.yaml");
    let map = std::fs::read_to_string(map).unwrap();
    let file = scratch.path().join("gate.yaml");
    let file = file.to_str().unwrap();
    let ran = run_with(&["diff", "-", file], &map);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let edited = map.replace("bundle.bin: \"dGdw", "bundle.bin: \"dGdx");
    assert_ne!(edited, map);
    let ran = run_with(&["diff", file, "-"], &edited);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(
        ran.stderr.contains("is not a compiled policy"),
        "{}",
        ran.stderr
    );
    for (arguments, input, cause) in [
        (["diff", "-", "-"], map.as_str(), "name the other one"),
        (
            ["diff", "-", file],
            "version: 1\n",
            "name a policy file by its path",
        ),
        (["diff", "-", file], "", "name a policy file by its path"),
    ] {
        let ran = run_with(&arguments, input);
        assert_eq!(ran.code, 2, "{}", ran.stdout);
        assert!(ran.stderr.contains(cause), "{}", ran.stderr);
    }
}

#[test]
fn a_compiled_policy_is_compared_in_every_value_that_it_has() {
    let scratch = Scratch::new();
    let policy = scratch.file("a.yaml", BEFORE);
    let policy = policy.to_str().unwrap();
    let out = scratch.path().join("out");
    let out = out.to_str().unwrap();
    let rendered = run(&["render", "envoy", policy, "--as", "istio"]);
    let limit = FilterConfiguration::MAX_RESOURCE_BYTES;
    let compiled = compiled_in(&rendered.stdout).to_bytes();
    let configuration = FilterConfiguration::new(&compiled, limit).unwrap();
    let object = json!({
        "apiVersion": "v1", "kind": "WasmPlugin", "spec": {"pluginConfig": configuration},
    });
    let of_filter = scratch.file("object.json", object.to_string());
    assert_eq!(run(&["render", "envoy", policy, "-o", out]).code, 0);
    let of_host = Path::new(out).join("bundle.bin");
    let compare = |compiled: &Path, after: &str| {
        let after = scratch.file("b.yaml", after);
        let ran = run(&["diff".as_ref(), compiled.as_os_str(), after.as_os_str()]);
        let is_part = ran.stderr.contains("has what filters read");
        assert_eq!(is_part, compiled == of_filter, "{}", ran.stderr);
        (ran.code, ran.stdout)
    };
    for compiled in [&of_filter, &of_host] {
        assert_eq!(compare(compiled, BEFORE), (0, String::new()));
        // A contract, and a limit with it.
        let wider = BEFORE.replace("range: [0, 1]", "range: [0, 2]");
        let (code, listed) = compare(compiled, &wider.replace("quota: 6", "quota: 7"));
        assert_eq!(code, 1, "{listed}");
        assert!(listed.contains("app may have more"), "{listed}");
        assert!(
            listed.contains("range") && listed.contains("~ models.m."),
            "{listed}"
        );
    }
    // A server, which filters know nothing of.
    let moved = BEFORE.replace("127.0.0.1:8001", "127.0.0.1:8002");
    assert_ne!(moved, BEFORE);
    let (code, listed) = compare(&of_host, &moved);
    assert!(
        code == 1 && listed.contains("8001\"] -> [\"http"),
        "{listed}"
    );
    let (code, listed) = compare(&of_filter, &moved);
    assert!(
        code == 1 && listed.starts_with("~ generation: "),
        "{listed}"
    );
    assert_eq!(listed.lines().count(), 1, "{listed}");
}
