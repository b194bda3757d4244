//! HTML as it is written: markup is a constant of the program, and everything else is escaped.

use std::fmt::{Display, Write as _};

use tensorgate_values::safe_text::{is_hidden, push_escaped};

/// A document that grows.
#[derive(Debug, Default)]
pub(crate) struct Html(String);

impl Html {
    /// Appends markup.
    pub(crate) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends text from outside, for the content of an element or of an attribute in quotes. Each
    /// control character, mark of direction and character without width is visible as its escape,
    /// such as `\u{202e}`.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c if is_hidden(c) => push_escaped(&mut self.0, c),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Appends a value by its text form, escaped.
    pub(crate) fn value(&mut self, value: impl Display) -> &mut Self {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{value}");
        self.text(&text)
    }

    /// The document.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.finish()
    }

    #[test]
    fn markup_and_hidden_characters_are_shown_as_text() {
        for (text, expected) in [
            (
                "<script>alert('x')</script>",
                "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            ),
            ("\" onload=\"x", "&quot; onload=&quot;x"),
            ("a & b", "a &amp; b"),
            ("a\u{202e}lkp.exe", "a\\u{202e}lkp.exe"),
            ("\u{1b}[2J\0\r\n", "\\u{1b}[2J\\u{0}\\r\\n"),
            ("ad\u{ad}min\u{200b}", "ad\\u{ad}min\\u{200b}"),
            ("Zürich, עברית", "Zürich, עברית"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(!shown("\u{2066}\u{85}\u{feff}").contains(is_hidden));
    }

    #[test]
    fn values_are_escaped_too() {
        let mut html = Html::default();
        html.markup("<b>").value(5).value("<").markup("</b>");
        assert_eq!(html.finish(), "<b>5&lt;</b>");
    }
}
