//! The plan for reading a body: its format, its maximum size and how much of it is buffered.

use alloc::string::String;
use alloc::vec::Vec;

use super::checks;
use super::step::{BodyFormat, BodyPlan, Expansion, foreign_policy};
use crate::contract::TensorRule;
use crate::denial::{Denial, Reason};
use crate::policy::{Accepts, ModelId, Policy, Template};
use crate::request::{ContentType, Encoding, Head, OCTET_STREAM, Operation, Protocol};

/// Size of a form around its one file: two delimiters and the part's head.
const FORM_BYTES: usize = 4096;

/// Information of the model that a decoder needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadBy<'p> {
    /// The model's input tensors, for their datatypes; empty for a model that takes a file.
    pub inputs: &'p [TensorRule],
    /// Locations of tensors in the model's own JSON.
    pub template: Option<&'p Template>,
    /// Whether the request is only checked. Lists of numbers then need not be converted.
    pub only_checks: bool,
}

impl ReadBy<'_> {
    /// The same for a request that is only checked.
    pub const fn for_check(self) -> Self {
        Self {
            only_checks: true,
            ..self
        }
    }
}

impl<'p> From<&'p [TensorRule]> for ReadBy<'p> {
    fn from(inputs: &'p [TensorRule]) -> Self {
        Self {
            inputs,
            template: None,
            only_checks: false,
        }
    }
}

impl<'p, const N: usize> From<&'p [TensorRule; N]> for ReadBy<'p> {
    fn from(inputs: &'p [TensorRule; N]) -> Self {
        Self::from(inputs.as_slice())
    }
}

impl<'p> From<&'p Vec<TensorRule>> for ReadBy<'p> {
    fn from(inputs: &'p Vec<TensorRule>) -> Self {
        Self::from(inputs.as_slice())
    }
}

/// Format of a REST body for a known model; rejects content types that the model does not
/// accept.
pub(super) fn rest_plan(
    policy: &Policy,
    head: &Head<'_>,
    model_id: ModelId,
    (protocol, operation): (Protocol, Operation),
) -> Result<BodyPlan, Denial> {
    let model = policy.model(model_id).ok_or_else(foreign_policy)?;
    match (operation, model.accepts(), &head.content_type) {
        (Operation::Metadata | Operation::Ready | Operation::Statistics, _, _) => {
            Ok(buffered_plan(policy, BodyFormat::Empty))
        }
        (Operation::Infer, Accepts::Tensors(_), declared)
            if checks::may_be_tensors(protocol, declared) =>
        {
            let format = checks::tensor_format(protocol, head.json_length)?;
            let plan = if matches!(format, BodyFormat::OipBinary { .. }) {
                streaming_plan(policy, format)
            } else {
                buffered_plan(policy, format)
            };
            coded(policy, head, model_id, plan)
        }
        (Operation::Infer, Accepts::Tensors(_), ContentType::Form(boundary))
            if protocol == Protocol::TorchRest =>
        {
            let plan = buffered_plan(policy, BodyFormat::TorchForm(*boundary));
            coded(policy, head, model_id, plan)
        }
        (Operation::Infer, Accepts::Raw { .. }, _) if head.encoding != Encoding::Identity => {
            Err(Denial::new(
                Reason::UnsupportedEncoding,
                "a raw body goes to its handler as it came",
            ))
        }
        (Operation::Infer, Accepts::Raw { .. }, _) if head.json_length.is_some() => {
            Err(Denial::new(
                Reason::UnsupportedEncoding,
                alloc::format!(
                    "model \"{}\" takes no tensors, binary or other",
                    model.name()
                ),
            ))
        }
        (Operation::Infer, Accepts::Raw { max_bytes, .. }, ContentType::Form(boundary))
            if protocol == Protocol::TorchRest =>
        {
            let plan = buffered_plan(policy, BodyFormat::TorchForm(*boundary));
            Ok(BodyPlan {
                max_bytes: plan.max_bytes.min(max_bytes.saturating_add(FORM_BYTES)),
                ..plan
            })
        }
        (
            Operation::Infer,
            Accepts::Raw {
                content_types,
                max_bytes,
                media: _,
            },
            declared,
        ) if raw_type(protocol, declared)
            .is_some_and(|declared| content_types.iter().any(|accepted| accepted == declared)) =>
        {
            let plan = buffered_plan(policy, BodyFormat::Raw);
            Ok(BodyPlan {
                max_bytes: plan.max_bytes.min(*max_bytes),
                ..plan
            })
        }
        (_, accepts, _) => {
            let types = types(accepts);
            Err(Denial::with_field(
                Reason::UnsupportedMediaType,
                alloc::format!("this model takes {types}"),
                alloc::format!(
                    "model \"{}\" takes no body of this content type: it accepts {types}",
                    model.name()
                ),
            ))
        }
    }
}

