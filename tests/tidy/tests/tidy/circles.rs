//! Files that refer to each other in a circle. None can be read or moved without the others.
//!
//! A file refers to another one by a path: `crate::a::b::Item`, `super::x::Item`, a group of `use`.
//! These are no references:
//! - `mod x;`, and `pub use x::Item` of a file's own child. They say what the file consists of.
//! - A path to a file above in the same branch (`super::Item`): a folder's file has what its files
//!   share, and uses them. So a circle of a parent and its child is not found.
//! - Unit tests.
//! - Calls of methods, because they name no file.

use std::collections::{BTreeMap, BTreeSet};

use crate::identifiers::{code, identifiers};
use crate::modules::holds_tests;
use crate::none;
use crate::sources::rust;

/// Folders of the shipped crates.
const SHIPPED: [&str; 8] = [
    "artifact/",
    "cli/",
    "filters/",
    "identity/",
    "policy/",
    "sandbox-host/",
    "wire/",
    "wit/",
];

/// The path of a module, without `crate`.
type Module = Vec<String>;

/// The modules of a crate, each with its code without tests.
type Modules = BTreeMap<Module, String>;

/// The statement in which a path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statement {
    Code,
    Import,
    /// `pub use`.
    Reexport,
}

/// A code, divided into what is built without tests and what only tests have.
pub(crate) struct Split<'a> {
    /// The code without the items of tests.
    pub(crate) code: String,
    /// The items of tests, each from the condition in its `cfg`.
    pub(crate) tests: Vec<&'a str>,
}

/// Takes the items that only tests have out of a code.
pub(crate) fn split_tests(code: &str) -> Split<'_> {
    const ATTRIBUTE: &str = "#[cfg(";
    let mut split = Split {
        code: String::new(),
        tests: Vec::new(),
    };
    let mut rest = code;
    while let Some((before, item)) = rest.split_once(ATTRIBUTE) {
        split.code.push_str(before);
        if item.starts_with("test)") || item.starts_with("all(test,") {
            rest = after_item(item);
            let length = item.len().saturating_sub(rest.len());
            split.tests.push(item.get(..length).unwrap());
        } else {
            split.code.push_str(ATTRIBUTE);
            rest = item;
        }
    }
    split.code.push_str(rest);
    split
}

/// A code without the items that only tests have.
fn without_tests(code: &str) -> String {
    split_tests(code).code
}

/// The code after the item, or the rest of it, that a code starts with.
fn after_item(code: &str) -> &str {
    let mut depth = 0_usize;
    // Open angle brackets: a comma between them ends no field.
    let mut angles = 0_usize;
    let mut last = ' ';
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth = depth.saturating_add(1),
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            '<' => angles = angles.saturating_add(1),
            '>' if !"-=".contains(last) => angles = angles.saturating_sub(1),
            _ => {}
        }
        let is_end = matches!(c, '}' | ';') || c == ',' && angles == 0;
        if depth == 0 && is_end {
            return code.get(at..).and_then(|rest| rest.get(1..)).unwrap();
        }
        last = c;
    }
    ""
}

/// The paths of a code. Members of groups have the path before their group.
fn paths(code: &str) -> Vec<(Statement, Vec<&str>)> {
    let words = identifiers(code);
    let ends = words.iter().skip(1).map(|(at, _)| *at).chain([code.len()]);
    let mut found = Vec::new();
    let mut path = Vec::new();
    // The length of the path before each open group.
    let mut groups = Vec::new();
    let mut statement = Statement::Code;
    let mut is_new_name = false;
    for ((at, word), end) in words.iter().zip(ends) {
        let gap = code.get(*at..end).and_then(|text| text.strip_prefix(*word));
        let gap = gap.unwrap().trim();
        if *word == "as" {
            is_new_name = true;
            continue;
        }
        if *word == "use" {
            let before = code.get(..*at).unwrap().trim_end();
            let is_public = before.ends_with("pub") || before.ends_with(')');
            statement = if is_public {
                Statement::Reexport
            } else {
                Statement::Import
            };
        }
        if !std::mem::take(&mut is_new_name) {
            path.push(*word);
            match gap.strip_prefix("::").map(str::trim_start) {
                Some("") => continue,
                Some("{") => {
                    groups.push(path.len());
                    continue;
                }
                _ => found.push((statement, path.clone())),
            }
        }
        for c in gap.chars() {
            match c {
                '}' => {
                    groups.pop();
                }
                ';' => statement = Statement::Code,
                _ => {}
            }
        }
        path.truncate(groups.last().copied().unwrap_or_default());
    }
    found
}

/// The module that a path leads to, as far as its names are modules. `None` if it begins with
/// another name, such as a crate or a type.
fn module_of(modules: &Modules, from: &[String], path: &[&str]) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let (mut module, rest) = match *first {
        "crate" => (Module::new(), rest),
        "self" | "super" => (from.to_vec(), path),
        name => {
            let child = [from, &[name.to_owned()]].concat();
            let is_module = !rest.is_empty() && modules.contains_key(&child);
            (is_module.then_some(child)?, rest)
        }
    };
    for name in rest {
        match *name {
            "self" => {}
            "super" => {
                module.pop();
            }
            name => {
                module.push(name.to_owned());
                if !modules.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
        }
    }
    Some(module)
}

