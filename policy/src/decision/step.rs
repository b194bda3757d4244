//! Steps that a decision requests from its driver, and their outcomes: plain data.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use smol_str::SmolStr;
use tensorgate_values::Scope;

use crate::denial::{Denial, Reason};
use crate::policy::{Allowance, Holder, RemainingQuota, Unit, Wait};
use crate::request::{Api, Boundary, CallerDigests, Coding, Protocol, ServerQuery};

/// The next step of a driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Deny the request.
    Deny(Denial),
    /// Answer from the gate itself.
    Answer(Protocol, ServerQuery),
    /// Charge limits, then report the outcome.
    Charge(Charge),
    /// Acquire all of these permits or none, then report the outcome.
    Acquire(Acquire),
    /// Read the whole body.
    ReadBody(BodyPlan),
    /// Forward the head, then read messages in the plan's framing. Each message has its own
    /// decision ([`super::Decision::of_message`]).
    ReadMessages(BodyPlan),
    /// Decode the body, then call [`super::Decision::message`].
    Decode,
    /// Call [`super::Decision::check`].
    Check,
    /// Allowed: forward the request.
    Forward,
}

/// How to read a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPlan {
    /// Maximum bytes, framing included; more is `body-too-large`.
    pub max_bytes: usize,
    /// Maximum bytes to buffer before evaluation. A larger body is streamed if its format allows
    /// that; other formats have a `max_bytes` of at most this.
    pub hold_bytes: usize,
    /// Format of the bytes after decompression.
    pub format: BodyFormat,
    /// Compression, if allowed. A compressed body is buffered.
    pub expansion: Option<Expansion>,
}

impl BodyPlan {
    /// The plan of a body that is buffered or rejected.
    #[must_use]
    pub fn buffered(self) -> Self {
        Self {
            max_bytes: self.max_bytes.min(self.hold_bytes),
            ..self
        }
    }
}

/// How a compressed body is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// The compression. For gRPC the frame says whether a message is compressed.
    pub coding: Coding,
    /// Maximum expanded bytes; more is `body-too-large`.
    pub max_bytes: usize,
    /// Maximum ratio of expanded to compressed bytes; more is `body-too-large`.
    pub max_ratio: usize,
    /// Expanded bytes that any body may have, whatever its ratio.
    pub free_bytes: usize,
}

impl Expansion {
    /// Maximum expanded size of so many compressed bytes.
    pub const fn most(&self, compressed_bytes: usize) -> usize {
        let by_ratio = self.most_by_ratio(compressed_bytes);
        let least = if self.free_bytes < self.max_bytes {
            self.free_bytes
        } else {
            self.max_bytes
        };
        if by_ratio > least { by_ratio } else { least }
    }

    /// Estimate for so many compressed bytes, before they are expanded. Only a sparse body
    /// becomes more, within `free_bytes`.
    pub const fn most_by_ratio(&self, compressed_bytes: usize) -> usize {
        let by_ratio = compressed_bytes.saturating_mul(self.max_ratio);
        if by_ratio < self.max_bytes {
            by_ratio
        } else {
            self.max_bytes
        }
    }
}

/// Format of a body, for `wire` to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// An OIP JSON inference request.
    OipJson,
    /// An OIP inference request in the binary data extension: JSON, then tensors in raw form.
    OipBinary {
        /// Declared bytes of JSON.
        json_bytes: usize,
    },
    /// One gRPC frame with a `ModelInferRequest`.
    OipGrpcInfer,
    /// One gRPC frame with a `ModelMetadataRequest` or `ModelReadyRequest`: name and version only.
    OipGrpcModel,
    /// A TF Serving JSON predict request, by row or by column. The model's contract gives the
    /// datatypes.
    TfJson,
    /// One gRPC frame with a `PredictRequest`.
    TfGrpcPredict,
    /// One gRPC frame with a `GetModelMetadataRequest` or a `GetModelStatusRequest`.
    TfGrpcModel {
        /// Whether it requests metadata.
        metadata: bool,
    },
    /// A JSON request of OpenAI's API.
    OpenAi(Api),
    /// A JSON request to TorchServe, with or without an envelope. The contract gives the datatypes.
    TorchJson,
    /// A form to TorchServe, one part per input.
    TorchForm(Boundary),
    /// One gRPC frame with a `PredictionsRequest`, one entry per input.
    TorchGrpc,
    /// JSON of a model's own route, with tensors at the template's locations.
    Template,
    /// Bytes for a handler, not decoded. `message` is called with a default request.
    Raw,
    /// The body must be empty; any byte is `malformed`.
    Empty,
}

/// The beginning of the key of a state of a user or a source.
pub const SLOT_PREFIX: &str = "slot:";

/// A charge to limits of one request: all or none, as far as that is possible. They have the same
/// scope. They are the client's under its grant, with those of its user and its source, and
/// those of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Where the limits are counted.
    pub scope: Scope,
    /// The grant's name.
    pub grant: SmolStr,
    /// The client's name.
    pub client: SmolStr,
    /// Its end user and source, whose states are charged for [`Holder::User`] and
    /// [`Holder::Source`].
    pub caller: CallerDigests,
    /// The model's name, if its own limits are charged too ([`Holder::Model`]); otherwise empty.
    pub model: SmolStr,
    /// At least one; limits are unique.
    pub limit_charges: Vec<LimitCharge>,
}

/// Units to charge to one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitCharge {
    /// The limit.
    pub allowance: Allowance,
    /// Units, at least 1.
    pub amount: u64,
}

