//! NumPy's `.npz`: a zip file of arrays.

use std::io;

use super::container::{Profile, ScanFile};
use super::{Input, Limits, Report, numpy};

/// NumPy finds arrays by the end of the name, in this case only.
const ARRAY: &str = ".npy";

/// A zip file in which each member is an array.
#[derive(Default)]
pub(super) struct Npz {
    arrays: usize,
    others: usize,
}

impl Profile for Npz {
    fn format(&self) -> &'static str {
        "npz"
    }

    fn observe(&mut self, name: &str) {
        let count = if name.ends_with(ARRAY) {
            &mut self.arrays
        } else {
            &mut self.others
        };
        *count = count.saturating_add(1);
    }

    fn matches(&self) -> bool {
        self.arrays > 0 && self.others == 0
    }

    /// NumPy reads an array by its key, and writes no file.
    fn has_keys(&self) -> bool {
        true
    }

    fn member(
        &mut self,
        _name: &str,
        input: &mut dyn Input,
        limits: &Limits,
        _scan_file: ScanFile,
    ) -> io::Result<Report> {
        // All members are arrays.
        numpy::scan(input, limits)
    }

    fn finish(&mut self, _report: &mut Report) {}
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;
    use crate::scan::zip::build::{File, OS_SYSTEM, zip};
    use crate::scan::{Verdict, detect, zip};
    use std::io::Cursor;

    /// An array of one element.
    fn array(dtype: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (1,), }}");
        let width = (10 + text.len() + 1).next_multiple_of(64) - 11;
        let text = format!("{text:width$}\n");
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn each_member_is_scanned_as_an_array() {
        let scan = |dtype: &str, data: &[u8]| {
            let files = [
                File::deflated("a.npy", &array("<f8", &[0; 8])),
                File::deflated("b.npy", &array(dtype, data)),
            ];
            let mut file = Cursor::new(zip(&files));
            let report = zip::scan(&mut file, &Limits::default(), detect::scan).unwrap();
            (report.format, report.verdict)
        };
        assert_eq!(scan("<i4", &[1; 4]), ("npz", Verdict::Safe));
        assert_eq!(scan("<i4", &[1; 3]), ("npz", Verdict::Malformed));
        assert_eq!(scan("|O", OS_SYSTEM), ("npz", Verdict::Executable));
    }

    #[test]
    fn keys_are_no_paths_and_are_there_once() {
        let scan = |names: [&str; 2]| {
            let files = names.map(|name| File::stored(name, &array("<f8", &[0; 8])));
            let mut file = Cursor::new(zip(&files));
            let report = zip::scan(&mut file, &Limits::default(), detect::scan).unwrap();
            let rules: Vec<_> = report.findings.iter().map(|it| it.rule.name).collect();
            (report.verdict, rules)
        };
        for names in [
            ["W:0.npy", "b:0.npy"],
            ["block./w.npy", "mlp/~/linear 0 .npy"],
            ["w.npy", "W.npy"],
            ["a//b.npy", "./a.npy"],
        ] {
            assert_eq!(scan(names), (Verdict::Safe, vec![]), "{names:?}");
        }
        for (names, rule) in [
            (["a.npy", "a.npy"], "zip-duplicate-name"),
            (["a.npy", "../../a.npy"], "zip-name"),
            (["a.npy", "/a.npy"], "zip-name"),
            (["a.npy", "b\\a.npy"], "zip-name"),
            (["a.npy", "b\0.npy"], "zip-name"),
            (["a.npy", "W:0.pkl"], "zip-name"),
            (["a.npy", "W:0.NPY"], "zip-name"),
        ] {
            let (verdict, rules) = scan(names);
            assert_eq!(verdict, Verdict::Malformed, "{names:?}");
            assert!(rules.contains(&rule), "{names:?}: {rules:?}");
        }
    }

    #[test]
    fn a_member_that_is_shorter_than_declared_is_malformed() {
        let mut cut = File::deflated("a.npy", &array("<f8", &[0; 8])[..20]);
        cut.size = 136;
        let mut file = Cursor::new(zip(&[cut]));
        let report = zip::scan(&mut file, &Limits::default(), detect::scan).unwrap();
        assert_eq!(report.verdict, Verdict::Malformed);
        let mut rules = report.findings.iter().map(|finding| finding.rule.name);
        assert!(rules.any(|rule| rule == "npy-header"), "{report:?}");
    }

    #[test]
    fn an_archive_with_another_member_is_none_of_numpy() {
        let mut profile = Npz::default();
        assert!(!profile.matches());
        profile.observe("a.npy");
        assert!(profile.matches());
        profile.observe("a.NPY");
        assert!(!profile.matches());
    }
}
