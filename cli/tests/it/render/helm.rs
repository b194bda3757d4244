//! `render helm`: a chart of the objects that `render kubernetes` writes. `tests/mesh/chart.py`
//! compares both with Helm itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tensorgate_policy::Compiled;

use crate::program::{Ran, Scratch, run, tree};

/// A policy with files of each kind. Its handler's setting looks like an expression of a template.
const POLICY: &str = r#"version: 1
listen:
  address: 127.0.0.1:8080
  tls: {cert: pki/gate.pem, key: pki/gate.key}
clients:
  scorer: {api_keys: [{sha256: a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700}]}
backends:
  gpu: {kind: open-inference, endpoints: ["http://triton.models.svc:8001"]}
handlers:
  png-digits:
    component: components/png_digits.wasm
    sha256: a753553ee6bdf842a5e8a960572605fe7f539d32966db5797c34c2f45af2ab1b
    fuel: 100000000
    memory_bytes: 16MiB
    timeout_ms: 500
    config: {max_side: "{{ .Values.side }}"}
models:
  scores:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs: [{name: x, datatype: FP32, shape: [8], range: [-10, 10]}]
    outputs: [{name: score, datatype: FP32, shape: [1]}]
grants:
  - name: scoring
    clients: [scorer]
    models: [scores]
    operations: [infer]
    rate: {quota: 600, window_s: 60}
"#;
/// Files of the chart for this policy.
const FILES: [&str; 23] = [
    ".helmignore",
    "Chart.yaml",
    "README.txt",
    "files/dynamic/cds.yaml",
    "files/dynamic/ecds-tensorgate.gate.yaml",
    "files/dynamic/lds.yaml",
    "files/envoy/envoy.yaml",
    "files/envoy/gate-certificate.yaml",
    "files/policy/bundle.bin.base64",
    "gate.yaml.txt",
    "templates/NOTES.txt",
    "templates/_sizes.tpl",
    "templates/configmap-dynamic.yaml",
    "templates/configmap-envoy.yaml",
    "templates/configmap-policy.yaml",
    "templates/deployment.yaml",
    "templates/networkpolicy-model-servers.yaml",
    "templates/networkpolicy.yaml",
    "templates/poddisruptionbudget.yaml",
    "templates/service.yaml",
    "templates/serviceaccount.yaml",
    "values.schema.json",
    "values.yaml",
];
/// Options of every chart.
const GIVEN: &str = "--namespace ns-given --context-secret context-given --files-secret files-given
    --clients-from clients-given --metrics-from metrics-given --model-server app=label-given
    --model-namespace models-given --replicas 17";
/// Names in these options, and that of the claim.
const NAMES: [&str; 7] = [
    "ns-given",
    "context-given",
    "files-given",
    "claim-given",
    "clients-given",
    "metrics-given",
    "models-given",
];

/// Renders the policy below `scratch` into its folder `out`.
fn render(scratch: &Scratch, policy: &str, out: &str, more: &[&str]) -> Ran {
    let policy = scratch.file("gate.yaml", policy);
    let out = scratch.path().join(out);
    let host = format!("r.example/host@sha256:{}", "1".repeat(64));
    let envoy = format!("r.example/envoy@sha256:{}", "2".repeat(64));
    let mut arguments = vec!["render", "helm", policy.to_str().unwrap()];
    arguments.extend(["-o", out.to_str().unwrap()]);
    arguments.extend(["--host-image", &host, "--envoy-image", &envoy]);
    arguments.extend(GIVEN.split_whitespace());
    arguments.extend(more);
    run(&arguments)
}

/// The files below a folder, by path.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

const CLAIM: [&str; 2] = ["--handlers-claim", "claim-given"];

