//! Whether readers of YAML agree about the structure of a text. Where they do not, one of them may
//! see a key that the walk does not.

use std::str::Chars;

use saphyr_parser::{Event, ScalarStyle, Span};

/// Other readers want at least one space before the lines of a text, and end it here.
const LINES: &str = "a text of lines that begin without a space";

/// Looks at scalars, and at the text between them.
pub(super) struct Agreement<'t> {
    rest: Chars<'t>,
    /// Characters before the rest.
    position: usize,
    is_comment: bool,
    /// Whether the name of an anchor goes on.
    is_name: bool,
    /// Whether a tag goes on.
    is_tag: bool,
    /// Braces and brackets around the rest.
    depth: usize,
    disagreement: Option<&'static str>,
}

impl<'t> Agreement<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            rest: text.chars(),
            position: 0,
            is_comment: false,
            is_name: false,
            is_tag: false,
            depth: 0,
            disagreement: None,
        }
    }

    /// Looks at the text up to the end of an event. Events come in the order of the text.
    pub(super) fn follow(&mut self, event: &Event<'_>, span: Span) {
        let Event::Scalar(text, style, anchor, tag) = event else {
            return;
        };
        // A value that is not there has the place of what comes next.
        if text.is_empty() && *style == ScalarStyle::Plain {
            return;
        }
        self.between(span.start.index());
        self.is_comment = false;
        self.is_name = false;
        self.is_tag = false;
        let has_properties = *anchor != 0 || tag.is_some();
        if has_properties {
            self.pass_properties();
        }
        let column = (!has_properties).then_some(span.start.col());
        self.check_scalar(text, *style, column);
        let mut begins_line = false;
        while self.position < span.end.index() {
            let Some(c) = self.advance() else { return };
            let is_lines = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
            if is_lines && has_properties && begins_line && !c.is_ascii_whitespace() {
                self.disagree(LINES);
            }
            begins_line = matches!(c, '\n' | '\r');
        }
    }

    /// Checks a scalar that begins here. Without properties, `column` is where its text begins.
    fn check_scalar(&mut self, text: &str, style: ScalarStyle, column: Option<usize>) {
        let first = self.peek();
        let is_aligned = match style {
            ScalarStyle::Plain => text.chars().next() == first,
            ScalarStyle::SingleQuoted => first == Some('\''),
            ScalarStyle::DoubleQuoted => first == Some('"'),
            ScalarStyle::Literal | ScalarStyle::Folded => {
                if column == Some(0) {
                    self.disagree(LINES);
                }
                true
            }
        };
        if !is_aligned {
            self.disagree("a text that is not in its place");
        }
        // In braces and brackets, PyYAML takes these marks alone, and a key behind them. Elsewhere
        // all readers want a space behind a mark, as in Hydra's `???`.
        if self.depth > 0 && style == ScalarStyle::Plain && text.starts_with(['?', ':']) {
            self.disagree("a text that begins with the mark of a key or of a value");
        }
    }

    /// Passes over an anchor and a tag, and the spaces and comments between them and their scalar.
    fn pass_properties(&mut self) {
        while let Some(c) = self.peek() {
            let is_between = c.is_ascii_whitespace() || matches!(c, '#' | '&' | '!');
            if !(self.is_comment || self.is_name || self.is_tag || is_between) {
                return;
            }
            self.advance();
            self.look(c);
        }
    }

    /// Looks at the text behind the last event, and answers what readers disagree about.
    pub(super) fn finish(mut self) -> Option<&'static str> {
        self.between(usize::MAX);
        self.disagreement
    }

    /// Looks at the text before a scalar: brackets, marks, anchors and comments.
    fn between(&mut self, end: usize) {
        while self.position < end {
            let Some(c) = self.advance() else { return };
            self.look(c);
        }
    }

    /// Looks at a character outside of scalars.
    fn look(&mut self, c: char) {
        if self.is_comment {
            self.is_comment = !matches!(c, '\n' | '\r');
            return;
        }
        match c {
            '[' | '{' => self.depth = self.depth.saturating_add(1),
            ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if self.is_name {
            self.is_name = c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if !self.is_name && !c.is_ascii_whitespace() && !matches!(c, ',' | ']' | '}') {
                self.disagree("the end of an anchor's name");
            }
        } else if self.is_tag {
            self.is_tag =
                c.is_ascii_alphanumeric() || matches!(c, '!' | '/' | '_' | '-' | '.' | ':');
            if !self.is_tag && !c.is_ascii_whitespace() {
                self.disagree("the end of a tag");
            }
        } else {
            self.is_comment = c == '#';
            self.is_tag = c == '!';
            self.is_name = matches!(c, '&' | '*');
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.position = self.position.saturating_add(1);
        Some(c)
    }

    fn disagree(&mut self, detail: &'static str) {
        self.disagreement = self.disagreement.or(Some(detail));
    }
}
