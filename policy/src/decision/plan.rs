//! How a body is read: what its bytes are, how many may come, how many of them are held. Reads none.

use super::{BodyFormat, BodyPlan, Decision, Expansion, Step, foreign_policy, gate};
use crate::denial::{Denial, Reason};
use crate::policy::{Accepts, Model, Policy};
use crate::request::{Api, ContentType, Encoding, Head, OCTET_STREAM, Operation, Protocol};

/// Bytes of a form around the one file that it brings: two delimiters and the part's head.
const FORM_BYTES: usize = 4096;

impl Decision {
    /// Refuses a declared length that the plan has no room for, before a byte of it is held.
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

    /// What the head of a request of OpenAI's API decides. Whom it is for, its body says.
    pub(super) fn open_ai(
        &mut self,
        policy: &Policy,
        head: &Head<'_>,
        api: Api,
    ) -> Result<Step, Denial> {
        let (protocol, operation) = (Protocol::OpenAi, Operation::Infer);
        self.operation = Some(operation);
        gate::media_type(policy, head, protocol, Some(operation))?;
        // No model of this API takes compressed bodies.
        gate::encoding(policy, head, None)?;
        gate::no_binary_data(head)?;
        let may = |operation| {
            gate::in_scope(head.withheld, operation)?;
            gate::reaches(policy, self.client, protocol, operation)
        };
        // Which of the two it is, the body says.
        may(operation).or_else(|denial| match api.streams() {
            true => may(Operation::Stream).map_err(|_| denial),
            false => Err(denial),
        })?;
        self.plan = held_plan(policy, BodyFormat::OpenAi(api));
        self.read_body()
    }

    /// What is asked of a model where the body says whether its answer comes in pieces.
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
        gate::in_scope(self.withheld, operation)
    }

    /// How a REST body is read, the model being known; refuses a content type that this model does not take.
    pub(super) fn rest_plan(&self, policy: &Policy, head: &Head<'_>) -> Result<BodyPlan, Denial> {
        let model = self
            .model
            .and_then(|id| policy.model(id))
            .ok_or_else(foreign_policy)?;
        match (self.operation, model.accepts(), &head.content_type) {
            (Some(Operation::Metadata | Operation::Ready | Operation::Statistics), _, _) => {
                Ok(held_plan(policy, BodyFormat::Empty))
            }
            (Some(Operation::Infer), Accepts::Tensors(_), declared)
                if gate::says_tensors(self.protocol, declared) =>
            {
                let plan = match gate::tensor_format(self.protocol, head.json_length)? {
                    format @ BodyFormat::OipBinary { .. } => passing_plan(policy, format),
                    format => held_plan(policy, format),
                };
                self.coded(policy, head, plan)
            }
            (Some(Operation::Infer), Accepts::Tensors(_), ContentType::Form(boundary))
                if self.protocol == Protocol::TorchRest =>
            {
                let plan = held_plan(policy, BodyFormat::TorchForm(*boundary));
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
                let plan = held_plan(policy, BodyFormat::TorchForm(*boundary));
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
                let plan = held_plan(policy, BodyFormat::Raw);
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
    /// The type of a body that goes to its handler as it came. Clients of TorchServe send files without any.
    fn raw_type<'h>(&self, declared: &'h ContentType<'_>) -> Option<&'h str> {
        match declared {
            ContentType::Absent if self.protocol == Protocol::TorchRest => Some(OCTET_STREAM),
            declared => declared.name(),
        }
    }

    /// The same plan for a body of tensors that may be compressed, if its model takes it so.
    fn coded(&self, policy: &Policy, head: &Head<'_>, plan: BodyPlan) -> Result<BodyPlan, Denial> {
        let plan = expanding(policy, head, plan);
        let model = self.model.ok_or_else(foreign_policy)?;
        gate::coded(policy, model, plan.expansion)?;
        Ok(plan)
    }
}

/// How a gRPC body is read: the route alone says it.
pub(super) fn grpc_plan(
    policy: &Policy,
    head: &Head<'_>,
    protocol: Protocol,
    operation: Operation,
) -> Result<BodyPlan, Denial> {
    let plan = match (protocol, operation) {
        (Protocol::OipGrpc, Operation::Infer) => passing_plan(policy, BodyFormat::OipGrpcInfer),
        // Each message of a stream: the next one comes behind it, and is nobody's before this one is judged.
        (Protocol::OipGrpc, Operation::Stream) => held_plan(policy, BodyFormat::OipGrpcInfer),
        (Protocol::OipGrpc, Operation::Metadata | Operation::Ready | Operation::Statistics) => {
            held_plan(policy, BodyFormat::OipGrpcModel)
        }
        // Elements stand inside the inputs' map, with whatever comes behind them still to be judged: nothing of it passes before the whole is here.
        (Protocol::TfGrpc, Operation::Infer) => held_plan(policy, BodyFormat::TfGrpcPredict),
        (Protocol::TfGrpc, Operation::Metadata | Operation::Ready) => {
            let metadata = operation == Operation::Metadata;
            held_plan(policy, BodyFormat::TfGrpcModel { metadata })
        }
        (Protocol::TorchGrpc, Operation::Infer) => held_plan(policy, BodyFormat::TorchGrpc),
        // It has no questions to a model.
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

/// The same plan for a body that is declared to be compressed: held whole, whatever its format, and expanded to no more than a plain one may have
/// that is held.
fn expanding(policy: &Policy, head: &Head<'_>, plan: BodyPlan) -> BodyPlan {
    let Encoding::Coded(coding) = head.encoding else {
        return plan;
    };
    let held = held_plan(policy, plan.format);
    BodyPlan {
        expansion: Some(Expansion {
            coding,
            max_bytes: held.max_bytes,
            max_ratio: policy.listen().limits().max_expansion,
        }),
        ..held
    }
}

/// The plan of a body that is held whole or refused.
pub(super) fn held_plan(policy: &Policy, format: BodyFormat) -> BodyPlan {
    let limits = policy.listen().limits();
    BodyPlan {
        max_bytes: limits.body_bytes.min(limits.hold_bytes),
        hold_bytes: limits.hold_bytes,
        format,
        expansion: None,
    }
}

/// The plan of a body that passes in pieces where it is too large to be held.
pub(super) fn passing_plan(policy: &Policy, format: BodyFormat) -> BodyPlan {
    BodyPlan {
        max_bytes: policy.listen().limits().body_bytes,
        ..held_plan(policy, format)
    }
}

impl Decision {
    /// Whether the bytes of a raw body are looked at: its model says which files it may be.
    pub fn reads_raw(&self, policy: &Policy) -> bool {
        let model = self.model.and_then(|id| policy.model(id));
        let ruled = |model: &Model| matches!(model.accepts(), Accepts::Raw { media: Some(_), .. });
        model.is_some_and(ruled)
    }
}