#[test]
fn the_same_policy_gives_the_same_chart() {
    let scratch = Scratch::new();
    for out in ["one", "two", "two"] {
        let ran = render(&scratch, POLICY, out, &CLAIM);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let install = "--namespace ns-given --create-namespace";
        assert!(ran.stdout.contains(install), "{}", ran.stdout);
    }
    let one = files(&scratch.path().join("one"));
    assert_eq!(one, files(&scratch.path().join("two")));
    let names: Vec<_> = one.keys().map(String::as_str).collect();
    assert_eq!(names, FILES);

    let changed = POLICY.replace("quota: 600", "quota: 601");
    let ran = render(&scratch, &changed, "three", &CLAIM);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let three = files(&scratch.path().join("three"));
    assert_ne!(one["Chart.yaml"], three["Chart.yaml"]);
    for (name, text) in &one {
        // No pod restarts for another policy: its template is the same.
        let is_policy = ["Chart.yaml", "README.txt", "gate.yaml.txt"].contains(&name.as_str())
            || name.starts_with("files/policy/")
            || name.starts_with("files/dynamic/");
        assert_eq!(*text != three[name], is_policy, "{name}");
    }
}

#[test]
fn templates_have_what_a_user_sets_from_values_only() {
    let scratch = Scratch::new();
    let ran = render(&scratch, POLICY, "chart", &CLAIM);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let files = files(&scratch.path().join("chart"));
    let values = &files["values.yaml"];
    for name in NAMES.iter().skip(1) {
        assert!(values.contains(name), "{name} is not in:\n{values}");
    }
    let templates = files
        .iter()
        .filter(|(name, _)| name.starts_with("templates/"));
    for (name, text) in templates {
        let others = ["label-given", "r.example", "replicas: 17"];
        for given in NAMES.iter().chain(&others) {
            assert!(!text.contains(given), "{given} in {name}");
        }
        assert!(!text.contains(".Values.side"), "{name} has a policy's text");
        assert!(text.is_ascii(), "{name} has a mark of a placeholder");
        for line in text.lines() {
            let (opened, closed) = (line.matches("{{").count(), line.matches("}}").count());
            assert_eq!(opened, closed, "{name}: {line}");
            let writes = opened > 0 && !line.starts_with("{{- ") && !name.ends_with(".txt");
            let escapes = line.ends_with("| quote }}") || line.ends_with("| toJson }}");
            assert!(!writes || escapes, "{name}: {line}");
        }
        // Definitions are ours alone, and write nothing by themselves.
        if name.ends_with(".tpl") {
            continue;
        }
        let count = |word: &str| text.matches(word).count();
        let opened = count("{{- if ") + count("{{- range ");
        assert_eq!(opened, count("{{- end }}"), "{name}");
    }
    let bundle = STANDARD.decode(&files["files/policy/bundle.bin.base64"]);
    let bundle = Compiled::load(&bundle.unwrap()).unwrap();
    let config = bundle.policy.handlers()["png-digits"].config();
    assert_eq!(config["max_side"], "{{ .Values.side }}");
    let schema: Value = serde_json::from_str(&files["values.schema.json"]).unwrap();
    assert!(schema.pointer("/properties/handlers").is_some());
    // Ports that the policy's servers have are values, and no empty list opens all ports.
    let ports = &schema["properties"]["podPorts"];
    assert_eq!(ports["required"], serde_json::json!(["models"]));
    assert_eq!(ports["properties"].get("others"), None);
    assert!(values.contains("\npodPorts:\n  models:\n"), "{values}");
    for name in ["networkpolicy", "networkpolicy-model-servers"] {
        let text = &files[&format!("templates/{name}.yaml")];
        let taken = text.contains("ports: {{ .Values.podPorts.models | toJson }}");
        assert!(taken && !text.contains("8001"), "{text}");
    }
}

