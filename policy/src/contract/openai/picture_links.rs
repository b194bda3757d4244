//! Finds links to pictures in Markdown and HTML, in a text that arrives in pieces of any size.
//!
//! A page that shows such a text fetches the picture without a click, so its URL can carry what the
//! text should not tell. The scanner does not parse Markdown. It reads the marks that every form of
//! a link needs: `![`, then `](`, or a definition `[label]:`; and names of elements that load
//! something. Where the structure is uncertain (code, escapes, nested brackets), a mark counts as a
//! link. Some readers remove control characters first, so these separate no marks. Others take them
//! for text, so a line of them is no blank line: a paragraph ends where all readers end it.
//!
//! The scanner emits the same text with these marks escaped. It holds back at most the characters
//! that may begin a mark.

use alloc::string::String;

/// Elements that load something without a click: by an attribute of their own, or by one of what
/// only they can contain (`svg`).
const ELEMENTS: [&str; 28] = [
    "audio", "base", "body", "embed", "feimage", "frame", "iframe", "image", "img", "input",
    "link", "meta", "object", "picture", "script", "source", "style", "svg", "table", "tbody",
    "td", "tfoot", "th", "thead", "tr", "track", "use", "video",
];
/// The longest name of [`ELEMENTS`].
const MAX_ELEMENT_BYTES: usize = 7;

/// The form of a link. The last one is what servers read that fetch pictures of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PictureLink {
    /// An element of HTML.
    Element,
    /// `![text][label]`, with a definition of the label.
    Reference,
    /// `![text](url)`.
    Inline,
}

/// A scanner of one text.
#[derive(Clone, Debug, Default)]
pub struct LinkScanner {
    partial_mark: PartialMark,
    /// The `]` before the current character.
    bracket: Option<Bracket>,
    /// The last `![`, if there was one.
    picture: Option<Picture>,
    emitted: EmittedMark,
    /// Whether a `[` may have begun a label that has not ended.
    in_label: bool,
    has_text_in_line: bool,
    after_backslash: bool,
    /// The character before the current one.
    previous: Option<char>,
}

/// The first mark of a reference that was emitted as it is. The other one is escaped from then on.
/// A page may join the texts of an answer, so scanners of one answer share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmittedMark {
    /// None yet.
    #[default]
    None,
    /// `![`
    Picture,
    /// `[label]:`
    Definition,
}

/// A `]`, to which the next character may give a meaning.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    /// Whether it may end the text of a picture.
    in_picture: bool,
    /// Whether it may end the label of a definition.
    in_label: bool,
}

/// Characters that may begin a mark. They are not emitted yet.
#[derive(Clone, Debug, Default)]
enum PartialMark {
    #[default]
    Nothing,
    /// `!`
    Exclamation,
    /// `<`, and the letters behind it.
    Element(String),
}

#[derive(Clone, Copy, Debug)]
struct Picture {
    /// Whether its paragraph goes on. Brackets in code and escapes make its end uncertain.
    in_paragraph: bool,
    /// Whether no `]` followed it. Simple readers search for the first one, in any paragraph.
    is_open: bool,
}

impl LinkScanner {
    /// Reads a piece and emits what is certain, with links escaped. Returns the form of a link that
    /// the piece completed, the last of [`PictureLink`] if there are several.
    pub fn push(&mut self, piece: &str, emit: &mut impl FnMut(&str)) -> Option<PictureLink> {
        let mut found: Option<PictureLink> = None;
        for character in piece.chars() {
            found = found.max(self.step(character, emit));
        }
        found
    }

    /// Emits what was held back, at the end of the text.
    pub fn finish(&mut self, emit: &mut impl FnMut(&str)) {
        match core::mem::take(&mut self.partial_mark) {
            PartialMark::Nothing => {}
            PartialMark::Exclamation => emit("!"),
            PartialMark::Element(name) => {
                emit("<");
                emit(&name);
            }
        }
    }

    /// Whether characters are held back.
    pub const fn is_holding(&self) -> bool {
        !matches!(self.partial_mark, PartialMark::Nothing)
    }

