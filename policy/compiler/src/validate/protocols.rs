//! Restrictions of client protocols: names and datatypes must be unambiguous in their messages.

use std::string::{String, ToString};

use tensorgate_policy::contract::{TensorRule, have_rows};
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::request::{Coding, OCTET_STREAM, Protocol};
use tensorgate_policy::values::datatype::Datatype;

use super::versions;
use crate::raw;

/// The key for bytes in TF Serving's and TorchServe's JSON.
const BASE64_KEY: &str = "b64";

/// Content codings of a model.
pub(super) fn encodings(path: &Path, raw: &raw::Model) -> Option<Vec<Coding>> {
    let takes_raw = raw
        .accepts
        .as_ref()
        .is_some_and(|accepts| accepts.raw.is_some());
    if takes_raw && !raw.encodings.is_empty() {
        return path.fail_with_fix(
            "a raw body is passed to its handler unchanged",
            "remove them",
        );
    }
    let distinct = path.distinct(&raw.encodings);
    let mut codings = Some(Vec::new());
    for (index, text) in raw.encodings.iter().enumerate() {
        let coding = Coding::from_name(text);
        if coding.is_none() {
            let names = [Coding::Gzip, Coding::Deflate].map(Coding::name);
            path.index(index)
                .unknown::<_, ()>("content coding", text, names.into_iter());
        }
        codings = codings.zip(coding).map(|(mut codings, coding)| {
            codings.push(coding);
            codings
        });
    }
    distinct.and(codings)
}

/// The view of a model for its protocols.
pub(super) struct ProtocolView<'m> {
    pub(super) versions: &'m [String],
    /// Versions as written.
    pub(super) written: &'m raw::Versions,
    /// Inputs of clients; empty for a raw body.
    pub(super) inputs: &'m [TensorRule],
    /// Outputs for clients.
    pub(super) outputs: &'m [TensorRule],
    /// Content types of a raw body.
    pub(super) content_types: &'m [String],
}

/// Validates inputs and outputs against the model's protocols.
pub(super) fn check(path: &Path, protocols: &[Protocol], view: &ProtocolView<'_>) -> Option<()> {
    let mut valid = Some(());
    for (index, protocol) in protocols.iter().enumerate() {
        let path = path.field("protocols").index(index);
        match protocol {
            Protocol::TfRest | Protocol::TorchRest | Protocol::TorchGrpc | Protocol::Json => {
                valid = valid.and(json(&path, *protocol, view));
            }
            // A request with a raw body cannot request binary data, so its response is JSON.
            Protocol::OipRest if !view.content_types.is_empty() => {
                valid = valid.and(json(&path, *protocol, view));
            }
            Protocol::OipRest | Protocol::OipGrpc | Protocol::TfGrpc | Protocol::OpenAi => {}
        }
    }
    if protocols.contains(&Protocol::TorchGrpc) {
        valid = valid.and(untyped(path, view.content_types));
    }
    let tf = [Protocol::TfRest, Protocol::TfGrpc];
    if let Some(protocol) = tf.iter().find(|protocol| protocols.contains(protocol)) {
        valid = valid.and(numbered(path, *protocol, view));
    }
    if protocols.contains(&Protocol::TfRest) && !have_rows(view.outputs.iter()) {
        let path = path.field("outputs");
        path.warn(
            "have no common first dim, so that requests by row (instances) are rejected",
            "clients that ask by column (inputs in place of instances)",
        );
    }
    valid
}

/// Datatypes in JSON forms that name no datatype or cannot request binary data.
fn json(path: &Path, protocol: Protocol, view: &ProtocolView<'_>) -> Option<()> {
    let name = protocol.name();
    let mut valid = Some(());
    let tagged = protocol != Protocol::Json;
    if tagged && view.inputs.iter().any(|rule| rule.name() == BASE64_KEY) {
        // `{"b64": "…"}` would be both a named input and a bytes value.
        valid = path.fail_with_fix(
            format!("{name} cannot tell an input named {BASE64_KEY} from bytes in base64"),
            "rename the input",
        );
    }
    for rule in view.inputs.iter().chain(view.outputs) {
        if matches!(rule.datatype(), Datatype::Fp16 | Datatype::Bf16) {
            valid = path.fail_with_fix(
                format!(
                    "{name} cannot carry {}, which tensor {:?} has",
                    rule.datatype(),
                    rule.name()
                ),
                match view.content_types {
                    [] => "tf-serving-grpc in its place",
                    _ => "a postprocess handler that makes FP32 of it",
                },
            );
        }
    }
    valid
}

/// Warns about outputs that JSON cannot represent. Clients of `oip-rest` get them if they request
/// binary outputs, and are rejected otherwise.
pub(super) fn warn_half(path: &Path, protocols: &[Protocol], view: &ProtocolView<'_>) {
    // With raw bodies such outputs are a fault of `json`.
    if !protocols.contains(&Protocol::OipRest) || !view.content_types.is_empty() {
        return;
    }
    let is_half = |rule: &&TensorRule| matches!(rule.datatype(), Datatype::Fp16 | Datatype::Bf16);
    for rule in view.outputs.iter().filter(is_half) {
        path.field("outputs").warn(
            format!(
                "output {} is {}, which JSON cannot represent: clients of oip-rest must request binary outputs",
                quote(rule.name()),
                rule.datatype()
            ),
            "\"binary_data_output\": true in their requests, or a postprocess handler that makes FP32 of it",
        );
    }
}

/// A file over gRPC has no content type.
fn untyped(path: &Path, content_types: &[String]) -> Option<()> {
    if content_types.is_empty() || content_types.iter().any(|name| name == OCTET_STREAM) {
        return Some(());
    }
    path.field("accepts")
        .field("raw")
        .field("content_types")
        .fail_with_fix(
            format!("does not list {OCTET_STREAM}, the type of every file over torchserve-grpc"),
            format!("[…, {OCTET_STREAM}]"),
        )
}

/// TensorFlow Serving's versions are 64-bit numbers in one spelling; anything else is a label.
fn numbered(path: &Path, protocol: Protocol, view: &ProtocolView<'_>) -> Option<()> {
    let mut valid = Some(());
    for version in view.versions {
        let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let number = version.parse::<i64>().ok();
        let canonical = number.map(|number| number.to_string());
        if digits && canonical.as_deref() != Some(version) {
            let versions_path = path.field("versions");
            valid = versions::key_path(&versions_path, view.written, version).fail_with_fix(
                format!(
                    "{} cannot name version {version:?}: its versions are 64-bit numbers without leading zeros",
                    protocol.name()
                ),
                format!("{:?}", canonical.unwrap_or_else(|| format!("v{version}"))),
            );
        }
    }
    valid
}
