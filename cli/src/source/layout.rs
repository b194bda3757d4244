//! The canonical layout of a policy file, for `tensorgate fmt`.
//!
//! - Two spaces per level, and one space after `:`, `,` and `-`.
//! - No spaces inside brackets, no trailing spaces, no consecutive empty lines.
//! - Comments stay in place; one behind a value keeps its column.
//! - Order, quotes and line breaks are kept.
//!
//! The new text must mean exactly the same as the old one. This is verified by parsing both. A text
//! that would change its meaning, or change again when formatted twice, is left unchanged.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::parse::parse;
use super::tree::{Content, NodeId, Tree};

/// Why a text keeps its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFault {
    /// The text is not a single valid document.
    #[error("it cannot be parsed; `tensorgate check` shows why")]
    Unreadable,
    /// The formatted text would not be equivalent.
    #[error("its layout cannot be changed without changing its meaning")]
    Unsure,
}

/// Formats a text.
pub fn layout(text: &str) -> Result<String, LayoutFault> {
    let before = read(text).ok_or(LayoutFault::Unreadable)?;
    let (formatted, comments) = format_once(text);
    let (again, kept) = format_once(&formatted);
    let after = read(&formatted).ok_or(LayoutFault::Unsure)?;
    let same = same(&before, before.root(), &after, after.root());
    if same && comments == kept && again == formatted {
        Ok(formatted)
    } else {
        Err(LayoutFault::Unsure)
    }
}

fn read(text: &str) -> Option<Tree> {
    match parse(text) {
        (Some(tree), faults) if faults.is_empty() => Some(tree),
        _ => None,
    }
}

/// Whether two nodes are equivalent. The parser bounds their depth.
fn same(before: &Tree, a: NodeId, after: &Tree, b: NodeId) -> bool {
    let (Some(one), Some(other)) = (before.get(a), after.get(b)) else {
        return false;
    };
    match (&one.content, &other.content) {
        (Content::List(one), Content::List(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(a, b)| same(before, *a, after, *b))
        }
        (Content::Map(one), Content::Map(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|((key, a), (known, b))| {
                    key.text == known.text && same(before, *a, after, *b)
                })
        }
        // Numbers are compared as text, because NaN is not equal to itself.
        _ if one.plain.is_some() => one.plain == other.plain,
        (one, other) => one == other,
    }
}

/// Formats once; returns the text and its comments.
fn format_once(text: &str) -> (String, Vec<String>) {
    let whole = whole_lines(text);
    let mut pass = Pass::default();
    // In a multi-line scalar, indentation is content. A text that contains one is not reindented.
    let plain = whole.is_empty();
    for (at, line) in text.trim_start_matches('\u{feff}').split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if whole
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&at))
        {
            pass.put(line.to_owned());
        } else if line.trim().is_empty() {
            pass.blank();
        } else if plain {
            pass.line(line);
        } else {
            pass.put(line.trim_end().to_owned());
        }
    }
    pass.finish()
}

/// Ranges of lines, from 0, whose white space may be content: block scalars, and continued quoted
/// or plain scalars.
fn whole_lines(text: &str) -> Vec<(usize, usize)> {
    let mut lines = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let Event::Scalar(_, style, ..) = event else {
            continue;
        };
        // The parser counts lines from 1. A block scalar ends where the next line begins.
        let (first, last) = (span.start.line(), span.end.line());
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            lines.push((first.saturating_sub(1), last.saturating_sub(2)));
        } else if last > first {
            lines.push((first, last.saturating_sub(1)));
        }
    }
    lines
}

/// An open block collection, by the old and new column of its entries.
#[derive(Clone, Copy)]
struct Block {
    from: usize,
    to: usize,
    list: bool,
}

/// State of one formatting pass.
#[derive(Default)]
struct Pass {
    out: Vec<String>,
    blocks: Vec<Block>,
    /// Number of open brackets.
    flow: usize,
    /// Comment lines that wait for the next line of content, with their columns.
    waiting: Vec<(usize, String)>,
    comments: Vec<String>,
}

impl Pass {
    fn put(&mut self, line: String) {
        self.out.push(line);
    }

    fn blank(&mut self) {
        if self.waiting.is_empty() {
            if self.out.last().is_some_and(|last| !last.is_empty()) {
                self.put(String::new());
            }
        } else if self
            .waiting
            .last()
            .is_some_and(|(_, text)| !text.is_empty())
        {
            self.waiting.push((0, String::new()));
        }
    }

