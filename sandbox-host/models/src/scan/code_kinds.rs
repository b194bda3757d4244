//! Kinds of code that a signed model may need: which reports are about such code and about nothing
//! else.
//!
//! A report comes from a scanner process, which a hostile file may have taken over. Such a process
//! could as well call the file safe, so a verdict of that kind needs no more trust than any other.

use tensorgate_artifact::scan::Verdict;
use tensorgate_artifact::scan::finding::MAX_FINDINGS;
use tensorgate_artifact::scan::rules::{PROGRAM, TORCHSCRIPT, TRITON_PYTHON};
use tensorgate_values::{CodeKind, ModelFormat};

use super::messages::FileReport;

/// The allowed kind that all code of a file is of. `None` if it has other code, or anything else
/// that is not safe. `name` has no folders.
pub fn allowed_kind(name: &str, report: &FileReport, allowed: &[CodeKind]) -> Option<CodeKind> {
    let mut kinds = allowed.iter().copied();
    kinds.find(|kind| is_of(*kind, name, report))
}

fn is_of(kind: CodeKind, name: &str, report: &FileReport) -> bool {
    let (format, rule) = match kind {
        // The name under which Triton reads it.
        CodeKind::TritonPython if name == "config.pbtxt" => {
            (ModelFormat::TritonConfig.name(), TRITON_PYTHON)
        }
        // Native code has another format under each name.
        CodeKind::TritonPython if name.ends_with(".py") => ("script", PROGRAM),
        CodeKind::TritonPython => return false,
        CodeKind::Torchscript => (ModelFormat::Torchscript.name(), TORCHSCRIPT),
    };
    let findings = &report.findings;
    // Further findings are not kept, and one of them may be about something else.
    let are_all_kept = !findings.is_empty() && findings.len() < MAX_FINDINGS;
    let is_of_rule = findings
        .iter()
        .all(|finding| finding.rule == rule.name && finding.verdict == Verdict::Executable);
    report.verdict == Verdict::Executable && report.format == format && are_all_kept && is_of_rule
}

/// Whether a list of formats has that of a file. A program of an allowed kind has none that a list
/// could name.
pub fn is_listed(report: &FileReport, formats: &[ModelFormat], allowed: Option<CodeKind>) -> bool {
    match ModelFormat::from_name(&report.format) {
        Some(format) => formats.contains(&format),
        None => allowed.is_some(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::type_complexity, reason = "tests")]
    use super::*;
    use tensorgate_artifact::scan::Report;
    use tensorgate_artifact::scan::rules::{self, Rule};

    fn report(format: &'static str, findings: &[(Verdict, &'static Rule)]) -> FileReport {
        let mut report = Report::new(format);
        for (verdict, rule) in findings {
            report.add(*verdict, 0, rule, "x");
        }
        report.into()
    }

    #[test]
    fn only_code_of_the_kind_is_allowed() {
        use CodeKind::{Torchscript, TritonPython};
        use Verdict::{Executable, Malformed, Unknown};
        let program = (Executable, PROGRAM);
        let python = (Executable, TRITON_PYTHON);
        let script = (Executable, TORCHSCRIPT);
        let many = vec![program; MAX_FINDINGS];
        let cases: [(
            &str,
            &'static str,
            &[(Verdict, &'static Rule)],
            Option<CodeKind>,
        ); 22] = [
            ("model.py", "script", &[program], Some(TritonPython)),
            (
                "config.pbtxt",
                "triton config",
                &[python],
                Some(TritonPython),
            ),
            ("model.pt", "torchscript", &[script], Some(Torchscript)),
            // Native code, and programs of other languages, under any name.
            ("model.py", "elf", &[program], None),
            ("model.py", "pe", &[program], None),
            ("model.so", "elf", &[program], None),
            ("run.sh", "script", &[program], None),
            ("model.PY", "script", &[program], None),
            ("model.pyc", "script", &[program], None),
            // A file that is also another one.
            (
                "model.py",
                "script",
                &[program, (Malformed, rules::POLYGLOT)],
                None,
            ),
            (
                "model.py",
                "script",
                &[program, (Executable, rules::PICKLE_GLOBAL)],
                None,
            ),
            (
                "model.py",
                "script",
                &[program, (Unknown, rules::ZIP_CONTENT)],
                None,
            ),
            ("model.py", "script", &many, None),
            ("model.py", "script", &[], None),
            // Another configuration, and a configuration under another name.
            (
                "config.pbtxt",
                "triton config",
                &[(Unknown, rules::TRITON_CONFIG)],
                None,
            ),
            (
                "config.pbtxt",
                "triton config",
                &[python, (Unknown, rules::TRITON_OPTION)],
                None,
            ),
            ("config.pbtxt", "script", &[program], None),
            ("other.pbtxt", "triton config", &[python], None),
            // Pickles and other code beside or without TorchScript.
            (
                "model.pt",
                "torchscript",
                &[script, (Executable, rules::PICKLE_CALL)],
                None,
            ),
            (
                "model.pt",
                "torchscript",
                &[script, (Unknown, rules::TORCH_MEMBER)],
                None,
            ),
            (
                "model.pt",
                "torch zip",
                &[(Executable, rules::PICKLE_GLOBAL)],
                None,
            ),
            ("model.pt", "torch package", &[script], None),
        ];
        for (name, format, findings, expected) in cases {
            let report = report(format, findings);
            let found = allowed_kind(name, &report, &CodeKind::ALL);
            assert_eq!(found, expected, "{name} {report:?}");
            assert_eq!(allowed_kind(name, &report, &[]), None, "{name}");
        }
        let python = report("script", &[program]);
        assert_eq!(allowed_kind("model.py", &python, &[Torchscript]), None);
    }

    #[test]
    fn an_allowed_program_needs_no_listed_format() {
        let script = report("script", &[]);
        let torch = report("torchscript", &[]);
        let kind = Some(CodeKind::TritonPython);
        for (report, formats, kind, expected) in [
            (&script, &[ModelFormat::Onnx], kind, true),
            (&script, &[ModelFormat::Onnx], None, false),
            (&torch, &[ModelFormat::Onnx], kind, false),
            (&torch, &[ModelFormat::Torchscript], kind, true),
        ] {
            assert_eq!(is_listed(report, formats, kind), expected, "{report:?}");
        }
    }
}
