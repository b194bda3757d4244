//! Edits the text of a policy at the positions of its keys and values.
//!
//! An edit is a guess about the layout. It counts only if the result reads as intended, so a layout
//! that is not handled here is never damaged.

use std::ops::Range;

use tensorgate_policy_compiler::raw;
use tensorgate_policy_load::load::typed_policy;
use tensorgate_policy_text::tree::{Content, Key, NodeId};
use tensorgate_policy_text::{Span, Tree, parse};

/// The section of a policy with its handlers.
const SECTION: &str = "handlers";
/// The keys of an entry.
const COMPONENT: &str = "component";
const SHA256: &str = "sha256";
/// Indentation of a level, in spaces, where the file does not show another.
const INDENT: usize = 2;

/// What a handler's entry has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Name of the handler.
    pub(super) name: &'a str,
    /// The component's path, relative to the policy.
    pub(super) component: &'a str,
    /// The component's digest.
    pub(super) sha256: &'a str,
}

/// The text with the entry; `None` if its layout cannot be edited.
pub(super) fn with_entry(text: &str, entry: &Entry<'_>) -> Option<String> {
    let edited = edited(text, entry)?;
    let (mut expected, known) = content(text)?;
    let (policy, faults) = content(&edited)?;
    let handler = expected.handlers.entry(entry.name.to_owned()).or_default();
    handler.component = Some(entry.component.to_owned());
    handler.sha256 = Some(entry.sha256.to_owned());
    let is_exact = policy == expected && faults.iter().all(|fault| known.contains(fault));
    is_exact.then_some(edited)
}

/// The component of a handler's entry.
pub(super) fn component_of(text: &str, name: &str) -> Option<String> {
    content(text)?.0.handlers.remove(name)?.component
}

/// The lines of an entry in block style.
pub(super) fn lines(entry: &Entry<'_>, indent: usize, line_end: &str) -> String {
    let first = format!("{}{}:{line_end}", " ".repeat(indent), entry.name);
    let indent = indent.saturating_add(INDENT);
    first
        + &member(COMPONENT, entry.component, indent, line_end)
        + &member(SHA256, entry.sha256, indent, line_end)
}

/// A line of an entry below its name.
fn member(key: &str, value: &str, indent: usize, line_end: &str) -> String {
    let value = scalar(key, value, false);
    format!("{}{key}: {value}{line_end}", " ".repeat(indent))
}

/// A policy, and the path and message of each fault.
fn content(text: &str) -> Option<(raw::Policy, Vec<(String, String)>)> {
    let (tree, faults) = parse::parse(text);
    let mut tree = tree.filter(|_| faults.is_empty())?;
    let typed = typed_policy(&mut tree);
    let faults = typed.faults.into_iter();
    let faults = faults.map(|fault| (fault.path, fault.message)).collect();
    Some((typed.document, faults))
}

/// The text with the entry, not yet verified.
fn edited(text: &str, entry: &Entry<'_>) -> Option<String> {
    let file = File::new(text)?;
    let root = file.tree.root();
    let sections = file.entries(root)?;
    let section = sections.iter().find(|(key, _)| key.text == SECTION);
    let Some((key, section)) = section else {
        return file.with_section(entry);
    };
    let handlers = file.entries(*section)?;
    match handlers.iter().find(|(key, _)| key.text == entry.name) {
        Some((key, handler)) => file.with_members(key, *handler, entry),
        None => file.with_handler(key, *section, entry),
    }
}

/// A policy's text and its tree.
struct File<'t> {
    text: &'t str,
    tree: Tree,
    line_end: &'static str,
}

impl<'t> File<'t> {
    fn new(text: &'t str) -> Option<Self> {
        let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Some(Self {
            text,
            tree: parse::parse(text).0?,
            line_end,
        })
    }

    /// The entries of a mapping. A key without a value counts as an empty mapping.
    fn entries(&self, node: NodeId) -> Option<&[(Key, NodeId)]> {
        match &self.tree.get(node)?.content {
            Content::Map(entries) => Some(entries),
            Content::Null => Some(&[]),
            _ => None,
        }
    }

