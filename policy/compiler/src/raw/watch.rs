//! Anomaly rules on the audit stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::{AlertAction, WatchRule};

use super::Webhook;
use super::number::{Events, Number, Seconds, Within};

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
    pub response_s: Number<60, 86_400, 900, Seconds>,
}

/// Thresholds of a rule, and alerts that it does not raise. It still learns what is usual.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleSettings {
    /// Smallest number that the rule reports, such as requests a minute; the rule's own by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Within<1, 10_000_000, Events>>,
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
            response_s: Number::default(),
        }
    }
}
