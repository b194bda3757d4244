//! Templates for `handler new`.
//!
//! All of them are embedded in this binary, so a project needs no further files: the contract, the
//! language's support code, a working handler, and cases that it passes.

use crate::project::{Language, World};

macro_rules! wit {
    ($file:literal) => {
        include_str!(concat!("../../", $file))
    };
}

macro_rules! package {
    ($($name:literal)*) => {
        [$((
            concat!("tensorgate/", $name),
            include_str!(concat!("../../python/tensorgate/", $name)),
        )),*]
    };
}

/// The package for Python authors.
const PYTHON_PACKAGE: [(&str, &str); 9] = package!(
    "__init__.py" "errors.py" "host.py" "image.py" "media.py"
    "reach.py" "request.py" "tensor.py" "testing.py"
);

/// The guest crate, written to `wit/guest/`.
pub const GUEST: [(&str, &str); 16] = [
    ("Cargo.toml", wit!("guest/Cargo.toml")),
    ("src/arena.rs", wit!("guest/src/arena.rs")),
    ("src/bindings.rs", wit!("guest/src/bindings.rs")),
    ("src/bytes.rs", wit!("guest/src/bytes.rs")),
    ("src/carry.rs", wit!("guest/src/carry.rs")),
    ("src/configured.rs", wit!("guest/src/configured.rs")),
    ("src/context.rs", wit!("guest/src/context.rs")),
    ("src/element.rs", wit!("guest/src/element.rs")),
    ("src/error.rs", wit!("guest/src/error.rs")),
    ("src/export.rs", wit!("guest/src/export.rs")),
    ("src/fetch.rs", wit!("guest/src/fetch.rs")),
    ("src/host.rs", wit!("guest/src/host.rs")),
    ("src/lib.rs", wit!("guest/src/lib.rs")),
    ("src/lookup.rs", wit!("guest/src/lookup.rs")),
    ("src/tensor.rs", wit!("guest/src/tensor.rs")),
    ("src/testing.rs", wit!("guest/src/testing.rs")),
];

/// Files of every project.
const WIT: &str = wit!("handler.wit");
const MANIFEST: &str = wit!("templates/handler.yaml");
const README: &str = wit!("templates/README.md");
const GITIGNORE: &str = wit!("templates/gitignore");

const CARGO: &str = wit!("templates/rust/Cargo.toml.in");
const CARGO_LOCK: &str = wit!("templates/rust/Cargo.lock.in");

/// Separator of packages in a lock file.
const PACKAGE: &str = "\n[[package]]\n";

/// The handler's source: its path, and its text for each world.
const fn source(language: Language) -> (&'static str, &'static str, &'static str) {
    match language {
        Language::Rust => (
            "src/lib.rs",
            wit!("templates/rust/preprocess.rs"),
            wit!("templates/rust/postprocess.rs"),
        ),
        Language::Python => (
            "handler.py",
            wit!("templates/python/preprocess.py"),
            wit!("templates/python/postprocess.py"),
        ),
        Language::Js => (
            "handler.js",
            wit!("templates/js/preprocess.js"),
            wit!("templates/js/postprocess.js"),
        ),
    }
}

const fn cases(world: World) -> &'static [(&'static str, &'static str)] {
    match world {
        World::Preprocess => &[
            (
                "cases/no-number.json",
                wit!("templates/cases/preprocess/no-number.json"),
            ),
            (
                "cases/scaled.json",
                wit!("templates/cases/preprocess/scaled.json"),
            ),
            (
                "cases/two-tensors.json",
                wit!("templates/cases/preprocess/two-tensors.json"),
            ),
            (
                "cases/wrong-datatype.json",
                wit!("templates/cases/preprocess/wrong-datatype.json"),
            ),
        ],
        World::Postprocess => &[
            (
                "cases/labelled.json",
                wit!("templates/cases/postprocess/labelled.json"),
            ),
            (
                "cases/no-rows.json",
                wit!("templates/cases/postprocess/no-rows.json"),
            ),
        ],
    }
}

