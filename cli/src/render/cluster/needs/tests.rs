//! What must exist before the objects of each target, compared with what these objects name.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::render::cluster::kubernetes::Kubernetes;
use crate::render::cluster::monitoring::Monitoring;
use crate::render::cluster::test_support::{image, loaded, policy, workload};
use crate::render::cluster::workload::HandlerSource;
use crate::render::envoy::Driver;
use crate::render::node::{Node, list, map};

/// The lines for a gate of its own, with TLS at its listener or without.
fn lines(is_encrypted: bool, handlers: Option<HandlerSource>) -> Vec<String> {
    let tls = "listen: {tls: {cert: pki/gate.pem, key: pki/gate.key}, address";
    let text = if is_encrypted {
        policy("a").replace("listen: {address", tls)
    } else {
        policy("a")
    };
    let loaded = loaded(&text);
    let mut workload = workload(&loaded);
    workload.handlers = handlers;
    let gate = Kubernetes {
        workload,
        envoy_image: image("envoy"),
        driver: Driver::Wasm,
        clients_from: None,
        monitoring: Monitoring::default(),
    };
    Needs::of(&gate.render(&loaded).unwrap(), None).lines()
}

#[test]
fn only_the_secrets_that_objects_name_must_exist_with_their_keys() {
    let context = "Secret gate-context in namespace ml, with context.key".to_owned();
    let files = "Secret gate-files in namespace ml, with pki.gate.key, pki.gate.pem".to_owned();
    let with = lines(true, None);
    assert!(with.contains(&context) && with.contains(&files), "{with:?}");
    let without = lines(false, None);
    let images = ["envoy", "host"].map(|name| format!("Image {}", image(name)));
    let expected = [
        "Kubernetes 1.30 or later".to_owned(),
        "Namespace ml".to_owned(),
        context,
    ];
    assert_eq!(without, [expected.as_slice(), &images].concat());
}

#[test]
fn volumes_of_handlers_must_exist_too() {
    let claim = lines(false, Some(HandlerSource::Claim("c".parse().unwrap())));
    let expected = "PersistentVolumeClaim c in namespace ml".to_owned();
    assert!(claim.contains(&expected), "{claim:?}");
    let handlers = image("handlers");
    let volume = lines(false, Some(HandlerSource::Image(handlers.clone())));
    assert!(volume.contains(&format!("Image {handlers}")), "{volume:?}");
    assert!(
        volume
            .iter()
            .any(|line| line.contains("1.33 with its feature gate ImageVolume"))
    );
}

#[test]
fn objects_of_other_systems_name_their_kinds_and_switches() {
    let object = |api: &str, kind: &str, spec: Node| {
        map! {
            "apiVersion" => api,
            "kind" => kind,
            "metadata" => map! {"name" => "gate", "namespace" => "ml"},
            "spec" => spec,
        }
    };
    let secret = |name: &str| {
        let key = map! {"name" => name, "key" => "context.key"};
        map! {"secretKeyRef" => key}
    };
    let extensions = "gateway.envoyproxy.io/v1alpha1";
    let proxy = map! {
        "provider" => secret("context"),
        "backendTLS" => map! {"clientCertificateRef" => map! {"name" => "proxy-tls"}},
    };
    let mut manifests = Manifests::default();
    manifests.add("a", object(extensions, "EnvoyProxy", proxy));
    // Names in Envoy's own configuration refer to nothing in the cluster.
    let patch = map! {"secret" => map! {"secretName" => "none"}};
    manifests.add("b", object(extensions, "EnvoyPatchPolicy", patch));
    let route = map! {"parentRefs" => list![map! {"name" => "models"}]};
    let gateway_api = "gateway.networking.k8s.io/v1";
    manifests.add("c", object(gateway_api, "HTTPRoute", route));
    let route = map! {"gateways" => list!["edge/web"]};
    let istio = "networking.istio.io/v1";
    manifests.add("d", object(istio, "VirtualService", route));
    manifests.add(
        "e",
        object("networking.k8s.io/v1", "NetworkPolicy", map! {}),
    );
    let proxies = "proxies".parse().unwrap();
    let lines = Needs::of(&manifests, Some(&proxies)).lines();
    let expected = [
        "Kubernetes 1.30 or later",
        "gateway.envoyproxy.io/v1alpha1 of Envoy Gateway, with the kinds EnvoyPatchPolicy, EnvoyProxy",
        "Envoy Gateway's switch extensionApis.enableEnvoyPatchPolicy: true",
        "gateway.networking.k8s.io/v1 of the Gateway API, with the kinds HTTPRoute",
        "networking.istio.io/v1 of Istio, with the kinds VirtualService",
        "Namespace ml",
        "Gateway web in namespace edge",
        "Gateway models in namespace ml",
        "Secret proxy-tls in namespace ml, with tls.crt, tls.key",
        "Secret context in namespace proxies, with context.key",
    ];
    assert_eq!(lines, expected);
}
