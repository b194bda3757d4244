//! A policy with concurrency limits, and a proxy whose store may be shared.

use serde_json::Value;
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::native::{NativeProxy, Store};

use super::{CONTEXT_KEY, bundle};

/// The usual policy, changed.
pub fn limited(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    change(&mut bundle["policy"]);
    serde_json::to_vec(&bundle).unwrap()
}

pub fn proxy_of(filters: &[Filter], bundle: &[u8], store: &Store) -> NativeProxy {
    NativeProxy::chain(filters, bundle, Some(CONTEXT_KEY), store.clone())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}