    /// Replaces the path and the digest of an entry, or adds them.
    fn with_members(&self, key: &Key, handler: NodeId, entry: &Entry<'_>) -> Option<String> {
        let members = self.entries(handler)?;
        let mut edits = Vec::new();
        let mut missing = Vec::new();
        for (name, value) in [(COMPONENT, entry.component), (SHA256, entry.sha256)] {
            match members.iter().find(|(key, _)| key.text == name) {
                None => missing.push((name, value)),
                Some((_, node)) if self.reads(*node, value) => {}
                Some((_, node)) => {
                    let range = self.scalar(*node)?;
                    let is_quoted = self.text.get(range.clone())?.starts_with('"');
                    edits.push((range, scalar(name, value, is_quoted)));
                }
            }
        }
        if !missing.is_empty() {
            let (at, text) = match self.flow(handler) {
                Some(at) => {
                    let added = missing.iter();
                    let added = added.map(|(name, value)| format!("\"{name}\": {value:?}"));
                    (at, in_flow(added.collect(), members.is_empty()))
                }
                None => {
                    let first = members.first().map(|(key, _)| indent(key));
                    let indent = first.unwrap_or(indent(key).saturating_add(INDENT));
                    let line = |(name, value)| member(name, value, indent, self.line_end);
                    let lines = missing.into_iter().map(line).collect();
                    self.at_line(key.span.line.saturating_add(1), lines)
                }
            };
            edits.push((at..at, text));
        }
        apply(self.text, edits)
    }

    /// Adds an entry to the section, behind the others in block style.
    fn with_handler(&self, key: &Key, section: NodeId, entry: &Entry<'_>) -> Option<String> {
        let handlers = self.entries(section)?;
        let (at, text) = match self.flow(section) {
            Some(at) => (at, in_flow(vec![flow(entry)], handlers.is_empty())),
            None => {
                let first = handlers.first().map(|(key, _)| indent(key));
                let indent = first.unwrap_or(indent(key).saturating_add(INDENT));
                let lines = lines(entry, indent, self.line_end);
                self.at_line(self.line_after(key.span.line), lines)
            }
        };
        apply(self.text, vec![(at..at, text)])
    }

    /// Adds the section, as the last one in block style.
    fn with_section(&self, entry: &Entry<'_>) -> Option<String> {
        let root = self.tree.root();
        let sections = self.entries(root)?;
        let (at, text) = match self.flow(root) {
            Some(at) => {
                let section = format!("\"{SECTION}\": {{{}}}", flow(entry));
                (at, in_flow(vec![section], sections.is_empty()))
            }
            None => {
                let indent = sections.first().map_or(0, |(key, _)| indent(key));
                let entry = lines(entry, indent.saturating_add(INDENT), self.line_end);
                let section = format!("{}{SECTION}:{}{entry}", " ".repeat(indent), self.line_end);
                self.at_line(usize::MAX, section)
            }
        };
        apply(self.text, vec![(at..at, text)])
    }

    /// The line behind a section: that of the next section, without the comments and blank lines
    /// before it.
    fn line_after(&self, line: usize) -> usize {
        let sections = self.entries(self.tree.root()).unwrap_or_default();
        let later = sections.iter().map(|(key, _)| key.span.line);
        let next = later.filter(|next| *next > line).min();
        let lines: Vec<_> = self.text.lines().collect();
        let mut after = next.unwrap_or(lines.len().saturating_add(1));
        let is_between = |line: &&str| line.trim().is_empty() || line.starts_with('#');
        while after > line.saturating_add(1)
            && lines.get(after.saturating_sub(2)).is_some_and(is_between)
        {
            after = after.saturating_sub(1);
        }
        after
    }

