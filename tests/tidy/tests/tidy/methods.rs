//! In how many files the methods of a type stand. Implementations of traits do not count.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::identifiers::word;
use crate::{none, sources};

/// The most files with methods of one type.
const MAX_FILES: usize = 2;

/// A type of a crate. Several types of a crate may have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Type<'a> {
    /// The crate's folder.
    krate: &'a str,
    name: &'a str,
    /// The file that defines it.
    file: &'a str,
}

/// The folder of the crate that a file belongs to; `None` for files of tests.
fn krate(file: &str) -> Option<&str> {
    let (krate, inner) = file.split_once("/src/")?;
    let is_test = inner
        .split('/')
        .any(|part| part == "tests" || part == "tests.rs");
    (!is_test).then_some(krate)
}

/// The name of the type that a line begins to define.
fn defined(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let item = line.strip_prefix("pub").map_or(line, |rest| {
        let scoped = rest.strip_prefix('(').and_then(|it| it.split_once(')'));
        scoped.map_or(rest, |(_, item)| item)
    });
    let item = item.trim_start();
    let kinds = ["struct ", "enum ", "union "];
    let name = kinds.into_iter().find_map(|kind| item.strip_prefix(kind))?;
    Some(word(name))
}

/// The names of the types to which a source gives methods.
fn implemented(text: &str) -> Vec<&str> {
    let blocks = text.match_indices("impl").filter_map(|(at, keyword)| {
        let before = text.get(..at)?.lines().next_back().unwrap_or_default();
        let is_first = text.get(..at)?.ends_with('\n') || before.trim().is_empty();
        let header = text.get(at..)?.strip_prefix(keyword)?;
        let is_keyword = header.starts_with([' ', '<']);
        (is_first && is_keyword).then(|| header.split('{').next().unwrap_or_default())
    });
    blocks.filter_map(name_of).collect()
}

/// The name of the type in the header of a block, without `impl`; `None` for a trait's.
fn name_of(header: &str) -> Option<&str> {
    let header = after_parameters(header);
    if header.split_whitespace().any(|it| it == "for") {
        return None;
    }
    let path = header.trim_start().split(['<', ' ', '\n']).next()?;
    let name = word(path.rsplit("::").next()?);
    (!name.is_empty()).then_some(name)
}

/// The text after the `<…>` that it may start with.
fn after_parameters(text: &str) -> &str {
    let mut depth = 0_usize;
    let mut last = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth = depth.saturating_add(1),
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return text.get(at..).unwrap().trim_start_matches('>');
        }
        last = c;
    }
    text
}

/// How many folders and names two files share from the root.
fn shared(file: &str, other: &str) -> usize {
    let parts = |file: &str| {
        let module = file.trim_end_matches(".rs");
        module.split('/').map(str::to_owned).collect::<Vec<_>>()
    };
    let (parts, others) = (parts(file), parts(other));
    let pairs = parts.iter().zip(&others);
    pairs.take_while(|(part, other)| part == other).count()
}

/// The files with methods of each type. Of types with one name, the nearest is meant.
fn methods(sources: &[(String, String)]) -> BTreeMap<Type<'_>, BTreeSet<&str>> {
    let sources = sources
        .iter()
        .filter_map(|(file, text)| Some((krate(file)?, file.as_str(), text.as_str())));
    let mut types = BTreeMap::<_, Vec<_>>::new();
    for (krate, file, text) in sources.clone() {
        for name in text.lines().filter_map(defined) {
            types.entry((krate, name)).or_default().push(file);
        }
    }
    let mut methods = BTreeMap::<_, BTreeSet<_>>::new();
    for (krate, file, text) in sources {
        for name in implemented(text) {
            let defining = types.get(&(krate, name)).into_iter().flatten();
            let nearest = defining.max_by_key(|it| (shared(it, file), Reverse(it.len())));
            if let Some(&definition) = nearest {
                let type_of_methods = Type {
                    krate,
                    name,
                    file: definition,
                };
                methods.entry(type_of_methods).or_default().insert(file);
            }
        }
    }
    methods
}

#[test]
fn a_types_methods_stand_in_at_most_two_files() {
    let sources = sources::rust();
    let methods = methods(&sources);
    let scattered = methods.iter().filter(|(_, files)| files.len() > MAX_FILES);
    let faults = scattered.map(|(it, files)| {
        let files: Vec<_> = files.iter().copied().collect();
        format!("{} of {}: {}", it.name, it.file, files.join(", "))
    });
    none("methods in too many files", faults.collect());
}

#[test]
fn methods_are_counted_where_they_stand() {
    let names = |text| implemented(text).join(" ");
    assert_eq!(names("impl A {\n}\n    impl<'a> B<'a> {}\n"), "A B");
    assert_eq!(
        names("impl<T: Fn() -> Vec<u8>> super::c::C<T>\nwhere\n"),
        "C"
    );
    assert_eq!(names("impl D for E {}\nimpl<F> From<F> for G {}\n"), "");
    assert_eq!(names("/// impl H {\nfn it(i: impl I) {}\nimplicit {\n"), "");
    assert_eq!(names("impl $type {\n"), "");
    assert_eq!(defined("pub(in crate::a) struct B<T>(T);"), Some("B"));
    assert_eq!(defined("    enum C {"), Some("C"));
    assert_eq!(defined("fn structure() {"), None);
    let source = |file: &str, text: &str| (file.to_owned(), text.to_owned());
    let sources = [
        source("a/src/b.rs", "pub struct B;\nimpl B {}\n"),
        source("a/src/b/c.rs", "impl super::B {}\n"),
        source("a/src/d.rs", "struct B;\nimpl B {}\n"),
        source("a/src/b/tests.rs", "impl B {}\n"),
        source("e/src/f.rs", "impl B {}\n"),
    ];
    let found: Vec<_> = methods(&sources)
        .into_iter()
        .map(|(it, files)| (it.file, files.len()))
        .collect();
    assert_eq!(found, [("a/src/b.rs", 2), ("a/src/d.rs", 1)]);
}
