//! Faults of a policy as text, one line each, for the status and for the answer to a reload.

use std::path::Path;

use tensorgate_cli_common::load_error::LoadError;
use tensorgate_policy::Severity;
use tensorgate_policy_text::Located;

/// Why a policy was not loaded: every error, one per line.
pub(super) fn reason(error: &LoadError) -> String {
    let LoadError::Faults(source, faults) = error else {
        return error.to_string();
    };
    let errors = faults
        .iter()
        .filter(|fault| fault.severity == Severity::Error);
    let texts: Vec<_> = errors.map(|fault| text(&source.file, fault)).collect();
    texts.join("\n")
}

/// A fault in one line: its line in the policy, and its fix. The change may be in another file.
pub(super) fn text(policy: &Path, fault: &Located) -> String {
    let name = policy.file_name().map_or(policy, Path::new);
    let path = match fault.path.as_str() {
        "" => String::new(),
        path => format!("{path}: "),
    };
    let fix = fault.fix.as_ref().map(|fix| format!("; fix: {fix}"));
    format!(
        "line {} of {}: {path}{}{}",
        fault.span.line,
        name.display(),
        fault.message,
        fix.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use tensorgate_policy_text::Span;

    use super::*;

    #[test]
    fn a_fault_in_one_line_names_the_policy_and_the_fix() {
        let fault = |path: &str, fix: Option<&str>| Located {
            severity: Severity::Error,
            span: Span {
                line: 8,
                ..Span::default()
            },
            path: path.into(),
            message: "is wrong".into(),
            fix: fix.map(Into::into),
        };
        for (path, fix, expected) in [
            (
                "a.b",
                Some("1"),
                "line 8 of gate.yaml: a.b: is wrong; fix: 1",
            ),
            ("", None, "line 8 of gate.yaml: is wrong"),
        ] {
            let found = text(Path::new("/etc/gate.yaml"), &fault(path, fix));
            assert_eq!(found, expected);
        }
    }
}
