//! The modules of the larger crates and the order in which they depend on each other, and rules for
//! the modules of all crates. The module `circles` checks the files of all shipped crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::identifiers::word;
use crate::orders::{CRATES, Crate, HOST, POLICY};
use crate::sources::rust;
use crate::{none, root};

/// The page that shows the order.
const PAGE: &str = "docs/explanation/modules.md";

/// Files that pass on items of private modules, as public names of their crates or for tests.
const PASSED_ON: [&str; 7] = [
    "filters/in-memory/src/played.rs",
    "policy/src/fixture.rs",
    "policy/src/policy.rs",
    "wire/src/upstream/tf_serving.rs",
    "wit/guest/src/context.rs",
    "wit/guest/src/fetch.rs",
    "wit/guest/src/lookup.rs",
];

/// Crate roots. They declare the modules and may refer to each of them.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

/// The most folders. A folder that holds only the unit tests of a file does not count.
const MAX_FOLDERS: usize = 14;

impl Crate {
    fn source(&self) -> PathBuf {
        root().join(self.source)
    }

    /// How far up a module is.
    fn rank(&self, module: &str) -> Option<usize> {
        self.order.iter().position(|name| *name == module)
    }

    /// Whether tests alone use a reference.
    fn is_for_tests(&self, from: &str, to: &str, in_tests: bool) -> bool {
        self.for_tests.contains(&from) || (in_tests && self.for_tests.contains(&to))
    }

    /// The module of a reference that is not in the order.
    fn fault(&self, from: &str, to: &str, in_tests: bool) -> Option<String> {
        if self.is_for_tests(from, to, in_tests) {
            return None;
        }
        if self.rank(from).is_none() {
            return Some(format!("{from} is not in the order"));
        }
        let is_module = self.rank(to).is_some();
        (!is_module).then(|| format!("{from} refers to crate::{to}, which is no module"))
    }

    /// Whether a reference is to a later module.
    fn is_upward(&self, from: &str, to: &str, in_tests: bool) -> bool {
        let ranks = self.rank(from).zip(self.rank(to));
        !self.is_for_tests(from, to, in_tests) && ranks.is_some_and(|(own, other)| other > own)
    }
}

/// The entries of a folder, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths
}

/// Rust files below a path, which may be a file itself.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return entries(path)
            .iter()
            .flat_map(|path| rust_files(path))
            .collect();
    }
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    is_rust.then(|| path.to_owned()).into_iter().collect()
}

/// The name of the module that a file or folder of the crate belongs to.
fn module(path: &Path) -> &str {
    path.file_stem().and_then(|name| name.to_str()).unwrap()
}

/// The members of a `{…}` group that a text starts with, without those of inner groups.
fn members(text: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        let is_start = match c {
            '{' => {
                depth = depth.saturating_add(1);
                depth == 1
            }
            ',' => depth == 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
                false
            }
            _ => false,
        };
        if is_start {
            let rest = text
                .get(at..)
                .and_then(|rest| rest.get(1..))
                .unwrap()
                .trim_start();
            members.push(word(rest));
        }
    }
    members.retain(|name| !name.is_empty());
    members
}

/// Modules that a source names as `crate::NAME` or in `crate::{…}`, comments left out. Macros name
/// public items as `$crate::NAME`, which other crates resolve.
fn references(text: &str) -> Vec<String> {
    let code: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || "_$".contains(c)) {
            continue;
        }
        let rest = code
            .get(at..)
            .and_then(|rest| rest.strip_prefix(found))
            .unwrap();
        if rest.starts_with('{') {
            names.extend(members(rest).into_iter().map(str::to_owned));
        } else {
            names.push(word(rest).to_owned());
        }
    }
    names
}

/// Whether a file holds unit tests alone.
pub(crate) fn holds_tests(file: &Path) -> bool {
    let is_tests = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    file.iter().any(is_tests)
}

/// What is wrong with the references between the modules of a crate.
fn faults(krate: &Crate) -> Vec<String> {
    let mut faults = Vec::new();
    let mut upward = BTreeMap::<_, BTreeSet<_>>::new();
    for path in entries(&krate.source()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        if ROOTS.contains(&name) {
            continue;
        }
        let from = module(&path);
        for file in rust_files(&path) {
            let text = std::fs::read_to_string(&file).unwrap();
            let shown = file.strip_prefix(root()).unwrap();
            let in_tests = holds_tests(shown.strip_prefix(krate.source).unwrap());
            let shown = shown.display().to_string();
            for to in references(&text) {
                if let Some(fault) = krate.fault(from, &to, in_tests) {
                    faults.push(format!("{shown}: {fault}"));
                } else if krate.is_upward(from, &to, in_tests) {
                    let pair = (from.to_owned(), to);
                    upward.entry(pair).or_default().insert(shown.clone());
                }
            }
        }
    }
    faults.extend(upward.into_iter().map(|((from, to), files)| {
        let files = Vec::from_iter(files).join(", ");
        format!("{files}: {from} refers to {to}, which is later")
    }));
    faults
}

