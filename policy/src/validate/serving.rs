//! What a protocol asks of a model that is called by it: names and datatypes that its messages can say in one way.

use alloc::format;

use alloc::vec::Vec;

use super::report::{Path, Report, unknown};
use crate::contract::TensorRule;
use crate::datatype::Datatype;
use crate::raw;
use crate::request::{Coding, Protocol};

/// The one key of the object that carries bytes in TF Serving's JSON.
const BASE64_KEY: &str = "b64";

/// The content codings that a model takes.
pub(super) fn encodings(report: &mut Report, path: &Path, raw: &raw::Model) -> Option<Vec<Coding>> {
    let takes_raw = raw
        .accepts
        .as_ref()
        .is_some_and(|accepts| accepts.raw.is_some());
    if takes_raw && !raw.encodings.is_empty() {
        report.error_with_fix(
            path,
            "a raw body goes to its handler as it came",
            "remove them",
        );
        return None;
    }
    let distinct = report.distinct(path, &raw.encodings);
    let mut codings = Some(Vec::new());
    for (index, text) in raw.encodings.iter().enumerate() {
        let coding = Coding::from_name(text);
        if coding.is_none() {
            let names = [Coding::Gzip, Coding::Deflate].map(Coding::name);
            unknown(
                report,
                &path.index(index),
                "content coding",
                text,
                names.into_iter(),
            );
        }
        codings = codings.zip(coding).map(|(mut codings, coding)| {
            codings.push(coding);
            codings
        });
    }
    distinct.and(codings)
}

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
