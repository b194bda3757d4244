//! Stands in for the host where there is none, so that `cargo test` can test a handler.

use core::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    static CONFIG: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// Sets what [`crate::config`] answers on this thread, in place of what it answered before.
pub fn set_config<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
    CONFIG.set(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    );
}

pub(crate) fn config(key: &str) -> Option<String> {
    CONFIG.with_borrow(|config| config.get(key).cloned())
}
