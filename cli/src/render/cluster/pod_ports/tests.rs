//! Mappings of ports: which servers each is for, and which are faults.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::render::cluster::test_support::{loaded, policy};

/// Servers of every kind: two Services, a pod, an address, and names outside of the cluster.
fn servers() -> String {
    let endpoints = r#"["http://bert.ml.svc.cluster.local:80", "http://Triton.ml.svc:8001",
            "http://triton-0.triton.ml.svc:8002", "http://10.0.0.7:8003", "http://gpu.corp.example:8004"]"#;
    let more = r#"rate_limit_service: {redis: {url: "redis://cache.infra.svc:6379"}}
audit: {export: {otlp: {endpoint: "https://otel.corp.example:4318"}}}
"#;
    let usual = policy("svc-web");
    let usual = usual.replace(r#"["http://triton.ml.svc:8001"]"#, endpoints);
    format!("{usual}{more}")
}

fn ports(models: &[&str], others: &[&str]) -> Result<PodPorts, String> {
    let parsed = |texts: &[&str]| -> Vec<PodPort> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    PodPorts::of(
        &loaded(&servers()).version.policy,
        &parsed(models),
        &parsed(others),
    )
}

#[test]
fn a_mapping_is_for_services_or_for_the_host_that_it_names() {
    let same = [80_u16, 8001, 8002, 8003, 8004];
    for (mappings, expected, unmapped) in [
        (
            &[] as &[&str],
            same,
            "bert.ml.svc.cluster.local:80, triton.ml.svc:8001",
        ),
        (
            &["80=8080"],
            [8001, 8002, 8003, 8004, 8080],
            "triton.ml.svc:8001",
        ),
        (
            &["80=8080", "8001=8001"],
            [8001, 8002, 8003, 8004, 8080],
            "",
        ),
        (
            &["80=8080", "8001=8001", "8001=8001"],
            [8001, 8002, 8003, 8004, 8080],
            "",
        ),
        // The more precise one counts.
        (&["9000", "80=8080"], [8002, 8003, 8004, 8080, 9000], ""),
        (
            &["9000", "bert.ml.svc.cluster.local:80=8080"],
            [8002, 8003, 8004, 8080, 9000],
            "",
        ),
        (
            &["10.0.0.7:8003=9003", "gpu.corp.example:8004=9004"],
            [80, 8001, 8002, 9003, 9004],
            "bert.ml.svc.cluster.local:80, triton.ml.svc:8001",
        ),
    ] {
        let found = ports(mappings, &["6379=6380"]).unwrap();
        assert_eq!(found.models, expected, "{mappings:?}");
        assert_eq!(found.others, [4318_u16, 6380]);
        assert_eq!(found.unmapped.join(", "), unmapped, "{mappings:?}");
        let noted = found.note().is_some_and(|note| note.contains(unmapped));
        assert_eq!(noted, !unmapped.is_empty(), "{mappings:?}");
    }
    let note = ports(&[], &[]).unwrap().note().unwrap();
    assert!(note.contains("cache.infra.svc:6379"), "{note}");
    assert!(!note.contains("corp.example"), "{note}");
}

#[test]
fn servers_at_the_address_of_the_pod_itself_are_named() {
    assert_eq!(own_pod_note(&loaded(&servers()).version.policy), None);
    let near = servers().replace("cache.infra.svc", "127.0.0.1");
    let note = own_pod_note(&loaded(&near).version.policy).unwrap();
    assert!(note.ends_with(": 127.0.0.1:6379"), "{note}");
}

#[test]
fn a_mapping_of_nothing_or_against_another_one_is_a_fault() {
    for (models, others, cause) in [
        (
            &["80=8080", "80=8081"] as &[&str],
            &[] as &[&str],
            "contradict",
        ),
        (&["8080", "8081"], &[], "contradict"),
        (&["81=8080"], &[], "--model-port 81=8080 is for no server"),
        (&["8003=9003"], &[], "for Services alone"),
        (&["other.ml.svc:80=8080"], &[], "is for no server"),
        // A mapping of other servers is for no model server, and the other way round.
        (&["6379=6380"], &[], "is for no server"),
        (&[], &["80=8080"], "--pod-port 80=8080 is for no server"),
        (&[], &["6380"], "--pod-port 6379=6380"),
    ] {
        let fault = ports(models, others).err();
        let found = fault.as_ref().is_some_and(|fault| fault.contains(cause));
        assert!(found, "{models:?} {others:?}: {fault:?}");
    }
}

#[test]
fn a_mapping_has_ports_and_perhaps_a_host() {
    for text in [
        "8080",
        "80=8080",
        "a.b:80=8080",
        "10.0.0.1:80=8080",
        "[::1]:80=8080",
    ] {
        let parsed = text.parse::<PodPort>().map(|mapping| mapping.to_string());
        assert_eq!(parsed.as_deref(), Ok(text));
    }
    for text in [
        "",
        "=",
        "0",
        "80=",
        "=80",
        "80=0",
        "65536",
        "+80",
        "80=http",
        "a:b:80=8080",
        "A.b:80=8080",
        "a b:80=8080",
        ":80=8080",
        "::1:80=8080",
        "[10.0.0.1]:80=8080",
        "a\nkind: x:80=8080",
        "http://a:80=8080",
    ] {
        assert!(text.parse::<PodPort>().is_err(), "{text:?}");
    }
}

#[test]
fn a_service_has_a_name_of_one_or_two_labels_or_svc_behind_them() {
    for (host, expected) in [
        ("triton", true),
        ("triton.ml", true),
        ("triton.ml.svc", true),
        ("Triton.ml.svc.", true),
        ("triton.ml.svc.cluster.local", true),
        ("triton.ml.svc.corp.internal", true),
        ("triton-0.triton.ml.svc", false),
        ("gpu.corp.example", false),
        ("localhost", false),
        ("10.0.0.1", false),
        ("[fd00::1]", false),
    ] {
        assert_eq!(Server::new(host, 80).is_service(), expected, "{host}");
    }
}
