//! The webhook that receives alerts.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::AlertSeverity;

/// A webhook that receives each alert as JSON, signed as Standard Webhooks specifies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Webhook {
    /// `https://host/path`, or `http://` at a loopback address. Redirects are not followed.
    pub url: Option<String>,
    /// File of the secret that signs alerts: `whsec_` and the base64 of 24 to 64 bytes. It is read
    /// again for each attempt.
    pub secret_file: Option<String>,
    /// CA file of the server's certificate; the system's authorities by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Private networks in which a named server may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private: Vec<String>,
    /// Least severity of the alerts that it receives; `info`, which is all of them, by default.
    #[serde(skip_serializing_if = "AlertSeverity::is_info")]
    pub severity: AlertSeverity,
}