impl Charge {
    /// Whether it is made for a request's content, once that is validated. A model's limits are, on
    /// requests too.
    pub fn is_of_content(&self) -> bool {
        let of_request = |LimitCharge { allowance, .. }: &LimitCharge| {
            allowance.unit == Unit::Requests && allowance.holder != Holder::Model
        };
        !self.limit_charges.iter().all(of_request)
    }

    /// Whether a host makes it where one is behind the filters ([`Allowance::is_of_host`]).
    pub fn is_of_host(&self) -> bool {
        let mut limit_charges = self.limit_charges.iter();
        limit_charges.any(|limit_charge| limit_charge.allowance.is_of_host())
    }

    /// Key of the state of a limit, unique: no client's key begins with `slot` or `model`, and the
    /// part behind a client's name contains no colon.
    pub fn key(&self, limit_charge: &LimitCharge) -> String {
        self.key_with_prefix("", limit_charge)
    }

    /// The same with a prefix.
    pub fn key_with_prefix(&self, prefix: &str, limit_charge: &LimitCharge) -> String {
        let allowance = limit_charge.allowance;
        match (allowance.holder, allowance.holder.key_part(&self.caller)) {
            (Holder::Model, _) => [prefix, "model:", &allowance.key("", &self.model)].concat(),
            (_, None) => allowance.key_with_prefix(prefix, &self.grant, &self.client),
            (_, Some(part)) => {
                let of_client = allowance.key(&self.grant, &self.client);
                [prefix, SLOT_PREFIX, &of_client, ":", &part].concat()
            }
        }
    }
}

/// Outcome of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// Charged, with the remaining quota of each limit in order; empty if charged elsewhere.
    Charged(Vec<RemainingQuota>),
    /// Exceeded, with the quota of each limit in order. At least one requires a wait.
    Exceeded(Vec<RemainingQuota>),
    /// The store failed; the gate cannot decide and denies (`overloaded`).
    Failed,
}

impl ChargeOutcome {
    /// Charged elsewhere: for drivers behind the one that charges.
    pub const CHARGED: Self = Self::Charged(Vec::new());

    /// The outcome of a charge made elsewhere, from its reported quotas.
    pub fn from_quotas(quotas: Vec<RemainingQuota>) -> Self {
        if quotas.iter().all(|quota| quota.wait == Wait::None) {
            Self::Charged(quotas)
        } else {
            Self::Exceeded(quotas)
        }
    }
}

/// The addressee that a body names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee<'a> {
    /// The model's name.
    pub model: Cow<'a, str>,
    /// Its version, if named; decimal text where the protocol numbers versions.
    pub version: Option<Cow<'a, str>>,
    /// Whether it requests a streamed response, if the body and not the route says so.
    pub streams: bool,
}

/// Concurrency permits that a request needs until its stream ends. They are acquired in order and
/// released if a later one is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// At least one.
    pub permits: Vec<PermitRequest>,
}

/// One or more permits of one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitRequest {
    /// The counter.
    pub scope: PermitScope,
    /// The unit.
    pub unit: PermitUnit,
    /// The amount.
    pub amount: u64,
    /// Maximum in flight, this request included.
    pub limit: u64,
}

/// Which requests share a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitScope {
    /// Requests of one client.
    Client(String),
    /// Requests of one client under one grant.
    Grant {
        /// The grant's name.
        grant: String,
        /// The client's name.
        client: String,
    },
    /// Requests of all clients at one model.
    Model(String),
    /// Streams of inferences of one client.
    Streams(String),
    /// Streamed bodies and streams of one client at one model.
    Streaming {
        /// The model's name.
        model: String,
        /// The client's name.
        client: String,
    },
}

impl PermitScope {
    /// Whether it bounds the load of a model, and not of a client. Where there is a host, the host
    /// counts these.
    pub const fn is_of_model(&self) -> bool {
        match self {
            Self::Model(_) | Self::Streaming { .. } => true,
            Self::Client(_) | Self::Grant { .. } | Self::Streams(_) => false,
        }
    }
}

/// The counted unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitUnit {
    /// Requests.
    Requests,
    /// Body bytes.
    Bytes,
}

impl PermitRequest {
    /// Key of the counter, unique and the same in every worker, policy version and driver.
    pub fn key(&self) -> String {
        let unit = match self.unit {
            PermitUnit::Requests => "requests",
            PermitUnit::Bytes => "bytes",
        };
        match &self.scope {
            PermitScope::Client(client) => alloc::format!("flight:{unit}:client:{client}"),
            PermitScope::Grant { grant, client } => {
                alloc::format!("flight:{unit}:grant:{}:{grant}:{client}", grant.len())
            }
            PermitScope::Model(model) => alloc::format!("flight:{unit}:model:{model}"),
            PermitScope::Streams(client) => alloc::format!("flight:{unit}:streams:{client}"),
            PermitScope::Streaming { model, client } => {
                alloc::format!("flight:{unit}:passing:{}:{model}:{client}", model.len())
            }
        }
    }
}

/// Outcome of an acquisition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// All permits are acquired.
    Acquired,
    /// None is acquired: this counter is full.
    Refused {
        /// The full counter.
        scope: PermitScope,
        /// Its unit.
        unit: PermitUnit,
    },
    /// None is acquired: the store failed. The gate cannot decide and denies (`overloaded`).
    Failed,
}

/// The driver called the decision out of order.
pub(super) fn out_of_order(call: &str) -> Denial {
    Denial::new(
        Reason::Overloaded,
        alloc::format!("internal: `{call}` was called out of order"),
    )
}

/// The driver mixed policies, so an id is unknown.
pub(super) fn foreign_policy() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: the decision belongs to another policy",
    )
}
