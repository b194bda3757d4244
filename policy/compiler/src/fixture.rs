//! Policies for this crate's tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::Value;
use tensorgate_policy::Policy;

use crate::raw;
use crate::validate::validate;

/// A digest that depends on a number.
pub(crate) fn digest(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

/// A policy with every section: `digits` takes tensors in two protocols, `picture` a PNG through a
/// handler, `twice` has two versions. `scorer` may do everything at 2 requests per second and 4 MiB
/// per minute in `scoring`; `reader` may only read metadata.
pub(crate) fn document() -> Value {
    serde_json::from_str(include_str!("../fixture.json")).unwrap()
}

/// A document as raw configuration.
pub(crate) fn raw(document: Value) -> raw::Policy {
    serde_json::from_value(document).unwrap_or_else(|error| panic!("{error}"))
}

/// A document as a policy; it must be valid.
pub(crate) fn policy(document: Value) -> Policy {
    match validate(&raw(document)) {
        Ok((policy, _)) => policy,
        Err(faults) => panic!("{faults:#?}"),
    }
}
