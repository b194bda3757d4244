//! The state machine: its steps, the priority of its reasons, and the verdict that is set once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tensorgate_values::tensor::{InferRequest, Parameter, ParameterValue, Tensor};

use super::{
    AcquireOutcome, BodyFormat, BodyPlan, Charge, ChargeOutcome, Decision, Step, decide_body,
    decide_head, decide_message,
};
use crate::denial::{Denial, Reason};
use crate::fixture;
use crate::policy::{Policy, RemainingQuota, Wait};
use crate::request::{CallerDigests, RequestHash};
use crate::request::{
    ContentType, Encoding, Head, Identity, Operation, Operations, Proof, Proofs, Protocol, Route,
    ServerQuery,
};

mod costs;
mod global;
mod openai_heads;
mod order;
mod permits;
mod shadow;
mod steps;
mod streams;
mod versions;

const BODY_BYTES: usize = 1 << 20;

/// The fixture without its cost: most of these tests are about the steps before it.
fn unpriced() -> serde_json::Value {
    let mut document = fixture::document();
    document["grants"][0]
        .as_object_mut()
        .unwrap()
        .remove("cost");
    document
}

fn policy() -> Policy {
    fixture::policy(unpriced())
}

/// A valid head: `scorer` runs inference on a model over REST.
fn rest(model: &'static str) -> Head<'static> {
    Head {
        header_bytes: 1024,
        header_count: 16,
        ambiguous: None,
        identity: Identity::Client("scorer".into()),
        proofs: Proofs::NONE.with(Proof::ApiKey),
        withheld: Operations::default(),
        caller: CallerDigests::default(),
        request_hash: RequestHash::default(),
        route: Route::Model {
            protocol: Protocol::OipRest,
            operation: Operation::Infer,
            model: Some(model.into()),
            version: None,
        },
        query: None,
        chunked: false,
        content_type: ContentType::Json,
        encoding: Encoding::Identity,
        json_length: None,
        content_length: Some(100),
        end_of_stream: false,
    }
}

/// The same over gRPC, where the message names the model.
fn grpc(operation: Operation) -> Head<'static> {
    Head {
        route: Route::Model {
            protocol: Protocol::OipGrpc,
            operation,
            model: None,
            version: None,
        },
        content_type: ContentType::Grpc,
        content_length: None,
        ..rest("")
    }
}

fn server(protocol: Protocol, question: ServerQuery) -> Head<'static> {
    let content_type = if protocol == Protocol::OipGrpc {
        ContentType::Grpc
    } else {
        ContentType::Absent
    };
    Head {
        route: Route::Server { protocol, question },
        content_type,
        content_length: None,
        ..rest("")
    }
}

fn as_client(client: &str, head: Head<'static>) -> Head<'static> {
    Head {
        identity: Identity::Client(client.into()),
        ..head
    }
}

/// An operation on a model over REST.
fn asked(
    operation: Operation,
    model: &'static str,
    version: Option<&'static str>,
) -> Head<'static> {
    let content_type = if operation == Operation::Infer {
        ContentType::Json
    } else {
        ContentType::Absent
    };
    Head {
        route: Route::Model {
            protocol: Protocol::OipRest,
            operation,
            model: Some(model.into()),
            version: version.map(Into::into),
        },
        content_type,
        content_length: None,
        ..rest("")
    }
}

/// A message that satisfies the contract of `digits`.
fn message(model: Option<&'static str>, version: Option<&'static str>) -> InferRequest<'static> {
    let image = Tensor {
        name: "image".into(),
        datatype: "FP32".into(),
        shape: vec![1, 1, 8, 8],
        parameters: vec![],
        data: Ok(vec![0; 256].into()),
    };
    InferRequest {
        model: model.map(Into::into),
        version: version.map(Into::into),
        inputs: vec![image],
        ..InferRequest::default()
    }
}

/// A message that only names a model.
fn naming(model: &'static str, version: Option<&'static str>) -> InferRequest<'static> {
    InferRequest {
        inputs: vec![],
        ..message(Some(model), version)
    }
}

fn spent(_: &Charge) -> ChargeOutcome {
    ChargeOutcome::CHARGED
}

/// What a charge consumes: the key of each limit, and the amount.
fn amounts(charge: &Charge) -> Vec<(String, u64)> {
    let limit_charges = charge.limit_charges.iter();
    limit_charges
        .map(|limit_charge| (charge.key(limit_charge), limit_charge.amount))
        .collect()
}

/// A limit without quota.
const fn quota(wait: Wait) -> RemainingQuota {
    RemainingQuota {
        left: 0,
        full_after_ns: 7_000_000_000,
        wait,
    }
}

/// The step after a head if every charge succeeds.
fn head_step(head: &Head<'_>) -> Step {
    decide_head(&policy(), head, spent).1
}

fn reason(step: &Step) -> Option<Reason> {
    match step {
        Step::Deny(denial) => Some(denial.reason),
        _ => None,
    }
}

fn read(max_bytes: usize, format: BodyFormat) -> Step {
    Step::ReadBody(BodyPlan {
        max_bytes,
        hold_bytes: BODY_BYTES,
        format,
        expansion: None,
    })
}

/// A decision that waits for its message. The body's addressee is not known yet.
fn held(policy: &Policy, head: &Head<'_>) -> Decision {
    let (mut decision, step) = decide_head(policy, head, spent);
    assert!(matches!(step, Step::ReadBody(_)), "{step:?}");
    whole(policy, &mut decision);
    decision
}

/// Continues to the message.
fn whole(policy: &Policy, decision: &mut Decision) {
    let step = decide_body(decision, policy, 100, None, spent);
    assert_eq!(step, Step::Decode);
}
