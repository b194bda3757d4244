//! The labels of each metric: policy names and words of fixed tables.

use prometheus_client::encoding::EncodeLabelSet;

/// A request's outcome.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The model's public name. Empty if no model is known.
    pub model: String,
    /// `allow`, `deny`, or `aborted` for a client that left first, as in the audit log.
    pub verdict: &'static str,
    /// The reason of a denial. Empty otherwise.
    pub reason: &'static str,
}

/// The outcome of a record in the audit log.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct DecisionLabels {
    /// The model's public name. Empty if the record names none.
    pub model: String,
    /// What decided it: `gate`, `envoy` or `host`.
    pub by: &'static str,
    /// `allow`, `deny` or `aborted`.
    pub verdict: &'static str,
    /// The reason, as in the audit log. `unknown` for one that this host lacks.
    pub reason: &'static str,
}

/// The outcome of a record in the audit log, by the kind of its client's credential.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ClientLabels {
    /// `key`, `jwt`, `mtls`, or `other` for a kind that this host lacks. `none` if the record names
    /// no credential.
    pub credential: &'static str,
    /// `allow`, `deny` or `aborted`.
    pub verdict: &'static str,
    /// The reason, as in the audit log. `unknown` for one that this host lacks.
    pub reason: &'static str,
}

/// Tokens of a language model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TokenLabels {
    /// The model's public name.
    pub model: String,
    /// `prompt` or `completion`.
    pub kind: &'static str,
}

/// A model version, with a verdict.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct VersionLabels {
    /// The model's public name.
    pub model: String,
    /// The version that answered, or should have.
    pub version: String,
    /// `allow`, `deny` or `aborted`.
    pub verdict: &'static str,
}

/// A model version.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelReadyLabels {
    /// The model's public name.
    pub model: String,
    /// The version.
    pub version: String,
}

impl ModelReadyLabels {
    /// Labels for a model's name and a version.
    pub fn for_version((model, version): &(String, String)) -> Self {
        Self {
            model: model.clone(),
            version: version.clone(),
        }
    }
}

/// A mirrored request to a version in shadow.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct MirrorLabels {
    /// The model's public name.
    pub model: String,
    /// The version in shadow.
    pub version: String,
    /// `agree`, `differ`, `fail` or `dropped`.
    pub outcome: &'static str,
}

/// A model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelLabels {
    /// The public name. Empty if no model is known.
    pub model: String,
}

/// A member or parameter of requests to a model that the policy ignores.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct IgnoredLabels {
    /// The model's public name.
    pub model: String,
    /// The name, as the policy has it.
    pub name: String,
}

/// A handler of a model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandlerLabels {
    /// The handler's name.
    pub handler: String,
    /// `preprocess` or `postprocess`.
    pub role: &'static str,
}

/// A handler's fault, or a call of it that did not run.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FaultLabels {
    /// The handler's name.
    pub handler: String,
    /// The cause.
    pub cause: &'static str,
}

/// A kind of capability request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CapabilityLabels {
    /// The handler's name.
    pub handler: String,
    /// The lookup's name. Empty for a file.
    pub lookup: String,
}

/// The outcome of a capability request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResolvedLabels {
    /// The handler's name.
    pub handler: String,
    /// The lookup's name. Empty for a file.
    pub lookup: String,
    /// `ok`, why there is no result, or `abandoned` if the caller left.
    pub outcome: &'static str,
}

/// A captured call.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CaptureLabels {
    /// `kept`, `dropped` if the disk was too slow, `too-large`, or `failed` if it could not be
    /// written.
    pub outcome: &'static str,
}

/// A backend.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BackendLabels {
    /// The backend's name.
    pub backend: String,
}

/// What happens to the HTTP/1.1 connections of a backend.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// The backend's name.
    pub backend: String,
    /// `opened`, `reused`, or why one was closed.
    pub event: &'static str,
}

/// A rule on the audit stream.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AlertLabels {
    /// The rule's name, as in a policy.
    pub rule: &'static str,
}

/// An alert for the webhook.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WebhookLabels {
    /// The rule's name, as in a policy.
    pub rule: &'static str,
    /// `delivered`, `failed` or `dropped`.
    pub outcome: &'static str,
}

/// An exporter of the audit log.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ExportLabels {
    /// `stdout` or `otlp`.
    pub exporter: &'static str,
}

/// An attempt to load a policy.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `loaded`, `unchanged`, `unready` or `refused`.
    pub outcome: &'static str,
}

/// A policy version.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct GenerationLabels {
    /// The version's name.
    pub generation: String,
}

/// Whether the host has the policy version of a gateway.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct GatewayLabels {
    /// `true` or `false`.
    pub known: &'static str,
}

/// A rejection as overloaded.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OverloadLabels {
    /// What is exhausted or failed.
    pub cause: &'static str,
}

/// A denial by its reason: of a request that the gate accepted, or one that shadow mode allowed.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabels {
    /// The reason.
    pub reason: &'static str,
}

/// A charge of shared limits, by the rate-limit service or by the host itself.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitLabels {
    /// `ok`, `over-limit`, `failed`, `skipped` because of failures before, `unknown` in every
    /// policy, or `malformed`.
    pub outcome: &'static str,
}

/// A refund of reserved tokens.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SettlementLabels {
    /// `settled`, `unknown` or `failed`.
    pub outcome: &'static str,
}

/// Why spans were dropped.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SpanLabels {
    /// `queue`, `failed` or `rejected`.
    pub cause: &'static str,
}

/// A denial that was not enforced.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ShadowLabels {
    /// The model's public name.
    pub model: String,
    /// The grant.
    pub grant: String,
    /// The reason of the denial.
    pub reason: &'static str,
}