/// Support code of a language, in addition to the contract.
fn library(name: &str, language: Language) -> Vec<(String, String)> {
    match language {
        Language::Rust => {
            let mut files = cargo(name);
            files.extend(GUEST.map(|(path, text)| (format!("wit/guest/{path}"), text.to_owned())));
            files
        }
        Language::Python => PYTHON_PACKAGE
            .iter()
            .chain(&[("tensorgate/py.typed", "")])
            .map(|(path, text)| file(path, text))
            .collect(),
        Language::Js => vec![
            file("kit.d.ts", wit!("js/kit.d.ts")),
            file("kit.js", wit!("js/kit.js")),
            file("package.json", wit!("js/package.json")),
            file("reach.d.ts", wit!("js/reach.d.ts")),
            file("reach.js", wit!("js/reach.js")),
            file("request.d.ts", wit!("js/request.d.ts")),
            file("request.js", wit!("js/request.js")),
            file("tensorgate.d.ts", wit!("js/tensorgate.d.ts")),
            file("tensorgate.js", wit!("js/tensorgate.js")),
        ],
    }
}

fn file(path: &str, text: &str) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

/// `Cargo.toml` and `Cargo.lock`. `setup` also uses them to fetch crates.
pub fn cargo(name: &str) -> Vec<(String, String)> {
    vec![
        ("Cargo.toml".to_owned(), CARGO.replace("{name}", name)),
        ("Cargo.lock".to_owned(), lock(name)),
    ]
}

/// The lock file with the project's own package. Cargo sorts packages by name.
fn lock(name: &str) -> String {
    let mut parts = CARGO_LOCK.split(PACKAGE);
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<String> = parts
        .map(|package| package.trim_end().replace("{name}", name))
        .collect();
    packages.sort_by(|one, other| own_name(one).cmp(own_name(other)));
    let mut text = format!("{}\n", head.trim_end());
    for package in packages {
        text.push_str(&format!("{PACKAGE}{package}\n"));
    }
    text
}

fn own_name(package: &str) -> &str {
    package.lines().next().unwrap_or_default()
}

/// Whether a dependency of Rust handlers has this name.
pub fn is_taken(name: &str) -> bool {
    CARGO_LOCK.contains(&format!("\nname = \"{name}\"\n"))
}

/// Limits for the example handler, with a margin over the measurements of `handler bench`.
const fn limits(language: Language) -> &'static str {
    match language {
        Language::Rust => "{fuel: 10000000, memory_bytes: 16MiB, timeout_ms: 50}",
        // The memory of a handler with pandas and scikit-learn starts with 112 MiB.
        Language::Python => "{fuel: 200000000, memory_bytes: 256MiB, timeout_ms: 500}",
        Language::Js => "{fuel: 100000000, memory_bytes: 32MiB, timeout_ms: 200}",
    }
}

const fn notes(language: Language) -> &'static str {
    match language {
        Language::Python => {
            "\nThis is CPython with numpy, scipy, pandas and scikit-learn in a sandbox: `tensorgate/__init__.py` lists what is available and what is not (no files\nduring a call, no threads). Modules of pure Python work from this folder, and from the virtual environment that is active while the component is\nbuilt. Any Python from 3.9 on with numpy runs unit tests: `tensorgate.testing` stands in for the host. Module-level code runs at build time, so\nit may read files, and tables cost a call nothing."
        }
        Language::Rust => {
            "\n`export_init!` names a function that fills tables at build time. `export_preprocess!(Handler, arena: BYTES)` gives each instance memory that `bench` saw grow in\neach call. `cargo test` runs unit tests on this machine. Add other crates as in any project and run `cargo fetch`; they must not need\nfiles, sockets or threads. `println!` writes to the log, and the clock shows the time of the request."
        }
        Language::Js => {
            "\nThis is QuickJS, not Node.js: `tensorgate.js` lists what is available and what is not (no files, no fetch, no timers). `kit.js` has\narrays, images and sounds: the tensor kit, in Rust, inside the same component. Modules that do not use Node.js APIs\nwork by relative import. `node --test` runs unit tests: `setConfig` stands in for the host. `reach.js` requests files and features, `request.js` tells about the request. Module-level\ncode runs at build time, so tables cost a call nothing."
        }
    }
}

