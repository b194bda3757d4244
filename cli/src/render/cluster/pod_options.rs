//! What an operator sets for the gate's pods: where they run, the credentials for their images,
//! and further labels and annotations. Each text is checked when it is parsed.

use std::str::FromStr;

use super::affinity::Affinity;
use super::names::{ObjectName, PodLabel, is_key, is_label_value, repeated};
use crate::render::node::{Node, entries, map};

/// Effects of a taint.
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
/// Longest value of an annotation, characters. Kubernetes bounds only the sum, 256 KiB.
const MAX_ANNOTATION_CHARS: usize = 4096;
/// Keys of labels and annotations that select the pods, or decide whether a proxy is before them.
pub(super) const RESERVED_KEYS: [&str; 6] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "istio.io/dataplane-mode",
    "istio.io/reroute-virtual-interfaces",
    "pod-template-hash",
];
/// Prefixes of keys that `render` sets, that lead connections past a mesh's proxy, that change when
/// such a proxy is ready, or that switch off the hardening of a container.
pub(super) const RESERVED_PREFIXES: [&str; 10] = [
    "ambient.istio.io",
    "checksum",
    "container.apparmor.security.beta.kubernetes.io",
    "inject.istio.io",
    "prometheus.io",
    "proxy.istio.io",
    "readiness.status.sidecar.istio.io",
    "sidecar.istio.io",
    "status.sidecar.istio.io",
    "traffic.sidecar.istio.io",
];

/// What every target in a cluster gives to the gate's pods.
#[derive(Clone, Debug, Default)]
pub struct PodOptions {
    /// Secrets with the credentials for the images' registries.
    pub pull_secrets: Vec<ObjectName>,
    /// Labels of the nodes that the pods may run on.
    pub node_selector: Vec<PodLabel>,
    /// Taints of nodes that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Rules about nodes and other pods.
    pub affinity: Option<Affinity>,
    /// Priority class of the pods.
    pub priority_class: Option<ObjectName>,
    /// Further labels.
    pub labels: Vec<ExtraLabel>,
    /// Further annotations.
    pub annotations: Vec<Annotation>,
}

impl PodOptions {
    /// Checks that no key is there twice.
    ///
    /// # Errors
    /// A key is there twice.
    pub fn check_distinct(&self) -> Result<(), String> {
        let labels = self.labels.iter().map(|label| &label.0);
        let annotations = self.annotations.iter().map(|it| it.key.as_str());
        distinct("--node-selector", self.node_selector.iter().map(key))?;
        distinct("--label", labels.map(key))?;
        distinct("--annotation", annotations)
    }

    /// Fields of a pod's `spec`, empty ones too. Values of a chart have the same names.
    pub fn fields(&self) -> Vec<(String, Node)> {
        let pull_secrets = self.pull_secrets.iter();
        let pull_secrets = pull_secrets.map(|secret| map! {"name" => secret.as_str()});
        let tolerations = self.tolerations.iter().map(Toleration::node);
        let affinity = self.affinity.as_ref();
        let class = self.priority_class.as_ref();
        entries(map! {
            "imagePullSecrets" => pull_secrets.collect::<Vec<_>>(),
            "nodeSelector" => mapping(self.node_selector.iter().map(pair)),
            "tolerations" => tolerations.collect::<Vec<_>>(),
            "affinity" => affinity.map_or_else(|| map! {}, Affinity::node),
            "priorityClassName" => class.map_or("", ObjectName::as_str),
        })
    }

    /// Fields of a pod's `spec` that are not empty.
    pub fn spec(&self) -> impl Iterator<Item = (String, Node)> {
        let is_set = |(_, field): &(String, Node)| match field {
            Node::Text(text) => !text.is_empty(),
            Node::List(items) => !items.is_empty(),
            Node::Map(entries) => !entries.is_empty(),
            Node::Bool(_) | Node::Int(_) | Node::Float(_) => true,
        };
        self.fields().into_iter().filter(is_set)
    }

    /// Further labels of the pods.
    pub fn labels(&self) -> Node {
        mapping(self.labels.iter().map(|label| pair(&label.0)))
    }

    /// Further annotations of the pods.
    pub fn annotations(&self) -> Node {
        let annotations = self.annotations.iter();
        mapping(annotations.map(|it| (it.key.as_str(), it.value.as_str())))
    }
}

fn key(label: &PodLabel) -> &str {
    &label.key
}

fn pair(label: &PodLabel) -> (&str, &str) {
    (&label.key, &label.value)
}

fn mapping<'t>(pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Node {
    Node::Map(
        pairs
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect(),
    )
}

fn distinct<'t>(flag: &str, keys: impl Iterator<Item = &'t str>) -> Result<(), String> {
    match repeated(keys) {
        Some(key) => Err(format!("{flag} gives \"{key}\" twice: it has one value")),
        None => Ok(()),
    }
}

/// A taint of nodes that the pods tolerate: `KEY=VALUE:EFFECT`, or `KEY:EFFECT` with any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    key: String,
    value: Option<String>,
    effect: &'static str,
}

impl Toleration {
    fn node(&self) -> Node {
        let mut toleration = entries(map! {"key" => self.key.as_str()});
        toleration.extend(entries(match &self.value {
            Some(value) => map! {"operator" => "Equal", "value" => value.as_str()},
            None => map! {"operator" => "Exists"},
        }));
        toleration.push(("effect".to_owned(), self.effect.into()));
        Node::Map(toleration)
    }
}

