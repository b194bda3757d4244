//! The pods of `render kubernetes`: no rights, sizes, probes, their end, and what an operator sets.

use serde_json::{Value, json};

use super::{DIGEST, object, objects, policy, render};
use crate::program::{Scratch, host_policy_in, yaml_documents};

/// Names of a container's mounts.
fn mounts(container: &Value) -> Vec<&str> {
    let mounts = container["volumeMounts"].as_array().unwrap();
    mounts
        .iter()
        .map(|mount| mount["name"].as_str().unwrap())
        .collect()
}

#[test]
fn workers_threads_and_memory_follow_the_processors() {
    let sized = |more: &[&str]| {
        let objects = objects(&policy("a+", ""), more);
        let deployment = object(&objects, "Deployment", "tensorgate");
        let pod = &deployment["spec"]["template"]["spec"];
        let after = |container: &Value, option: &str| {
            let arguments = container["args"].as_array().unwrap().iter();
            arguments.skip_while(|it| *it != option).nth(1).cloned()
        };
        let [envoy, host] = [&pod["containers"][0], &pod["initContainers"][1]];
        json!([
            after(envoy, "--concurrency"),
            envoy["resources"]["requests"]["cpu"],
            envoy["resources"]["limits"]["memory"],
            after(host, "--handler-threads"),
            host["resources"]["requests"]["cpu"],
        ])
    };
    assert_eq!(sized(&[]), json!(["2", "1", "744Mi", "1", "1"]));
    let large = sized(&["--envoy-cpu", "64", "--host-cpu", "8"]);
    assert_eq!(large, json!(["64", "64", "1984Mi", "8", "8"]));
}

#[test]
fn the_overload_manager_of_a_pod_counts_all_memory_of_its_container() {
    let objects = objects(&policy("a+", ""), &[]);
    let data = &object(&objects, "ConfigMap", "tensorgate-envoy")["data"];
    let bootstrap = data["envoy.yaml"].as_str().unwrap();
    // One monitor, and a trigger beside each of the heap's thresholds.
    let monitor = "envoy.resource_monitors.cgroup_memory";
    assert_eq!(bootstrap.matches(monitor).count(), 5, "{bootstrap}");
}

