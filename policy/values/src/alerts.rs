//! Alerts: the rules that raise them, how severe they are, and what they do.

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::named;

/// How severe an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AlertSeverity {
    /// A change that is worth a note, such as a key that was rotated.
    #[default]
    Info,
    /// Something to look at on the same day.
    Warning,
    /// Requests are denied that should not be, or the gate cannot do its work.
    Critical,
}

impl AlertSeverity {
    /// Its name in policies and alerts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Whether it is the least one, which a webhook has by default.
    pub const fn is_info(&self) -> bool {
        matches!(self, Self::Info)
    }
}

/// What an alert does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AlertAction {
    /// It is logged and counted.
    #[default]
    Notify,
    /// One in ten requests of the client is served for `response_s`, and no streams.
    Throttle,
    /// The client is blocked for `response_s`.
    Block,
}

/// Declares the rules: a line for each, with its meaning, its name, also in policies, and how
/// severe its alerts are.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $severity:ident;)*) => {
        named! {
            /// A rule on the audit stream.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
            #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
            pub enum WatchRule {
                $($(#[$doc])* #[serde(rename = $name)] $rule = $name,)*
            }
        }

        impl WatchRule {
            /// How severe its alerts are.
            pub const fn severity(self) -> AlertSeverity {
                match self {
                    $(Self::$rule => AlertSeverity::$severity,)*
                }
            }
        }
    };
}

rules! {
    /// A client sends far more requests than usual.
    Volume = "volume", Warning;
    /// A client has far more requests rejected than usual, or a source sends many without a valid
    /// credential.
    Rejections = "rejections", Warning;
    /// A model answers far more requests with a server error than usual.
    ServerErrors = "server-errors", Warning;
    /// A model answers far more slowly than usual.
    Latency = "latency", Warning;
    /// A client sends from a network that it has not used before.
    NewSource = "new-source", Warning;
    /// A client uses a credential that it has not used before.
    NewCredential = "new-credential", Warning;
    /// A credential that was not used for long is used from a network that is new to its client.
    DormantCredential = "dormant-credential", Warning;
    /// A source uses credentials of several clients that it did not have before.
    SprayingClients = "spraying-clients", Warning;
    /// Failed credentials come from far more sources than usual.
    SprayingSources = "spraying-sources", Warning;
    /// Far more credentials fail than usual, of all sources together.
    CredentialGuessing = "credential-guessing", Warning;
    /// A source has requests rejected for many different reasons.
    Probing = "probing", Warning;
    /// A request for the management of an inference server was rejected.
    Management = "management", Warning;
    /// A client makes handlers fail far more often than other clients.
    HandlerFaults = "handler-faults", Warning;
    /// A client sends far more values at or beyond the bounds of a model's inputs than usual. It
    /// needs inputs with a `range`.
    NearBounds = "near-bounds", Warning;
    /// A model predicts with far less confidence than usual. This rule and the next two need an
    /// output with `role: class-scores`.
    Confidence = "confidence", Warning;
    /// A model predicts one class nearly always.
    ClassDominance = "class-dominance", Warning;
    /// A model predicts other classes than usual.
    PredictionDrift = "prediction-drift", Warning;
    /// A model of the gate is not ready. This rule and the next ones are about the gate itself.
    ModelUnready = "model-unready", Critical;
    /// A backend's endpoint takes no requests.
    BackendAway = "backend-away", Critical;
    /// A circuit of a backend or of a handler is open.
    CircuitOpen = "circuit-open", Warning;
    /// A client is blocked or throttled.
    ClientBlocked = "client-blocked", Info;
    /// The audit log cannot be written.
    AuditFailing = "audit-failing", Critical;
    /// A changed policy, or another file of it, is not in force.
    PolicyNotInForce = "policy-held", Warning;
    /// Files of a model could not be scanned.
    ScannerFailed = "scanner-failed", Warning;
    /// The files of a model were rejected.
    ModelRejected = "model-rejected", Critical;
    /// The service of shared rate limits does not answer.
    LimitServiceAway = "limit-service-away", Warning;
}

impl WatchRule {
    /// Whether its alerts may be about a client with a verified credential. Others are about
    /// sources or models, which is no reason to reject requests of a client.
    pub const fn is_about_clients(self) -> bool {
        matches!(
            self,
            Self::Volume
                | Self::Rejections
                | Self::NewSource
                | Self::NewCredential
                | Self::DormantCredential
                | Self::Management
                | Self::HandlerFaults
                | Self::NearBounds
        )
    }

    /// Whether it is about the state of the gate itself, and not about requests.
    pub const fn is_about_gate(self) -> bool {
        matches!(
            self,
            Self::ModelUnready
                | Self::BackendAway
                | Self::CircuitOpen
                | Self::ClientBlocked
                | Self::AuditFailing
                | Self::PolicyNotInForce
                | Self::ScannerFailed
                | Self::ModelRejected
                | Self::LimitServiceAway
        )
    }

    /// Whether `except.clients` may name clients: its alerts may be about one.
    pub const fn has_clients(self) -> bool {
        self.is_about_clients()
            || matches!(
                self,
                Self::PredictionDrift | Self::ClientBlocked | Self::CircuitOpen
            )
    }

    /// Whether `except.models` may name models: its alerts are about one.
    pub const fn has_models(self) -> bool {
        matches!(
            self,
            Self::ServerErrors
                | Self::Latency
                | Self::Confidence
                | Self::ClassDominance
                | Self::PredictionDrift
                | Self::ModelUnready
                | Self::ScannerFailed
                | Self::ModelRejected
        )
    }

    /// Whether `except.sources` may name networks: an alert is about a source, or about one request
    /// that came from it. Where many requests are judged, the last one's source says nothing.
    pub const fn has_sources(self) -> bool {
        matches!(
            self,
            Self::Rejections
                | Self::NewSource
                | Self::NewCredential
                | Self::DormantCredential
                | Self::SprayingClients
                | Self::Probing
                | Self::Management
        )
    }

    /// Whether a policy may set the smallest number that it reports.
    pub const fn has_at_least(self) -> bool {
        matches!(
            self,
            Self::Volume
                | Self::Rejections
                | Self::ServerErrors
                | Self::Latency
                | Self::SprayingClients
                | Self::SprayingSources
                | Self::CredentialGuessing
                | Self::Probing
                | Self::HandlerFaults
                | Self::NearBounds
                | Self::Confidence
                | Self::ClassDominance
                | Self::PredictionDrift
        )
    }

    /// Whether a policy may set how many times the usual number it reports.
    pub const fn has_times(self) -> bool {
        matches!(
            self,
            Self::Volume
                | Self::Latency
                | Self::SprayingSources
                | Self::CredentialGuessing
                | Self::HandlerFaults
        )
    }

    /// Whether what it reports goes on for a time, and ends. The others report single events.
    pub const fn lasts(self) -> bool {
        self.is_about_gate()
            || (self.has_at_least() && !matches!(self, Self::SprayingClients | Self::Probing))
    }
}

impl fmt::Display for WatchRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
