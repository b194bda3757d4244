//! Decoupled models need streams, and limits for the number and duration of responses.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::report::{Path, Valid, quote};
use crate::contract::ParameterBound;
use crate::policy::{Decoupled, EMPTY_FINAL_RESPONSE, Model};
use crate::raw;
use crate::request::{Operation, Protocol};

/// Maximum responses to one message.
const MAX_ANSWERS: u64 = 1_000_000;
/// Maximum bytes of all responses to one message.
const MAX_BYTES: u64 = 1 << 40;

/// Limits of the responses to one message; `Some(None)` for a model with one response.
pub(super) fn decoupled(
    path: &Path,
    raw: &raw::Model,
    policy: &raw::Policy,
) -> Valid<Option<Decoupled>> {
    let Some(decoupled) = &raw.decoupled else {
        return Some(None);
    };
    let mut good = Some(());
    for (index, name) in raw.protocols.iter().enumerate() {
        if name != Protocol::OipGrpc.name() {
            good = path.field("protocols").index(index).fail_with_fix(
                "a decoupled model is called over streams of oip-grpc, and in no other way",
                "[oip-grpc]",
            );
        }
    }
    let backend = raw
        .backend
        .as_ref()
        .and_then(|name| policy.backends.get(name));
    let kind = backend.and_then(|backend| backend.kind);
    if kind.is_some_and(|kind| kind != raw::BackendKind::OpenInference) {
        good = path.field("backend").fail_with_fix(
            "servers of this kind answer once",
            "a backend of kind open-inference",
        );
    }
    let path = path.field("decoupled");
    let limits = &policy.listen.limits;
    let answers_path = path.field("max_answers");
    let max_answers = answers_path
        .required(decoupled.max_answers, "max_answers: 64")
        .and_then(|most| answers_path.within(most, 1, MAX_ANSWERS, "answers"));
    let bytes_path = path.field("max_bytes");
    let max_bytes = bytes_path
        .required(decoupled.max_bytes, "max_bytes: 4MiB")
        .and_then(|most| bytes_path.within(most.0, 1, MAX_BYTES, "bytes"));
    let within = |name, ms: Option<u64>, most| match ms {
        Some(ms) => path.field(name).within(ms, 1, most, "ms"),
        None => Some(limits.timeout_ms.min(most)),
    };
    // The proxy ends a stream that is idle for much longer than this.
    let gap_ms = within("gap_ms", decoupled.gap_ms, limits.timeout_ms);
    let max_ms = within("max_ms", decoupled.max_ms, limits.stream_ms);
    good?;
    Some(Some(Decoupled {
        max_answers: max_answers?,
        max_bytes: max_bytes?,
        gap_ms: gap_ms?,
        max_ms: max_ms?,
    }))
}

/// Parameters of a decoupled model: those of the policy, plus the one for an empty final response.
pub(super) fn parameters(
    path: &Path,
    raw: &raw::Model,
    own: Option<Vec<(String, ParameterBound)>>,
) -> Option<Vec<(String, ParameterBound)>> {
    let mut own = own?;
    if raw.decoupled.is_none() {
        return Some(own);
    }
    if own.iter().any(|(name, _)| name == EMPTY_FINAL_RESPONSE) {
        return path.key(EMPTY_FINAL_RESPONSE).fail_with_fix(
            "clients of a decoupled model may always send it",
            "remove it",
        );
    }
    own.push((EMPTY_FINAL_RESPONSE.into(), ParameterBound::Bool));
    Some(own)
}

/// Rejects a grant that allows calling a decoupled model without a stream.
pub(super) fn asked(path: &Path, grant: &raw::Grant, models: &[&Model]) -> Option<()> {
    let infer = Operation::Infer.name();
    let index = grant.operations.iter().position(|name| name == infer);
    let model = models.iter().find(|model| model.decoupled().is_some());
    let (Some(index), Some(model)) = (index, model) else {
        return Some(());
    };
    path.field("operations").index(index).fail_with_fix(
        format!(
            "model {} is decoupled, and has its answers over streams alone",
            quote(model.name())
        ),
        "stream",
    )
}