/// Every file of a new project.
pub fn files(name: &str, language: Language, world: World) -> Vec<(String, String)> {
    let (source, before, after) = source(language);
    let (text, config, position) = match world {
        World::Preprocess => (before, "{mean: \"0\", scale: \"1\"}", "before the model"),
        World::Postprocess => (after, "{}", "after the model"),
    };
    let fill = |template: &str| {
        template
            .replace("{name}", name)
            .replace("{language}", language.name())
            .replace("{world}", world.name())
            .replace("{limits}", limits(language))
            .replace("{config}", config)
            .replace("{where}", position)
            .replace("{source}", source)
            .replace("{notes}", notes(language))
    };
    let mut files = vec![
        ("handler.yaml".to_owned(), fill(MANIFEST)),
        ("README.md".to_owned(), fill(README)),
        file(".gitignore", GITIGNORE),
        file("wit/handler.wit", WIT),
        file(source, text),
    ];
    files.extend(cases(world).iter().map(|(path, text)| file(path, text)));
    files.extend(library(name, language));
    files
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn tree() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn the_guest_crate_is_complete() {
        let sources = std::fs::read_dir(tree().join("wit/guest/src")).unwrap();
        let found: BTreeSet<String> = sources
            .map(|entry| format!("src/{}", entry.unwrap().file_name().to_str().unwrap()))
            .chain(["Cargo.toml".to_owned()])
            .collect();
        let written: BTreeSet<String> = GUEST.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(found, written);
    }

    /// Keeps the crates of new projects equal to those that `make setup` fetches.
    #[test]
    fn a_project_has_the_trees_own_versions_of_crates() {
        let packages = |text: &str| -> BTreeSet<String> {
            text.split(PACKAGE)
                .skip(1)
                .filter(|package| package.contains("\nchecksum = "))
                .map(|package| {
                    let lines = package.lines().filter(|line| {
                        ["name", "version", "checksum"]
                            .iter()
                            .any(|key| line.starts_with(key))
                    });
                    lines.collect::<Vec<_>>().join("; ")
                })
                .collect()
        };
        let lockfile = std::fs::read_to_string(tree().join("Cargo.lock")).unwrap();
        let ours = packages(CARGO_LOCK);
        assert!(ours.len() > 30);
        let strange: Vec<_> = ours.difference(&packages(&lockfile)).cloned().collect();
        assert!(strange.is_empty(), "{strange:#?}");
        let manifest = std::fs::read_to_string(tree().join("Cargo.toml")).unwrap();
        for line in CARGO.lines().filter(|line| {
            [
                "bytemuck",
                "ndarray",
                "talc",
                "wit-bindgen",
                "rust-version",
                "edition",
            ]
            .iter()
            .any(|key| line.starts_with(key))
        }) {
            // The tree's line may go on with features that a project does not need.
            let written = line.trim_end_matches(" }");
            assert!(manifest.contains(written), "{line}");
        }
    }

    #[test]
    fn packages_of_a_lock_file_are_in_order() {
        for name in ["aaa", "nothing-else", "zzz"] {
            let lock = lock(name);
            let names: Vec<&str> = lock
                .lines()
                .filter(|line| line.starts_with("name = "))
                .collect();
            assert!(names.is_sorted(), "{names:?}");
            assert!(lock.contains(&format!("name = \"{name}\"")) && !lock.contains('{'));
        }
        assert!(is_taken("syn") && !is_taken("scale"));
    }

    #[test]
    fn every_placeholder_is_filled() {
        for language in Language::ALL {
            for world in [World::Preprocess, World::Postprocess] {
                for (path, text) in files("scale", language, world) {
                    for key in [
                        "{name}",
                        "{language}",
                        "{world}",
                        "{limits}",
                        "{config}",
                        "{notes}",
                    ] {
                        assert!(!text.contains(key), "{path}: {key}");
                    }
                }
            }
        }
    }
}
