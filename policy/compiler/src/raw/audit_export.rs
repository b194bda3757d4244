//! Where the lines of the audit log are also sent.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::OcsfVersion;

use super::BackendTls;
use super::number::{Milliseconds, Number};

/// Where the lines of the audit log are also sent. Lines that are not sent yet wait in the log's
/// files, as many as `file_bytes` and `files` keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditExport {
    /// Each line is also written to the host's standard output.
    pub stdout: bool,
    /// Form of what is sent: `json`, the lines themselves, or `ocsf`, events of the Open
    /// Cybersecurity Schema Framework; `json` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<ExportFormat>,
    /// Version of OCSF; `1.8.0` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ocsf_version: Option<OcsfVersion>,
    /// A receiver of OTLP logs, such as an OpenTelemetry Collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpExport>,
}

/// Form of what an export sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExportFormat {
    /// The lines of the audit log.
    #[default]
    Json,
    /// Events of the Open Cybersecurity Schema Framework.
    Ocsf,
}

/// A receiver of OTLP logs over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OtlpExport {
    /// `https://host:port`, with a path if the receiver needs one; `/v1/logs` is appended. `http`
    /// only to this machine, or with `insecure`.
    pub endpoint: Option<String>,
    /// Permits `http` to other machines, for a network that encrypts by itself.
    pub insecure: bool,
    /// TLS to an `https` endpoint; the system's authorities by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// File of header fields for each request, one `name: value` a line, such as a bearer token.
    /// Only its owner may read it. It is read again for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<String>,
    /// Timeout of a request, including name resolution.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub timeout_ms: Number<100, 60_000, 10_000, Milliseconds>,
}
