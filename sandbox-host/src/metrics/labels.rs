//! What each series is told apart by: names of the policy and words of fixed tables.

use prometheus_client::encoding::EncodeLabelSet;

/// A request's outcome.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The model's public name; empty while no model is known.
    pub model: String,
    /// `allow`, `deny`, or `aborted` for a client that left first, as the audit log says it.
    pub verdict: &'static str,
    /// The reason of a denial; empty otherwise.
    pub reason: &'static str,
}

/// A version of a model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct VersionLabels {
    /// The model's public name.
    pub model: String,
    /// The version that answered, or was to.
    pub version: String,
    /// `allow`, `deny` or `aborted`.
    pub verdict: &'static str,
}

/// A copy to a version in shadow.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CopyLabels {
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
    /// Its public name; empty while no model is known.
    pub model: String,
}

/// A handler of a model.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandlerLabels {
    /// The handler's name.
    pub handler: String,
    /// `preprocess` or `postprocess`.
    pub role: &'static str,
}

/// A handler's fault.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FaultLabels {
    /// The handler's name.
    pub handler: String,
    /// Which bound it broke, or how it failed.
    pub cause: &'static str,
}

/// What a handler asks for.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AskLabels {
    /// The handler's name.
    pub handler: String,
    /// The lookup's; empty of a file.
    pub lookup: String,
}

/// What came of that.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BroughtLabels {
    /// The handler's name.
    pub handler: String,
    /// The lookup's; empty of a file.
    pub lookup: String,
    /// `ok`, why nothing came, or `abandoned` where nobody waited any more.
    pub outcome: &'static str,
}

/// A call that was to be kept.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CaptureLabels {
    /// `kept`, `dropped` where the disk was too slow, `too-large`, or `failed` where it could not be written.
    pub outcome: &'static str,
}

/// A backend.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BackendLabels {
    /// Its name.
    pub backend: String,
}

/// A look at a new policy.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `loaded`, `unchanged` or `refused`.
    pub outcome: &'static str,
}

/// A policy.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct GenerationLabels {
    /// Its name.
    pub generation: String,
}

/// A refusal after the gate's yes.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReasonLabels {
    /// The reason.
    pub reason: &'static str,
}

/// A question to the rate limit service.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitLabels {
    /// `ok`, `over-limit` or `failed`.
    pub outcome: &'static str,
}

/// Reservations of shared limits, settled by one question.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SettlementLabels {
    /// `settled`, `unknown` or `failed`.
    pub outcome: &'static str,
}

/// A denial in shadow.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ShadowLabels {
    /// The model's public name.
    pub model: String,
    /// The grant.
    pub grant: String,
    /// The reason that it would have had.
    pub reason: &'static str,
}
