//! YAML text to a bounded tree. Refused: repeated keys, keys that are not text, tags, a second document, aliases that
//! multiply. Text is resolved by YAML 1.2's core schema: `no` is text, `0x1f` a number.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as RawSpan};
use tensorgate_policy::Severity;

use super::Located;
use super::path::{push_index, push_key};
use super::tree::{Content, Key, Node, NodeId, Span, Tree};

/// Nodes of one document, aliases expanded but those of models by models: a hundred thousand of one contract are one. A hundred thousand clients
/// with a key each, all in one group, are 500 000.
pub const MAX_NODES: usize = 1_000_000;
/// Nesting of a document. A policy needs 8.
pub const MAX_DEPTH: usize = 32;
/// Faults kept of one document; past them nobody reads on.
pub const MAX_FAULTS: usize = 100;

/// The policy's models, by name.
pub(super) const MODELS: &str = "models";

/// A collection that is still open.
enum Open {
    List {
        id: NodeId,
        items: Vec<NodeId>,
    },
    Map {
        id: NodeId,
        entries: Vec<(Key, NodeId)>,
        /// The line of each key so far.
        lines: BTreeMap<String, usize>,
        key: Option<Key>,
        repeats: bool,
    },
}

struct Builder {
    nodes: Vec<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, NodeId>,
    /// Models that have an anchor: what is another by an alias is the same node.
    models: BTreeSet<NodeId>,
    root: Option<NodeId>,
    documents: usize,
    faults: Vec<Located>,
}

/// Reads a document. What was built is given even where there are faults, so that they can be reported together with
/// those of the content; `None` where the text is not YAML at all.
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
            Err(error) => Err(fault(
                mark(error.marker()),
                String::new(),
                format!("not YAML: {}", calm(error.info())),
                None,
            )),
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
                        Some("keep one document a file".into()),
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

    /// Copies what an alias stands for. Every copied node and level counts, which is what bounds an alias bomb.
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
            // Until its end it is null: an alias inside its own anchor copies that.
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

    /// Where the next value goes.
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

/// Whether a character does not show, or turns what follows it round: controls, line and paragraph separators, bidirectional formatting.
pub fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first character that a reader of the text does not see, or takes for a line's end where an editor does not: YAML forbids most of
/// them (5.1), and a lone carriage return would move every fault below it to another line.
fn control(text: &str) -> Option<Located> {
    let odd = |(at, c): &(usize, char)| match c {
        '\n' | '\t' => false,
        '\r' => !text
            .get(at.saturating_add(1)..)
            .is_some_and(|rest| rest.starts_with('\n')),
        // A byte order mark may begin a file.
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
        format!("a character that does not show: U+{:04X}", u32::from(c)),
        Some("remove it; between double quotes it can be written as an escape".into()),
    ))
}

/// What plain text stands for, by YAML 1.2's core schema.
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

fn mark(marker: &Marker) -> Span {
    Span {
        line: marker.line(),
        column: marker.col().saturating_add(1),
        length: 1,
    }
}

fn span_of(raw: &RawSpan) -> Span {
    let length = if raw.start.line() == raw.end.line() {
        raw.len().max(1)
    } else {
        1
    };
    Span {
        length,
        ..mark(&raw.start)
    }
}

/// The parser's message in our manner: lowercase, no full stop.
fn calm(message: &str) -> String {
    message.trim_end_matches('.').to_lowercase()
}
