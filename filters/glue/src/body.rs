//! What a filter does with a body that it holds, and how much of it it holds. Never reads one.

use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::{Decision, Denial, Policy, Reason};

use crate::enforced::Enforced;
use crate::filter::Duties;

/// Body of a server-level question, bytes: a gRPC frame around a service name, or nothing.
pub const MAX_QUESTION_BODY_BYTES: usize = 1024;

/// What every listener of ours lets a filter hold of a body, bytes: less than the slack that `render` adds to each policy's `hold_bytes`.
pub const ALWAYS_HELD_BYTES: usize = 256 << 10;

/// What to do with a held body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Judge it.
    Judge(BodyPlan),
    /// Bound it only: nothing reads it but our own sandbox host.
    Question,
    /// There must be none.
    None,
}

impl Body {
    /// The same with no more held than the stream's listener lets a filter hold. What cannot pass in pieces can be no larger then.
    pub(crate) fn within(self, enforced: Enforced) -> Self {
        match (self, enforced.hold_bytes) {
            (Self::Judge(plan), Some(hold_bytes)) if hold_bytes < plan.hold_bytes => {
                let max_bytes = if plan.expansion.is_none() && passes(plan.format) {
                    plan.max_bytes
                } else {
                    plan.max_bytes.min(hold_bytes)
                };
                Self::Judge(BodyPlan {
                    max_bytes,
                    hold_bytes,
                    ..plan
                })
            }
            (body, _) => body,
        }
    }

    /// Whether so many bytes may be held. The reason does not depend on how the body was cut into pieces.
    pub(crate) fn fits(self, bytes: usize) -> Result<(), Denial> {
        let max_bytes = match self {
            Self::Judge(BodyPlan {
                format: BodyFormat::Empty,
                ..
            })
            | Self::None => {
                return if bytes == 0 {
                    Ok(())
                } else {
                    Err(Denial::new(Reason::Malformed, "a body came where none may"))
                };
            }
            Self::Judge(plan) => plan.max_bytes,
            Self::Question => MAX_QUESTION_BODY_BYTES,
        };
        within(bytes, max_bytes)
    }
}

/// Whether so many bytes of a body, and perhaps more to come, may be.
pub(crate) fn within(bytes: usize, max_bytes: usize) -> Result<(), Denial> {
    if bytes > max_bytes {
        let cause = format!("body has at least {bytes} bytes, {max_bytes} are allowed");
        return Err(Denial::new(Reason::BodyTooLarge, cause));
    }
    Ok(())
}

/// Whether any of these duties waits for a body that is read so. Where none does, the body passes as it comes.
pub(crate) fn waits(duties: Duties, plan: BodyPlan, decision: &Decision, policy: &Policy) -> bool {
    match plan.format {
        // The message names the model, on which every duty depends.
        BodyFormat::OipGrpcInfer
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::OpenAi(_)
        | BodyFormat::TorchGrpc => true,
        // There is nothing to hold, and every filter sees to it that it stays so.
        BodyFormat::Empty => true,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template
        | BodyFormat::Raw => duties.check || (duties.charge && decision.weighs_body(policy)),
    }
}

/// Whether a body that is read so can pass in pieces.
const fn passes(format: BodyFormat) -> bool {
    match format {
        BodyFormat::OipBinary { .. } | BodyFormat::OipGrpcInfer => true,
        BodyFormat::OipJson
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfJson
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::OpenAi(_)
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::TorchGrpc
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => false,
    }
}

/// Whether any of these duties looks at the bytes of a body that is read so.
pub(crate) fn looks(
    duties: Duties,
    format: BodyFormat,
    decision: &Decision,
    policy: &Policy,
) -> bool {
    match format {
        BodyFormat::OipGrpcInfer
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::OpenAi(_)
        | BodyFormat::TorchGrpc => true,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template => duties.check,
        // A handler's raw body is copied out of the proxy only where its model says which files it may be.
        BodyFormat::Raw => duties.check && decision.reads_raw(policy),
        BodyFormat::Empty => false,
    }
}
