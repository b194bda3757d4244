//! Policies for this crate's tests. The compiler is built on this crate without its tests, so
//! policies cross as bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use serde_json::Value;
use tensorgate_policy_compiler::Version;

use crate::compiled::Compiled;
use crate::contract::Pattern;
use crate::policy::Policy;

// Tests of lower modules reach this here.
pub(crate) use crate::policy::Accepts;

/// A policy with every section: `digits` takes tensors in two protocols, `picture` a PNG through a
/// handler, `twice` has two versions. `scorer` may do everything at 2 requests per second and 4 MiB
/// per minute in `scoring`; `reader` may only read metadata.
pub(crate) fn document() -> Value {
    serde_json::from_str(include_str!("../compiler/fixture.json")).unwrap()
}

/// A document, compiled for a host; it must be valid.
pub(crate) fn compiled(document: Value) -> Compiled {
    let raw = serde_json::from_value(document).unwrap_or_else(|error| panic!("{error}"));
    let version = Version::new(raw).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Compiled::load(&version.for_host().to_bytes()).unwrap()
}

/// A document as a policy; it must be valid.
pub(crate) fn policy(document: Value) -> Policy {
    compiled(document).policy
}

/// A pattern, as the compiler writes it.
pub(crate) fn pattern() -> Pattern {
    let mut document = document();
    document["models"]["digits"]["parameters"] =
        serde_json::json!({"name": {"text": {"max_bytes": 8, "pattern": "[a-z]+"}}});
    let policy = policy(document);
    let model = policy.model(policy.model_id("digits").unwrap()).unwrap();
    let Accepts::Tensors(contract) = model.accepts() else {
        panic!("{model:?}");
    };
    contract.patterns().next().unwrap().clone()
}
