//! The modules of the larger crates and the order in which they depend on each other.

use std::path::{Path, PathBuf};

use crate::{none, root};

/// A crate whose modules have an order.
struct Crate {
    source: &'static str,
    /// Its modules, lowest first. A module may refer only to modules before it.
    order: &'static [&'static str],
    /// Modules that only tests use. They may refer to each module, and tests to them.
    for_tests: &'static [&'static str],
    /// The section of the architecture page that shows the order.
    section: &'static str,
}

const HOST: Crate = Crate {
    source: "sandbox-host/src",
    order: &[
        "document",
        "files",
        "grpc_timeout",
        "guard",
        "heap",
        "owned",
        "rfc3339",
        "turns",
        "sandbox",
        "telemetry",
        "server",
        "admission",
        "audit",
        "backends",
        "egress",
        "limits",
        "dispatch",
        "pipeline",
        "config",
        "policy_store",
        "service",
        // Starts all others.
        "host",
    ],
    for_tests: &[],
    section: "## Folders of the host",
};

const POLICY: Crate = Crate {
    source: "policy/src",
    order: &[
        "values", "limits", "request", "denial", "raw", "contract", "policy", "decision",
        "validate",
    ],
    for_tests: &["fixture"],
    section: "## Folders of the policy crate",
};

const CRATES: [Crate; 2] = [HOST, POLICY];

/// The page that shows the order.
const ARCHITECTURE: &str = "docs/explanation/architecture.md";

/// Crate roots. They declare the modules and may refer to each of them.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

/// The most folders. A folder that holds only the unit tests of a file does not count.
const MAX_FOLDERS: usize = 12;

impl Crate {
    fn source(&self) -> PathBuf {
        root().join(self.source)
    }

    /// How far up a module is.
    fn rank(&self, module: &str) -> Option<usize> {
        self.order.iter().position(|name| *name == module)
    }

    /// What is wrong with a reference from one module to another.
    fn fault(&self, from: &str, to: &str, in_tests: bool) -> Option<String> {
        if self.for_tests.contains(&from) || (in_tests && self.for_tests.contains(&to)) {
            return None;
        }
        let Some(own) = self.rank(from) else {
            return Some(format!("{from} is not in the order"));
        };
        match self.rank(to) {
            None => Some(format!("{from} refers to crate::{to}, which is no module")),
            Some(other) if other > own => Some(format!("{from} refers to {to}, which is later")),
            Some(_) => None,
        }
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

/// The identifier that a text starts with.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.get(..end.unwrap_or(text.len())).unwrap()
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
            members.push(identifier(rest));
        }
    }
    members.retain(|name| !name.is_empty());
    members
}

/// Modules that a source names as `crate::NAME` or in `crate::{…}`, comments left out.
fn references(text: &str) -> Vec<String> {
    let code: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code
            .get(at..)
            .and_then(|rest| rest.strip_prefix(found))
            .unwrap();
        if rest.starts_with('{') {
            names.extend(members(rest).into_iter().map(str::to_owned));
        } else {
            names.push(identifier(rest).to_owned());
        }
    }
    names
}

/// Whether a file holds unit tests alone.
fn holds_tests(file: &Path) -> bool {
    let is_tests = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    file.iter().any(is_tests)
}

#[test]
fn no_module_refers_to_a_later_one() {
    let mut faults = Vec::new();
    for krate in &CRATES {
        let source = krate.source();
        for path in entries(&source) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            if ROOTS.contains(&name) {
                continue;
            }
            let from = module(&path);
            for file in rust_files(&path) {
                let text = std::fs::read_to_string(&file).unwrap();
                let shown = file.strip_prefix(root()).unwrap();
                let in_tests = holds_tests(shown.strip_prefix(krate.source).unwrap());
                let found = references(&text).into_iter();
                let found = found.filter_map(|to| krate.fault(from, &to, in_tests));
                faults.extend(found.map(|fault| format!("{}: {fault}", shown.display())));
            }
        }
    }
    none("dependencies of modules", faults);
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
fn the_architecture_page_shows_the_orders() {
    let page = std::fs::read_to_string(root().join(ARCHITECTURE)).unwrap();
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
        assert_eq!(shown, krate.order, "{ARCHITECTURE} shows another order");
    }
}

#[test]
fn crates_have_few_folders() {
    for krate in &CRATES {
        let folders: Vec<_> = entries(&krate.source())
            .into_iter()
            .filter(|path| path.is_dir())
            .filter(|path| entries(path).iter().any(|file| !file.ends_with("tests.rs")))
            .map(|path| path.display().to_string())
            .collect();
        assert!(!folders.is_empty());
        if folders.len() > MAX_FOLDERS {
            none("too many folders", folders);
        }
    }
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
    let fault = |from, to| HOST.fault(from, to, false);
    assert_eq!(fault("audit", "audit"), None);
    assert_eq!(fault("host", "service"), None);
    assert_eq!(fault("pipeline", "dispatch"), None);
    assert!(fault("dispatch", "pipeline").is_some_and(|text| text.contains("later")));
    assert!(fault("pipeline", "Host").is_some());
    assert!(fault("new_module", "audit").is_some());
    assert_eq!(POLICY.fault("contract", "fixture", true), None);
    assert!(POLICY.fault("contract", "fixture", false).is_some());
    assert!(holds_tests(Path::new("contract/tests/order.rs")));
    assert!(!holds_tests(Path::new("contract/tensors.rs")));
}
