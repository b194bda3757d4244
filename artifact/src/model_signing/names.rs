//! Names of files that some systems take for one: those that differ only by case, by the form of
//! Unicode (NFC, NFD), or by characters without a glyph.
//!
//! macOS, Windows and case-folding folders of Linux keep one of two such files. Which one a server
//! would load there is not what was signed.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use tensorgate_values::safe_text::is_hidden;
use unicode_normalization::UnicodeNormalization as _;

/// Names of files and folders that are compared: as many as are visited in a model's folder.
pub(super) const MAX_NAMES: usize = 1_000_000;

/// Why names are not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameFault {
    /// A path of which a part is a name that another path has in another form.
    Alike(String),
    /// More files and folders than a model has.
    TooMany,
}

/// Checks that no two names in a folder are one name for some systems. Each path may be there more
/// than once. At most `max_names` names are stored.
pub(super) fn check<'p>(
    paths: impl IntoIterator<Item = &'p str>,
    max_names: usize,
) -> Result<(), NameFault> {
    // The hash of a path by the hash of its folded form, with a key that no file can know.
    let mut by_folded = HashMap::new();
    let state = RandomState::new();
    for path in paths {
        let (mut exact, mut folded) = (0_u64, 0_u64);
        for name in path.split('/') {
            exact = state.hash_one((exact, name));
            folded = state.hash_one((folded, fold(name)));
            let known = *by_folded.entry(folded).or_insert(exact);
            if known != exact {
                return Err(NameFault::Alike(path.to_owned()));
            }
            if by_folded.len() > max_names {
                return Err(NameFault::TooMany);
            }
        }
    }
    Ok(())
}

/// One form for all names that some system takes for the same. Letters are made upper case first,
/// so that `ß` is `ss` and the old long `s` is `s`, as in full case folding.
fn fold(name: &str) -> String {
    if name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return name.to_ascii_lowercase();
    }
    name.nfd()
        .filter(|c| !is_hidden(*c))
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfd()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_systems_take_for_one_are_found() {
        for (first, second) in [
            ("model.bin", "Model.bin"),
            ("A/x", "a/y"),
            ("a/B/x", "a/b/x"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("CAF\u{c9}", "cafe\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            ("\u{17f}ave", "save"),
            ("\u{3c3}", "\u{3c2}"),
            ("\u{212a}", "k"),
            ("\u{1f80}", "\u{1f08}\u{345}"),
            ("a\u{200d}b", "ab"),
            ("a\nb", "ab"),
        ] {
            for (earlier, later) in [(first, second), (second, first)] {
                let expected = Err(NameFault::Alike(later.to_owned()));
                assert_eq!(
                    check([earlier, later], MAX_NAMES),
                    expected,
                    "{earlier} {later}"
                );
            }
        }
    }

    #[test]
    fn other_names_may_be_beside_each_other() {
        let paths = [
            "a",
            "a",
            "a.b",
            "b/a",
            "b/A1",
            "c/A",
            "c/A/",
            "\u{e9}",
            "e",
            "\u{6a21}\u{578b}",
        ];
        assert_eq!(check(paths, MAX_NAMES), Ok(()));
        // Three names: the folder, and a file in it and beside it.
        let paths = ["a", "b/a"];
        assert_eq!(check(paths, 3), Ok(()));
        assert_eq!(check(paths, 2), Err(NameFault::TooMany));
    }
}