    fn line(&mut self, line: &str) {
        let content = line.trim_start();
        let column = line.len().saturating_sub(content.len());
        if self.flow > 0 {
            return self.inside(content, column);
        }
        if content.starts_with('#') {
            let comment = content.trim_end().to_owned();
            self.comments.push(comment.clone());
            self.waiting.push((column, comment));
            return;
        }
        let known = self.blocks.clone();
        let mut rest = content;
        let mut from = column;
        let mut first = None;
        let mut head = String::new();
        while let Some(after) = rest.strip_prefix('-') {
            let item = after.trim_start();
            if !after.is_empty() && item.len() == after.len() {
                break;
            }
            let to = self.enter_block(from, true);
            first.get_or_insert(to);
            head.push_str(if item.is_empty() { "-" } else { "- " });
            from = from.saturating_add(rest.len().saturating_sub(item.len()));
            rest = item;
            if item.is_empty() || item.starts_with('#') {
                break;
            }
        }
        if !rest.is_empty() && !rest.starts_with('#') {
            let to = self.enter_block(from, false);
            first.get_or_insert(to);
        }
        let to = first.unwrap_or_default();
        self.flush_comments(&known, column, to);
        let code = format!("{}{head}", " ".repeat(to));
        self.code(code, rest, from);
    }

    /// Formats a line that begins inside brackets.
    fn inside(&mut self, content: &str, column: usize) {
        let base = self.blocks.last().map_or(0, |block| block.to);
        let closing = content
            .chars()
            .take_while(|c| matches!(c, ']' | '}'))
            .count();
        let depth = self.flow.saturating_sub(closing);
        let code = " ".repeat(base.saturating_add(depth.saturating_mul(2)));
        self.code(code, content, column);
    }

    /// The new column of an entry that begins in this column.
    fn enter_block(&mut self, from: usize, list: bool) -> usize {
        while let Some(top) = self.blocks.last() {
            if top.from < from || (top.from == from && (top.list == list || !top.list)) {
                break;
            }
            self.blocks.pop();
        }
        let to = match self.blocks.last() {
            Some(top) if top.from == from && top.list == list => return top.to,
            Some(top) => top.to.saturating_add(2),
            None => 0,
        };
        self.blocks.push(Block { from, to, list });
        to
    }

    /// Writes the waiting comments. They are indented like the next line, or like the block above
    /// that starts in their column.
    fn flush_comments(&mut self, known: &[Block], column: usize, to: usize) {
        for (from, comment) in std::mem::take(&mut self.waiting) {
            let above = known.iter().rev().find(|block| block.from == from);
            let indent = match above {
                Some(block) if from != column => block.to,
                _ => to,
            };
            if comment.is_empty() {
                self.put(String::new());
            } else {
                self.put(format!("{}{comment}", " ".repeat(indent)));
            }
        }
    }

    /// Writes a line after its indentation. `from` is the column where the rest begins.
    fn code(&mut self, mut code: String, rest: &str, from: usize) {
        let (text, comment) = spaced(rest, &mut self.flow);
        code.push_str(&text);
        let code = code.trim_end();
        let Some(at) = comment else {
            return self.put(code.to_owned());
        };
        let (before, comment) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let comment = comment.trim_end();
        self.comments.push(comment.to_owned());
        let column = from.saturating_add(before.chars().count());
        let length = code.chars().count();
        let gap = if length == 0 || code.ends_with("  ") {
            0
        } else {
            column.saturating_sub(length).max(2)
        };
        let indent = if length == 0 {
            code_indent(rest, column)
        } else {
            0
        };
        self.put(format!(
            "{code}{}{comment}",
            " ".repeat(gap.saturating_add(indent))
        ));
    }

    fn finish(mut self) -> (String, Vec<String>) {
        let known = std::mem::take(&mut self.blocks);
        self.flush_comments(&known, usize::MAX, 0);
        while self.out.last().is_some_and(String::is_empty) {
            self.out.pop();
        }
        let mut text = self.out.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        (text, self.comments)
    }
}

/// A comment on its own line inside brackets keeps its column.
fn code_indent(rest: &str, column: usize) -> usize {
    if rest.starts_with('#') { column } else { 0 }
}

