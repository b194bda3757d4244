//! The modules that Python files import, by a look at their lines.

use std::collections::BTreeSet;
use std::path::Path;

/// The package that every project has.
const OWN_PACKAGE: &str = "tensorgate";

/// Folders without modules of the author's: cases, the contract, and what a build writes.
const LEFT: [&str; 3] = ["build", "cases", "wit"];

/// The Python files of a copied project, by their paths below it. Links to folders are left out.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn python_files(project: &Path) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let (mut folders, mut files) = (vec![String::new()], Vec::new());
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(project.join(&below))? {
            let entry = entry?;
            let name = entry.file_name();
            // No import names another one.
            let Some(name) = name.to_str() else { continue };
            if entry.file_type()?.is_dir() {
                if !(below.is_empty() && LEFT.contains(&name)) {
                    folders.push(format!("{below}{name}/"));
                }
            } else if name.ends_with(".py") {
                files.push((format!("{below}{name}"), std::fs::read(entry.path())?));
            }
        }
    }
    Ok(files)
}

/// The modules that the files name, without the files' own.
pub fn imported_modules(files: &[(&str, &[u8])]) -> BTreeSet<String> {
    let own: BTreeSet<&str> = files
        .iter()
        .map(|(path, _)| {
            let top = path.split('/').next().unwrap_or_default();
            top.strip_suffix(".py").unwrap_or(top)
        })
        .chain([OWN_PACKAGE])
        .collect();
    let mut found = BTreeSet::new();
    for (path, content) in files {
        if path.ends_with(".py") {
            let text = String::from_utf8_lossy(content);
            found.extend(text.lines().flat_map(of_line));
        }
    }
    found.retain(|name| !own.contains(name.split('.').next().unwrap_or_default()));
    found
}

/// The modules that a line may import. Each name of `from a import b` may be a module of `a`.
fn of_line(line: &str) -> Vec<String> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let listed = |names: &str| -> Vec<String> {
        names
            .split(',')
            .filter_map(|name| {
                let name = name.trim().trim_start_matches('(');
                name.split_whitespace().next().map(str::to_owned)
            })
            .filter(|name| is_name(name))
            .collect()
    };
    if let Some(names) = line.strip_prefix("import ") {
        return listed(names);
    }
    let from = line.strip_prefix("from ");
    let Some((package, names)) = from.and_then(|rest| rest.split_once(" import ")) else {
        return Vec::new();
    };
    let package = package.trim();
    if !is_name(package) {
        return Vec::new();
    }
    let below = listed(names);
    let below = below.iter().map(|name| format!("{package}.{name}"));
    [package.to_owned()].into_iter().chain(below).collect()
}

/// Whether a text is a module's full name. A relative one begins with a dot.
fn is_name(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_and_the_projects_own_modules_are_not() {
        let files: [(&str, &[u8]); 4] = [
            (
                "handler.py",
                b"import colorsys, lib.scale as s  # import no\nimport numpy.linalg as linalg\nfrom concurrent import (futures,\nfrom . import near\nfrom .near import far\nfrom words import LIST\n    import html.parser\nfrom tensorgate import Tensor\nimportant = 1\n",
            ),
            ("lib/scale.py", b"import calendar\n"),
            ("words.py", b""),
            ("note.txt", b"import sched\n"),
        ];
        assert_eq!(
            Vec::from_iter(imported_modules(&files)),
            [
                "calendar",
                "colorsys",
                "concurrent",
                "concurrent.futures",
                "html.parser",
                "numpy.linalg"
            ]
        );
    }
}
