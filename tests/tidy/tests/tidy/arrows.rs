//! Which of our crates may depend on which: the arrows of `docs/explanation/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{metadata, none};

/// The compiler of policies.
const COMPILER: &str = "tensorgate-policy-compiler";

/// The crates that scan, sign, verify and copy models. A pipeline or a model server has them
/// without a gate, so they do not depend on [`POLICY`].
const MODELS: [&str; 3] = [
    "tensorgate-artifact",
    "tensorgate-model",
    "tensorgate-models",
];

/// The validated policy and the decisions about requests.
const POLICY: &str = "tensorgate-policy";

/// Every crate of ours and the crates of ours that it may depend on, apart from test dependencies.
const ARROWS: &[(&str, &[&str])] = &[
    // Loops over tensors for the vectors of each machine.
    ("tensorgate-kernels", &[]),
    // Plain values that a policy and the crates of models share.
    ("tensorgate-values", &[]),
    (
        "tensorgate-policy",
        &["tensorgate-kernels", "tensorgate-values"],
    ),
    // Programs that read a policy as it is written. Filters and hosts load what it compiles.
    (COMPILER, &["tensorgate-policy"]),
    ("tensorgate-identity", &["tensorgate-policy"]),
    ("tensorgate-wire", &["tensorgate-policy"]),
    (
        "tensorgate-filter-core",
        &[
            "tensorgate-filter-load",
            "tensorgate-policy",
            "tensorgate-identity",
            "tensorgate-wire",
        ],
    ),
    ("tensorgate-filter-load", &["tensorgate-policy"]),
    (
        "tensorgate-filter-wasm",
        &[
            "tensorgate-filter-core",
            "tensorgate-identity",
            "tensorgate-policy",
            "tensorgate-wire",
        ],
    ),
    ("tensorgate-gate", &["tensorgate-filter-wasm"]),
    (
        "tensorgate-envoy-module",
        &[
            "tensorgate-filter-core",
            "tensorgate-identity",
            "tensorgate-policy",
            "tensorgate-wire",
        ],
    ),
    // Envoy's side of the native module, for tests; loads the module when it runs.
    (
        "tensorgate-abi-driver",
        &[
            "tensorgate-identity",
            "tensorgate-in-memory-proxy",
            "tensorgate-vectors",
        ],
    ),
    // The filters without Envoy, for tests and `explain`.
    (
        "tensorgate-in-memory-proxy",
        &[
            "tensorgate-filter-core",
            "tensorgate-identity",
            "tensorgate-policy",
            COMPILER,
            "tensorgate-wire",
        ],
    ),
    // The gate with faults in it, for tests.
    ("tensorgate-faulty-gate", &["tensorgate-filter-wasm"]),
    ("tensorgate-handler", &[]),
    ("tensorgate-componentize", &[]),
    ("tensorgate-kit", &[]),
    ("tensorgate-signature", &["tensorgate-values"]),
    (
        "tensorgate-artifact",
        &["tensorgate-signature", "tensorgate-values"],
    ),
    ("tensorgate-policy-text", &["tensorgate-values"]),
    // The rooms of the host. Only the sandbox links wasmtime.
    ("tensorgate-base", &["tensorgate-values"]),
    ("tensorgate-net", &["tensorgate-base", "tensorgate-policy"]),
    (
        "tensorgate-telemetry",
        &["tensorgate-base", "tensorgate-policy", "tensorgate-wire"],
    ),
    ("tensorgate-os-sandbox", &[]),
    (
        "tensorgate-settings",
        &[
            "tensorgate-base",
            "tensorgate-os-sandbox",
            "tensorgate-policy",
            "tensorgate-signature",
        ],
    ),
    (
        "tensorgate-judge",
        &["tensorgate-base", "tensorgate-policy", "tensorgate-wire"],
    ),
    (
        "tensorgate-sandbox",
        &[
            "tensorgate-base",
            "tensorgate-os-sandbox",
            "tensorgate-policy",
            "tensorgate-settings",
        ],
    ),
    (
        "tensorgate-audit",
        &[
            "tensorgate-base",
            "tensorgate-net",
            "tensorgate-policy",
            "tensorgate-telemetry",
            "tensorgate-wire",
        ],
    ),
    (
        "tensorgate-watch",
        &[
            "tensorgate-audit",
            "tensorgate-base",
            "tensorgate-net",
            "tensorgate-os-sandbox",
            "tensorgate-policy",
            "tensorgate-telemetry",
        ],
    ),
    (
        "tensorgate-console",
        &[
            "tensorgate-audit",
            "tensorgate-base",
            "tensorgate-telemetry",
            "tensorgate-values",
            "tensorgate-watch",
        ],
    ),
    (
        "tensorgate-models",
        &[
            "tensorgate-artifact",
            "tensorgate-base",
            "tensorgate-os-sandbox",
            "tensorgate-values",
        ],
    ),
    (
        "tensorgate-verified-models",
        &[
            "tensorgate-artifact",
            "tensorgate-audit",
            "tensorgate-base",
            "tensorgate-models",
            "tensorgate-policy",
            "tensorgate-telemetry",
        ],
    ),
    (
        "tensorgate-limits",
        &[
            "tensorgate-net",
            "tensorgate-policy",
            "tensorgate-telemetry",
            "tensorgate-wire",
        ],
    ),
    (
        "tensorgate-host",
        &[
            "tensorgate-artifact",
            "tensorgate-audit",
            "tensorgate-base",
            "tensorgate-console",
            "tensorgate-judge",
            "tensorgate-limits",
            "tensorgate-models",
            "tensorgate-net",
            "tensorgate-os-sandbox",
            "tensorgate-policy",
            "tensorgate-sandbox",
            "tensorgate-settings",
            "tensorgate-signature",
            "tensorgate-telemetry",
            "tensorgate-verified-models",
            "tensorgate-watch",
            "tensorgate-wire",
        ],
    ),
    (
        "tensorgate-cli-common",
        &[
            "tensorgate-base",
            "tensorgate-policy-text",
            "tensorgate-values",
        ],
    ),
    (
        "tensorgate-policy-load",
        &[
            "tensorgate-cli-common",
            "tensorgate-judge",
            "tensorgate-policy",
            COMPILER,
            "tensorgate-policy-text",
            "tensorgate-settings",
        ],
    ),
    // A few megabytes, for pipelines and for containers that run before a model server.
    (
        "tensorgate-model",
        &[
            "tensorgate-artifact",
            "tensorgate-base",
            "tensorgate-cli-common",
            "tensorgate-models",
            "tensorgate-policy-text",
            "tensorgate-values",
        ],
    ),
    (
        "tensorgate",
        &[
            "tensorgate-artifact",
            "tensorgate-audit",
            "tensorgate-base",
            "tensorgate-cli-common",
            "tensorgate-filter-core",
            "tensorgate-identity",
            "tensorgate-judge",
            "tensorgate-limits",
            "tensorgate-models",
            "tensorgate-in-memory-proxy",
            "tensorgate-net",
            "tensorgate-os-sandbox",
            "tensorgate-policy",
            COMPILER,
            "tensorgate-policy-load",
            "tensorgate-policy-text",
            "tensorgate-settings",
            "tensorgate-signature",
            // Its tests write audit logs.
            "tensorgate-telemetry",
            "tensorgate-verified-models",
            "tensorgate-watch",
            "tensorgate-wire",
        ],
    ),
    // In its tests, everything that decides.
    (
        "tensorgate-conformance",
        &[
            "tensorgate-client",
            "tensorgate-filter-core",
            "tensorgate-judge",
            "tensorgate-limits",
            "tensorgate-in-memory-proxy",
            "tensorgate-policy",
            "tensorgate-vectors",
            "tensorgate-wire",
        ],
    ),
    // The tooling of handler authors. No crate of the gate may depend on it.
    (
        "tensorgate-workbench",
        &[
            "tensorgate-artifact",
            "tensorgate-base",
            "tensorgate-cli-common",
            "tensorgate-componentize",
            "tensorgate-models",
            "tensorgate-policy",
            COMPILER,
            "tensorgate-policy-load",
            "tensorgate-policy-text",
            "tensorgate-sandbox",
            "tensorgate-settings",
            "tensorgate-signature",
            "tensorgate-wire",
        ],
    ),
    ("tensorgate-embedded", &["tensorgate-wire"]),
    (
        "tensorgate-demo",
        &[
            "tensorgate-audit",
            "tensorgate-client",
            "tensorgate-policy",
            "tensorgate-watch",
            "tensorgate-wire",
        ],
    ),
    ("tensorgate-client", &[]),
    ("tensorgate-tidy", &[]),
    (
        "tensorgate-vectors",
        &["tensorgate-policy", "tensorgate-wire"],
    ),
    ("png-digits", &["tensorgate-handler"]),
    ("digit-labels", &["tensorgate-handler"]),
    ("normalise", &["tensorgate-handler"]),
    ("passthrough", &["tensorgate-handler"]),
    ("handler-settings", &["tensorgate-handler"]),
    (
        "image-classifier",
        &["handler-settings", "tensorgate-handler"],
    ),
    ("class-labels", &["handler-settings", "tensorgate-handler"]),
    ("text-tokens", &["handler-settings", "tensorgate-handler"]),
    (
        "text-classifier",
        &["handler-settings", "tensorgate-handler"],
    ),
    ("tabular", &["handler-settings", "tensorgate-handler"]),
    (
        "audio-features",
        &["handler-settings", "tensorgate-handler"],
    ),
    ("detection", &["handler-settings", "tensorgate-handler"]),
    ("redaction", &["handler-settings", "tensorgate-handler"]),
    (
        "prompt-template",
        &["handler-settings", "tensorgate-handler"],
    ),
    // A peer of the native module that does nothing.
    ("tensorgate-idle-module", &[]),
    // The bench may depend on what it measures, and signs its tokens as the tests do.
    (
        "tensorgate-bench",
        &[
            "normalise",
            "tensorgate-audit",
            "tensorgate-base",
            "tensorgate-console",
            "tensorgate-identity",
            "tensorgate-policy",
            COMPILER,
            "tensorgate-sandbox",
            "tensorgate-vectors",
            "tensorgate-watch",
            "tensorgate-wire",
        ],
    ),
    ("hostile-behaviours", &["tensorgate-handler"]),
    ("hostile-fetch", &["tensorgate-handler"]),
    ("hostile-lookup", &["tensorgate-handler"]),
    ("hostile-loop", &["tensorgate-handler"]),
    ("hostile-memory-bomb", &["tensorgate-handler"]),
    ("hostile-wasi", &["tensorgate-handler"]),
    ("hostile-wrong-shape", &["tensorgate-handler"]),
];

