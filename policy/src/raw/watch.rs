//! Anomaly rules on the audit stream.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use super::Webhook;

/// Default time that an automatic block or throttle lasts, in seconds.
const DEFAULT_RESPONSE_S: u64 = 900;

/// Anomaly rules on the audit stream. They raise alerts, and reject nothing unless `on_alert` says
/// so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Watch {
    /// Whether any rule runs.
    pub enabled: bool,
    /// Rules that do not run; none by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<WatchRule>,
    /// Name of this gateway in alerts; the name of its machine by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where alerts are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Further receivers of alerts, such as one for each severity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Thresholds and exceptions of rules, by the rule's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, RuleSettings>,
    /// What an alert of a rule does, by the rule's name; `notify` for rules that are not here. Only
    /// alerts about a client with a verified credential block or throttle, and only that client.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on_alert: BTreeMap<String, AlertAction>,
    /// Time that a block or throttle by a rule lasts, in seconds; 60 to 86400.
    pub response_s: u64,
}

/// Thresholds of a rule, and alerts that it does not raise. It still learns what is usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleSettings {
    /// Smallest number that the rule reports, such as requests a minute; the rule's own by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u64>,
    /// How many times the usual number is reported, 1.1 to 1000; the rule's own by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<f64>,
    /// Whose alerts are not raised.
    #[serde(skip_serializing_if = "RuleExceptions::is_empty")]
    pub except: RuleExceptions,
    /// When alerts are not raised, in UTC: `02:00-04:00`, `sat 02:00-04:00`, `mon-fri 22:00-04:00`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quiet: Vec<String>,
}

/// Whose alerts a rule does not raise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleExceptions {
    /// Alerts about these clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Alerts about these models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Alerts about requests from these networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl RuleExceptions {
    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.models.is_empty() && self.sources.is_empty()
    }
}

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

impl Default for Watch {
    fn default() -> Self {
        Self {
            enabled: true,
            off: Vec::new(),
            name: None,
            webhook: None,
            webhooks: Vec::new(),
            rules: BTreeMap::new(),
            on_alert: BTreeMap::new(),
            response_s: DEFAULT_RESPONSE_S,
        }
    }
}

/// Declares the rules: a line for each, with its meaning and its name.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:tt;)*) => {
        /// A rule on the audit stream.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum WatchRule {
            $($(#[$doc])* #[serde(rename = $name)] $rule,)*
        }

        impl WatchRule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// Its name in policies, alerts and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    /// A client sends far more requests than usual.
    Volume = "volume";
    /// A client has far more requests rejected than usual, or a source sends many without a valid
    /// credential.
    Rejections = "rejections";
    /// A model answers far more requests with a server error than usual.
    ServerErrors = "server-errors";
    /// A model answers far more slowly than usual.
    Latency = "latency";
    /// A client sends from a network that it has not used before.
    NewSource = "new-source";
    /// A client uses a credential that it has not used before.
    NewCredential = "new-credential";
    /// A credential that was not used for long is used from a network that is new to its client.
    DormantCredential = "dormant-credential";
    /// A source uses credentials of several clients that it did not have before.
    SprayingClients = "spraying-clients";
    /// Failed credentials come from far more sources than usual.
    SprayingSources = "spraying-sources";
    /// Far more credentials fail than usual, of all sources together.
    CredentialGuessing = "credential-guessing";
    /// A source has requests rejected for many different reasons.
    Probing = "probing";
    /// A request for the management of an inference server was rejected.
    Management = "management";
    /// A client makes handlers fail far more often than other clients.
    HandlerFaults = "handler-faults";
    /// A client sends far more values at or beyond the bounds of a model's inputs than usual. It
    /// needs inputs with a `range`.
    NearBounds = "near-bounds";
    /// A model predicts with far less confidence than usual. This rule and the next two need an
    /// output with `role: class-scores`.
    Confidence = "confidence";
    /// A model predicts one class nearly always.
    ClassDominance = "class-dominance";
    /// A model predicts other classes than usual.
    PredictionDrift = "prediction-drift";
    /// A model of the gate is not ready. This rule and the next ones are about the gate itself.
    ModelUnready = "model-unready";
    /// A backend's endpoint takes no requests.
    BackendAway = "backend-away";
    /// A circuit of a backend or of a handler is open.
    CircuitOpen = "circuit-open";
    /// A client is blocked or throttled.
    ClientBlocked = "client-blocked";
    /// The audit log cannot be written.
    AuditFailing = "audit-failing";
    /// A changed policy, or another file of it, is not in force.
    PolicyNotInForce = "policy-held";
    /// Files of a model could not be scanned.
    ScannerFailed = "scanner-failed";
    /// The files of a model were rejected.
    ModelRejected = "model-rejected";
    /// The service of shared rate limits does not answer.
    LimitServiceAway = "limit-service-away";
}

impl WatchRule {
    /// The rule with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }

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

    /// How severe its alerts are.
    pub const fn severity(self) -> AlertSeverity {
        match self {
            Self::ClientBlocked => AlertSeverity::Info,
            Self::ModelUnready | Self::BackendAway | Self::AuditFailing | Self::ModelRejected => {
                AlertSeverity::Critical
            }
            _ => AlertSeverity::Warning,
        }
    }
}

impl fmt::Display for WatchRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