/// The code with canonical spacing, and the offset of a comment in it.
fn spaced(rest: &str, flow: &mut usize) -> (String, Option<usize>) {
    let mut out = String::new();
    let mut quote = None;
    let mut blanks = 0_usize;
    let mut gap = Gap::None;
    // Whether a key or a value may begin here.
    let mut start = true;
    let mut quoted = false;
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        if let Some(open) = quote {
            out.push(c);
            if c == '\\' && open == '"' {
                out.extend(chars.next().map(|(_, c)| c));
            } else if c == open {
                if open == '\'' && next == Some('\'') {
                    out.extend(chars.next().map(|(_, c)| c));
                } else {
                    quote = None;
                    quoted = true;
                }
            }
            continue;
        }
        if c == ' ' || c == '\t' {
            blanks = blanks.saturating_add(1);
            continue;
        }
        if c == '#' && (blanks > 0 || at == 0) {
            return (out, Some(at));
        }
        let ends = next.is_none_or(|next| matches!(next, ' ' | '\t'))
            || (*flow > 0 && (quoted || next.is_some_and(|next| matches!(next, ',' | ']' | '}'))));
        let closes = *flow > 0 && matches!(c, ']' | '}');
        let parts = *flow > 0 && c == ',';
        let names = c == ':' && ends;
        if !(closes || parts || names) {
            let width = match gap {
                Gap::None => blanks,
                Gap::One => 1,
                Gap::Nothing => 0,
            };
            out.push_str(&" ".repeat(width));
        }
        blanks = 0;
        gap = Gap::None;
        quoted = false;
        out.push(c);
        match c {
            '[' | '{' if start => {
                *flow = flow.saturating_add(1);
                gap = Gap::Nothing;
            }
            ']' | '}' if closes => {
                *flow = flow.saturating_sub(1);
                start = false;
            }
            ',' if parts => (gap, start) = (Gap::One, true),
            ':' if names => (gap, start) = (Gap::One, true),
            '"' | '\'' if start => (quote, start) = (Some(c), false),
            _ => start = false,
        }
    }
    (out, None)
}

/// Spacing before the next character.
#[derive(Clone, Copy)]
enum Gap {
    /// As the author wrote it.
    None,
    /// One space.
    One,
    /// No space.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_text_means_the_same() {
        for (text, expected) in [
            ("", ""),
            ("a: 1", "a: 1\n"),
            ("\n\na:   1  \n\n\n\nb : 2\n\n", "a: 1\n\nb: 2\n"),
            ("a: 1\r\nb: 2\r\n", "a: 1\nb: 2\n"),
            (
                "a: { x: [ 1,2 ,3 ],y: \"{ a,b }\" }\n",
                "a: {x: [1, 2, 3], y: \"{ a,b }\"}\n",
            ),
            (
                "a:\n    b:\n        - c: 1\n          d: 2\n        -   e\n",
                "a:\n  b:\n    - c: 1\n      d: 2\n    - e\n",
            ),
            (
                "a:\n- b: 1\n  c: 2\nd: 3\n",
                "a:\n  - b: 1\n    c: 2\nd: 3\n",
            ),
            (
                "# head\na:\n    # of b\n    b: 1\n    # after b\nc: 2 # two\n# end\n",
                "# head\na:\n  # of b\n  b: 1\n  # after b\nc: 2  # two\n# end\n",
            ),
            (
                "a: 1        # one\nbcd: 2      # two\n",
                "a: 1        # one\nbcd: 2      # two\n",
            ),
            (
                "a: {x: 1,\n     y: [1,\n 2]}\nb: it's  a 'word'\n",
                "a: {x: 1,\n  y: [1,\n    2]}\nb: it's  a 'word'\n",
            ),
            ("a: 'it''s  #1'   # x\n", "a: 'it''s  #1'   # x\n"),
            (
                "a: |\n   x  \n\n\n   y\nb:  1  \n",
                "a: |\n   x  \n\n\n   y\nb:  1\n",
            ),
            ("a: http://x:1/#y\n", "a: http://x:1/#y\n"),
        ] {
            assert_eq!(layout(text).as_deref(), Ok(expected), "{text:?}");
            assert_eq!(layout(expected).as_deref(), Ok(expected), "again: {text:?}");
        }
        for text in ["a: [", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n"] {
            assert_eq!(layout(text), Err(LayoutFault::Unreadable), "{text:?}");
        }
    }
}
