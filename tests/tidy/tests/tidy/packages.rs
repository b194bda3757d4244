//! The table of requested packages in `docs/reference/packages.md`: each package is used in the
//! files that its row names, by a crate that depends on it, in the locked version. Also packages
//! that `gate.wasm` must not have. `deny.toml` has the rules for packages of all programs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::{metadata, none, output, root};

const PAGE: &str = "docs/reference/packages.md";

/// The packages that the table must have, in its order.
const PACKAGES: [&str; 11] = [
    "proxy-wasm",
    "wasmtime",
    "wasi-common",
    "wasmtime-wasi",
    "serde_json",
    "jwt-simple",
    "ndarray",
    "wit-bindgen",
    "sha2",
    "tokio",
    "tracing",
];

/// The version of a package that is not used.
const UNUSED: &str = "–";

/// A row of the table.
struct Row {
    package: String,
    version: String,
    /// The Rust files that its text names.
    files: Vec<String>,
}

/// The rows of the page's first table.
fn rows(page: &str) -> Vec<Row> {
    let lines = page.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').splitn(3, '|').collect();
            let [package, version, text] = cells.try_into().unwrap();
            let quoted = text.split('`').skip(1).step_by(2);
            Row {
                package: package.trim().trim_matches('`').to_owned(),
                version: version.trim().to_owned(),
                files: quoted
                    .filter(|name| name.ends_with(".rs"))
                    .map(str::to_owned)
                    .collect(),
            }
        })
        .collect()
}

/// The code that a file ships: without line comments, and without the tests at its end.
fn shipped(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether code names something of a package: `package::` at the start of a path.
fn names(code: &str, package: &str) -> bool {
    let path = format!("{}::", package.replace('-', "_"));
    code.match_indices(&path).any(|(at, _)| {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
    })
}

/// The crates of this tree by their folders, each with the packages that its shipped code may use.
fn crates(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let root = root();
    let ours = metadata["packages"].as_array().unwrap().iter();
    ours.filter(|package| package["source"].is_null())
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let folder = manifest.parent().unwrap().strip_prefix(&root).unwrap();
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
            let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (folder.to_str().unwrap().to_owned(), names.collect())
        })
        .collect()
}

/// The locked versions of a package.
fn locked<'a>(metadata: &'a Value, name: &str) -> Vec<&'a str> {
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| package["name"] == name)
        .map(|package| package["version"].as_str().unwrap())
        .collect()
}

/// What is wrong with a row.
fn faults(row: &Row, metadata: &Value) -> Vec<String> {
    let package = &row.package;
    let locked = locked(metadata, package);
    if row.version == UNUSED {
        let mut faults = Vec::new();
        if !locked.is_empty() {
            faults.push(format!("{package}: in Cargo.lock, the table says unused"));
        }
        if !row.files.is_empty() {
            faults.push(format!("{package}: unused, and has files"));
        }
        return faults;
    }
    let mut faults = Vec::new();
    let exact = |locked: &&str| {
        let rest = locked.strip_prefix(row.version.as_str());
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if !locked.iter().any(exact) {
        faults.push(format!(
            "{package}: version {}, locked {locked:?}",
            row.version
        ));
    }
    if row.files.is_empty() {
        faults.push(format!("{package}: names no file"));
    }
    let crates = crates(metadata);
    for file in &row.files {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else {
            faults.push(format!("{package}: {file} is not there"));
            continue;
        };
        if !names(&shipped(&text), package) {
            faults.push(format!("{package}: {file} does not use it"));
        }
        let folder = file.split("/src/").next().unwrap_or_default();
        if !crates.get(folder).is_some_and(|all| all.contains(package)) {
            faults.push(format!(
                "{package}: {folder}/Cargo.toml does not depend on it"
            ));
        }
    }
    faults
}

#[test]
fn requested_packages_are_used_where_the_table_says() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let rows = rows(&page);
    let packages: Vec<_> = rows.iter().map(|row| row.package.as_str()).collect();
    assert_eq!(packages, PACKAGES, "the rows of {PAGE}");
    let metadata = metadata(&[]);
    let faults = rows.iter().flat_map(|row| faults(row, &metadata)).collect();
    none("packages of the table", faults);
}

#[test]
fn a_row_that_is_not_true_is_a_fault() {
    let metadata = metadata(&[]);
    let row = |line: &str| rows(&format!("| a | b | c |\n|---|---|---|\n{line}\n")).remove(0);
    let wrong = [
        "| `wasmtime` | – | Not used. |",
        "| `wasi-common` | – | Not used (`sandbox-host/src/main.rs`). |",
        "| `wasi-common` | 1 | Files (`sandbox-host/src/main.rs`). |",
        "| `tokio` | 1 | Somewhere. |",
        "| `tokio` | 2 | The runtime (`sandbox-host/src/main.rs`). |",
        "| `tokio` | 1.5 | The runtime (`sandbox-host/src/main.rs`). |",
        "| `tokio` | 1 | The runtime (`sandbox-host/src/gone.rs`). |",
        // Its name is in a comment, and in tests.
        "| `jwt-simple` | 0.15 | Tokens (`identity/src/lib.rs`). |",
        "| `serde_json` | 1.0 | Answers (`wire/src/answer.rs`). |",
    ];
    for line in wrong {
        assert!(!faults(&row(line), &metadata).is_empty(), "{line}");
    }
    let right = "| `tokio` | 1 | The runtime (`sandbox-host/src/main.rs`). |";
    assert_eq!(faults(&row(right), &metadata), Vec::<String>::new());
    // Another crate's name may end with a package's.
    assert!(!names("use own_tokio::spawn;", "tokio"));
    assert!(!names("use other::tokio::spawn;", "tokio"));
    assert!(names("    wit_bindgen::generate!({", "wit-bindgen"));
}

#[test]
fn the_wasm_filter_has_no_second_cryptography() {
    let arguments = ["tree", "--offline", "--edges", "normal", "--prefix", "none"];
    let package = ["--package", "tensorgate-gate", "--target", "wasm32-wasip1"];
    let crates = output(env!("CARGO"), &[&arguments[..], &package].concat());
    assert!(crates.contains("\ntensorgate-filter-core "), "{crates}");
    let found = crates
        .lines()
        .filter(|line| line.starts_with("ring ") || line.starts_with("rustls "))
        .map(str::to_owned)
        .collect();
    none("crates of TLS in the filter", found);
}
