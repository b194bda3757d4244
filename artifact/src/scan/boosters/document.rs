//! Documents of JSON or UBJSON whose objects are checked at their end.

use std::collections::BTreeMap;

use super::list::{Checked, Lists, NO_INDEX};
use crate::scan::json::{ELEMENT, Watch};
use crate::scan::rules::Rule;
use crate::scan::source::Stop;

/// The kind of objects.
const OBJECT: &str = "{}";

/// A library, and what is known of a model of it.
pub(super) trait Library: Default {
    /// The rule of a document that ends early.
    const TRUNCATED: &'static Rule;
    /// The rule of an index or a length.
    const INDEX: &'static Rule;
    /// The rule of what is not followed.
    const MEMBER: &'static Rule;
    /// Whether numbers are written as texts.
    const HAS_TEXTS: bool;

    /// Whether the object at a path may have a key.
    fn is_member(path: &[String], key: &str) -> bool;

    /// Checks an object by its path and its lists. `name` has what stands alone, `name[]` the
    /// elements of a list, and `name{}` and `name[]{}` have the answers for objects.
    fn check(&mut self, path: &[&str], object: &Lists) -> Checked<i64>;

    /// Why the model, which has ended, is not one that is followed.
    fn unfollowed(&self) -> Option<&'static str>;
}

/// How many numbers and names the objects around a value may have together.
const MAX_OPEN: u64 = 1 << 22;

/// Follows a document. Memory is bounded by the lists of the objects around a value.
#[derive(Default)]
pub(super) struct Document<L> {
    library: L,
    /// The lists of each object that has not ended, by the number of keys around it.
    open: BTreeMap<usize, Lists>,
    /// How many numbers and names these have together.
    added: u64,
    /// The first object that is wrong.
    wrong: Option<Stop>,
    unknown: Option<String>,
}

impl<L: Library> Document<L> {
    /// Adds a value of a kind to the object around it.
    fn push(&mut self, path: &[String], kind: &str, number: Option<i64>) {
        let (around, name, list) = match path {
            [around @ .., name, last] if last == ELEMENT => (around, name, ELEMENT),
            [around @ .., name] => (around, name, ""),
            [] => return,
        };
        self.added = self.added.saturating_add(1);
        if self.added > MAX_OPEN {
            let detail = "objects within each other have more numbers than this scan follows";
            self.wrong
                .get_or_insert_with(|| Stop::unknown(0, L::INDEX, detail));
            return;
        }
        let object = self.open.entry(around.len()).or_default();
        object.push(format!("{name}{list}{kind}"), number);
    }

    /// A value that is neither a number nor an object. It counts in a list alone.
    fn other(&mut self, path: &[String]) {
        let is_element = path.last().is_some_and(|key| key == ELEMENT);
        self.push(path, "", is_element.then_some(NO_INDEX));
    }

    /// The end of the document.
    pub(super) fn end_document(self) -> Result<(), Stop> {
        let unfollowed = self.library.unfollowed().map(str::to_owned);
        let unknown = self.unknown.or(unfollowed);
        let unknown = unknown.map(|detail| Stop::unknown(0, L::MEMBER, detail));
        self.wrong.or(unknown).map_or(Ok(()), Err)
    }
}

impl<L: Library> Watch for Document<L> {
    fn key(&mut self, path: &[String], key: &str) {
        let object = self.open.entry(path.len()).or_default();
        object.keys = object.keys.saturating_add(1);
        let is_list = key.ends_with(ELEMENT) || key.ends_with(OBJECT);
        if is_list || !L::is_member(path, key) {
            self.unknown = Some(format!("the library has no member {key}"));
        }
    }

    fn text(&mut self, path: &[String], text: &str) {
        match text.parse() {
            Ok(number) if L::HAS_TEXTS => self.numeral(path, Some(number)),
            _ => self.other(path),
        }
    }

    fn truth(&mut self, path: &[String], _: bool) {
        self.other(path);
    }

    fn null(&mut self, path: &[String]) {
        self.other(path);
    }

    fn list(&mut self, path: &[String]) {
        self.other(path);
    }

    fn numeral(&mut self, path: &[String], integer: Option<i64>) {
        self.push(path, "", integer.or(Some(NO_INDEX)));
    }

    fn end(&mut self, path: &[String]) {
        let object = self.open.remove(&path.len()).unwrap_or_default();
        self.added = self.added.saturating_sub(object.added);
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        let checked = self.library.check(&keys, &object);
        self.push(path, OBJECT, checked.ok());
        let result = object.result(checked.map(|_| ()), 0, L::INDEX);
        self.wrong = self.wrong.take().or(result.err());
    }
}