/// End-to-end tests may depend on every crate; no crate may depend on them.
const TESTS: &str = "tensorgate-tests";

/// What tests may depend on. Of these, programs use only the in-memory proxy, for `explain`.
const TOOLS: [&str; 5] = [
    COMPILER,
    "tensorgate-vectors",
    "tensorgate-client",
    "tensorgate-tidy",
    "tensorgate-in-memory-proxy",
];

/// Crates that may name the proxy's SDK.
const PROXY_WASM: [&str; 3] = [
    "tensorgate-filter-wasm",
    "tensorgate-gate",
    "tensorgate-faulty-gate",
];

struct Package {
    name: String,
    /// Name and kind (`None` for a normal one).
    dependencies: Vec<(String, Option<String>)>,
}

fn packages() -> Vec<Package> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = metadata(&["--no-deps", "--offline"]);
    let list = metadata
        .get("packages")
        .and_then(|packages| packages.as_array())
        .unwrap();
    list.iter()
        .map(|package| Package {
            name: text(package.get("name").unwrap()).unwrap(),
            dependencies: package
                .get("dependencies")
                .and_then(|dependencies| dependencies.as_array())
                .unwrap()
                .iter()
                .map(|dependency| {
                    (
                        text(dependency.get("name").unwrap()).unwrap(),
                        text(dependency.get("kind").unwrap()),
                    )
                })
                .collect(),
        })
        .collect()
}