#[test]
fn threads_and_memory_are_computed_from_the_processors_in_the_values() {
    let scratch = Scratch::new();
    let cpu = ["--envoy-cpu", "8", "--host-cpu", "3"];
    let ran = render(&scratch, POLICY, "chart", &[&CLAIM[..], &cpu].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let files = files(&scratch.path().join("chart"));
    let values = "resources:\n  envoy:\n    requests:\n      cpu: \"8\"\n    limits: {}\n  host:\n    requests:\n      cpu: \"3\"\n    limits: {}\n";
    assert!(files["values.yaml"].ends_with(values));
    let deployment = &files["templates/deployment.yaml"];
    for written in [
        "- \"--concurrency\"\n            - {{ include \"tensorgate.workers\" . | quote }}\n",
        "- \"--handler-threads\"\n            - {{ include \"tensorgate.handlerThreads\" . | quote }}\n",
        "(add 704 (mul 20 (include \"tensorgate.workers\" . | int64)))",
        // 384 MiB for code and idle instances, and the same for instances as in the memory below.
        "- \"--handler-memory\"\n            - {{ printf \"%dMiB\" (add 404 (mul 20 (include \"tensorgate.sharedThreads\" . | int64))) | quote }}\n",
        // 512 MiB, bodies twice, and 16 MiB and a stack of 4 for the handler's own thread.
        "(add 1044 (mul 20 (include \"tensorgate.sharedThreads\" . | int64)))",
    ] {
        assert!(deployment.contains(written), "{written} in:\n{deployment}");
    }
    let sizes = &files["templates/_sizes.tpl"];
    assert!(sizes.contains("{{- max 2 (") && sizes.contains("(div (add $width 7) 8)"));
}

#[test]
fn a_chart_keeps_its_source_beside_itself_and_its_notes_name_only_its_secrets() {
    let scratch = Scratch::new();
    let ran = render(&scratch, POLICY, "chart", &CLAIM);
    for line in [
        "Secret files-given in namespace ns-given, with pki.gate.key, pki.gate.pem",
        "PersistentVolumeClaim claim-given in namespace ns-given",
        "-k https://127.0.0.1:18080/",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let with = files(&scratch.path().join("chart"));
    assert_eq!(with["gate.yaml.txt"], POLICY);
    assert_eq!(with[".helmignore"], "README.txt\ngate.yaml.txt\n");
    let notes = &with["templates/NOTES.txt"];
    assert!(notes.contains(".Values.secrets.files") && !notes.contains('@'));
    assert!(notes.contains("18080:8080") && notes.contains("-k https://"));

    let plain = POLICY.replace("  tls: {cert: pki/gate.pem, key: pki/gate.key}\n", "");
    let ran = render(&scratch, &plain, "plain", &CLAIM);
    assert!(!ran.stdout.contains("files-given"), "{}", ran.stdout);
    let without = files(&scratch.path().join("plain"));
    let notes = &without["templates/NOTES.txt"];
    assert!(!notes.contains(".Values.secrets.files"), "{notes}");
    assert!(notes.contains(" http://127.0.0.1:18080/"), "{notes}");
}

#[test]
fn a_policy_without_components_has_no_value_for_them() {
    let scratch = Scratch::new();
    let (before, rest) = POLICY.split_once("handlers:\n").unwrap();
    let (_, after) = rest.split_once("models:\n").unwrap();
    let policy = format!("{before}models:\n{after}");
    let ran = render(&scratch, &policy, "chart", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let files = files(&scratch.path().join("chart"));
    let schema: Value = serde_json::from_str(&files["values.schema.json"]).unwrap();
    assert!(schema.pointer("/properties/replicas").is_some());
    assert_eq!(schema.pointer("/properties/handlers"), None);
    assert!(!files["values.yaml"].contains("\nhandlers:"));
    assert!(!files["templates/deployment.yaml"].contains("handlers"));
}

#[test]
fn a_template_of_another_chart_is_not_installed_too() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path().join("chart/templates")).unwrap();
    scratch.file("chart/templates/role.yaml", "kind: ClusterRole\n");
    let ran = render(&scratch, POLICY, "chart", &CLAIM);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let cause = "role.yaml is not of this chart";
    assert!(ran.stderr.contains(cause), "{}", ran.stderr);
    assert!(!scratch.path().join("chart/Chart.yaml").exists());
}

#[test]
fn what_no_chart_can_enforce_is_not_written() {
    let scratch = Scratch::new();
    let ran = render(&scratch, POLICY, "chart", &[]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("--handlers-claim"), "{}", ran.stderr);
    assert!(!scratch.path().join("chart").exists());
    let loopback = POLICY.replace("triton.models.svc", "127.0.0.1");
    let ran = render(&scratch, &loopback, "chart", &CLAIM);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(!scratch.path().join("chart").exists());
}

#[test]
fn a_chart_needs_a_folder() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", POLICY);
    let image = format!("r.example/image@sha256:{}", "1".repeat(64));
    let mut arguments = vec!["render", "helm", policy.to_str().unwrap()];
    arguments.extend(["--host-image", &image, "--envoy-image", &image]);
    let ran = run(&arguments);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("name it with -o"), "{}", ran.stderr);
}

