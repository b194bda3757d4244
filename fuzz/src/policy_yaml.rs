//! Fuzz target: a policy as a user writes it. Reading must end, and each fault's position must be
//! in the text.
//! A policy that could be read is checked as in [`crate::policy_json`].

use tensorgate_policy_compiler::raw;
use tensorgate_policy_text::{Located, parse, typed};

use crate::policy_json;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (tree, faults) = parse::parse(text);
    // Lines as an editor counts them.
    let lines = text.split('\n').count();
    let inside = |faults: &[Located]| {
        for fault in faults {
            assert!(
                (1..=lines.saturating_add(1)).contains(&fault.span.line) && fault.span.column >= 1,
                "{fault:?} of {lines} lines"
            );
            assert!(!fault.message.is_empty());
        }
    };
    inside(&faults);
    let Some(mut tree) = tree else {
        assert!(!faults.is_empty(), "no document and no fault");
        return;
    };
    let read = typed::typed(&mut tree, |policy: &mut raw::Policy| &mut policy.models);
    inside(&read.faults);
    if faults.is_empty() && read.faults.is_empty() {
        policy_json::check(&read.document);
    }
}