impl FromStr for Toleration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once(':').and_then(|(taint, effect)| {
            let effect = EFFECTS.into_iter().find(|known| *known == effect)?;
            let (key, value) = match taint.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (taint, None),
            };
            let is_valid = is_key(key) && value.is_none_or(is_label_value);
            is_valid.then(|| Self {
                key: key.to_owned(),
                value: value.map(str::to_owned),
                effect,
            })
        });
        parsed.ok_or_else(|| {
            format!(
                "a toleration is KEY=VALUE:EFFECT or KEY:EFFECT, and EFFECT is one of {}",
                EFFECTS.join(", ")
            )
        })
    }
}

/// A further label of the pods: `KEY=VALUE`. No label that `render` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraLabel(PodLabel);

impl FromStr for ExtraLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label: PodLabel = text.parse()?;
        check_key(&label.key)?;
        Ok(Self(label))
    }
}

/// A further annotation of the pods: `KEY=VALUE`. No annotation that `render` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    key: String,
    value: String,
}

impl FromStr for Annotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| is_key(key)) else {
            return Err("an annotation is KEY=VALUE, as in example.com/team=ml".to_owned());
        };
        check_key(key)?;
        let is_refused = |c: char| c.is_ascii_control() && c != '\t' && c != '\n';
        if value.chars().count() > MAX_ANNOTATION_CHARS || value.contains(is_refused) {
            return Err(format!(
                "the value of an annotation has up to {MAX_ANNOTATION_CHARS} characters, and no control characters but tabs and ends of lines"
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Checks that a key of a label or an annotation is not reserved.
fn check_key(key: &str) -> Result<(), String> {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    if RESERVED_KEYS.contains(&key) || RESERVED_PREFIXES.contains(&prefix) {
        return Err(format!(
            "{key} is not free: it selects the gate's pods, or decides what reaches them"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_toleration_names_a_taint_and_its_effect() {
        for (text, expected) in [
            (
                "gpu=yes:NoSchedule",
                Some(r#"{"key":"gpu","operator":"Equal","value":"yes","effect":"NoSchedule"}"#),
            ),
            (
                "nvidia.com/gpu:NoExecute",
                Some(r#"{"key":"nvidia.com/gpu","operator":"Exists","effect":"NoExecute"}"#),
            ),
            ("gpu", None),
            ("gpu=yes", None),
            ("gpu:Never", None),
            (":NoSchedule", None),
            ("gpu=a b:NoSchedule", None),
            ("gpu:a:NoSchedule", None),
            ("gpu\nx:NoSchedule", None),
        ] {
            let parsed = text.parse::<Toleration>().ok();
            let json = parsed.map(|it| serde_json::to_string(&it.node()).unwrap());
            assert_eq!(json.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_label_is_none_that_selects_the_pods_or_leads_past_a_sidecar() {
        for (key, is_free) in [
            ("team", true),
            ("example.com/team", true),
            ("istio.io/rev", true),
            ("app.kubernetes.io/part-of", true),
            ("app.kubernetes.io/name", false),
            ("app.kubernetes.io/instance", false),
            ("app.kubernetes.io/managed-by", false),
            ("pod-template-hash", false),
            ("istio.io/dataplane-mode", false),
            ("checksum/envoy", false),
            ("prometheus.io/port", false),
            ("sidecar.istio.io/inject", false),
            ("traffic.sidecar.istio.io/excludeInboundPorts", false),
            ("ambient.istio.io/bypass-inbound-capture", false),
            ("istio.io/reroute-virtual-interfaces", false),
            ("status.sidecar.istio.io/port", false),
            ("readiness.status.sidecar.istio.io/periodSeconds", false),
            (
                "container.apparmor.security.beta.kubernetes.io/envoy",
                false,
            ),
            ("a b", false),
        ] {
            let text = format!("{key}=x");
            assert_eq!(text.parse::<ExtraLabel>().is_ok(), is_free, "{key}");
            assert_eq!(text.parse::<Annotation>().is_ok(), is_free, "{key}");
        }
    }

    #[test]
    fn an_annotation_is_a_bounded_text() {
        let longest = "é".repeat(MAX_ANNOTATION_CHARS);
        let too_long = format!("{longest}a");
        for (value, valid) in [
            ("", true),
            ("[{\"name\": \"a\"}]=\n\t: #", true),
            ("\u{0}", false),
            ("a\rb", false),
            ("\u{7f}", false),
            (longest.as_str(), true),
            (too_long.as_str(), false),
        ] {
            let text = format!("example.com/a={value}");
            assert_eq!(text.parse::<Annotation>().is_ok(), valid, "{value:?}");
        }
    }

    #[test]
    fn a_key_has_one_value() {
        let label = |text: &str| text.parse::<ExtraLabel>().unwrap();
        let options = |labels| PodOptions {
            labels,
            ..PodOptions::default()
        };
        assert!(
            options(vec![label("a=1"), label("b=1")])
                .check_distinct()
                .is_ok()
        );
        let cause = options(vec![label("a=1"), label("a=2")]).check_distinct();
        assert_eq!(
            cause.unwrap_err(),
            "--label gives \"a\" twice: it has one value"
        );
    }
}
