//! Policies of which a page shows a part. A test merges the part with a small complete policy, as a
//! reader does who adds the lines to a policy.
//!
//! Mappings in block style are merged by key, and items of lists in block style by their `name`.
//! Items without a name are appended. Any other value replaces the one of the complete policy.

use std::iter::Peekable;

/// The complete policies, by the names of their files in `docs/policies`.
pub const BASES: [&str; 2] = ["openai", "tensors"];

/// A line, and the lines below it that are indented more.
struct Node {
    /// The line without its indentation. An item of a list that is a mapping in block style has
    /// `-` alone, and all of its keys below.
    text: String,
    below: Vec<Node>,
}

impl Node {
    /// What a node of the other text has if it is about the same: a key, or an item's name.
    fn identity(&self) -> Option<String> {
        let Some(item) = self.text.strip_prefix('-') else {
            return entry(&self.text).map(|(key, _)| key.to_owned());
        };
        let mut below = self.below.iter().filter_map(|node| entry(&node.text));
        let name = match item.trim().strip_prefix('{') {
            Some(members) => members
                .split(',')
                .find_map(|member| member.trim().strip_prefix("name: ")),
            None => below.find_map(|(key, value)| (key == "name").then_some(value)),
        };
        name.map(|name| format!("- {}", name.trim_end_matches('}')))
    }

    /// Whether its value is in block style, so that it can be merged.
    fn is_open(&self) -> bool {
        let is_empty = entry(&self.text).is_some_and(|(_, value)| value.is_empty());
        self.text == "-" || (is_empty && !self.below.is_empty())
    }
}

/// The key of a mapping's entry, and what follows on its line, without a comment that is alone.
fn entry(text: &str) -> Option<(&str, &str)> {
    let (key, value) = match text.strip_prefix('"') {
        Some(quoted) => {
            let (key, rest) = quoted.split_once('"')?;
            (key, rest.strip_prefix(':')?)
        }
        None if text.starts_with(['{', '[', '-']) => return None,
        None => match text.split_once(": ") {
            Some(pair) => pair,
            None => (text.strip_suffix(':')?, ""),
        },
    };
    let value = value.trim();
    Some((key, if value.starts_with('#') { "" } else { value }))
}

/// Lines without empty ones and comments, each with its indentation. The first key of an item
/// becomes a line of its own.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        let mut indent = line.len() - rest.len();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        if let Some(first) = rest.strip_prefix("- ").filter(|item| entry(item).is_some()) {
            found.push((indent, "-".to_owned()));
            indent += 2;
            rest = first;
        }
        found.push((indent, rest.to_owned()));
    }
    found
}

/// The nodes of the lines that are indented by `floor` or more.
fn nodes(lines: &mut Peekable<impl Iterator<Item = (usize, String)>>, floor: usize) -> Vec<Node> {
    let mut found = Vec::new();
    while let Some((indent, text)) = lines.next_if(|(indent, _)| *indent >= floor) {
        let below = nodes(lines, indent + 1);
        found.push(Node { text, below });
    }
    found
}

fn parse(text: &str) -> Vec<Node> {
    nodes(&mut lines(text).into_iter().peekable(), 0)
}

fn merge(base: &mut Vec<Node>, fragment: Vec<Node>) {
    for node in fragment {
        let identity = node.identity();
        let same = base
            .iter_mut()
            .find(|other| identity.is_some() && other.identity() == identity);
        match same {
            Some(same) if same.is_open() && node.is_open() => merge(&mut same.below, node.below),
            Some(same) => *same = node,
            None => base.push(node),
        }
    }
}

fn write(nodes: &[Node], depth: usize, text: &mut String) {
    for node in nodes {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&node.text);
        text.push('\n');
        write(&node.below, depth + 1, text);
    }
}

/// A policy with the lines of a fragment added.
pub fn complete(base: &str, fragment: &str) -> String {
    let mut policy = parse(base);
    merge(&mut policy, parse(fragment));
    let mut text = String::new();
    write(&policy, 0, &mut text);
    text
}