    /// The offset of the start of a line, or of the end of the text; and the lines to insert there.
    fn at_line(&self, line: usize, lines: String) -> (usize, String) {
        let before = self.text.split_inclusive('\n').take(line.saturating_sub(1));
        let at: usize = before.map(str::len).sum();
        let is_open = at == self.text.len() && !self.text.is_empty() && !self.text.ends_with('\n');
        let text = if is_open {
            format!("{}{lines}", self.line_end)
        } else {
            lines
        };
        (at, text)
    }

    /// The offset behind the brace of a mapping in flow style; `None` in block style.
    fn flow(&self, node: NodeId) -> Option<usize> {
        let at = self.offset(self.tree.span(node))?;
        let is_flow = self.text.get(at..)?.starts_with('{');
        is_flow.then(|| at.saturating_add(1))
    }

    /// Whether a node reads as a text.
    fn reads(&self, node: NodeId, text: &str) -> bool {
        let Some(node) = self.tree.get(node) else {
            return false;
        };
        match &node.content {
            Content::Text(own) => own == text,
            // A digest of decimal digits is a number, and is read as it is spelt.
            _ => node.plain.as_deref() == Some(text),
        }
    }

    /// The range of a scalar on one line.
    fn scalar(&self, node: NodeId) -> Option<Range<usize>> {
        let span = self.tree.span(node);
        let start = self.offset(span)?;
        let line = self.text.get(start..)?.lines().next()?;
        let length: usize = match line.chars().next()? {
            // The parser's span of quoted text includes what follows it.
            '"' => after_double_quoted(line)?,
            '\'' => after_single_quoted(line)?,
            '|' | '>' | '&' | '*' | '!' | '{' | '[' => return None,
            _ => line.chars().take(span.length).map(char::len_utf8).sum(),
        };
        Some(start..start.checked_add(length)?)
    }

    /// The byte offset of a position.
    fn offset(&self, span: Span) -> Option<usize> {
        let before = span.line.checked_sub(1)?;
        let start: usize = (self.text.split_inclusive('\n').take(before))
            .map(str::len)
            .sum();
        let line = self.text.get(start..)?;
        let column = span.column.checked_sub(1)?;
        let within: usize = line.chars().take(column).map(char::len_utf8).sum();
        start.checked_add(within)
    }
}

/// The indentation of a key in block style, in spaces.
fn indent(key: &Key) -> usize {
    key.span.column.saturating_sub(1)
}

/// Members to be inserted behind the brace of a mapping in flow style.
fn in_flow(members: Vec<String>, is_empty: bool) -> String {
    let separator = if is_empty { "" } else { ", " };
    members.join(", ") + separator
}

/// An entry in flow style. It is JSON, because the whole policy may be.
fn flow(entry: &Entry<'_>) -> String {
    let Entry {
        name,
        component,
        sha256,
    } = entry;
    format!("\"{name}\": {{\"{COMPONENT}\": {component:?}, \"{SHA256}\": \"{sha256}\"}}")
}

/// The value of a key as it is written. Digests are quoted, because some read as numbers.
fn scalar(key: &str, value: &str, is_quoted: bool) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let needs_quotes = key == SHA256 || value.starts_with('-') || !value.chars().all(is_plain);
    if is_quoted || needs_quotes {
        format!("{value:?}")
    } else {
        value.to_owned()
    }
}

/// The length of the text in double quotes at the start of a line.
fn after_double_quoted(line: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in line.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at.checked_add(1),
            _ => {}
        }
    }
    None
}

/// The length of the text in single quotes at the start of a line. Two quotes stand for one.
fn after_single_quoted(line: &str) -> Option<usize> {
    let mut chars = line.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\'' && chars.next_if(|(_, next)| *next == '\'').is_none() {
            return at.checked_add(1);
        }
    }
    None
}

/// Applies edits that do not overlap.
fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> Option<String> {
    edits.sort_by_key(|(range, _)| range.start);
    let mut edited = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in edits {
        edited.push_str(text.get(at..range.start)?);
        edited.push_str(&new);
        at = range.end;
    }
    edited.push_str(text.get(at..)?);
    Some(edited)
}
