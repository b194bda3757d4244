//! Restrictions of the TF Serving and TorchServe protocols for backends.

use alloc::format;

use super::backend_json::{no_half, sayable};
use super::report::{Path, quote};
use super::versions;
use crate::contract::TensorRule;
use crate::raw::{self, BackendKind};
use crate::values::datatype::Datatype;

/// The only parameter in TF Serving's protocol.
const SIGNATURE: &str = "signature_name";

/// Inputs and outputs of a model at its backend.
pub(super) struct Served<'a> {
    pub(super) kind: Option<BackendKind>,
    pub(super) inputs: &'a [TensorRule],
    pub(super) outputs: &'a [TensorRule],
}

/// Validates a model against the protocol of its backend.
pub(super) fn served(path: &Path, raw: &raw::Model, served: &Served<'_>) -> Option<()> {
    match served.kind {
        Some(BackendKind::TfServing) => {
            let numbers = numbers(&path.field("versions"), raw);
            numbers.and(parameters(path, raw, "tf-serving", &[SIGNATURE]))
        }
        Some(BackendKind::TorchServe) => {
            let mut good = parameters(path, raw, "torchserve", &[]);
            let at = path.field("inputs");
            for rule in served.inputs {
                good = good.and(no_half(&at, rule, "torchserve"));
                good = good.and(sayable(&at, rule, is_file(rule)));
            }
            let at = path.field("outputs");
            for rule in served.outputs {
                good = good.and(no_half(&at, rule, "torchserve"));
            }
            good
        }
        _ => Some(()),
    }
}

/// Whether a tensor is a single `BYTES` element, which is sent unchanged.
fn is_file(rule: &TensorRule) -> bool {
    rule.datatype() == Datatype::Bytes && rule.shape().iter().all(|dim| dim.fixed() == Some(1))
}

/// TF Serving numbers versions.
fn numbers(path: &Path, raw: &raw::Model) -> Option<()> {
    let mut good = Some(());
    for version in raw.versions.called() {
        let number = version.parse::<i64>().ok().filter(|number| *number >= 0);
        if number.is_none_or(|number| format!("{number}") != version) {
            good = versions::place(path, &raw.versions, version).fail_with_fix(
                format!("{} is no version of TF Serving's", quote(version)),
                "a number, as its folder there is called",
            );
        }
    }
    good
}

/// Rejects parameters that the protocol cannot transport.
fn parameters(path: &Path, raw: &raw::Model, kind: &str, carried: &[&str]) -> Option<()> {
    let mut good = Some(());
    for name in raw.parameters.keys() {
        if !carried.contains(&name.as_str()) {
            good = path.field("parameters").key(name).fail_with_fix(
                format!("has no place in what a backend of kind {kind} gets"),
                "remove it",
            );
        }
    }
    good
}
