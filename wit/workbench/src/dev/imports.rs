//! The modules that a development runtime imports while it is built, because a call has no files to
//! import from: those of the standard library.

use std::collections::BTreeSet;

use crate::build_error::lacks_python;
use crate::dev::sources::Sources;
use crate::python_imports::modules_of_others;

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
    let files: Vec<_> = sources.files().collect();
    let mut found = modules_of_others(&files, &COMMON);
    found.retain(|name| !lacks_python(name.split('.').next().unwrap_or_default()));
    found
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
