//! The modules that Python files import, by a look at their lines. A development runtime imports
//! those of the standard library while it is built, because a call has no files to import from.

use std::collections::BTreeSet;

use crate::build_error::lacks_python;
use crate::dev::sources::Sources;

/// The package that the runtime has in any case.
const OWN_PACKAGE: &str = "tensorgate";

/// Modules that every runtime has, so that the first import of one needs no other runtime.
const COMMON: [&str; 38] = [
    "abc",
    "array",
    "base64",
    "bisect",
    "collections",
    "collections.abc",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "html",
    "io",
    "itertools",
    "json",
    "logging",
    "math",
    "numbers",
    "operator",
    "pathlib",
    "random",
    "re",
    "statistics",
    "string",
    "struct",
    "textwrap",
    "time",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "zlib",
];

/// The modules that these files may import from elsewhere, sorted. A name that is none is imported
/// in vain. Packages that no component has are left out, so that their import fails at once.
pub fn imported(sources: &Sources) -> BTreeSet<String> {
    let own: BTreeSet<&str> = sources
        .files()
        .map(|(path, _)| {
            let top = path.split('/').next().unwrap_or_default();
            top.strip_suffix(".py").unwrap_or(top)
        })
        .chain([OWN_PACKAGE])
        .collect();
    let mut found: BTreeSet<String> = COMMON.map(str::to_owned).into();
    for (path, content) in sources.files() {
        if !path.ends_with(".py") {
            continue;
        }
        let text = String::from_utf8_lossy(content);
        found.extend(text.lines().flat_map(of_line));
    }
    found.retain(|name| {
        let top = name.split('.').next().unwrap_or_default();
        !own.contains(top) && !lacks_python(top)
    });
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
    fn modules_of_the_standard_library_are_found_and_the_projects_own_are_not() {
        let sources = Sources::from_texts(&[
            (
                "handler.py",
                "import colorsys, lib.scale as s  # import no\nimport numpy.linalg as linalg, cv2\nfrom concurrent import (futures,\nfrom . import near\nfrom .near import far\nfrom words import LIST\n    import html.parser\nfrom tensorgate import Array\nimportant = 1\n",
            ),
            ("lib/scale.py", "import calendar\n"),
            ("words.py", ""),
            ("note.txt", "import sched\n"),
        ]);
        let found = imported(&sources);
        let fresh: Vec<&str> = found
            .iter()
            .map(String::as_str)
            .filter(|name| !COMMON.contains(name))
            .collect();
        assert_eq!(
            fresh,
            [
                "calendar",
                "colorsys",
                "concurrent",
                "concurrent.futures",
                "html.parser"
            ]
        );
    }
}