#[test]
fn a_chart_with_divided_limits_accepts_one_number_of_pods() {
    let scratch = Scratch::new();
    let divided = POLICY.replace("window_s: 60", "window_s: 60, local_share: replicas");
    for (policy, fixed) in [(POLICY, None), (divided.as_str(), Some(17))] {
        let ran = render(&scratch, policy, "chart", &CLAIM);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let files = files(&scratch.path().join("chart"));
        let schema: Value = serde_json::from_str(&files["values.schema.json"]).unwrap();
        let pods = schema.pointer("/properties/replicas/const");
        assert_eq!(pods.and_then(Value::as_u64), fixed);
        let has_note = ran.stderr.contains("17 times as much: rate of scoring");
        assert_eq!(has_note, fixed.is_none(), "{}", ran.stderr);
    }
}

#[test]
fn objects_for_monitoring_come_on_request() {
    let scratch = Scratch::new();
    let options = [&CLAIM[..], &["--dashboards", "--pod-monitor"]].concat();
    let ran = render(&scratch, POLICY, "chart", &options);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let operator = "monitoring.coreos.com/v1 of the Prometheus Operator, with the kinds PodMonitor";
    assert!(ran.stdout.contains(operator), "{}", ran.stdout);
    let chart = files(&scratch.path().join("chart"));
    let shipped = files(&tree().join("monitoring/grafana"));
    let template = &chart["templates/configmap-dashboards.yaml"];
    assert!(
        template.contains("grafana_dashboard: \"1\"\n"),
        "{template}"
    );
    for (name, text) in &shipped {
        let file = format!("files/dashboards/{name}");
        assert_eq!(chart[&file], *text);
        assert!(template.contains(&file), "{file} in:\n{template}");
    }
    let below = |name: &&String| name.starts_with("files/dashboards/");
    assert_eq!(chart.keys().filter(below).count(), shipped.len());
    let monitor = &chart["templates/podmonitor.yaml"];
    let condition = "{{- if .Values.metricsFrom }}";
    assert!(monitor.starts_with(condition), "{monitor}");
    for page in ["/metrics", "/stats/prometheus"] {
        assert!(monitor.contains(&format!("path: {page}\n")), "{monitor}");
    }
}

#[test]
fn a_pod_monitor_needs_a_namespace_that_may_read_metrics() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", POLICY);
    let image = format!("r.example/image@sha256:{}", "1".repeat(64));
    let mut arguments = vec!["render", "kubernetes", policy.to_str().unwrap()];
    arguments.extend(["--host-image", &image, "--envoy-image", &image]);
    arguments.extend(["--handlers-claim", "c", "--pod-monitor"]);
    let ran = run(&arguments);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("--metrics-from"), "{}", ran.stderr);
}
