//! Parses YAML into a bounded tree.
//!
//! Rejected are duplicate keys, keys that are not text, tags, further documents, and aliases that
//! expand too much. Plain scalars follow the core schema of YAML 1.2: `no` is text, and `0x1f` is a
//! number.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span as RawSpan};
use tensorgate_values::Severity;

use crate::Located;
use crate::path::{push_index, push_key};
use crate::syntax;
use crate::tree::{Content, Key, Node, NodeId, Span, Tree};

/// Maximum number of nodes in a document, with aliases expanded.
///
/// Models that are aliases of another model share its nodes, so a hundred thousand models with one
/// contract count once. A hundred thousand clients with a key each, all in one group, need 500,000
/// nodes.
pub const MAX_NODES: usize = 1_000_000;
/// Maximum nesting of a document. A policy needs 8 levels.
pub const MAX_DEPTH: usize = 32;
/// Maximum number of faults per document; parsing stops there.
pub const MAX_FAULTS: usize = 100;

/// The key of the policy's models.
pub(crate) const MODELS: &str = "models";

/// An open collection.
enum Open {
    List {
        id: NodeId,
        items: Vec<NodeId>,
    },
    Map {
        id: NodeId,
        entries: Vec<(Key, NodeId)>,
        /// Line of each key so far.
        lines: BTreeMap<String, usize>,
        key: Option<Key>,
        repeats: bool,
    },
}

struct Builder {
    nodes: Vec<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, NodeId>,
    /// Models with an anchor. An alias of one refers to the same node.
    models: BTreeSet<NodeId>,
    root: Option<NodeId>,
    documents: usize,
    faults: Vec<Located>,
}

