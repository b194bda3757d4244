//! A replacement for the host, so that `cargo test` can test a handler.

use core::cell::RefCell;
use std::collections::BTreeMap;

use crate::bindings::granted::tensorgate::handler::fetch::{Failure, File};
use crate::bindings::preprocess::tensorgate::handler::context::{Input, Request};

/// Lookup, feature and key.
type FeatureOf = (String, String, String);

thread_local! {
    static FEATURES: RefCell<BTreeMap<FeatureOf, f64>> = const { RefCell::new(BTreeMap::new()) };
    static FILES: RefCell<BTreeMap<String, File>> = const { RefCell::new(BTreeMap::new()) };
    static CONFIGURED: RefCell<Option<&'static [u8]>> = const { RefCell::new(None) };
    static CONTEXT: RefCell<Option<Request>> = const { RefCell::new(None) };
    static CARRY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static CONFIG: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
}

/// Sets what [`crate::config`] returns on this thread, in place of all earlier entries.
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

/// Sets what [`crate::context`] returns on this thread.
pub fn set_context(request: Request) {
    CONTEXT.set(Some(request));
}

/// The request that was set, or one whose values are all empty.
pub(crate) fn context() -> Request {
    let set = CONTEXT.with_borrow(Clone::clone);
    set.unwrap_or_else(|| Request {
        request_id: String::new(),
        client: String::new(),
        model: String::new(),
        version: String::new(),
        operation: String::new(),
        time: 0,
        parameters: Vec::new(),
        input: Input {
            tensors: Vec::new(),
            media_type: None,
            media_bytes: 0,
        },
    })
}

/// Sets what [`crate::carry::get`] returns on this thread.
pub fn set_carry(data: &[u8]) {
    CARRY.set(data.to_vec());
}

pub(crate) fn carry() -> Vec<u8> {
    CARRY.with_borrow(Clone::clone)
}

/// Sets what [`crate::configured`] returns on this thread. The bytes are leaked, which is fine in a
/// test.
pub fn set_configured(made: Vec<u8>) {
    CONFIGURED.set(Some(made.leak()));
}

pub(crate) fn configured() -> Option<&'static [u8]> {
    CONFIGURED.with_borrow(|configured| *configured)
}

/// Sets a file that [`crate::fetch`] finds on this thread. All others are [`Failure::NotFound`].
pub fn set_file(url: &str, content_type: &str, data: &[u8]) {
    let file = File {
        content_type: content_type.to_owned(),
        data: data.to_vec(),
    };
    FILES.with_borrow_mut(|files| files.insert(url.to_owned(), file));
}

pub(crate) fn file(url: &str) -> Result<File, Failure> {
    FILES.with_borrow(|files| files.get(url).cloned().ok_or(Failure::NotFound))
}

/// Sets the value of a feature for a key, which [`crate::lookup::lookup`] finds on this thread. All
/// others have none.
pub fn set_feature(lookup: &str, feature: &str, key: &str, value: f64) {
    let of = (lookup.to_owned(), feature.to_owned(), key.to_owned());
    FEATURES.with_borrow_mut(|features| features.insert(of, value));
}

pub(crate) fn feature(lookup: &str, feature: &str, key: &str) -> Option<f64> {
    let of = (lookup.to_owned(), feature.to_owned(), key.to_owned());
    FEATURES.with_borrow(|features| features.get(&of).copied())
}
