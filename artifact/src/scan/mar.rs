//! TorchServe's `.mar`: a zip file with a handler, which is code.

use std::io;

use super::container::{self, Profile, ScanFile};
use super::{Input, Limits, Report, Verdict};
use crate::scan::rules;

/// The member that names the handler.
const MANIFEST: &str = "MAR-INF/MANIFEST.json";

/// An archive of TorchServe.
#[derive(Default)]
pub(super) struct Mar {
    has_manifest: bool,
}

impl Profile for Mar {
    fn format(&self) -> &'static str {
        "mar"
    }

    fn observe(&mut self, name: &str) {
        self.has_manifest |= name.eq_ignore_ascii_case(MANIFEST);
    }

    fn matches(&self) -> bool {
        self.has_manifest
    }

    fn member(
        &mut self,
        name: &str,
        input: &mut dyn Input,
        limits: &Limits,
        scan_file: ScanFile,
    ) -> io::Result<Report> {
        container::member(name, input, limits, scan_file)
    }

    fn finish(&mut self, report: &mut Report) {
        let detail =
            "an archive of TorchServe runs its handler, and installs packages that it lists";
        report.add(Verdict::Executable, 0, rules::MAR_ARCHIVE, detail);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::zip::build::{File, zip};
    use crate::scan::{detect, zip};
    use std::io::Cursor;

    #[test]
    fn an_archive_is_executable_whatever_its_members_are() {
        let manifest: &[u8] = br#"{"model": {"handler": "handler.py:handle", "modelName": "m"}}"#;
        for manifest in [manifest, b"{}", b"{"] {
            let files = [
                File::stored("MAR-INF/MANIFEST.json", manifest),
                File::stored("handler.py", b"import os\n"),
                File::stored("requirements.txt", b"evil==1"),
            ];
            let mut file = Cursor::new(zip(&files));
            let report = zip::scan(&mut file, &Limits::default(), detect::scan).unwrap();
            assert_eq!(
                (report.format, report.verdict),
                ("mar", Verdict::Executable)
            );
            for rule in ["mar-archive", "program"] {
                assert!(report.findings.iter().any(|it| it.rule == rule), "{rule}");
            }
        }
    }
}
