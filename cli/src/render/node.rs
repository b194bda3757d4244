//! Configuration as an ordered tree, written as YAML or JSON. Keys keep their insertion order, for
//! readability.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tensorgate_policy_text::parse::invisible;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `true` or `false`.
    Bool(bool),
    /// A non-negative integer.
    Int(u64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Vec<(String, Node)>),
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Node {
    fn from(value: u64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Node {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Node {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Node {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Node {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<Self>> for Node {
    fn from(value: Vec<Self>) -> Self {
        Self::List(value)
    }
}

impl From<&serde_json::Value> for Node {
    /// Negative numbers and fractions become text; our JSON contains none.
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => number
                .as_u64()
                .map_or_else(|| Self::Text(number.to_string()), Self::Int),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(entries) => Self::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::from(value)))
                    .collect(),
            ),
            serde_json::Value::Null => Self::Text(String::new()),
        }
    }
}

/// The entries of a mapping; empty for any other node.
pub fn entries(map: Node) -> Vec<(String, Node)> {
    match map {
        Node::Map(entries) => entries,
        _ => Vec::new(),
    }
}

/// A mapping, in the order written.
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::render::node::Node::Map(vec![$(($key.to_owned(), $crate::render::node::Node::from($value))),*])
    };
}
/// A sequence.
macro_rules! list {
    ($($value:expr),* $(,)?) => {
        $crate::render::node::Node::List(vec![$($crate::render::node::Node::from($value)),*])
    };
}
pub(crate) use {list, map};

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl Node {
    /// The tree as a YAML document.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    /// Writes block style, indented by two spaces per level. The recursion is bounded by the
    /// nesting in our own code.
    fn write(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push_str(&" ".repeat(indent));
                    }
                    out.push_str(&scalar(key));
                    out.push(':');
                    value.write_below(out, indent.saturating_add(2));
                }
            }
            Self::List(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push_str(&" ".repeat(indent));
                    }
                    out.push_str("- ");
                    item.write(out, indent.saturating_add(2));
                }
            }
            other => {
                out.push_str(&other.flow());
                out.push('\n');
            }
        }
    }

    /// Writes the value after a key: a collection on the next line, a scalar on the same line.
    fn write_below(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
            }
            Self::List(items) if !items.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
            }
            _ => out.push(' '),
        }
        self.write(out, indent);
    }

    fn flow(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(text) => scalar(text),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }
}

/// A scalar: plain if every YAML version reads it as text, otherwise in JSON quotes, which are
/// valid YAML.
fn scalar(text: &str) -> String {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_');
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    let plain = text.chars().next().is_some_and(first) && text.chars().all(rest) && !reserved;
    if plain {
        text.to_owned()
    } else {
        let mut quoted = String::new();
        for c in serde_json::Value::from(text).to_string().chars() {
            // JSON does not escape some invisible characters, which YAML readers reject.
            if invisible(c) {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                quoted.push(c);
            }
        }
        quoted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "tests")]

    use crate::render::tests::names::Numbers;

    fn tree(numbers: &mut Numbers, depth: usize) -> super::Node {
        match numbers.below(if depth == 0 { 1 } else { 4 }) {
            1 => super::Node::List(
                (0..numbers.below(3))
                    .map(|_| tree(numbers, depth - 1))
                    .collect(),
            ),
            2 => {
                // Keys differ by their numbers.
                let entries = 0..numbers.below(3);
                let entry = |at| (format!("{at}{}", numbers.text()), tree(numbers, depth - 1));
                super::Node::Map(entries.map(entry).collect())
            }
            _ => super::Node::Text(numbers.text()),
        }
    }

    #[test]
    fn hostile_texts_stay_values_in_any_tree() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for _ in 0..20_000 {
            let node = map! {"tree" => tree(&mut numbers, 4)};
            let (tree, faults) = tensorgate_policy_text::parse::parse(&node.to_yaml());
            assert!(faults.is_empty(), "{faults:?}\n{}", node.to_yaml());
            let read = tree.and_then(|tree| {
                serde::Deserialize::deserialize(tensorgate_policy_text::de::At::root(&tree)).ok()
            });
            let read: serde_json::Value = read.unwrap_or_default();
            assert_eq!(read, serde_json::json!(node), "{}", node.to_yaml());
        }
    }

    #[test]
    fn written_yaml_reads_back_as_the_same_data() {
        let node = map! {
            "name" => "a: b", "empty" => list![], "none" => map! {}, "no" => "no", "number" => "12", "at" => "@type",
            "list" => list![map! {"x" => 1_u64, "y" => list![true, 0.95]}, "z\n\u{7f}\u{e9}", list![list!["deep"]]],
        };
        let (tree, faults) = tensorgate_policy_text::parse::parse(&node.to_yaml());
        assert!(faults.is_empty(), "{faults:?}\n{}", node.to_yaml());
        let tree = tree.unwrap_or_else(|| panic!("not YAML:\n{}", node.to_yaml()));
        let read: serde_json::Value =
            serde::Deserialize::deserialize(tensorgate_policy_text::de::At::root(&tree))
                .unwrap_or_default();
        assert_eq!(read, serde_json::json!(node), "{}", node.to_yaml());
    }
}
