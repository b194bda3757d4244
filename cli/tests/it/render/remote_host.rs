//! `render envoy --host`: clusters that lead to hosts on other machines.

use serde_json::{Value, json};

use super::render;
use crate::program::{Scratch, digits, filters};

const SPIFFE: &str = "spiffe://cluster.local/ns/tensorgate/sa/host";
/// Two hosts, with absolute and relative files.
static HOSTS: [&str; 18] = [
    "--host",
    "host-0.example:8443",
    "--host",
    "10.0.0.2:9443",
    "--audit-host",
    "10.0.0.2:8444",
    "--limits-host",
    "host-0.example:8445",
    "--limits-host",
    "10.0.0.2:8445",
    "--host-name",
    SPIFFE,
    "--host-ca",
    "/run/ca/ca.crt",
    "--host-cert",
    "tls/tls.crt",
    "--host-key",
    "tls/tls.key",
];

#[test]
fn hosts_on_other_machines_are_reached_with_mutual_tls() {
    let (filters, scratch) = (filters(), Scratch::new());
    let out = scratch.path().join("out");
    let mut more = vec!["--json", "--validate", "--whole"];
    more.extend(["-o", out.to_str().unwrap()]);
    more.extend(["--filters", filters.to_str().unwrap()]);
    more.extend(HOSTS);
    let ran = render(&digits(), &more);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let bootstrap: Value = serde_json::from_str(&read("envoy.yaml")).unwrap();
    let resources = &bootstrap["static_resources"];

    let name = "host-0.example";
    let address = "10.0.0.2";
    let expected = [
        ("host", "STRICT_DNS", json!([[name, 8443], [address, 9443]])),
        ("audit", "STATIC", json!([[address, 8444]])),
        (
            "limits",
            "STRICT_DNS",
            json!([[name, 8445], [address, 8445]]),
        ),
    ];
    let clusters = resources["clusters"].as_array().unwrap();
    // The last one leads to Envoy's own admin interface.
    assert_eq!(clusters.len(), expected.len() + 1);
    for (cluster, (name, kind, addresses)) in clusters.iter().zip(expected) {
        assert_eq!(cluster["name"], format!("tensorgate-{name}"));
        assert_eq!(cluster["type"], kind);
        let endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array();
        let endpoints: Vec<Value> = (endpoints.unwrap().iter())
            .map(|endpoint| &endpoint["endpoint"]["address"]["socket_address"])
            .map(|socket| json!([socket["address"], socket["port_value"]]))
            .collect();
        assert_eq!(json!(endpoints), addresses);
        let tls = &cluster["transport_socket"]["typed_config"]["common_tls_context"];
        assert_eq!(tls["alpn_protocols"], json!(["h2"]));
        assert_eq!(tls["tls_params"]["tls_minimum_protocol_version"], "TLSv1_3");
        let certificate = &tls["tls_certificate_sds_secret_configs"][0];
        assert_eq!(certificate["name"], "host-certificate");
        let validation = &tls["combined_validation_context"];
        let authorities = &validation["validation_context_sds_secret_config"];
        assert_eq!(authorities["name"], "host-authorities");
        assert_eq!(
            validation["default_validation_context"]["match_typed_subject_alt_names"],
            json!([{"san_type": "URI", "matcher": {"exact": SPIFFE}}])
        );
    }

    // Only requests that no host has processed are sent again.
    let manager = &resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let routes = &manager["route_config"]["virtual_hosts"][0]["routes"];
    for route in routes.as_array().unwrap() {
        let retries = &route["route"]["retry_policy"];
        assert_eq!(retries["retry_on"], "connect-failure,refused-stream");
    }
    let breaker = &clusters[0]["circuit_breakers"]["thresholds"][0];
    assert_eq!(breaker["max_retries"], breaker["max_requests"]);

    let secret = read("host-certificate.yaml");
    for path in ["/etc/tensorgate/tls/tls.crt", "/etc/tensorgate/tls/tls.key"] {
        assert!(secret.contains(path), "{secret}");
    }
    assert!(secret.contains("path: /etc/tensorgate/tls\n"), "{secret}");
    let secret = read("host-authorities.yaml");
    assert!(secret.contains("filename: /run/ca/ca.crt"), "{secret}");
    assert!(secret.contains("path: /run/ca\n"), "{secret}");
}

#[test]
fn options_of_hosts_that_do_not_fit_together_are_rejected() {
    let without = |flag: &str| {
        let pairs = HOSTS.chunks(2).filter(|pair| pair[0] != flag);
        pairs.flatten().copied().collect::<Vec<_>>()
    };
    let with = |more: &[&'static str]| [HOSTS.as_slice(), more].concat();
    for flag in ["--host", "--audit-host", "--limits-host", "--host-name"] {
        let ran = render(&digits(), &without(flag));
        assert_eq!(ran.code, 2, "without {flag}: {}", ran.stderr);
    }
    let mut elsewhere = without("--host-key");
    elsewhere.extend(["--host-key", "keys/tls.key"]);
    let mut port = without("--audit-host");
    port.extend(["--audit-host", "10.0.0.2"]);
    for (arguments, named) in [
        (with(&["--as", "istio"]), "--as plain"),
        (with(&["--host-socket", "/run/host.sock"]), "--host-socket"),
        (elsewhere, "folder of --host-cert"),
        (port, "neither ADDRESS:PORT nor NAME:PORT"),
    ] {
        let ran = render(&digits(), &arguments);
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(ran.stderr.contains(named), "{named}: {}", ran.stderr);
    }
}
