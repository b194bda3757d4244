//! Validated rules of where the lines of the audit log are also sent.

use alloc::string::String;
use serde::{Deserialize, Serialize};
use tensorgate_values::{OcsfVersion, getters};

use super::BackendTls;

/// Where the lines of the audit log are also sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditExport {
    pub stdout: bool,
    pub ocsf: Option<OcsfVersion>,
    pub otlp: Option<OtlpExport>,
}

getters! { AuditExport {
    /// Whether lines are written to the host's standard output.
    stdout: bool,
    /// The version of OCSF, if what is sent are its events and not the lines themselves.
    ocsf: Option<OcsfVersion>,
    /// The receiver of OTLP logs.
    otlp: Option<&OtlpExport>,
} }

/// A receiver of OTLP logs over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtlpExport {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub authorities: Option<BackendTls>,
    pub headers_file: Option<String>,
    pub timeout_ms: u64,
}

getters! { OtlpExport {
    /// Whether it uses TLS.
    tls: bool,
    /// Its name, or its address without brackets.
    host: &str,
    /// Its port.
    port: u16,
    /// The path of requests.
    path: &str,
    /// Trusted authorities; the system's if absent.
    authorities: Option<&BackendTls>,
    /// File of header fields, relative to the policy.
    headers_file: Option<&str>,
    /// Timeout of a request, in milliseconds.
    timeout_ms: u64,
} }