/// The modules that a module refers to.
fn references(modules: &Modules, from: &[String], code: &str) -> BTreeSet<Module> {
    let paths = paths(code);
    let imported: BTreeMap<&str, &Vec<&str>> = (paths.iter())
        .filter(|(statement, _)| *statement != Statement::Code)
        .filter_map(|(_, path)| Some((*path.last()?, path)))
        .collect();
    let mut found = BTreeSet::new();
    for (statement, path) in &paths {
        let begins_above = path
            .first()
            .is_some_and(|first| ["crate", "super"].contains(first));
        if *statement == Statement::Reexport && !begins_above {
            continue;
        }
        let by_import = || {
            let (first, rest) = path.split_first()?;
            let import = imported.get(first).filter(|_| !rest.is_empty())?;
            module_of(modules, from, &[import.as_slice(), rest].concat())
        };
        found.extend(module_of(modules, from, path).or_else(by_import));
    }
    found.retain(|to| !from.starts_with(to));
    found
}

/// The modules of a crate: those that its roots declare, and that these declare. `files` has the
/// code of each file by its path below `src`.
fn modules(files: &BTreeMap<String, String>) -> Modules {
    let mut modules = Modules::new();
    let mut left = vec![];
    for root in ["lib", "main"] {
        left.extend(files.get(root).map(|code| (Module::new(), code)));
    }
    while let Some((module, code)) = left.pop() {
        let words = identifiers(code);
        for ((_, word), (at, name)) in words.iter().zip(words.iter().skip(1)) {
            let after = code.get(*at..).and_then(|rest| rest.strip_prefix(*name));
            if *word != "mod" || !after.is_some_and(|rest| rest.trim_start().starts_with(';')) {
                continue;
            }
            let child = [module.as_slice(), &[(*name).to_owned()]].concat();
            if let Some(code) = files.get(&child.join("/")) {
                modules.insert(child.clone(), code.clone());
                left.push((child, code));
            }
        }
    }
    modules
}

/// The circles of a crate, each with its modules.
fn circles(files: &BTreeMap<String, String>) -> BTreeSet<BTreeSet<Module>> {
    let modules = modules(files);
    let edges: BTreeMap<&Module, BTreeSet<Module>> = (modules.iter())
        .map(|(module, code)| (module, references(&modules, module, code)))
        .collect();
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut left = vec![from.clone()];
        while let Some(module) = left.pop() {
            for to in edges.get(&module).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    left.push(to.clone());
                }
            }
        }
        reached
    };
    let reach: BTreeMap<&Module, BTreeSet<Module>> = (modules.keys())
        .map(|module| (module, reached(module)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, reached) in &reach {
        let circle: BTreeSet<Module> = (reached.iter())
            .filter(|to| reach.get(to).is_some_and(|back| back.contains(*from)))
            .cloned()
            .collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles
}

/// The code of the files of each shipped crate, by their paths below `src` without the ending.
fn crates() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut crates = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (file, text) in rust() {
        let is_shipped = SHIPPED.iter().any(|folder| file.starts_with(folder));
        let Some((krate, path)) = file.split_once("/src/").filter(|_| is_shipped) else {
            continue;
        };
        if !holds_tests(path.as_ref()) {
            let path = path.trim_end_matches(".rs").to_owned();
            let files = crates.entry(krate.to_owned()).or_default();
            files.insert(path, without_tests(&code(&text)));
        }
    }
    crates
}

#[test]
fn no_files_refer_to_each_other_in_a_circle() {
    let mut found = Vec::new();
    for (krate, files) in crates() {
        for circle in circles(&files) {
            let modules: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            found.push(format!("{krate}: {}", modules.join(", ")));
        }
    }
    none("files that refer to each other", found);
}

#[test]
fn circles_are_found() {
    let found = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, text)| {
            let text = without_tests(&code(text));
            ((*path).to_owned(), text)
        });
        let circles = circles(&files.collect()).into_iter();
        let shown = circles.map(|circle| {
            let modules: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            modules.join(" ")
        });
        shown.collect::<Vec<_>>()
    };
    let root = ("lib", "pub mod a;\nmod b;\n");
    for (a, b, expected) in [
        ("use crate::b::B;", "use super::a::{self, A};", "a b"),
        ("use super::{c, b as x};", "fn f() -> crate::a::A {}", "a b"),
        (
            "use crate::b;\nfn f() { b::g() }",
            "use crate::a::A;",
            "a b",
        ),
        ("use crate::b::B;", "use crate::other::A;", ""),
        (
            "use crate::b::B;",
            "// crate::a\nconst A: &str = \"crate::a::A\";",
            "",
        ),
        (
            "use crate::b::B;",
            "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}",
            "",
        ),
        (
            "use crate::b::B;",
            "#[cfg(test)]\nuse crate::a::{A, C};\nfn f() {}",
            "",
        ),
        ("use std::b::B;", "use crate::a::A;", ""),
    ] {
        let expected: Vec<_> = [expected]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        assert_eq!(found(&[root, ("a", a), ("b", b)]), expected, "{a} {b}");
    }
    let parent = ("a", "mod x;\nmod y;\npub use x::X;\nfn f() { y::g() }");
    let x = ("a/x", "use super::f;\nuse super::y::g;");
    let y = |text| ("a/y", text);
    let with = |text| found(&[("lib", "mod a;"), parent, x, y(text)]);
    assert!(with("use super::f;").is_empty(), "a parent and its child");
    assert_eq!(with("use super::super::a::x::X;"), ["a::x a::y"]);
}
