//! The affinity of the gate's pods, read from a file: rules about nodes and other pods, as in a
//! pod's `spec.affinity`. An unknown field is an error, because Kubernetes would drop the rule.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tensorgate_policy_text::parse::parse;
use tensorgate_policy_text::typed::deserialize_one;

use super::names::{is_key, is_label_value};
use crate::render::node::Node;

/// Largest file with an affinity, bytes.
pub const MAX_BYTES: u64 = 64 << 10;
/// Largest weight of a rule.
const MAX_WEIGHT: u64 = 100;

/// Rules about nodes and other pods.
#[derive(Clone, Debug)]
pub struct Affinity(Node);

impl Affinity {
    /// The value of `spec.affinity`.
    pub fn node(&self) -> Node {
        self.0.clone()
    }
}

impl FromStr for Affinity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tree, faults) = parse(text);
        let at = |span: tensorgate_policy_text::Span| format!("line {}", span.line);
        if let Some(fault) = faults.first() {
            return Err(format!("{}: {}", at(fault.span), fault.message));
        }
        let tree = tree.ok_or_else(|| "is no YAML".to_owned())?;
        let rules: Rules = deserialize_one(&tree)
            .map_err(|fault| format!("{}: {}: {}", at(fault.span), fault.path, fault.message))?;
        if rules == Rules::default() {
            return Err("has no rule".to_owned());
        }
        let rules = serde_json::to_value(&rules).map_err(|error| error.to_string())?;
        Ok(Self(Node::from(&rules)))
    }
}

#[derive(PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_affinity: Option<NodeAffinity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod_affinity: Option<PodAffinity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod_anti_affinity: Option<PodAffinity>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NodeAffinity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    required_during_scheduling_ignored_during_execution: Option<NodeTerms>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    preferred_during_scheduling_ignored_during_execution: Vec<PreferredNodes>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NodeTerms {
    node_selector_terms: Vec<NodeTerm>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NodeTerm {
    match_expressions: Vec<Requirement>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PreferredNodes {
    #[serde(deserialize_with = "weight")]
    weight: u64,
    preference: NodeTerm,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodAffinity {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    required_during_scheduling_ignored_during_execution: Vec<PodTerm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    preferred_during_scheduling_ignored_during_execution: Vec<PreferredPods>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PreferredPods {
    #[serde(deserialize_with = "weight")]
    weight: u64,
    pod_affinity_term: PodTerm,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodTerm {
    topology_key: Key,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label_selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace_selector: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<LabelValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    match_label_keys: Vec<Key>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mismatch_label_keys: Vec<Key>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LabelSelector {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<Key, LabelValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Requirement>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Requirement {
    key: Key,
    operator: Operator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<LabelValue>,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// The key of a label.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Key(String);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if is_key(&text) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is not the key of a label"))
    }
}

/// The value of a label.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct LabelValue(String);

impl TryFrom<String> for LabelValue {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if is_label_value(&text) {
            return Ok(Self(text));
        }
        Err(format!("{text:?} is not the value of a label"))
    }
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let weight = u64::deserialize(deserializer)?;
    if (1..=MAX_WEIGHT).contains(&weight) {
        return Ok(weight);
    }
    Err(D::Error::custom(format!("a weight is 1 to {MAX_WEIGHT}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SPREAD: &str = "
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [a, b]}]
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector: {matchLabels: {app.kubernetes.io/name: tensorgate}}
        namespaceSelector: {}
";

    #[test]
    fn an_affinity_keeps_its_rules() {
        let affinity: Affinity = SPREAD.parse().unwrap();
        let json = serde_json::to_value(affinity.node()).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
        let rule = "/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0";
        let rule = json.pointer(rule).unwrap();
        let expected = serde_json::json!({
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "tensorgate"}},
                // Every namespace; without it only that of the gate.
                "namespaceSelector": {},
            },
        });
        assert_eq!(*rule, expected);
        let again: Affinity = json.to_string().parse().unwrap();
        assert_eq!(again.node(), affinity.node());
    }

    #[test]
    fn what_is_no_affinity_is_refused_with_its_line() {
        for (before, after, cause) in [
            ("weight: 100", "weight: 101", "line 8: "),
            ("weight: 100", "weight: 0", "a weight is 1 to 100"),
            ("weight: 100", "weight: many", "line 8: "),
            ("operator: In", "operator: Is", "line 5: "),
            (
                "values: [a, b]",
                "values: [\"a b\"]",
                "is not the value of a label",
            ),
            ("values: [a, b]", "value: a", "line 5: "),
            (
                "topologyKey: kubernetes.io/hostname",
                "topologyKey: \"a: b\"",
                "line 10: ",
            ),
            ("nodeAffinity:", "nodeAfinity:", "line 2: "),
            (
                "{matchLabels:",
                "{matchLabels: {\"{{\": x}, x:",
                "is not the key of a label",
            ),
        ] {
            let text = SPREAD.replacen(before, after, 1);
            assert_ne!(text, SPREAD, "{before}");
            let error = text.parse::<Affinity>().unwrap_err();
            assert!(error.contains(cause), "{after}: {error}");
        }
        for text in ["", "[]", "{", "affinity: {}", "nodeAffinity: {}\n---\n{}"] {
            assert!(text.parse::<Affinity>().is_err(), "{text:?}");
        }
    }
}
