//! The plan for reading a body: its format, its maximum size and how much of it is buffered.

use super::{BodyFormat, BodyPlan, Decision, Expansion, Step, checks, foreign_policy};
use crate::denial::{Denial, Reason};
use crate::policy::{Accepts, Model, Policy};
use crate::request::{Api, ContentType, Encoding, Head, OCTET_STREAM, Operation, Protocol};

/// Size of a form around its one file: two delimiters and the part's head.
const FORM_BYTES: usize = 4096;

impl Decision {
    /// Rejects a declared length over the plan's limit before the body is read.
    pub(super) fn fits(&self) -> Result<(), Denial> {
        let Some(declared) = self.declared else {
            return Ok(());
        };
        if usize::try_from(declared).map_or(true, |declared| declared > self.plan.max_bytes) {
            return Err(Denial::new(
                Reason::BodyTooLarge,
                alloc::format!(
                    "{declared} bytes are declared, {} are allowed",
                    self.plan.max_bytes
                ),
            ));
        }
        if self.plan.format == BodyFormat::Empty && declared > 0 {
            return Err(Denial::new(
                Reason::Malformed,
                alloc::format!("{declared} bytes are declared where no body may come"),
            ));
        }
        Ok(())
    }

    /// Evaluates the head of an OpenAI request. The body names the model.
    pub(super) fn open_ai(
        &mut self,
        policy: &Policy,
        head: &Head<'_>,
        api: Api,
    ) -> Result<Step, Denial> {
        let (protocol, operation) = (Protocol::OpenAi, Operation::Infer);
        self.operation = Some(operation);
        checks::media_type(policy, head, protocol, Some(operation))?;
        // No model of this API accepts compressed bodies.
        checks::encoding(policy, head, None)?;
        checks::no_binary_data(head)?;
        let may = |operation| {
            checks::in_scope(head.withheld, operation)?;
            checks::reaches(policy, self.client, protocol, operation)
        };
        // The body determines which of the two it is.
        may(operation).or_else(|denial| match api.streams() {
            true => may(Operation::Stream).map_err(|_| denial),
            false => Err(denial),
        })?;
        self.plan = buffered_plan(policy, BodyFormat::OpenAi(api));
        self.read_body()
    }

    /// Sets the operation of a request whose body requests a streamed response.
    pub(super) fn asks_pieces(&mut self, streams: bool) -> Result<(), Denial> {
        let BodyFormat::OpenAi(api) = self.plan.format else {
            return Ok(());
        };
        let operation = if streams && api.streams() {
            Operation::Stream
        } else {
            Operation::Infer
        };
        self.operation = Some(operation);
        checks::in_scope(self.withheld, operation)
    }

    /// Format of a REST body for a known model; rejects content types that the model does not
    /// accept.
    pub(super) fn rest_plan(&self, policy: &Policy, head: &Head<'_>) -> Result<BodyPlan, Denial> {
        let model = self
            .model
            .and_then(|id| policy.model(id))
            .ok_or_else(foreign_policy)?;
        match (self.operation, model.accepts(), &head.content_type) {
            (Some(Operation::Metadata | Operation::Ready | Operation::Statistics), _, _) => {
                Ok(buffered_plan(policy, BodyFormat::Empty))
            }
            (Some(Operation::Infer), Accepts::Tensors(_), declared)
                if checks::says_tensors(self.protocol, declared) =>
            {
                let plan = match checks::tensor_format(self.protocol, head.json_length)? {
                    format @ BodyFormat::OipBinary { .. } => streaming_plan(policy, format),
                    format => buffered_plan(policy, format),
                };
                self.coded(policy, head, plan)
            }
            (Some(Operation::Infer), Accepts::Tensors(_), ContentType::Form(boundary))
                if self.protocol == Protocol::TorchRest =>
            {
                let plan = buffered_plan(policy, BodyFormat::TorchForm(*boundary));
                self.coded(policy, head, plan)
            }
            (Some(Operation::Infer), Accepts::Raw { .. }, _)
                if head.encoding != Encoding::Identity =>
            {
                Err(Denial::new(
                    Reason::UnsupportedEncoding,
                    "a raw body goes to its handler as it came",
                ))
            }
            (Some(Operation::Infer), Accepts::Raw { .. }, _) if head.json_length.is_some() => {
                Err(Denial::new(
                    Reason::UnsupportedEncoding,
                    alloc::format!(
                        "model \"{}\" takes no tensors, binary or other",
                        model.name()
                    ),
                ))
            }
            (
                Some(Operation::Infer),
                Accepts::Raw { max_bytes, .. },
                ContentType::Form(boundary),
            ) if self.protocol == Protocol::TorchRest => {
                let plan = buffered_plan(policy, BodyFormat::TorchForm(*boundary));
                Ok(BodyPlan {
                    max_bytes: plan.max_bytes.min(max_bytes.saturating_add(FORM_BYTES)),
                    ..plan
                })
            }
            (
                Some(Operation::Infer),
                Accepts::Raw {
                    content_types,
                    max_bytes,
                    media: _,
                },
                declared,
            ) if self.raw_type(declared).is_some_and(|declared| {
                content_types.iter().any(|accepted| accepted == declared)
            }) =>
            {
                let plan = buffered_plan(policy, BodyFormat::Raw);
                Ok(BodyPlan {
                    max_bytes: plan.max_bytes.min(*max_bytes),
                    ..plan
                })
            }
            _ => Err(Denial::new(
                Reason::UnsupportedMediaType,
                alloc::format!(
                    "model \"{}\" takes no body of this content type",
                    model.name()
                ),
            )),
        }
    }
}

impl Decision {
    /// Type of a raw body for a handler. Clients of TorchServe send files without a type.
    fn raw_type<'h>(&self, declared: &'h ContentType<'_>) -> Option<&'h str> {
        match declared {
            ContentType::Absent if self.protocol == Protocol::TorchRest => Some(OCTET_STREAM),
            declared => declared.name(),
        }
    }

    /// The plan for a compressed body of tensors, if its model accepts that.
    fn coded(&self, policy: &Policy, head: &Head<'_>, plan: BodyPlan) -> Result<BodyPlan, Denial> {
        let plan = expanding(policy, head, plan);
        let model = self.model.ok_or_else(foreign_policy)?;
        checks::coded(policy, model, plan.expansion)?;
        Ok(plan)
    }
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
    let held = buffered_plan(policy, plan.format);
    BodyPlan {
        expansion: Some(Expansion {
            coding,
            max_bytes: held.max_bytes,
            max_ratio: policy.listen().limits().max_expansion,
        }),
        ..held
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

impl Decision {
    /// Whether the bytes of a raw body are checked, because its model restricts the file types.
    pub fn reads_raw(&self, policy: &Policy) -> bool {
        let model = self.model.and_then(|id| policy.model(id));
        let ruled = |model: &Model| matches!(model.accepts(), Accepts::Raw { media: Some(_), .. });
        model.is_some_and(ruled)
    }
}