#[test]
fn pods_have_no_rights_and_each_program_only_its_own_files() {
    let objects = objects(&policy("a+", ""), &["--model-server", "app=triton"]);
    let deployment = object(&objects, "Deployment", "tensorgate");
    let template = &deployment["spec"]["template"];
    let inject = &template["metadata"]["labels"]["sidecar.istio.io/inject"];
    assert_eq!(inject, "false");
    let pod = &template["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let containers = pod["containers"].as_array().unwrap();
    let first = pod["initContainers"].as_array().unwrap();
    for container in containers.iter().chain(first) {
        let rights = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(
            container["securityContext"], rights,
            "{}",
            container["name"]
        );
        assert!(container["image"].as_str().unwrap().ends_with(DIGEST));
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    // Envoy never holds the key that opens the model servers.
    let ([envoy], [_, host]) = (&containers[..], &first[..]) else {
        panic!("{containers:?}, {first:?}");
    };
    let (envoy, host) = (mounts(envoy), mounts(host));
    assert!(
        envoy.contains(&"admin") && !host.contains(&"admin"),
        "{host:?}"
    );
    assert!(
        envoy.contains(&"envoy-files-0") && !envoy.contains(&"host-files-1"),
        "{envoy:?}"
    );
    assert!(
        host.contains(&"host-files-1") && !host.contains(&"envoy-files-0"),
        "{host:?}"
    );
    let volumes = pod["volumes"].as_array().unwrap();
    let files = |name: &str| {
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == name)
            .unwrap();
        let items = volume["secret"]["items"].as_array().unwrap();
        let keys = items.iter().map(|item| item["key"].as_str().unwrap());
        keys.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(files("envoy-files-0"), "pki.gate.key pki.gate.pem");
    assert_eq!(
        files("host-files-1"),
        "pki.ca.pem pki.client.key pki.client.pem"
    );
    // No secret is in an object.
    assert!(objects.iter().all(|object| object["kind"] != "Secret"));
}

#[test]
fn the_host_prints_its_audit_log_unless_the_policy_has_an_export() {
    let arguments = |export: &str| {
        let objects = objects(&policy("a+", export), &[]);
        let deployment = object(&objects, "Deployment", "tensorgate");
        let host = deployment["spec"]["template"]["spec"]["initContainers"][1].clone();
        assert_eq!(host["name"], "host");
        let bundle = object(&objects, "ConfigMap", "tensorgate-policy");
        (host["args"].to_string(), host_policy_in(bundle).policy)
    };
    let otlp = "audit: {export: {otlp: {endpoint: \"https://collector.example.com:4318\"}}}\n";
    for (export, expected) in [
        ("", true),
        ("audit: {files: 4}\n", true),
        ("audit: {export: {stdout: false}}\n", false),
        ("audit: {export: {stdout: true}}\n", false),
        (otlp, false),
    ] {
        let (arguments, policy) = arguments(export);
        assert_eq!(arguments.contains("--audit-stdout"), expected, "{export}");
        // The policy itself is the one that `check` and `up` have.
        let exports = policy.audit().export().stdout();
        assert_eq!(exports, export.contains("stdout: true"), "{export}");
    }
}

#[test]
fn envoy_is_drained_before_its_signal_and_the_host_ends_after_it() {
    let objects = objects(&policy("a+", ""), &[]);
    let pod = &object(&objects, "Deployment", "tensorgate")["spec"]["template"]["spec"];
    let command = &pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"];
    let expected = json!([
        "/opt/tensorgate/filters/tensorgate-host",
        "pod",
        "drain",
        "--admin-socket",
        "/run/envoy/admin.sock",
        "--leave-seconds",
        "10",
        "--seconds",
        "60",
    ]);
    assert_eq!(command, &expected);
    assert_eq!(pod["terminationGracePeriodSeconds"], 90);
    // A sidecar: the kubelet starts Envoy after its probe's success. So that must not need Envoy.
    let host = &pod["initContainers"][1];
    assert_eq!(
        (&host["name"], &host["restartPolicy"]),
        (&json!("host"), &json!("Always"))
    );
    assert_eq!(host["startupProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(host.get("lifecycle"), None);
}

#[test]
fn a_pod_is_ready_only_with_a_loaded_filter() {
    // Neither a client's certificate nor a credential is needed for the probe.
    let private = policy("a+", "").replace(
        "key: pki/gate.key}",
        "key: pki/gate.key, client_ca: pki/clients.pem}, health: clients",
    );
    let found = objects(&private, &["--model-server", "app=triton"]);
    let pod = &object(&found, "Deployment", "tensorgate")["spec"]["template"]["spec"];
    let named = |name: &str| {
        let lists = ["containers", "initContainers"].map(|list| pod[list].as_array().unwrap());
        let mut containers = lists.into_iter().flatten();
        containers.find(|one| one["name"] == name).unwrap()
    };
    let (envoy, host) = (named("envoy"), named("host"));
    let socket = "/run/envoy/ready.sock";
    let program = "/opt/tensorgate/filters/tensorgate-host";
    assert_eq!(
        envoy["readinessProbe"]["exec"]["command"],
        json!([program, "pod", "ready", "--socket", socket])
    );
    assert!(mounts(envoy).contains(&"admin") && mounts(envoy).contains(&"filters"));
    // Envoy may not wait for the host to start, nor be restarted for it, and the other way round.
    for probe in ["startupProbe", "livenessProbe"] {
        assert!(envoy[probe]["tcpSocket"].is_object(), "{probe}");
        assert_ne!(host[probe]["httpGet"]["path"], "/readyz", "{probe}");
    }
    // Clients that fill the queue of their port restart no Envoy, and what hangs is not drained.
    assert_eq!(envoy["livenessProbe"]["tcpSocket"]["port"], "stats");
    for container in [envoy, host] {
        let probe = &container["livenessProbe"];
        assert_eq!(probe["terminationGracePeriodSeconds"], 10);
    }
    assert_eq!(host["livenessProbe"]["timeoutSeconds"], 5);
    let budget = &object(&found, "PodDisruptionBudget", "tensorgate")["spec"];
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    assert_eq!(host["readinessProbe"]["httpGet"]["path"], "/readyz");
    let arguments = host["args"].as_array().unwrap();
    assert!(arguments.contains(&json!("--wait-for-filter")));

    let files = &object(&found, "ConfigMap", "tensorgate-dynamic")["data"];
    let documents = yaml_documents(files["lds.yaml"].as_str().unwrap());
    let listeners = &documents[0]["resources"];
    let probe = &listeners[1];
    assert_eq!(probe["address"]["pipe"]["path"], socket);
    let chain = &probe["filter_chains"][0];
    assert!(chain["transport_socket"].is_null(), "no TLS");
    let manager =
        |listener: &Value| listener["filter_chains"][0]["filters"][0]["typed_config"].clone();
    let (clients, probe) = (manager(&listeners[0]), manager(probe));
    assert_eq!(probe["http_filters"], clients["http_filters"]);
    // Else each probe lasts a second longer, and an answer after two comes too late.
    assert_eq!(probe["delayed_close_timeout"], "0s");
    assert!(probe["access_log"].is_null() && !clients["access_log"].is_null());
}

#[test]
fn an_operator_says_where_the_pods_run_and_what_they_carry() {
    let scratch = Scratch::new();
    let affinity = "podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {team: ml}}}
";
    let file = scratch.file("affinity.yaml", affinity);
    let more = "--image-pull-secret one --image-pull-secret two --node-selector disk=ssd
        --toleration nvidia.com/gpu:NoSchedule --toleration pool=gate:NoExecute
        --priority-class high --label team=ml --annotation example.com/owner=a@b";
    let mut arguments: Vec<_> = more.split_whitespace().collect();
    arguments.extend(["--affinity", file.to_str().unwrap()]);
    let found = objects(&policy("a+", ""), &arguments);
    let pod = &object(&found, "Deployment", "tensorgate")["spec"]["template"];
    let spec = &pod["spec"];
    let secrets = json!([{"name": "one"}, {"name": "two"}]);
    assert_eq!(spec["imagePullSecrets"], secrets);
    assert_eq!(spec["nodeSelector"], json!({"disk": "ssd"}));
    let tolerations = json!([
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "pool", "operator": "Equal", "value": "gate", "effect": "NoExecute"},
    ]);
    assert_eq!(spec["tolerations"], tolerations);
    assert_eq!(spec["priorityClassName"], "high");
    let rule = json!([{
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"team": "ml"}},
    }]);
    let rules = &spec["affinity"]["podAntiAffinity"];
    assert_eq!(
        rules["requiredDuringSchedulingIgnoredDuringExecution"],
        rule
    );
    assert_eq!(pod["metadata"]["labels"]["team"], "ml");
    let owner = &pod["metadata"]["annotations"]["example.com/owner"];
    assert_eq!(owner, "a@b");

    let file = scratch.file("affinity.yaml", "podAffinity: {require: []}\n");
    let policy = scratch.file("gate.yaml", policy("a+", ""));
    let ran = render(&policy, &["--affinity", file.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("line 1: "), "{}", ran.stderr);
    let ran = render(&policy, &["--label", "team=a", "--label", "team=b"]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("--label gives"), "{}", ran.stderr);
}