    /// What the texts before have emitted of references.
    pub const fn emitted(&self) -> EmittedMark {
        self.emitted
    }

    /// Continues after other texts of the same answer.
    pub const fn follow(&mut self, emitted: EmittedMark) {
        self.emitted = emitted;
    }

    /// Ends the paragraph, where another text follows.
    pub(super) const fn end_paragraph(&mut self) {
        if let Some(picture) = &mut self.picture {
            picture.in_paragraph = false;
        }
    }

    fn step(&mut self, character: char, emit: &mut impl FnMut(&str)) -> Option<PictureLink> {
        self.track_line(character);
        if character.is_control() && !matches!(character, '\n' | '\r' | '\t') {
            // It is emitted before what is held back, so that the marks stay together.
            emit(character.encode_utf8(&mut [0; 4]));
            self.previous = Some(character);
            return None;
        }
        let found = match (core::mem::take(&mut self.partial_mark), character) {
            (PartialMark::Nothing, _) => self.begin(character, emit),
            (PartialMark::Exclamation, '[') => self.open_picture(emit),
            (PartialMark::Exclamation, _) => {
                emit("!");
                self.begin(character, emit)
            }
            (PartialMark::Element(mut name), _)
                if character.is_ascii_alphabetic() && name.len() < MAX_ELEMENT_BYTES =>
            {
                name.push(character);
                self.partial_mark = PartialMark::Element(name);
                None
            }
            (PartialMark::Element(name), _) => {
                let ends = !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_'));
                let loads = ends
                    && ELEMENTS
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(&name));
                emit(if loads { "&lt;" } else { "<" });
                emit(&name);
                let element = loads.then_some(PictureLink::Element);
                element.max(self.begin(character, emit))
            }
        };
        self.after_backslash = character == '\\';
        self.previous = Some(character);
        found
    }

    /// Reads a character while nothing is held back.
    fn begin(&mut self, character: char, emit: &mut impl FnMut(&str)) -> Option<PictureLink> {
        let bracket = self.bracket.take();
        match (character, bracket) {
            ('!', _) => self.partial_mark = PartialMark::Exclamation,
            ('<', _) => self.partial_mark = PartialMark::Element(String::new()),
            ('[', _) => {
                // `a[0]:` is code. Lists, tasks, quotes and elements let a definition follow
                // anything else, and not all readers agree on what.
                let in_code = self
                    .previous
                    .is_some_and(|c| c.is_alphanumeric() || c == '_');
                self.in_label |= !in_code;
                emit("[");
            }
            (']', _) => {
                emit("]");
                self.bracket = Some(self.close_bracket());
            }
            ('(', Some(Bracket { in_picture, .. })) if in_picture => {
                emit("\\(");
                return Some(PictureLink::Inline);
            }
            (':', Some(Bracket { in_label, .. })) if in_label => {
                if self.emitted == EmittedMark::Picture {
                    emit("\\:");
                    return Some(PictureLink::Reference);
                }
                self.emitted = EmittedMark::Definition;
                emit(":");
            }
            _ => {
                if character.is_ascii_whitespace() {
                    // Some readers let white space precede a URL.
                    self.bracket = bracket.map(|bracket| Bracket {
                        in_label: false,
                        ..bracket
                    });
                }
                emit(character.encode_utf8(&mut [0; 4]));
            }
        }
        None
    }

    /// `![`. Any label may be defined already.
    fn open_picture(&mut self, emit: &mut impl FnMut(&str)) -> Option<PictureLink> {
        self.picture = Some(Picture {
            in_paragraph: true,
            is_open: true,
        });
        // A space, because some readers drop a backslash before a bracket and read the rest again.
        if self.emitted == EmittedMark::Definition {
            emit("! [");
            return Some(PictureLink::Reference);
        }
        self.emitted = EmittedMark::Picture;
        emit("![");
        None
    }

    fn close_bracket(&mut self) -> Bracket {
        let bracket = Bracket {
            in_picture: (self.picture)
                .is_some_and(|picture| picture.in_paragraph || picture.is_open),
            in_label: self.in_label,
        };
        if let Some(picture) = &mut self.picture {
            picture.is_open = false;
        }
        self.in_label &= self.after_backslash;
        bracket
    }

    /// Every character but spaces and tabs makes a line one that is not blank.
    fn track_line(&mut self, character: char) {
        match character {
            '\n' => {
                if !self.has_text_in_line {
                    self.end_paragraph();
                }
                self.has_text_in_line = false;
            }
            // A carriage return may end a line, but a pair with a line feed is no blank line.
            ' ' | '\t' | '\r' => {}
            _ => self.has_text_in_line = true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use alloc::format;

    use super::*;

    /// The emitted text in pieces of this many characters, and the links.
    fn scan(text: &str, size: usize) -> (String, Option<PictureLink>) {
        let (mut scanner, mut emitted) = (LinkScanner::default(), String::new());
        let mut emit = |piece: &str| emitted.push_str(piece);
        let mut found: Option<PictureLink> = None;
        let (mut piece, mut count) = (String::new(), 0_usize);
        for character in text.chars() {
            piece.push(character);
            count += 1;
            if count.is_multiple_of(size) {
                found = found.max(scanner.push(&piece, &mut emit));
                piece.clear();
            }
        }
        found = found.max(scanner.push(&piece, &mut emit));
        scanner.finish(&mut emit);
        assert!(!scanner.is_holding());
        (emitted, found)
    }

    fn check(text: &str, expected: &str, link: Option<PictureLink>) {
        for size in [1, 2, 3, 5, 1_000] {
            assert_eq!(
                scan(text, size),
                (expected.into(), link),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn the_longest_name_of_an_element_is_known() {
        let longest = ELEMENTS.iter().map(|name| name.len()).max();
        assert_eq!(longest, Some(MAX_ELEMENT_BYTES));
    }

    #[test]
    fn every_form_of_a_link_is_found_and_escaped_however_it_is_cut() {
        use PictureLink::{Element, Inline, Reference};
        for (text, expected, link) in [
            ("a ![x](http://e/?q) b", "a ![x]\\(http://e/?q) b", Inline),
            ("![a] \t(u)", "![a] \t\\(u)", Inline),
            ("![](<//e/?q>)", "![]\\(<//e/?q>)", Inline),
            ("![a [b] c](u)", "![a [b] c]\\(u)", Inline),
            // A line of a control character, or of another kind of space, is not blank.
            ("![[x]\n\u{c}\nb](u)", "![[x]\n\u{c}\nb]\\(u)", Inline),
            ("![[x]\n\0\r\nb](u)", "![[x]\n\0\r\nb]\\(u)", Inline),
            ("![[x]\n \u{85}\nb](u)", "![[x]\n \u{85}\nb]\\(u)", Inline),
            ("![[x]\n\u{a0}\nb](u)", "![[x]\n\u{a0}\nb]\\(u)", Inline),
            ("![[x]\n\u{2028}\nb](u)", "![[x]\n\u{2028}\nb]\\(u)", Inline),
            ("![a`]`\r\nb](u)", "![a`]`\r\nb]\\(u)", Inline),
            ("![a\\]b](u)", "![a\\]b]\\(u)", Inline),
            // Simple readers do not end a link with its paragraph.
            ("![a\n\nb](u)", "![a\n\nb]\\(u)", Inline),
            ("[![a](u)](v)", "[![a]\\(u)]\\(v)", Inline),
            ("!![a](u)", "!![a]\\(u)", Inline),
            ("![x][1]\n\n[1]: u", "![x][1]\n\n[1]\\: u", Reference),
            ("![1]\n> - [1]: u", "![1]\n> - [1]\\: u", Reference),
            ("![a\\]]\n[a\\]]: u", "![a\\]]\n[a\\]]\\: u", Reference),
            ("![1]\r[\n1\n]: u", "![1]\r[\n1\n]\\: u", Reference),
            ("[1]: u\n\n![x][1]", "[1]: u\n\n! [x][1]", Reference),
            ("[1]: u\n\n![x](u)", "[1]: u\n\n! [x]\\(u)", Inline),
            // Tasks, definition lists, and elements that have Markdown inside.
            (
                "- [ ] [1]: u\n\n![x][1]",
                "- [ ] [1]: u\n\n! [x][1]",
                Reference,
            ),
            ("![1]\n\n- [x] [1]: u", "![1]\n\n- [x] [1]\\: u", Reference),
            (
                "![1]\n\nterm\n: [1]: u",
                "![1]\n\nterm\n: [1]\\: u",
                Reference,
            ),
            ("![1]\n\nt\n~ [1]: u", "![1]\n\nt\n~ [1]\\: u", Reference),
            (
                "![1]\n\n<div a=1>[1]: u",
                "![1]\n\n<div a=1>[1]\\: u",
                Reference,
            ),
            (
                "![1]\n\n[^1]: [1]: u",
                "![1]\n\n[^1]\\: [1]\\: u",
                Reference,
            ),
            (
                "![1]\n\na\u{b}[1]\u{2}: u",
                "![1]\n\na\u{b}[1]\u{2}\\: u",
                Reference,
            ),
            // Control characters move before what is held back.
            ("!\u{2}[x](u)", "\u{2}![x]\\(u)", Inline),
            ("![x]\u{3}(u)", "![x]\u{3}\\(u)", Inline),
            (
                "<\u{2}i\u{7f}mg src=u>",
                "\u{2}\u{7f}&lt;img src=u>",
                Element,
            ),
            ("<img src=u>", "&lt;img src=u>", Element),
            ("<feImage href=u>", "&lt;feImage href=u>", Element),
            ("<table background=u>", "&lt;table background=u>", Element),
            ("|<td\tbackground=u>", "|&lt;td\tbackground=u>", Element),
            ("<<IMG/src=u>", "<&lt;IMG/src=u>", Element),
            ("a<iFrame\nsrc=u>", "a&lt;iFrame\nsrc=u>", Element),
            ("<picture>", "&lt;picture>", Element),
        ] {
            check(text, expected, Some(link));
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in [
            "",
            "plain [link](http://e) and [one][1]\n\n[1]: u",
            "Wow! [link](u) a[1] <b> <imgs> <img-x> <pictures> <https://e> 1 < 2!",
            "let v = vec![1, 2];\n\n[docs](u)",
            "![x]\n\n[a](u)",
            "![[x]\n \t\r\n[a](u)",
            "<tda> <ths> <trim> <svg-x>",
            "if a[0]: for b in c[1:]: ![x]\nreturn d[2]:",
            "x()[0] f(a_[1]: b) ![x]\u{1}",
            "- [ ] todo: ![x] u ] : \u{e9}\u{1f600}",
            "ends with !",
            "ends with ]",
            "ends with <ifr",
        ] {
            check(text, text, None);
        }
    }

    #[test]
    fn each_attribute_that_loads_something_is_of_a_known_element() {
        for (attribute, elements) in [
            ("background", "body table tbody td tfoot th thead tr"),
            ("data", "object"),
            ("href", "base link feimage image use"),
            ("imagesrcset", "link"),
            ("poster", "video"),
            (
                "src",
                "audio embed frame iframe img input script source track video",
            ),
            ("srcset", "img source"),
            // By `content`: a refresh.
            ("content", "meta"),
            // Of elements that only `svg` contains: `filter`, `mask`, `fill`, `href`.
            ("filter", "svg"),
        ] {
            for element in elements.split(' ') {
                let text = format!("<{element} {attribute}=u>");
                let expected = format!("&lt;{element} {attribute}=u>");
                check(&text, &expected, Some(PictureLink::Element));
            }
        }
    }

    #[test]
    fn a_bounded_end_is_not_emitted() {
        let mut scanner = LinkScanner::default();
        let (text, mut emitted) = ("<".repeat(99) + "picture", 0_usize);
        scanner.push(&text, &mut |piece: &str| emitted += piece.len());
        assert_eq!(text.len() - emitted, 1 + MAX_ELEMENT_BYTES);
    }
}