#[test]
fn crates_depend_only_on_what_the_architecture_allows() {
    let packages = packages();
    let ours: BTreeSet<_> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let listed: BTreeSet<_> = arrows.keys().copied().chain([TESTS]).collect();
    assert_eq!(
        ours, listed,
        "the list of crates here and the workspace differ"
    );
    let mut faults = Vec::new();
    for package in packages.iter().filter(|package| package.name != TESTS) {
        let allowed = arrows.get(package.name.as_str()).unwrap();
        for (dependency, kind) in package
            .dependencies
            .iter()
            .filter(|(name, _)| ours.contains(name.as_str()))
        {
            let tool_for_tests =
                kind.as_deref() == Some("dev") && TOOLS.contains(&dependency.as_str());
            if !allowed.contains(&dependency.as_str()) && !tool_for_tests {
                faults.push(format!("{} depends on {dependency}", package.name));
            }
        }
    }
    none("arrows that the architecture does not have", faults);
}

#[test]
fn only_filters_depend_on_the_proxy_sdk() {
    let faults = packages()
        .iter()
        .filter(|package| !PROXY_WASM.contains(&package.name.as_str()))
        .filter(|package| {
            package
                .dependencies
                .iter()
                .any(|(name, _)| name == "proxy-wasm")
        })
        .map(|package| package.name.clone())
        .collect();
    none("crates that name proxy-wasm", faults);
}

/// A crate and all crates below it. Another test holds the arrows against the manifests.
fn with_crates_below(program: &'static str) -> BTreeSet<&'static str> {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let (mut seen, mut next) = (BTreeSet::new(), vec![program]);
    while let Some(crate_name) = next.pop() {
        if seen.insert(crate_name) {
            next.extend(arrows.get(crate_name).copied().unwrap_or_default());
        }
    }
    seen
}

#[test]
fn filters_and_hosts_do_not_have_the_compiler_of_policies() {
    for program in ["tensorgate-gate", "tensorgate-host"] {
        let seen = with_crates_below(program);
        assert!(seen.contains(POLICY), "{program}: {seen:?}");
        assert!(!seen.contains(COMPILER), "{program}: {seen:?}");
    }
}

#[test]
fn crates_of_models_do_not_have_the_policy() {
    for package in MODELS {
        let seen = with_crates_below(package);
        assert!(seen.contains("tensorgate-values"), "{package}: {seen:?}");
        assert!(!seen.contains(POLICY), "{package}: {seen:?}");
    }
}
