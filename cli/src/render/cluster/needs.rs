//! What must exist in a cluster before rendered objects can work, read from the objects: what they
//! refer to, and what none of them is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::names::{Namespace, ObjectName};
use super::workload::{CONTEXT_KEY, OLDEST_KUBERNETES};
use crate::render::manifests::Manifests;

/// Kinds whose content is Envoy's, which refers to nothing in the cluster.
const OF_ENVOY: [&str; 2] = ["EnvoyFilter", "EnvoyPatchPolicy"];
/// Fields whose keys are names that users chose, such as those of labels.
const OF_USERS: [&str; 5] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "affinity",
];
/// The kind whose environment is that of pods in another namespace.
const ENVOY_PROXY: &str = "EnvoyProxy";
/// API groups that are not Kubernetes' own, by the end of their names, and who installs their CRDs.
const INSTALLED: [(&str, &str); 4] = [
    ("istio.io", "Istio"),
    ("gateway.networking.k8s.io", "the Gateway API"),
    ("gateway.envoyproxy.io", "Envoy Gateway"),
    ("monitoring.coreos.com", "the Prometheus Operator"),
];
/// The image of a container whose real one Istio sets.
const INJECTED: &str = "auto";
/// The oldest ones with volumes from images, which are on by default since 1.35.
const WITH_IMAGE_VOLUMES: &str =
    "1.35 or later, or 1.33 with its feature gate ImageVolume, for a volume from an image";
/// Keys of Secrets and ConfigMaps whose references have no keys.
const CERTIFICATE: [&str; 2] = ["tls.crt", "tls.key"];
const AUTHORITIES: [&str; 1] = ["ca.crt"];

/// An object by kind, namespace and name.
type Reference = (&'static str, String, String);

/// What must exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Kinds of each API that is installed with another system.
    kinds: BTreeMap<String, BTreeSet<String>>,
    namespaces: BTreeSet<String>,
    /// Objects with the keys that are read.
    objects: BTreeMap<Reference, BTreeSet<String>>,
    images: BTreeSet<String>,
    has_image_volume: bool,
}

impl Needs {
    /// What these objects refer to. `proxies` is the namespace of the pods that an `EnvoyProxy`
    /// configures.
    pub fn of(manifests: &Manifests, proxies: Option<&Namespace>) -> Self {
        let mut needs = Self::default();
        let mut rendered = BTreeSet::new();
        for object in manifests.objects() {
            // Our trees are plain data, which JSON can always hold.
            let object = serde_json::to_value(object).unwrap_or_default();
            let text = |path| object.pointer(path).and_then(Value::as_str);
            let text = |path| text(path).unwrap_or_default();
            let (api, kind) = (text("/apiVersion"), text("/kind"));
            let namespace = text("/metadata/namespace");
            needs.namespaces.insert(namespace.to_owned());
            if kind == "ConfigMap" {
                let name = text("/metadata/name").to_owned();
                rendered.insert(("ConfigMap", namespace.to_owned(), name));
            }
            if installer(api).is_some() {
                let kinds = needs.kinds.entry(api.to_owned()).or_default();
                kinds.insert(kind.to_owned());
            }
            if !OF_ENVOY.contains(&kind) {
                let proxies = proxies.filter(|_| kind == ENVOY_PROXY);
                needs.walk(&object, namespace, proxies.map(Namespace::as_str));
            }
        }
        needs.objects.retain(|object, _| !rendered.contains(object));
        needs
    }

    /// Adds the Secret with the context key in another namespace, which no object refers to.
    pub fn add_context_key(&mut self, namespace: &Namespace, secret: &ObjectName) {
        let (namespace, secret) = (namespace.as_str(), secret.as_str());
        self.namespaces.insert(namespace.to_owned());
        self.add("Secret", namespace, Some(secret), &[CONTEXT_KEY]);
    }