/// The content types that a model accepts. Callers with a grant for the model see them.
fn types(accepts: &Accepts) -> String {
    match accepts {
        Accepts::Raw { content_types, .. } => content_types.join(", "),
        Accepts::Tensors(_) | Accepts::OpenAi(_) => "application/json".into(),
    }
}

/// Type of a raw body for a handler. Clients of TorchServe send files without a type.
fn raw_type<'h>(protocol: Protocol, declared: &'h ContentType<'_>) -> Option<&'h str> {
    if protocol == Protocol::TorchRest && matches!(declared, ContentType::Absent) {
        return Some(OCTET_STREAM);
    }
    declared.name()
}

/// The plan for a compressed body of tensors, if its model accepts that.
fn coded(
    policy: &Policy,
    head: &Head<'_>,
    model: ModelId,
    plan: BodyPlan,
) -> Result<BodyPlan, Denial> {
    let plan = expanding(policy, head, plan);
    checks::coded(policy, model, plan.expansion)?;
    Ok(plan)
}

/// Format of a gRPC body, which depends on the route only.
pub(super) fn grpc_plan(
    policy: &Policy,
    head: &Head<'_>,
    protocol: Protocol,
    operation: Operation,
) -> Result<BodyPlan, Denial> {
    let plan = match (protocol, operation) {
        (Protocol::OipGrpc, Operation::Infer) => streaming_plan(policy, BodyFormat::OipGrpcInfer),
        // Each message of a stream: the next one is not read before this one is evaluated.
        (Protocol::OipGrpc, Operation::Stream) => buffered_plan(policy, BodyFormat::OipGrpcInfer),
        (Protocol::OipGrpc, Operation::Metadata | Operation::Ready | Operation::Statistics) => {
            buffered_plan(policy, BodyFormat::OipGrpcModel)
        }
        // Elements lie inside the inputs' map and are followed by fields to check, so the body is
        // buffered.
        (Protocol::TfGrpc, Operation::Infer) => buffered_plan(policy, BodyFormat::TfGrpcPredict),
        (Protocol::TfGrpc, Operation::Metadata | Operation::Ready) => {
            let metadata = operation == Operation::Metadata;
            buffered_plan(policy, BodyFormat::TfGrpcModel { metadata })
        }
        (Protocol::TorchGrpc, Operation::Infer) => buffered_plan(policy, BodyFormat::TorchGrpc),
        // This protocol has no such requests.
        (Protocol::TorchGrpc, Operation::Metadata | Operation::Ready)
        | (Protocol::TfGrpc | Protocol::TorchGrpc, Operation::Stream | Operation::Statistics)
        | (
            Protocol::OipRest
            | Protocol::TfRest
            | Protocol::OpenAi
            | Protocol::TorchRest
            | Protocol::Json,
            _,
        ) => {
            return Err(foreign_policy());
        }
    };
    Ok(expanding(policy, head, plan))
}

/// The plan for a declared compressed body: it is buffered in any format, and expands to at most
/// the buffer size of a plain one.
fn expanding(policy: &Policy, head: &Head<'_>, plan: BodyPlan) -> BodyPlan {
    let Encoding::Coded(coding) = head.encoding else {
        return plan;
    };
    let buffered = buffered_plan(policy, plan.format);
    BodyPlan {
        expansion: Some(Expansion {
            coding,
            max_bytes: buffered.max_bytes,
            max_ratio: policy.listen().limits().max_expansion,
            free_bytes: free_expansion_bytes(buffered.max_bytes),
        }),
        ..buffered
    }
}

/// Expanded bytes that any body may have: a padded or sparse batch compresses some hundred times.
/// Where less than that is buffered, memory is short, and a quarter must do.
const fn free_expansion_bytes(buffered_bytes: usize) -> usize {
    const MOST: usize = 1 << 20;
    if buffered_bytes < MOST {
        buffered_bytes / 4
    } else {
        MOST
    }
}

/// The plan of a body that is buffered or rejected.
pub(super) fn buffered_plan(policy: &Policy, format: BodyFormat) -> BodyPlan {
    let limits = policy.listen().limits();
    BodyPlan {
        max_bytes: limits.body_bytes.min(limits.hold_bytes),
        hold_bytes: limits.hold_bytes,
        format,
        expansion: None,
    }
}

/// The plan of a body that is streamed if it is too large to buffer.
pub(super) fn streaming_plan(policy: &Policy, format: BodyFormat) -> BodyPlan {
    BodyPlan {
        max_bytes: policy.listen().limits().body_bytes,
        ..buffered_plan(policy, format)
    }
}
