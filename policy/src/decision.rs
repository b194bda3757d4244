//! One request's decision, as a machine without I/O: `begin → [charged] → message → [charged] → check`.
//!
//! A driver feeds facts in and carries steps out:
//!
//! | step | what the driver does | then calls |
//! |---|---|---|
//! | [`Step::Deny`] | answers, logs | – |
//! | [`Step::Answer`] | answers a server-level question itself | – |
//! | [`Step::Charge`] | spends from the bucket | [`Decision::charged`] |
//! | [`Step::ReadBody`] | buffers the whole body up to its bound and decodes it | [`Decision::message`] |
//! | [`Step::Check`] | – | [`Decision::check`] |
//! | [`Step::Forward`] | sends the request on | – |
//!
//! Once denied, always denied: every later call answers the same denial.

use alloc::string::String;

use crate::denial::Denial;
use crate::gcra::Bucket;
use crate::policy::{ClientId, GrantId, ModelId, Policy};
use crate::request::{Head, Operation, Protocol, ServerQuestion};
use crate::tensor::InferRequest;

/// What a driver does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Refuse.
    Deny(Denial),
    /// Answer from the gate itself.
    Answer(Protocol, ServerQuestion),
    /// Spend, then tell.
    Charge(Charge),
    /// Read the whole body.
    ReadBody(BodyPlan),
    /// Go on with [`Decision::check`].
    Check,
    /// Allowed: send it on.
    Forward,
}

/// How to read a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPlan {
    /// Most bytes, framing included; more is `body-too-large`.
    pub max_bytes: usize,
    /// What the bytes are.
    pub format: BodyFormat,
}

/// What a body's bytes are, for `wire` to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// An OIP JSON inference request.
    OipJson,
    /// One gRPC frame with a `ModelInferRequest`.
    OipGrpcInfer,
    /// One gRPC frame with a `ModelMetadataRequest` or `ModelReadyRequest`: name and version only.
    OipGrpcModel,
    /// Bytes for a handler; not decoded. `message` is called with a default request.
    Raw,
    /// No body may come.
    Empty,
}

/// A spend from one client's bucket under one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The grant's name.
    pub grant: String,
    /// The client's name.
    pub client: String,
    /// The bucket's shape.
    pub bucket: Bucket,
    /// Units to spend.
    pub cost: u64,
}

impl Charge {
    /// The bucket's key, the same in every worker, generation and driver. Both parts are length-prefixed, so that no two
    /// pairs share one.
    pub fn key(&self) -> String {
        alloc::format!("rate:{}:{}:{}", self.grant.len(), self.grant, self.client)
    }
}

/// What a charge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// Spent.
    Spent,
    /// Refused; passes after this many nanoseconds, never if `None`.
    Refused {
        /// Wait, ns.
        retry_after_ns: Option<u64>,
    },
    /// The store failed; the gate cannot decide and so denies (`overloaded`).
    Failed,
}

/// One request's decision. Belongs to one [`Policy`], which every call takes again.
#[derive(Clone, Debug)]
pub struct Decision {
    client: Option<ClientId>,
    grant: Option<GrantId>,
    model: Option<ModelId>,
    version: Option<u32>,
    operation: Option<Operation>,
    protocol: Protocol,
    denial: Option<Denial>,
}

impl Decision {
    /// Judges a head.
    pub fn begin(policy: &Policy, head: &Head<'_>) -> (Self, Step) {
        let _ = (policy, head);
        unimplemented!()
    }

    /// Goes on after a charge.
    pub fn charged(&mut self, policy: &Policy, outcome: ChargeOutcome) -> Step {
        let _ = (policy, outcome);
        unimplemented!()
    }

    /// Refuses for a cause that the driver found (a body over its bound, bytes that do not decode).
    pub fn refuse(&mut self, denial: Denial) -> Step {
        let _ = denial;
        unimplemented!()
    }

    /// Judges whom a decoded message is for: gRPC names the model there.
    pub fn message(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Step {
        let _ = (policy, request);
        unimplemented!()
    }

    /// Checks the decoded message against the model's contract.
    pub fn check(&mut self, policy: &Policy, request: &InferRequest<'_>) -> Step {
        let _ = (policy, request);
        unimplemented!()
    }

    /// The client, once known.
    pub const fn client(&self) -> Option<ClientId> {
        self.client
    }

    /// The grant, once found.
    pub const fn grant(&self) -> Option<GrantId> {
        self.grant
    }

    /// The model, once granted.
    pub const fn model(&self) -> Option<ModelId> {
        self.model
    }

    /// The version, once granted: always an explicit one.
    pub fn version<'p>(&self, policy: &'p Policy) -> Option<&'p str> {
        let index = usize::try_from(self.version?).ok()?;
        Some(policy.model(self.model?)?.versions().get(index)?.as_str())
    }

    /// What is asked, once the route is known.
    pub const fn operation(&self) -> Option<Operation> {
        self.operation
    }

    /// The protocol in which to answer.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }
}