    /// One line for each thing that must exist.
    pub fn lines(&self) -> Vec<String> {
        let kubernetes = if self.has_image_volume {
            WITH_IMAGE_VOLUMES.to_owned()
        } else {
            format!("{OLDEST_KUBERNETES} or later")
        };
        let mut lines = vec![format!("Kubernetes {kubernetes}")];
        for (api, kinds) in &self.kinds {
            let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
            let installer = installer(api).unwrap_or_default();
            lines.push(format!(
                "{api} of {installer}, with the kinds {}",
                kinds.join(", ")
            ));
            if kinds.contains(&"EnvoyPatchPolicy") {
                lines.push(
                    "Envoy Gateway's switch extensionApis.enableEnvoyPatchPolicy: true".to_owned(),
                );
            }
        }
        let namespaces = self.namespaces.iter();
        lines.extend(namespaces.map(|namespace| format!("Namespace {namespace}")));
        for ((kind, namespace, name), keys) in &self.objects {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let keys = match keys.as_slice() {
                [] => String::new(),
                keys => format!(", with {}", keys.join(", ")),
            };
            lines.push(format!("{kind} {name} in namespace {namespace}{keys}"));
        }
        let images = self.images.iter();
        lines.extend(images.map(|image| format!("Image {image}")));
        lines
    }

    fn add(&mut self, kind: &'static str, namespace: &str, name: Option<&str>, keys: &[&str]) {
        let Some(name) = name else { return };
        let object = (kind, namespace.to_owned(), name.to_owned());
        let known = self.objects.entry(object).or_default();
        known.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Adds what a value and all below it refer to. The recursion is bounded by the nesting of our
    /// own objects.
    fn walk(&mut self, value: &Value, namespace: &str, proxies: Option<&str>) {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.walk(item, namespace, proxies);
                }
            }
            Value::Object(fields) => {
                let ours = fields.iter();
                let ours = ours.filter(|(field, _)| !OF_USERS.contains(&field.as_str()));
                for (field, value) in ours {
                    let namespace = match field.as_str() {
                        "provider" => proxies.unwrap_or(namespace),
                        _ => namespace,
                    };
                    self.reference(field, value, namespace);
                    self.walk(value, namespace, proxies);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Adds what a field refers to, if it refers to anything.
    fn reference(&mut self, field: &str, value: &Value, namespace: &str) {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let items = || value.as_array().into_iter().flatten();
        match field {
            "secretKeyRef" => {
                let keys: Vec<_> = text("key").into_iter().collect();
                self.add("Secret", namespace, text("name"), &keys);
            }
            // A volume.
            "secret" => {
                let keys = value.get("items").and_then(Value::as_array);
                let keys = keys.into_iter().flatten();
                let keys: Vec<_> = keys
                    .filter_map(|item| item.get("key").and_then(Value::as_str))
                    .collect();
                self.add("Secret", namespace, text("secretName"), &keys);
            }
            "imagePullSecret" => self.add("Secret", namespace, value.as_str(), &[]),
            "imagePullSecrets" => {
                for secret in items() {
                    let name = secret.get("name").and_then(Value::as_str);
                    self.add("Secret", namespace, name, &[]);
                }
            }
            "pullSecretRef" => self.add("Secret", namespace, text("name"), &[]),
            "clientCertificateRef" => self.add("Secret", namespace, text("name"), &CERTIFICATE),
            "configMap" => self.add("ConfigMap", namespace, text("name"), &[]),
            "caCertificateRefs" => {
                for object in items() {
                    let name = object.get("name").and_then(Value::as_str);
                    self.add("ConfigMap", namespace, name, &AUTHORITIES);
                }
            }
            "persistentVolumeClaim" => {
                self.add("PersistentVolumeClaim", namespace, text("claimName"), &[]);
            }
            // A route of the Gateway API, whose Gateway is in its namespace.
            "parentRefs" => {
                for gateway in items() {
                    let name = gateway.get("name").and_then(Value::as_str);
                    self.add("Gateway", namespace, name, &[]);
                }
            }
            // A route of Istio.
            "gateways" => {
                for gateway in items().filter_map(Value::as_str) {
                    if let Some((namespace, name)) = gateway.split_once('/') {
                        self.add("Gateway", namespace, Some(name), &[]);
                    }
                }
            }
            "image" => {
                let volume = text("reference");
                self.has_image_volume |= volume.is_some();
                let image = value.as_str().or(volume);
                let image = image.filter(|image| *image != INJECTED);
                self.images.extend(image.map(str::to_owned));
            }
            "url" => {
                let image = value.as_str().and_then(|url| url.strip_prefix("oci://"));
                self.images.extend(image.map(str::to_owned));
            }
            _ => {}
        }
    }
}

/// Who installs an API, if Kubernetes does not have it itself.
fn installer(api: &str) -> Option<&'static str> {
    let (group, _) = api.split_once('/')?;
    let found = INSTALLED.iter().find(|(end, _)| group.ends_with(end));
    found.map(|(_, installer)| *installer)
}

#[cfg(test)]
mod tests;
