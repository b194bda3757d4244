//! Handler chains before and after a model.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::report::{Path, Report, unknown};
use crate::raw::{self, Chain};

/// Maximum handlers of a chain. Each needs a new instance, and all share the request's deadline.
const MAX_LINKS: usize = 8;

/// The handlers in order; empty without a chain.
pub(super) fn chain(
    report: &mut Report,
    path: &Path,
    raw: Option<&Chain>,
    policy: &raw::Policy,
) -> Option<Vec<String>> {
    let Some(Chain(names)) = raw else {
        return Some(Vec::new());
    };
    let mut good = report.not_empty(path, names, "the name of a handler");
    if names.len() > MAX_LINKS {
        report.error_with_fix(
            path,
            format!("{} handlers in a row are too many", names.len()),
            format!("at most {MAX_LINKS}"),
        );
        good = None;
    }
    for (index, name) in names.iter().enumerate() {
        if !policy.handlers.contains_key(name) {
            // A single name needs no list.
            let path = match names.as_slice() {
                [_] => path.clone(),
                _ => path.index(index),
            };
            let known = policy.handlers.keys().map(String::as_str);
            unknown(report, &path, "handler", name, known);
            good = None;
        }
    }
    good.map(|()| names.clone())
}