#[test]
fn no_module_refers_to_a_later_one() {
    let faults = CRATES.iter().flat_map(faults).collect();
    none("dependencies of modules", faults);
}

/// Whether a line passes on an item of another module. A module passes on items of its own children
/// only, so that each other item has one path.
fn passes_on(line: &str) -> bool {
    let used = line
        .strip_prefix("pub")
        .and_then(|rest| rest.split_once("use "));
    used.is_some_and(|(scope, path)| {
        let is_scope = scope.trim().is_empty() || scope.starts_with('(');
        is_scope
            && ["super::", "crate::"]
                .iter()
                .any(|start| path.starts_with(start))
    })
}

#[test]
fn modules_pass_on_items_of_their_own_children_only() {
    let faults = rust()
        .into_iter()
        .filter(|(file, text)| {
            let path = file.split_once("/src/").map(|(_, path)| path);
            let is_module = path.is_some_and(|path| !ROOTS.contains(&path));
            is_module && !PASSED_ON.contains(&file.as_str()) && text.lines().any(passes_on)
        })
        .map(|(file, _)| file)
        .collect();
    none("modules that pass on items of other modules", faults);
    assert!(passes_on("pub use super::a::B;"));
    assert!(passes_on("pub(in crate::a) use crate::b::{C, D};"));
    assert!(!passes_on("pub use self::a::B;"));
    assert!(!passes_on("use super::a::B;"));
    assert!(!passes_on("pub fn use_it() {}"));
}

#[test]
fn the_orders_of_modules_are_complete() {
    for krate in &CRATES {
        let mut present: Vec<_> = entries(&krate.source())
            .iter()
            .filter(|path| !ROOTS.iter().any(|name| path.ends_with(name)))
            .map(|path| module(path).to_owned())
            .collect();
        let mut listed: Vec<_> = (krate.order.iter())
            .chain(krate.for_tests)
            .map(|name| (*name).to_owned())
            .collect();
        listed.sort_unstable();
        present.sort_unstable();
        present.dedup();
        assert_eq!(
            present, listed,
            "the order here and {} differ",
            krate.source
        );
    }
}

#[test]
fn the_page_of_modules_shows_the_orders() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    for krate in &CRATES {
        let section = page.split(krate.section).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let cells = section.lines().filter_map(|line| {
            let row = line.strip_prefix("| `")?;
            row.split(" |").next()
        });
        let shown: Vec<_> = cells
            .flat_map(|cell| cell.split(", "))
            .map(|name| name.trim_matches(['`', '/']))
            .collect();
        assert_eq!(shown, krate.order, "{PAGE} shows another order");
    }
}

#[test]
fn crates_have_few_folders() {
    let sources: BTreeSet<_> = rust()
        .iter()
        .filter_map(|(file, _)| file.split_once("/src/"))
        .map(|(krate, _)| root().join(krate).join("src"))
        .collect();
    let mut counted = 0_usize;
    for source in &sources {
        let folders: Vec<_> = entries(source)
            .into_iter()
            .filter(|path| path.is_dir())
            .filter(|path| entries(path).iter().any(|file| !file.ends_with("tests.rs")))
            .map(|path| path.display().to_string())
            .collect();
        counted = counted.saturating_add(folders.len());
        if folders.len() > MAX_FOLDERS {
            none("too many folders", folders);
        }
    }
    assert!(counted > 0, "no folder is found");
}

#[test]
fn references_to_modules_are_found() {
    let found = |text: &str| references(text).join(" ");
    assert_eq!(found("use crate::server::{Server, socket};\n"), "server");
    assert_eq!(
        found("use crate::{\n    audit::{Log, key},\n    limits,\n    Host as H,\n};\n"),
        "audit limits Host"
    );
    assert_eq!(
        found("let a = crate::guard::run(); pub(in crate::b) c"),
        "guard b"
    );
    assert_eq!(
        found("//! See [`crate::server`].\n    // crate::audit\n"),
        ""
    );
    assert_eq!(found("use my_crate::server;\n"), "");
    assert_eq!(found("$crate::Server::new()"), "");
    let fault = |from, to| HOST.fault(from, to, false);
    assert_eq!(fault("egress", "egress"), None);
    assert_eq!(fault("host", "service"), None);
    assert_eq!(fault("pipeline", "dispatch"), None);
    assert_eq!(fault("dispatch", "pipeline"), None);
    let is_upward = |from, to| HOST.is_upward(from, to, false);
    assert!(is_upward("dispatch", "pipeline"));
    assert!(!is_upward("pipeline", "dispatch") && !is_upward("egress", "egress"));
    assert!(fault("pipeline", "Host").is_some());
    assert!(fault("new_module", "egress").is_some());
    assert_eq!(POLICY.fault("contract", "fixture", true), None);
    assert!(!POLICY.is_upward("contract", "fixture", true));
    assert!(POLICY.fault("contract", "fixture", false).is_some());
    assert!(holds_tests(Path::new("contract/tests/order.rs")));
    assert!(!holds_tests(Path::new("contract/tensors.rs")));
}
