//! Which warnings of a policy `up` has printed, so that a reload prints only new ones.

use std::collections::BTreeSet;

use tensorgate_policy::Severity;
use tensorgate_policy_text::Located;

/// The warnings that were printed, by path and message.
#[derive(Debug, Default)]
pub(super) struct PrintedWarnings(BTreeSet<(String, String)>);

impl PrintedWarnings {
    /// The faults to print: all errors, and new warnings. A warning that a policy without errors
    /// does not have is forgotten. With errors, not every warning may be known.
    pub(super) fn fresh<'a>(&mut self, faults: &'a [Located]) -> Vec<&'a Located> {
        let key = |fault: &Located| (fault.path.clone(), fault.message.clone());
        let is_warning = |fault: &&Located| fault.severity == Severity::Warning;
        let fresh = faults
            .iter()
            .filter(|fault| !is_warning(fault) || !self.0.contains(&key(fault)))
            .collect();
        if faults.iter().all(|fault| is_warning(&fault)) {
            self.0.clear();
        }
        self.0.extend(faults.iter().filter(is_warning).map(key));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_policy_text::Span;

    use super::*;

    fn fault(severity: Severity, line: usize, message: &str) -> Located {
        Located {
            severity,
            span: Span {
                line,
                ..Span::default()
            },
            path: "grants[0]".into(),
            message: message.into(),
            fix: None,
        }
    }

    #[test]
    fn a_warning_is_printed_again_only_after_it_was_gone() {
        let warning = |line, message| fault(Severity::Warning, line, message);
        let error = || fault(Severity::Error, 1, "broken");
        let mut printed = PrintedWarnings::default();
        let mut check = |faults: &[Located], expected: &[&str]| {
            let fresh = printed.fresh(faults);
            let fresh: Vec<&str> = fresh.iter().map(|fault| fault.message.as_str()).collect();
            assert_eq!(fresh, expected, "{faults:?}");
        };
        check(&[warning(3, "no rate")], &["no rate"]);
        // Another line does not make it new.
        check(&[warning(4, "no rate")], &[]);
        check(&[warning(4, "no rate"), warning(5, "wide")], &["wide"]);
        check(&[error(), warning(4, "no rate")], &["broken"]);
        check(&[error(), warning(9, "new")], &["broken", "new"]);
        check(&[warning(4, "no rate"), warning(9, "new")], &[]);
        check(&[], &[]);
        check(&[warning(4, "no rate")], &["no rate"]);
    }
}
