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
const MAX_NAMES: usize = 1_000_000;

/// Why names are not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameFault {
    /// A path of which a part is a name that another path has in another form.
    Alike(String),
    /// More files and folders than a model has.
    TooMany,
}

/// The names that were seen. Only hashes are kept, with a key that no file can know.
#[derive(Default)]
struct Names {
    /// The hash of a path by the hash of its folded form.
    by_folded: HashMap<u64, u64>,
    state: RandomState,
}

/// Checks that no two names in a folder are one name for some systems. Each path may be there more
/// than once.
pub(super) fn check<'p>(paths: impl IntoIterator<Item = &'p str>) -> Result<(), NameFault> {
    check_at_most(paths, MAX_NAMES)
}

fn check_at_most<'p>(
    paths: impl IntoIterator<Item = &'p str>,
    most: usize,
) -> Result<(), NameFault> {
    let mut names = Names::default();
    for path in paths {
        names.add(path, most)?;
    }
    Ok(())
}

impl Names {
    /// Adds the names of a path: its folders and its file. No more than `most` are kept.
    fn add(&mut self, path: &str, most: usize) -> Result<(), NameFault> {
        let (mut exact, mut folded) = (0_u64, 0_u64);
        for name in path.split('/') {
            exact = self.state.hash_one((exact, name));
            folded = self.state.hash_one((folded, fold(name)));
            let known = *self.by_folded.entry(folded).or_insert(exact);
            if known != exact {
                return Err(NameFault::Alike(path.to_owned()));
            }
            if self.by_folded.len() > most {
                return Err(NameFault::TooMany);
            }
        }
        Ok(())
    }
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
                assert_eq!(check([earlier, later]), expected, "{earlier} {later}");
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
        assert_eq!(check(paths), Ok(()));
        // Three names: the folder, and a file in it and beside it.
        let paths = ["a", "b/a"];
        assert_eq!(check_at_most(paths, 3), Ok(()));
        assert_eq!(check_at_most(paths, 2), Err(NameFault::TooMany));
    }
}
