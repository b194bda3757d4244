//! Converts a tree into a document, such as a policy before its validation, and reports every type
//! error. At each error the faulty node is removed and deserialization restarts, at most as often
//! as faults are reported.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use tensorgate_values::Severity;

use crate::de::{At, Error, Problem, TOO_MANY};
use crate::parse::{MAX_FAULTS, MODELS};
use crate::tree::{Content, Key, NodeId, Tree};
use crate::{Located, path};

/// Minimum Jaro-Winkler similarity for a suggestion (0 to 1).
const ALIKE: f64 = 0.8;

/// Result of the conversion.
pub struct Typed<T> {
    /// The document, without the removed nodes.
    pub document: T,
    /// Why nodes were removed.
    pub faults: Vec<Located>,
    /// Paths of the removed nodes. Validation faults at these paths are only consequences.
    pub omitted: Vec<OmittedPath>,
}

/// A path where the document is incomplete.
pub struct OmittedPath {
    path: String,
    below: bool,
}

impl OmittedPath {
    /// A path whose content is missing, including everything below it.
    pub fn below(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            below: true,
        }
    }

    /// Whether a fault at a path is a consequence.
    pub fn explains(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| {
            rest.is_empty()
                || (self.below && (self.path.is_empty() || rest.starts_with(['.', '['])))
        })
    }
}

/// Converts a tree into a document. The tree keeps only what was read. Models that share a node are
/// read once and shared in the document's `models`.
pub fn typed<T: DeserializeOwned + Default, M: Clone>(
    tree: &mut Tree,
    models: impl FnOnce(&mut T) -> &mut BTreeMap<String, M>,
) -> Typed<T> {
    let (first, others) = split_aliases(tree);
    let mut typed = deserialize_all(tree);
    let models = models(&mut typed.document);
    for (key, node) in &others {
        let model = first.get(node).and_then(|first| models.get(first)).cloned();
        if let Some(model) = model {
            models.insert(key.text.clone(), model);
        }
    }
    if let Some(entries) = tree.section(MODELS) {
        entries.extend(others);
    }
    typed
}

/// Removes models that share a node with another model from the tree. The first in name order
/// stays, as validation expects. Returns that name for each node, and the removed entries.
fn split_aliases(tree: &mut Tree) -> (BTreeMap<NodeId, String>, Vec<(Key, NodeId)>) {
    let mut first = BTreeMap::<NodeId, String>::new();
    let Some(entries) = tree.section(MODELS) else {
        return Default::default();
    };
    for (key, node) in entries.iter() {
        let name = first.entry(*node).or_insert_with(|| key.text.clone());
        if key.text < *name {
            name.clone_from(&key.text);
        }
    }
    let stays = |(key, node): &(Key, NodeId)| first.get(node) == Some(&key.text);
    let (stay, others) = std::mem::take(entries).into_iter().partition(stays);
    *entries = stay;
    (first, others)
}

fn deserialize_all<T: DeserializeOwned + Default>(tree: &mut Tree) -> Typed<T> {
    let mut faults = Vec::new();
    let mut omitted = Vec::new();
    let mut emptied: Vec<NodeId> = Vec::new();
    while faults.len() < MAX_FAULTS {
        let error = match T::deserialize(At::root(tree)) {
            Ok(document) => {
                return Typed {
                    document,
                    faults,
                    omitted,
                };
            }
            Err(error) => error,
        };
        let node = error.at.unwrap_or(tree.root());
        let known = emptied.contains(&node);
        if !known {
            let misspelled = misspelling(&error.problem);
            let fault = describe(tree, node, error);
            omitted.extend(consequences(&fault.path, misspelled));
            faults.push(fault);
        }
        // An empty mapping replaces the node, so that references to its name stay valid. If that
        // does not fit either, the node is removed.
        let unknown_key = faults
            .last()
            .is_some_and(|fault| fault.message.starts_with("unknown key"));
        if known || unknown_key {
            if node == tree.root() {
                break;
            }
            tree.detach(node);
        } else {
            tree.replace(node, Content::Map(Vec::new()));
            emptied.push(node);
        }
    }
    Typed {
        document: T::default(),
        faults,
        omitted,
    }
}

/// Deserializes a document of any type, up to the first error.
pub fn deserialize_one<T: DeserializeOwned>(tree: &Tree) -> Result<T, Located> {
    T::deserialize(At::root(tree)).map_err(|error| {
        let node = error.at.unwrap_or(tree.root());
        describe(tree, node, error)
    })
}

/// The key that was probably meant.
fn misspelling(problem: &Problem) -> Option<&'static str> {
    match problem {
        Problem::UnknownKey { key, known } => closest(key, known).copied(),
        _ => None,
    }
}

/// Paths where validation faults would repeat the fault at `path`: the path itself and below, the
/// key that was probably meant, and the collection that lacks the element.
fn consequences(path: &str, misspelled: Option<&str>) -> Vec<OmittedPath> {
    let parent = path::parent(path).to_owned();
    let mut omitted = vec![OmittedPath {
        path: path.to_owned(),
        below: true,
    }];
    if let Some(key) = misspelled {
        let mut meant = parent.clone();
        path::push_key(&mut meant, key);
        omitted.push(OmittedPath {
            path: meant,
            below: true,
        });
    }
    if misspelled.is_some() || path.ends_with(']') {
        omitted.push(OmittedPath {
            path: parent,
            below: false,
        });
    }
    omitted
}

/// Describes an error, with its position and a suggestion.
fn describe(tree: &Tree, node: NodeId, error: Error) -> Located {
    let at = tree.path_to(node);
    let mut span = tree.span(node);
    let (message, fix) = match error.problem {
        Problem::Type {
            found,
            expected,
            quotable,
        } => (
            format!("{found} where {} is expected", in_words(&expected)),
            quotable.then(|| "put it in quotes".to_owned()),
        ),
        Problem::UnknownKey { key, known } => {
            span = tree.follow(&at).key.map_or(span, |key| key.span);
            (format!("unknown key {key:?}"), Some(suggest(&key, known)))
        }
        Problem::UnknownName { name, known } => (
            format!("unknown name {name:?}"),
            Some(match closest(&name, known) {
                Some(candidate) => {
                    format!("did you mean `{candidate}`? {}", all_of(known))
                }
                None => all_of(known),
            }),
        ),
        Problem::Length { found, expected } if expected == TOO_MANY => {
            (format!("{found} elements are too many"), None)
        }
        Problem::Length { found, expected } => (
            format!(
                "{found} elements where {} are expected",
                in_words(&expected)
            ),
            None,
        ),
        Problem::Other(message) => (message, None),
    };
    Located {
        severity: Severity::Error,
        span,
        path: at,
        message,
        fix,
    }
}

/// A type that serde expects, without Rust's terms.
fn in_words(expected: &str) -> &str {
    match expected {
        "a map" => "a mapping",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u64" => "a whole number of at least 0",
        "i64" => "a whole number",
        "f64" => "a number",
        "a string" => "text",
        "a tuple of size 2" => "two",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    }
}

/// The most similar name.
fn closest<'k>(name: &str, known: &'k [&'static str]) -> Option<&'k &'static str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Suggests the most similar name, or else lists all names.
fn suggest(name: &str, known: &[&'static str]) -> String {
    match closest(name, known) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => all_of(known),
    }
}

fn all_of(known: &[&str]) -> String {
    format!("known are: {}", known.join(", "))
}
