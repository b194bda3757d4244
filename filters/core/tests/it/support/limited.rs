//! A policy with concurrency limits.

use serde_json::Value;

use super::bundle;

/// The usual policy, changed.
pub fn limited(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_str(&bundle()).unwrap();
    change(&mut bundle["policy"]);
    serde_json::to_vec(&bundle).unwrap()
}
