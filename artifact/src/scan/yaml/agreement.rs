//! Whether readers of YAML agree about the structure of a text. Where they do not, one of them may
//! see a key that the walk does not.

use std::str::Chars;

use saphyr_parser::{Event, ScalarStyle, Span};

/// Looks at scalars, and at the text between them.
pub(super) struct Agreement<'t> {
    rest: Chars<'t>,
    /// Characters before the rest.
    position: usize,
    is_comment: bool,
    /// Whether the name of an anchor goes on.
    is_name: bool,
    disagreement: Option<&'static str>,
}

impl<'t> Agreement<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            rest: text.chars(),
            position: 0,
            is_comment: false,
            is_name: false,
            disagreement: None,
        }
    }

    /// Looks at the text up to the end of an event. Events come in the order of the text.
    pub(super) fn follow(&mut self, event: &Event<'_>, span: Span) {
        let Event::Scalar(text, style, _, _) = event else {
            return;
        };
        // A value that is not there has the place of what comes next.
        if text.is_empty() && *style == ScalarStyle::Plain {
            return;
        }
        self.between(span.start.index());
        self.is_comment = false;
        self.is_name = false;
        match style {
            // In braces and brackets, PyYAML takes these marks alone, and a key behind them.
            ScalarStyle::Plain if text.starts_with(['?', ':']) => {
                self.disagree("a text that begins with the mark of a key or of a value");
            }
            // Other readers want at least one space before the lines, and end the text here.
            ScalarStyle::Literal | ScalarStyle::Folded if span.start.col() == 0 => {
                self.disagree("a text of lines that begin without a space");
            }
            _ => {}
        }
        let first = self.rest.clone().next();
        let is_in_place = match style {
            ScalarStyle::Plain => text.chars().next() == first,
            ScalarStyle::SingleQuoted => first == Some('\''),
            ScalarStyle::DoubleQuoted => first == Some('"'),
            ScalarStyle::Literal | ScalarStyle::Folded => true,
        };
        if !is_in_place {
            self.disagree("a text that is not in its place");
        }
        while self.position < span.end.index() && self.advance().is_some() {}
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
            if self.is_comment {
                self.is_comment = !matches!(c, '\n' | '\r');
            } else if self.is_name {
                let is_part = c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                self.is_name = is_part;
                if !is_part && !c.is_ascii_whitespace() && !matches!(c, ',' | ']' | '}') {
                    self.disagree("the end of an anchor's name");
                }
            } else {
                self.is_comment = c == '#';
                self.is_name = matches!(c, '&' | '*');
            }
        }
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.position = self.position.saturating_add(1);
        Some(c)
    }

    fn disagree(&mut self, detail: &'static str) {
        self.disagreement.get_or_insert(detail);
    }
}
