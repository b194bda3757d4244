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
    /// Where alerts are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// What an alert of a rule does, by the rule's name; `notify` for rules that are not here. Only
    /// alerts about a client with a verified credential block or throttle, and only that client.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on_alert: BTreeMap<String, AlertAction>,
    /// Time that a block or throttle by a rule lasts, in seconds; 60 to 86400.
    pub response_s: u64,
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
            webhook: None,
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
}

impl fmt::Display for WatchRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
