//! What a decision asks of its driver, and what the driver hands back: plain data, no behaviour.

use alloc::string::String;

use crate::denial::Denial;
use crate::gcra::Bucket;
use crate::request::{Protocol, ServerQuestion};

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
    /// Go on with [`super::Decision::check`].
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
    /// No body may come; a byte of one is `malformed`.
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
