//! A strict reader of XML that keeps one tag in memory.
//!
//! It reads what OpenVINO and its converters write: UTF-8, a declaration, elements, and attributes
//! in double quotes. What makes readers differ or expand is malformed: a document type, a section
//! of raw text, an instruction, an attribute that stands twice. Texts and values stay as they are
//! written, with the entities of XML itself.

use std::collections::BTreeMap;

use super::rules::Rule;
use super::source::{Source, Stop};

/// Elements within elements. Readers that follow them on the stack end at some thousands.
const MAX_DEPTH: usize = 100;
/// The longest name of an element, bytes. Those around an element stay in memory.
const MAX_NAME_BYTES: usize = 256;
/// The longest tag or text, bytes. The longest real one is a chat template.
const MAX_PART_BYTES: usize = 1 << 20;
/// The first tag, in lower case and double quotes.
const DECLARATIONS: [&str; 2] = [
    "?xml version=\"1.0\"?",
    "?xml version=\"1.0\" encoding=\"utf-8\"?",
];
/// What programs write behind `&`. None stands for a letter, a digit or an underscore, so a name or
/// a number is the same with its entities replaced.
const ENTITIES: [&str; 9] = [
    "#09;", "#10;", "#13;", "#9;", "amp;", "apos;", "gt;", "lt;", "quot;",
];
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// What comes next in a document, besides texts.
pub(super) enum Event {
    Begin(Element),
    /// The end of the element of this name.
    End(String),
}

/// The beginning of an element.
pub(super) struct Element {
    /// Where its tag is.
    pub(super) at: u64,
    pub(super) name: String,
    attributes: BTreeMap<String, String>,
}

impl Element {
    /// The value of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// A document.
pub(super) struct Document<'i> {
    source: Source<'i>,
    rule: &'static Rule,
    /// The names of the elements that have not ended, the innermost last.
    pub(super) open: Vec<String>,
    /// Whether the innermost element ends in its first tag.
    is_empty: bool,
    has_root: bool,
    /// Where the current tag or text begins.
    at: u64,
}

impl<'i> Document<'i> {
    /// The document of a source, of which each fault has this rule.
    pub(super) const fn new(source: Source<'i>, rule: &'static Rule) -> Self {
        Self {
            source,
            rule,
            open: Vec::new(),
            is_empty: false,
            has_root: false,
            at: 0,
        }
    }

    /// The next event. `None` at the end of the document.
    pub(super) fn event(&mut self) -> Result<Option<Event>, Stop> {
        if std::mem::take(&mut self.is_empty) {
            return Ok(self.open.pop().map(Event::End));
        }
        if self.has_root && self.open.is_empty() {
            while self.source.left() > 0 {
                if !SPACES.contains(&char::from(self.source.byte()?)) {
                    return Err(self.malformed("something behind the element at the top"));
                }
            }
            return Ok(None);
        }
        let mut tag = self.tag()?;
        if self.at == 1 {
            let first = tag.to_lowercase().replace('\'', "\"").replace(" ?", "?");
            if DECLARATIONS.contains(&first.as_str()) {
                tag = self.tag()?;
            }
        }
        if tag.starts_with("!--") {
            return Err(self.unknown("a comment"));
        }
        let Some(name) = tag.strip_prefix('/') else {
            return self.begin(&tag).map(Some);
        };
        let name = name.trim_ascii_end();
        if self.open.pop().as_deref() != Some(name) {
            return Err(self.malformed("the end of another element"));
        }
        Ok(Some(Event::End(name.to_owned())))
    }

    /// The content of the next tag.
    fn tag(&mut self) -> Result<String, Stop> {
        let text = self.until(b'<')?;
        if self.open.is_empty() && !text.trim_ascii().is_empty() {
            return Err(self.malformed("a text outside of the elements"));
        }
        self.until(b'>')
    }

    /// What lies before this byte, which has no effect in the quotes of a tag.
    fn until(&mut self, end: u8) -> Result<String, Stop> {
        self.at = self.source.position();
        let mut bytes = Vec::new();
        let mut is_quoted = false;
        loop {
            let byte = self.source.byte()?;
            if byte == end && !is_quoted {
                break;
            }
            is_quoted ^= byte == b'"' && end == b'>';
            let is_control = byte.is_ascii_control() && !SPACES.contains(&char::from(byte));
            if is_control || byte == b'<' {
                return Err(self.malformed("a control character, or a tag in a tag"));
            }
            bytes.push(byte);
            if bytes.len() > MAX_PART_BYTES {
                return Err(self.unknown("a longer tag or text than this scan follows"));
            }
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| self.malformed("a text that is not UTF-8"))?;
        let is_known = |rest: &str| ENTITIES.iter().any(|entity| rest.starts_with(entity));
        if text.split('&').skip(1).all(is_known) {
            return Ok(text);
        }
        Err(self.unknown("an entity that programs do not write"))
    }

    /// Takes the first tag of an element.
    fn begin(&mut self, tag: &str) -> Result<Event, Stop> {
        let content = tag.strip_suffix('/');
        self.is_empty = content.is_some();
        // Values in quotes, and what stands before each.
        let mut parts = content.unwrap_or(tag).split('"');
        let first = parts.next().unwrap_or_default();
        let (name, mut before) = first.split_at(first.find(SPACES).unwrap_or(first.len()));
        let mut is_plain = is_name(name) && name.len() <= MAX_NAME_BYTES;
        let mut attributes = BTreeMap::new();
        while let Some(value) = parts.next() {
            let attribute = before.trim_ascii_start().strip_suffix('=');
            let attribute = attribute.unwrap_or_default();
            is_plain &= before.starts_with(SPACES)
                && is_name(attribute)
                && attributes
                    .insert(attribute.to_owned(), value.to_owned())
                    .is_none();
            before = parts.next().unwrap_or_default();
        }
        if !is_plain || !before.trim_ascii().is_empty() {
            return Err(self.malformed(
                "a document type, an instruction, raw text, or a tag that readers take differently",
            ));
        }
        self.has_root = true;
        self.open.push(name.to_owned());
        if self.open.len() > MAX_DEPTH {
            return Err(self.unknown("more elements in each other than this scan follows"));
        }
        Ok(Event::Begin(Element {
            at: self.at,
            name: name.to_owned(),
            attributes,
        }))
    }

    fn malformed(&self, detail: &str) -> Stop {
        Stop::malformed(self.at, self.rule, detail)
    }

    fn unknown(&self, detail: &str) -> Stop {
        Stop::unknown(self.at, self.rule, detail)
    }
}

/// Whether a text is a name, which stays within ASCII.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests;
