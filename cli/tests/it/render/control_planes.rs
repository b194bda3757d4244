//! `render envoy --as`: filters as control planes load them, compared with what control planes
//! themselves publish.

use serde_json::{Value, json};
use tensorgate_client::run::skip;
use tensorgate_policy::{Compiled, FilterTarget, HeaderMode, Target};

use super::render;
use crate::program::{self, digits, small_filters, tree, yaml_documents};

/// The only connection manager of a bootstrap.
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
/// The variable with the folder of Envoy Gateway's published configuration; by default it is beside
/// the tree.
const PUBLISHED: &str = "TENSORGATE_XDS";

fn rendered(control_plane: &str, more: &[&str]) -> Value {
    let arguments = [&["--json", "--as", control_plane], more].concat();
    let ran = render(&digits(), &arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn keys(map: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = map
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

/// The policy in a filter's configuration.
fn compiled(config: &Value) -> Compiled {
    let configuration = &config["configuration"];
    assert_eq!(keys(configuration), ["@type", "value"]);
    program::compiled(configuration["value"].as_str().unwrap())
}

/// What a filter's configuration says about headers.
fn headers(config: &Value) -> HeaderMode {
    compiled(config).target.filter().unwrap().headers
}

#[test]
fn a_filters_fields_are_those_that_istiod_writes() {
    for control_plane in ["istio", "istio-edge"] {
        let bootstrap = rendered(control_plane, &[]);
        let manager = bootstrap.pointer(MANAGER).unwrap();
        let filter = &manager["http_filters"][0];
        assert_eq!(keys(filter), ["name", "typed_config"]);
        let config = &filter["typed_config"]["config"];
        let expected = [
            "configuration",
            "failure_policy",
            "name",
            "root_id",
            "vm_config",
        ];
        assert_eq!(keys(config), expected);
        let expected = ["code", "environment_variables", "runtime"];
        assert_eq!(keys(&config["vm_config"]), expected);
        assert_eq!(headers(config), HeaderMode::Forward);
        let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array();
        assert!(
            routes
                .unwrap()
                .iter()
                .all(|route| keys(route) == ["match", "route"])
        );
    }
    let limit = "/static_resources/listeners/0/per_connection_buffer_limit_bytes";
    assert_eq!(rendered("istio", &[]).pointer(limit), None);
    let edge = rendered("istio-edge", &[]);
    assert_eq!(edge.pointer(limit), Some(&json!(32_768)));
}

#[test]
fn the_header_mode_matches_allow_on_headers_stop_iteration() {
    for (control_plane, expected) in [
        ("plain", (HeaderMode::Hold, true)),
        ("istio", (HeaderMode::Forward, false)),
        ("istio-edge", (HeaderMode::Forward, false)),
        ("envoy-gateway", (HeaderMode::Forward, false)),
    ] {
        let bootstrap = rendered(control_plane, &["--chain", "auth,rate-limit,tensor-guard"]);
        let manager = bootstrap.pointer(MANAGER).unwrap();
        let filters = manager["http_filters"].as_array().unwrap();
        let (_router, filters) = filters.split_last().unwrap();
        assert_eq!(filters.len(), 3);
        for filter in filters {
            let config = &filter["typed_config"]["config"];
            let holds = config["allow_on_headers_stop_iteration"] == true;
            assert_eq!((headers(config), holds), expected);
        }
    }
}

#[test]
fn every_control_plane_gets_the_same_policy() {
    let filter = |control_plane: &str| {
        let bootstrap = rendered(control_plane, &[]);
        let manager = bootstrap.pointer(MANAGER).unwrap();
        let compiled = compiled(&manager["http_filters"][0]["typed_config"]["config"]);
        // The header mode is the only difference.
        let target = FilterTarget {
            headers: HeaderMode::default(),
            ..compiled.target.filter().unwrap()
        };
        let target = Target::Filter(target);
        Compiled { target, ..compiled }.to_bytes()
    };
    let plain = filter("plain");
    for control_plane in ["istio", "istio-edge", "envoy-gateway"] {
        assert_eq!(filter(control_plane), plain, "{control_plane}");
    }
}

#[test]
fn a_policy_has_the_same_id_at_every_listener() {
    for more in [&[][..], &["--listen", "127.0.0.1:9"]] {
        for control_plane in ["plain", "istio", "envoy-gateway"] {
            let bootstrap = rendered(control_plane, more);
            let manager = bootstrap.pointer(MANAGER).unwrap();
            let compiled = compiled(&manager["http_filters"][0]["typed_config"]["config"]);
            let target = compiled.target.filter().unwrap();
            assert_eq!(
                target.policy_id, "127.0.0.1:8080",
                "{control_plane} {more:?}"
            );
        }
    }
}

#[test]
fn a_filter_without_a_host_has_that_in_its_configuration() {
    for (more, expected) in [(&[][..], true), (&["--no-host"], false)] {
        let bootstrap = rendered("plain", more);
        let manager = bootstrap.pointer(MANAGER).unwrap();
        let compiled = compiled(&manager["http_filters"][0]["typed_config"]["config"]);
        assert_eq!(compiled.target.filter().unwrap().host, expected);
    }
}

#[test]
fn a_real_envoy_validates_what_every_control_plane_would_send() {
    let filters = small_filters();
    let filters = filters.to_str().unwrap();
    for control_plane in ["istio", "istio-edge", "envoy-gateway"] {
        let more = ["--as", control_plane, "--filters", filters, "--validate"];
        let ran = render(&digits(), &more);
        assert_eq!(ran.code, 0, "{control_plane}: {}", ran.stderr);
    }
}

/// Envoy Gateway's own output: its listeners and its routes. Without the files, the summary of the
/// test run names the check that was skipped.
fn published() -> Option<[Value; 2]> {
    let beside = || tree().parent().unwrap().join("shared/xds");
    let folder = std::env::var_os(PUBLISHED).map_or_else(beside, Into::into);
    let files = ["listeners", "routes"];
    let files = files.map(|name| folder.join(format!("envoy-gateway-wasm.{name}.yaml")));
    if let Some(missing) = files.iter().find(|file| !file.is_file()) {
        let missing = missing.display();
        skip(&format!(
            "comparison with Envoy Gateway's own configuration: no {missing}; \
             name the folder of these files with {PUBLISHED}"
        ));
        return None;
    }
    Some(files.map(|file| yaml(&std::fs::read_to_string(file).unwrap())))
}

/// A YAML document. Field names are converted from protobuf's JSON form to its own.
fn yaml(text: &str) -> Value {
    snake_keys(yaml_documents(text).remove(0))
}

fn snake_keys(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let each = map.into_iter();
            Value::Object(
                each.map(|(key, value)| (snake(&key), snake_keys(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(snake_keys).collect(),
        other => other,
    }
}

/// `vmId` as `vm_id`. The name of a resource stays as it is.
fn snake(key: &str) -> String {
    if key.contains(['.', '/', '@']) {
        return key.to_owned();
    }
    let letters = key.chars().flat_map(|letter| {
        let word = letter.is_ascii_uppercase().then_some('_');
        word.into_iter().chain([letter.to_ascii_lowercase()])
    });
    letters.collect()
}

#[test]
fn a_filter_fits_into_the_listener_that_envoy_gateway_publishes() {
    let Some([listeners, routes]) = published() else {
        return;
    };
    let theirs = &listeners[0];
    let bootstrap = rendered("envoy-gateway", &[]);
    let ours = &bootstrap["static_resources"]["listeners"][0];
    let limit = "per_connection_buffer_limit_bytes";
    assert_eq!(theirs[limit], ours[limit]);
    let their_manager = &theirs["default_filter_chain"]["filters"][0]["typed_config"];
    let manager = bootstrap.pointer(MANAGER).unwrap();
    for field in [
        "http2_protocol_options",
        "normalize_path",
        "merge_slashes",
        "path_with_escaped_slashes_action",
        "server_header_transformation",
        "use_remote_address",
    ] {
        assert!(!manager[field].is_null(), "{field}");
        assert_eq!(their_manager[field], manager[field], "{field}");
    }
    let underscores = "/common_http_protocol_options/headers_with_underscores_action";
    assert_eq!(
        their_manager.pointer(underscores),
        manager.pointer(underscores)
    );

    // One of theirs has a root, another one environment variables; ours has both.
    let config = |filter: &Value| filter["typed_config"]["config"].clone();
    let (rooted, environment) = (
        &their_manager["http_filters"][2],
        &their_manager["http_filters"][3],
    );
    let filter = &manager["http_filters"][0];
    assert_eq!(keys(rooted), keys(filter));
    assert_eq!(
        (&rooted["disabled"], &filter["disabled"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(keys(&config(rooted)), keys(&config(filter)));
    let vm = |filter: &Value| config(filter)["vm_config"].clone();
    assert_eq!(keys(&vm(environment)), keys(&vm(filter)));
    for field in ["environment_variables", "runtime"] {
        let theirs = &vm(environment)[field];
        assert_eq!(theirs.is_string(), vm(filter)[field].is_string(), "{field}");
    }
    assert_eq!(
        config(rooted)["configuration"]["@type"],
        config(filter)["configuration"]["@type"]
    );
    for filter in [rooted, filter] {
        let id = vm(filter)["vm_id"].as_str().unwrap().to_owned();
        assert_eq!(filter["name"], format!("envoy.filters.http.wasm/{id}"));
    }
    assert_eq!(headers(&config(filter)), HeaderMode::Forward);

    let their_route = &routes[0]["virtual_hosts"][0]["routes"][1];
    let name = filter["name"].as_str().unwrap();
    let all = manager["route_config"]["virtual_hosts"][0]["routes"].as_array();
    for route in all.unwrap() {
        let enabled = &route["typed_per_filter_config"];
        assert_eq!(keys(enabled), [name]);
        let theirs = &their_route["typed_per_filter_config"][rooted["name"].as_str().unwrap()];
        assert_eq!(theirs, &enabled[name]);
        assert_eq!(
            their_route["route"]["upgrade_configs"],
            route["route"]["upgrade_configs"]
        );
    }
}

#[test]
fn every_chain_renders_shared_limits() {
    let policy = std::fs::read_to_string(digits()).unwrap();
    let scratch = program::Scratch::new();
    let shared = policy.replacen("quota: 600", "scope: global, quota: 600", 1);
    let service = "rate_limit_service: {redis: {url: \"redis://127.0.0.1:6379\"}}\n";
    let file = scratch.file("gate.yaml", format!("{shared}\n{service}"));
    for (control_plane, chain) in [
        ("plain", "auth,rate-limit,tensor-guard"),
        ("istio", "gate"),
        ("istio", "auth,rate-limit,tensor-guard"),
        ("envoy-gateway", "rate-limit,tensor-guard"),
    ] {
        let ran = render(&file, &["--as", control_plane, "--chain", chain]);
        assert_eq!(ran.code, 0, "{control_plane} {chain}: {}", ran.stderr);
    }
}
