//! Restrictions of the TF Serving and TorchServe protocols for backends.

use alloc::format;

use super::backend_json::{no_half, sayable};
use super::report::{Path, Report, quote};
use super::versions;
use crate::contract::TensorRule;
use crate::datatype::Datatype;
use crate::raw::{self, BackendKind};

/// The only parameter in TF Serving's protocol.
const SIGNATURE: &str = "signature_name";

/// Inputs and outputs of a model at its backend.
pub(super) struct Served<'a> {
    pub(super) kind: Option<BackendKind>,
    pub(super) inputs: &'a [TensorRule],
    pub(super) outputs: &'a [TensorRule],
}

/// Validates a model against the protocol of its backend.
pub(super) fn served(
    report: &mut Report,
    path: &Path,
    raw: &raw::Model,
    served: &Served<'_>,
) -> Option<()> {
    match served.kind {
        Some(BackendKind::TfServing) => {
            let numbers = numbers(report, &path.field("versions"), raw);
            numbers.and(parameters(report, path, raw, "tf-serving", &[SIGNATURE]))
        }
        Some(BackendKind::TorchServe) => {
            let mut good = parameters(report, path, raw, "torchserve", &[]);
            let at = path.field("inputs");
            for rule in served.inputs {
                good = good.and(no_half(report, &at, rule, "torchserve"));
                good = good.and(sayable(report, &at, rule, is_file(rule)));
            }
            let at = path.field("outputs");
            for rule in served.outputs {
                good = good.and(no_half(report, &at, rule, "torchserve"));
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
fn numbers(report: &mut Report, path: &Path, raw: &raw::Model) -> Option<()> {
    let mut good = Some(());
    for version in raw.versions.called() {
        let number = version.parse::<i64>().ok().filter(|number| *number >= 0);
        if number.is_none_or(|number| format!("{number}") != version) {
            report.error_with_fix(
                &versions::place(path, &raw.versions, version),
                format!("{} is no version of TF Serving's", quote(version)),
                "a number, as its folder there is called",
            );
            good = None;
        }
    }
    good
}

/// Rejects parameters that the protocol cannot transport.
fn parameters(
    report: &mut Report,
    path: &Path,
    raw: &raw::Model,
    kind: &str,
    carried: &[&str],
) -> Option<()> {
    let mut good = Some(());
    for name in raw.parameters.keys() {
        if !carried.contains(&name.as_str()) {
            report.error_with_fix(
                &path.field("parameters").key(name),
                format!("has no place in what a backend of kind {kind} gets"),
                "remove it",
            );
            good = None;
        }
    }
    good
}
