//! A YAML document as a vector of nodes with source positions. Each node has one parent, except for
//! models that are shared by aliases.

use crate::path::{Step, push_index, push_key, steps};

/// A range of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters on that line; at least 1.
    pub length: usize,
}

/// A node of one [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// A mapping key and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key's text.
    pub text: String,
    /// Position.
    pub span: Span,
}

/// Content of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A non-negative integer.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<NodeId>),
    /// A mapping; keys are distinct.
    Map(Vec<(Key, NodeId)>),
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The content.
    pub content: Content,
    /// Position.
    pub span: Span,
    /// For numbers, the original spelling. It is used where text is expected, for example in a
    /// digest of digits or a version.
    pub plain: Option<Box<str>>,
}

/// A document.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    root: NodeId,
}

/// Result of resolving a path.
pub struct Resolved<'t> {
    /// The deepest existing node.
    pub node: NodeId,
    /// The key of the node, if its parent is a mapping.
    pub key: Option<&'t Key>,
    /// Whether the complete path exists.
    pub whole: bool,
}

impl Tree {
    /// A tree with the given root.
    pub(crate) fn new(nodes: Vec<Node>, root: NodeId) -> Self {
        Self { nodes, root }
    }

    /// The outermost node.
    pub const fn root(&self) -> NodeId {
        self.root
    }

    /// A node; `None` only for an id of another tree.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    /// Position of a node.
    pub fn span(&self, id: NodeId) -> Span {
        self.get(id).map_or_else(Span::default, |node| node.span)
    }

    /// Whether a node is a list or a mapping.
    pub fn is_collection(&self, id: NodeId) -> bool {
        self.get(id)
            .is_some_and(|node| matches!(node.content, Content::List(_) | Content::Map(_)))
    }

    /// Replaces the content of a node.
    pub(crate) fn replace(&mut self, id: NodeId, content: Content) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.content = content;
            node.plain = None;
        }
    }

    /// The entries of a mapping directly below the root.
    pub(crate) fn section(&mut self, key: &str) -> Option<&mut Vec<(Key, NodeId)>> {
        let Content::Map(sections) = &self.get(self.root)?.content else {
            return None;
        };
        let (_, section) = sections.iter().find(|(known, _)| known.text == key)?;
        let section = *section;
        match &mut self.nodes.get_mut(section.0)?.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Removes a node from its parents.
    pub(crate) fn detach(&mut self, id: NodeId) {
        for node in &mut self.nodes {
            match &mut node.content {
                Content::List(items) => items.retain(|item| *item != id),
                Content::Map(entries) => entries.retain(|(_, value)| *value != id),
                _ => {}
            }
        }
    }

    /// Path from the root to a node; empty for the root and for unknown nodes.
    pub fn path_to(&self, id: NodeId) -> String {
        let mut path = String::new();
        self.search(self.root, id, &mut path);
        path
    }

    /// Resolves a path as far as it exists.
    pub fn follow(&self, path: &str) -> Resolved<'_> {
        let mut resolved = Resolved {
            node: self.root(),
            key: None,
            whole: true,
        };
        for step in steps(path) {
            let next = match (self.get(resolved.node).map(|node| &node.content), &step) {
                (Some(Content::Map(entries)), Step::Key(name)) => entries
                    .iter()
                    .find(|(key, _)| key.text == *name)
                    .map(|(key, node)| (*node, Some(key))),
                (Some(Content::List(items)), Step::Index(index)) => {
                    items.get(*index).map(|node| (*node, None))
                }
                _ => None,
            };
            match next {
                Some((node, key)) => (resolved.node, resolved.key) = (node, key),
                None => {
                    resolved.whole = false;
                    break;
                }
            }
        }
        resolved
    }

    /// The parser bounds the depth, and so the recursion.
    fn search(&self, at: NodeId, id: NodeId, path: &mut String) -> bool {
        if at == id {
            return true;
        }
        let before = path.len();
        let found = match self.get(at).map(|node| &node.content) {
            Some(Content::List(items)) => items.iter().enumerate().any(|(index, item)| {
                path.truncate(before);
                push_index(path, index);
                self.search(*item, id, path)
            }),
            Some(Content::Map(entries)) => entries.iter().any(|(key, value)| {
                path.truncate(before);
                push_key(path, &key.text);
                self.search(*value, id, path)
            }),
            _ => false,
        };
        if !found {
            path.truncate(before);
        }
        found
    }
}
