//! A YAML document as nodes in one arena, each with its place in the text. A node has one holder, but models that an alias made one.

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
pub struct NodeId(pub(super) usize);

/// A key with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Unsigned(u64),
    /// A whole number below zero.
    Signed(i64),
    /// Another number.
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
    /// What it holds.
    pub content: Content,
    /// Its place.
    pub span: Span,
    /// Of a number, its own characters: what it means where text is expected (a digest of digits, a version).
    pub plain: Option<Box<str>>,
}

/// A document.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    root: NodeId,
}

impl Tree {
    /// A tree of nodes whose last is the root.
    pub(super) fn new(nodes: Vec<Node>, root: NodeId) -> Self {
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

    /// A node's place.
    pub fn span(&self, id: NodeId) -> Span {
        self.get(id).map_or_else(Span::default, |node| node.span)
    }

    /// Whether a node holds others.
    pub fn is_collection(&self, id: NodeId) -> bool {
        self.get(id)
            .is_some_and(|node| matches!(node.content, Content::List(_) | Content::Map(_)))
    }

    /// Puts other content in a node's place.
    pub(super) fn replace(&mut self, id: NodeId, content: Content) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.content = content;
            node.plain = None;
        }
    }

    /// The entries of a mapping that the root has under a key.
    pub(super) fn section(&mut self, key: &str) -> Option<&mut Vec<(Key, NodeId)>> {
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

    /// Takes a node out of whatever holds it.
    pub(super) fn detach(&mut self, id: NodeId) {
        for node in &mut self.nodes {
            match &mut node.content {
                Content::List(items) => items.retain(|item| *item != id),
                Content::Map(entries) => entries.retain(|(_, value)| *value != id),
                _ => {}
            }
        }
    }

    /// The way from the root to a node, as keys and positions; empty for the root and for a node that is not there.
    pub fn path_to(&self, id: NodeId) -> String {
        let mut path = String::new();
        self.search(self.root, id, &mut path);
        path
    }

    /// Depth is bounded by the parser, so recursion is.
    fn search(&self, at: NodeId, id: NodeId, path: &mut String) -> bool {
        if at == id {
            return true;
        }
        let before = path.len();
        let found = match self.get(at).map(|node| &node.content) {
            Some(Content::List(items)) => items.iter().enumerate().any(|(index, item)| {
                path.truncate(before);
                super::path::push_index(path, index);
                self.search(*item, id, path)
            }),
            Some(Content::Map(entries)) => entries.iter().any(|(key, value)| {
                path.truncate(before);
                super::path::push_key(path, &key.text);
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
