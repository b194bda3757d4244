//! TorchServe's `.mar`: a zip file with a handler, which is code.

use std::io::{self, Read as _};

use serde_json::Value;

use super::container::{self, Profile, ScanFile};
use super::{Input, Limits, Report, Verdict};

const MANIFEST: &str = "MAR-INF/MANIFEST.json";
const MAX_MANIFEST_BYTES: u64 = 64 << 10;
/// Bytes of a Python file that are searched for imports.
const MAX_SOURCE_BYTES: u64 = 1 << 20;
/// Imports of a file that are listed.
const MAX_IMPORTS: usize = 32;

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
        if name.eq_ignore_ascii_case(MANIFEST) {
            return scan_manifest(input);
        }
        let lower = name.to_ascii_lowercase();
        if lower.ends_with(".py") {
            return scan_python(input);
        }
        if lower.ends_with("requirements.txt") {
            let mut report = Report::new("text");
            let detail = "packages that are installed with the model";
            report.add(Verdict::Executable, 0, "mar-requirements", detail);
            return Ok(report);
        }
        container::member(name, input, limits, scan_file)
    }

    fn finish(&mut self, report: &mut Report) {
        let detail = "an archive of TorchServe runs its handler";
        report.add(Verdict::Executable, 0, "mar-archive", detail);
    }
}

/// The manifest, which names the handler.
fn scan_manifest(input: &mut dyn Input) -> io::Result<Report> {
    let mut report = Report::new("mar manifest");
    let mut text = Vec::new();
    input
        .take(MAX_MANIFEST_BYTES.saturating_add(1))
        .read_to_end(&mut text)?;
    if u64::try_from(text.len()).map_or(true, |length| length > MAX_MANIFEST_BYTES) {
        let detail = "a manifest that is too long";
        report.add(Verdict::Unknown, 0, "mar-manifest", detail);
        return Ok(report);
    }
    let manifest: Value = match serde_json::from_slice(&text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let detail = format!("the manifest is not JSON: {error}");
            report.add(Verdict::Malformed, 0, "mar-manifest", &detail);
            return Ok(report);
        }
    };
    let handler = manifest.pointer("/model/handler").and_then(Value::as_str);
    let detail = match handler {
        Some(handler) => format!("runs the handler {handler:?}"),
        None => "names no handler".to_owned(),
    };
    report.add(Verdict::Executable, 0, "mar-handler", &detail);
    Ok(report)
}

/// A Python file and what it imports. A list for the reader: the file is executable whatever it
/// imports.
fn scan_python(input: &mut dyn Input) -> io::Result<Report> {
    let mut report = Report::new("python");
    let mut source = Vec::new();
    input.take(MAX_SOURCE_BYTES).read_to_end(&mut source)?;
    let imports = imports(&String::from_utf8_lossy(&source));
    let detail = if imports.is_empty() {
        "Python code".to_owned()
    } else {
        format!("Python code that imports {}", imports.join(", "))
    };
    report.add(Verdict::Executable, 0, "mar-python", &detail);
    Ok(report)
}

/// The modules of lines that begin with `import` or `from`.
fn imports(source: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in source.lines() {
        let line = line.trim_start();
        let modules = if let Some(list) = line.strip_prefix("import ") {
            list
        } else if let Some(from) = line.strip_prefix("from ") {
            from.split(" import").next().unwrap_or_default()
        } else {
            continue;
        };
        let list = modules.split(['#', ';']).next().unwrap_or_default();
        for module in list.split(',') {
            let name = module.split_whitespace().next().unwrap_or_default();
            if found.len() >= MAX_IMPORTS {
                return found;
            }
            if !name.is_empty() && !found.iter().any(|known| known == name) {
                found.push(name.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::scan::zip::build::{File, zip};
    use crate::scan::{detect, zip};
    use std::io::Cursor;

    #[test]
    fn an_archive_names_its_handler_and_its_imports() {
        let manifest = br#"{"model": {"handler": "handler.py:handle", "modelName": "m"}}"#;
        let source = b"import os, sys as s\nfrom .a.b import c\n  import os # too\nx = 'import'\n";
        let files = [
            File::stored("MAR-INF/MANIFEST.json", manifest),
            File::stored("handler.py", source),
            File::stored("requirements.txt", b"evil==1"),
        ];
        let mut file = Cursor::new(zip(&files));
        let report = zip::scan(&mut file, &Limits::default(), detect::scan).unwrap();
        assert_eq!(
            (report.format, report.verdict),
            ("mar", Verdict::Executable)
        );
        let found: Vec<_> = (report.findings.iter())
            .map(|finding| (finding.rule, finding.detail.as_str()))
            .collect();
        let handler = "in MAR-INF/MANIFEST.json: runs the handler \"handler.py:handle\"";
        let python = "in handler.py: Python code that imports os, sys, .a.b";
        assert!(found.contains(&("mar-handler", handler)), "{found:?}");
        assert!(found.contains(&("mar-python", python)), "{found:?}");
        assert!(found.iter().any(|(rule, _)| *rule == "mar-requirements"));
    }

    #[test]
    fn the_manifest_is_json_of_a_bounded_size() {
        let verdict = |text: &[u8]| {
            scan_manifest(&mut Cursor::new(text.to_vec()))
                .unwrap()
                .verdict
        };
        assert_eq!(verdict(b"{}"), Verdict::Executable);
        assert_eq!(verdict(b"{"), Verdict::Malformed);
        assert_eq!(verdict(&b" ".repeat(70_000)), Verdict::Unknown);
    }
}
