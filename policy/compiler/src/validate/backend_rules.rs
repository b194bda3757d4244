//! What the protocols of backends can represent: JSON templates, TF Serving and TorchServe.

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::values::BackendKind;
use tensorgate_policy::values::datatype::Datatype;

use super::versions;
use crate::raw;

/// Half floats have no common JSON representation.
pub(super) fn no_half(path: &Path, rule: &TensorRule, kind: &str) -> Option<()> {
    if !matches!(rule.datatype(), Datatype::Fp16 | Datatype::Bf16) {
        return Some(());
    }
    path.fail_with_fix(
        format!(
            "{kind} cannot carry {}, which {} has",
            rule.datatype(),
            quote(rule.name())
        ),
        "a backend of kind open-inference",
    )
}

/// Whether JSON can represent all values of a rule; `as_bytes`: `BYTES` are encoded.
pub(super) fn sayable(path: &Path, rule: &TensorRule, as_bytes: bool) -> Option<()> {
    let (what, fix) = match rule.datatype() {
        Datatype::Fp32 | Datatype::Fp64 if !rule.finite => (
            "may hold NaN or an infinity, which JSON cannot represent",
            "finite: true",
        ),
        Datatype::Bytes if !as_bytes && !is_text(rule) => (
            "may hold bytes that are not UTF-8, which JSON cannot represent",
            "utf8: true, or bytes: base64 beside its pointer",
        ),
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Uint16
        | Datatype::Uint32
        | Datatype::Uint64
        | Datatype::Int8
        | Datatype::Int16
        | Datatype::Int32
        | Datatype::Int64
        | Datatype::Fp16
        | Datatype::Bf16
        | Datatype::Fp32
        | Datatype::Fp64
        | Datatype::Bytes => return Some(()),
    };
    path.fail_with_fix(format!("{} {what}", quote(rule.name())), fix)
}

/// Whether a rule allows only UTF-8.
fn is_text(rule: &TensorRule) -> bool {
    let items = &rule.items;
    let listed = |all: &Vec<Vec<u8>>| all.iter().all(|item| core::str::from_utf8(item).is_ok());
    items.utf8
        || items.pattern.is_some()
        || items.url.is_some()
        || items.allowed.as_ref().is_some_and(listed)
}

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
            let mut valid = parameters(path, raw, "torchserve", &[]);
            let at = path.field("inputs");
            for rule in served.inputs {
                valid = valid.and(no_half(&at, rule, "torchserve"));
                valid = valid.and(sayable(&at, rule, is_file(rule)));
            }
            let at = path.field("outputs");
            for rule in served.outputs {
                valid = valid.and(no_half(&at, rule, "torchserve"));
            }
            valid
        }
        // Templates and OpenAI's API have rules of their own, and OIP carries all of a contract.
        Some(
            BackendKind::OpenInference
            | BackendKind::OpenAi
            | BackendKind::HttpJson
            | BackendKind::Embedded,
        )
        | None => Some(()),
    }
}

/// Whether a tensor is a single `BYTES` element, which is sent unchanged.
fn is_file(rule: &TensorRule) -> bool {
    rule.datatype() == Datatype::Bytes && rule.shape().iter().all(|dim| dim.fixed() == Some(1))
}

/// TF Serving numbers versions.
fn numbers(path: &Path, raw: &raw::Model) -> Option<()> {
    let mut valid = Some(());
    for version in raw.versions.called() {
        let number = version.parse::<i64>().ok().filter(|number| *number >= 0);
        if number.is_none_or(|number| format!("{number}") != version) {
            valid = versions::key_path(path, &raw.versions, version).fail_with_fix(
                format!(
                    "{} is not a version of TF Serving: versions are numbers",
                    quote(version)
                ),
                "the number that the model's folder in TF Serving is named after",
            );
        }
    }
    valid
}

/// Rejects parameters that the protocol cannot transport.
fn parameters(path: &Path, raw: &raw::Model, kind: &str, carried: &[&str]) -> Option<()> {
    let mut valid = Some(());
    for name in raw.parameters.keys() {
        if !carried.contains(&name.as_str()) {
            valid = path.field("parameters").key(name).fail_with_fix(
                format!("cannot be sent to a backend of kind {kind}"),
                "remove it",
            );
        }
    }
    valid
}
