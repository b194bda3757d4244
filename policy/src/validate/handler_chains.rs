//! Handler chains before and after a model.

use alloc::string::String;
use alloc::vec::Vec;

use super::report::Path;
use crate::raw::{self, Chain};

/// Maximum handlers of a chain. Each needs a new instance, and all share the request's deadline.
const MAX_LINKS: usize = 8;

/// The handlers in order; empty without a chain.
pub(super) fn chain(path: &Path, raw: Option<&Chain>, policy: &raw::Policy) -> Option<Vec<String>> {
    let Some(Chain(names)) = raw else {
        return Some(Vec::new());
    };
    let mut good = path.not_empty(names, "the name of a handler");
    good = good.and(path.at_most(names.len(), MAX_LINKS, "handlers in a row are too many"));
    for (index, name) in names.iter().enumerate() {
        if !policy.handlers.contains_key(name) {
            // A single name needs no list.
            let path = match names.as_slice() {
                [_] => path.clone(),
                _ => path.index(index),
            };
            let known = policy.handlers.keys().map(String::as_str);
            good = path.unknown("handler", name, known);
        }
    }
    good.map(|()| names.clone())
}