/// Parses a document.
///
/// The tree is returned even if there are faults, so that they can be reported together with those
/// of the content. It is `None` if the text is not YAML.
pub fn parse(text: &str) -> (Option<Tree>, Vec<Located>) {
    let mut builder = Builder {
        nodes: Vec::new(),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        models: BTreeSet::new(),
        root: None,
        documents: 0,
        faults: Vec::new(),
    };
    if let Some(fatal) = control(text) {
        builder.faults.push(fatal);
        return (None, builder.faults);
    }
    for event in Parser::new_from_str(text) {
        let outcome = match event {
            Ok((event, raw)) => builder.event(event, span_of(&raw)),
            Err(error) => Err(syntax::fault(text, &error)),
        };
        if let Err(fatal) = outcome {
            builder.faults.push(fatal);
            return (None, builder.faults);
        }
        if builder.faults.len() >= MAX_FAULTS {
            break;
        }
    }
    let empty = Node {
        content: Content::Map(Vec::new()),
        span: Span {
            line: 1,
            column: 1,
            length: 1,
        },
        plain: None,
    };
    let root = builder.root.unwrap_or_else(|| {
        builder.nodes.push(empty);
        NodeId(builder.nodes.len().saturating_sub(1))
    });
    (Some(Tree::new(builder.nodes, root)), builder.faults)
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Located> {
        match event {
            Event::DocumentStart(_) => {
                self.documents = self.documents.saturating_add(1);
                if self.documents > 1 {
                    return Err(fault(
                        span,
                        String::new(),
                        "a second document".into(),
                        Some("keep one document per file".into()),
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                if self.expects_key() {
                    self.take_key(text.into_owned(), span);
                    return Ok(());
                }
                let content = if style == ScalarStyle::Plain {
                    resolve(&text)
                } else {
                    Content::Text(text.clone().into_owned())
                };
                let number = matches!(
                    content,
                    Content::Unsigned(_) | Content::Signed(_) | Content::Float(_)
                );
                let id = self.add(content, span)?;
                if let Some(node) = self.nodes.get_mut(id.0).filter(|_| number) {
                    node.plain = Some(text.into());
                }
                self.close_value(id, anchor);
            }
            Event::SequenceStart(anchor, tag) => self.enter(anchor, tag.is_some(), span, true)?,
            Event::MappingStart(anchor, tag) => self.enter(anchor, tag.is_some(), span, false)?,
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Alias(anchor) => {
                if self.expects_key() {
                    return Err(fault(span, self.path(), "a key must be text".into(), None));
                }
                let Some(target) = self.anchors.get(&anchor).copied() else {
                    return Err(fault(
                        span,
                        self.path(),
                        "an alias inside its own anchor".into(),
                        None,
                    ));
                };
                let id = if self.in_models() && self.models.contains(&target) {
                    target
                } else {
                    self.copy(target, span, self.open.len())?
                };
                self.close_value(id, 0);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn add(&mut self, content: Content, span: Span) -> Result<NodeId, Located> {
        if self.nodes.len() >= MAX_NODES {
            return Err(fault(
                span,
                self.path(),
                format!("more than {MAX_NODES} nodes, aliases expanded"),
                None,
            ));
        }
        self.nodes.push(Node {
            content,
            span,
            plain: None,
        });
        Ok(NodeId(self.nodes.len().saturating_sub(1)))
    }

    /// Copies the target of an alias. Every copied node and level counts towards the limits, which
    /// stops alias bombs.
    fn copy(&mut self, id: NodeId, span: Span, depth: usize) -> Result<NodeId, Located> {
        if depth > MAX_DEPTH {
            return Err(fault(
                span,
                self.path(),
                format!("nested deeper than {MAX_DEPTH}, aliases expanded"),
                None,
            ));
        }
        let Some(node) = self.nodes.get(id.0).cloned() else {
            return self.add(Content::Null, span);
        };
        let deeper = depth.saturating_add(1);
        let content = match node.content {
            Content::List(items) => Content::List(
                items
                    .into_iter()
                    .map(|item| self.copy(item, span, deeper))
                    .collect::<Result<_, _>>()?,
            ),
            Content::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Ok((key, self.copy(value, span, deeper)?)))
                    .collect::<Result<_, Located>>()?,
            ),
            other => other,
        };
        let copied = self.add(content, node.span)?;
        if let Some(copy) = self.nodes.get_mut(copied.0) {
            copy.plain = node.plain;
        }
        Ok(copied)
    }

    fn enter(
        &mut self,
        anchor: usize,
        tagged: bool,
        span: Span,
        list: bool,
    ) -> Result<(), Located> {
        self.refuse_tag(tagged, span);
        if self.expects_key() {
            return Err(fault(span, self.path(), "a key must be text".into(), None));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(fault(
                span,
                self.path(),
                format!("nested deeper than {MAX_DEPTH}"),
                None,
            ));
        }
        let is_model = self.in_models();
        let id = self.add(Content::Null, span)?;
        self.open.push(if list {
            Open::List {
                id,
                items: Vec::new(),
            }
        } else {
            Open::Map {
                id,
                entries: Vec::new(),
                lines: BTreeMap::new(),
                key: None,
                repeats: false,
            }
        });
        if anchor != 0 {
            // The node is null until its end, so an alias inside its own anchor copies null.
            self.anchors.insert(anchor, id);
            if is_model {
                self.models.insert(id);
            }
        }
        Ok(())
    }

    fn leave(&mut self) {
        let (id, content) = match self.open.pop() {
            Some(Open::List { id, items }) => (id, Content::List(items)),
            Some(Open::Map { id, entries, .. }) => (id, Content::Map(entries)),
            None => return,
        };
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.content = content;
        }
        self.close_value(id, 0);
    }

    fn close_value(&mut self, id: NodeId, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut() {
            None => self.root = Some(id),
            Some(Open::List { items, .. }) => items.push(id),
            Some(Open::Map {
                entries,
                key,
                repeats,
                ..
            }) => {
                if let Some(key) = key.take().filter(|_| !*repeats) {
                    entries.push((key, id));
                }
                *repeats = false;
            }
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn take_key(&mut self, text: String, span: Span) {
        let mut first = None;
        if let Some(Open::Map {
            lines,
            key,
            repeats,
            ..
        }) = self.open.last_mut()
        {
            first = match lines.entry(text.clone()) {
                Entry::Vacant(free) => {
                    free.insert(span.line);
                    None
                }
                Entry::Occupied(taken) => Some(*taken.get()),
            };
            *repeats = first.is_some();
            *key = Some(Key {
                text: text.clone(),
                span,
            });
        }
        if let Some(line) = first {
            let path = self.path();
            self.faults.push(fault(
                span,
                path,
                format!("key {text:?} is already set on line {line}"),
                Some("keep one of the two".into()),
            ));
        }
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            let path = self.path();
            self.faults.push(fault(
                span,
                path,
                "tags are not allowed".into(),
                Some("leave the tag out; quote text".into()),
            ));
        }
    }

    /// Whether the next value is a model.
    fn in_models(&self) -> bool {
        let [Open::Map { key: Some(key), .. }, Open::Map { .. }] = self.open.as_slice() else {
            return false;
        };
        key.text == MODELS
    }

    /// Path of the next value.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::List { items, .. } => push_index(&mut path, items.len()),
                Open::Map { key: Some(key), .. } => push_key(&mut path, &key.text),
                Open::Map { .. } => {}
            }
        }
        path
    }
}

/// Whether a character is invisible or changes the direction of text: controls, line and paragraph
/// separators, bidirectional formatting.
pub fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Finds the first invisible character, or a line end that editors do not recognise. YAML forbids
/// most of them (section 5.1). A lone carriage return would shift the line numbers of later faults.
fn control(text: &str) -> Option<Located> {
    let odd = |(at, c): &(usize, char)| match c {
        '\n' | '\t' => false,
        '\r' => !text
            .get(at.saturating_add(1)..)
            .is_some_and(|rest| rest.starts_with('\n')),
        // A byte order mark is allowed at the start of a file.
        '\u{feff}' => *at > 0,
        c => invisible(*c),
    };
    let (at, c) = text.char_indices().find(odd)?;
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let span = Span {
        line: before.matches('\n').count().saturating_add(1),
        column: line.chars().count().saturating_add(1),
        length: 1,
    };
    Some(fault(
        span,
        String::new(),
        format!("an invisible character: U+{:04X}", u32::from(c)),
        Some("remove it, or write it as an escape in double quotes".into()),
    ))
}

/// Resolves a plain scalar by the core schema of YAML 1.2.
fn resolve(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" => return Content::Bool(true),
        "false" | "False" | "FALSE" => return Content::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Content::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Content::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Content::Float(f64::NAN),
        _ => {}
    }
    let radix = |digits: &str, radix| {
        u64::from_str_radix(digits, radix)
            .ok()
            .filter(|_| !digits.starts_with('+'))
    };
    if let Some(value) = text.strip_prefix("0x").and_then(|digits| radix(digits, 16)) {
        return Content::Unsigned(value);
    }
    if let Some(value) = text.strip_prefix("0o").and_then(|digits| radix(digits, 8)) {
        return Content::Unsigned(value);
    }
    if let Ok(value) = text.parse::<u64>() {
        return Content::Unsigned(value);
    }
    if let Ok(value) = text.parse::<i64>() {
        return Content::Signed(value);
    }
    let numeric = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E'))
        && text.bytes().any(|byte| byte.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(value) if numeric => Content::Float(value),
        _ => Content::Text(text.to_owned()),
    }
}

fn fault(span: Span, path: String, message: String, fix: Option<String>) -> Located {
    Located {
        severity: Severity::Error,
        span,
        path,
        message,
        fix,
    }
}

fn span_of(raw: &RawSpan) -> Span {
    let length = if raw.start.line() == raw.end.line() {
        raw.len().max(1)
    } else {
        1
    };
    Span {
        line: raw.start.line(),
        column: raw.start.col().saturating_add(1),
        length,
    }
}
