//! What a protocol asks of a model that is called by it: names and datatypes that its messages can say in one way.

use alloc::format;

use super::report::{Path, Report};
use crate::contract::TensorRule;
use crate::datatype::Datatype;
use crate::request::Protocol;

/// The one key of the object that carries bytes in TF Serving's JSON.
const BASE64_KEY: &str = "b64";

/// Holds what clients send and get against the protocols that a model may be called by.
pub(super) fn carried(
    report: &mut Report,
    path: &Path,
    protocols: &[Protocol],
    inputs: &[TensorRule],
    outputs: &[TensorRule],
) -> Option<()> {
    let index = protocols
        .iter()
        .position(|protocol| *protocol == Protocol::TfRest);
    let Some(index) = index else {
        return Some(());
    };
    let (path, name) = (path.index(index), Protocol::TfRest.name());
    let mut good = Some(());
    if inputs.iter().any(|rule| rule.name() == BASE64_KEY) {
        // `{"b64": "…"}` would be an input by name and a value of bytes.
        report.error_with_fix(
            &path,
            format!("{name} cannot tell an input named {BASE64_KEY} from bytes in base64"),
            "rename the input",
        );
        good = None;
    }
    for rule in inputs.iter().chain(outputs) {
        if matches!(rule.datatype(), Datatype::Fp16 | Datatype::Bf16) {
            report.error_with_fix(
                &path,
                format!(
                    "{name} cannot carry {}, which tensor {:?} has",
                    rule.datatype(),
                    rule.name()
                ),
                "tf-serving-grpc in its place",
            );
            good = None;
        }
    }
    good
}
