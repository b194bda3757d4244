//! Where the lines of the audit log are also sent: an endpoint that encrypts them, unless they stay
//! on this machine.

use tensorgate_policy::policy::{AuditExport, OtlpExport};
use tensorgate_policy::report::{Path, optional};
use tensorgate_policy::values::OcsfVersion;

use super::backends;
use super::names;
use super::otlp_endpoint::{ENDPOINT, LOGS_PATH, endpoint};
use crate::raw;
use crate::raw::ExportFormat;

pub(super) fn export(at: &Path, raw: Option<&raw::AuditExport>) -> Option<AuditExport> {
    let Some(raw) = raw else {
        return Some(AuditExport::default());
    };
    let otlp = optional(raw.otlp.as_ref(), |raw| otlp(&at.field("otlp"), raw))?;
    if !raw.stdout && otlp.is_none() {
        at.warn(
            "names no receiver: in a cluster the log ends with its pod",
            "stdout: true, or otlp",
        );
    }
    Some(AuditExport {
        stdout: raw.stdout,
        ocsf: ocsf(at, raw),
        otlp,
    })
}

/// The version of OCSF, if its events are sent.
fn ocsf(at: &Path, raw: &raw::AuditExport) -> Option<OcsfVersion> {
    let is_ocsf = raw.format == Some(ExportFormat::Ocsf);
    if raw.ocsf_version.is_some() && !is_ocsf {
        at.field("ocsf_version")
            .warn("has no effect without format: ocsf", "format: ocsf");
    }
    is_ocsf.then(|| raw.ocsf_version.unwrap_or_default())
}

fn otlp(at: &Path, raw: &raw::OtlpExport) -> Option<OtlpExport> {
    let endpoint = endpoint(
        &at.field("endpoint"),
        raw.endpoint.as_ref(),
        raw.insecure,
        LOGS_PATH,
    );
    let authorities = backends::authorities(at, raw.endpoint.as_ref(), raw.tls.as_ref());
    let headers = match &raw.headers_file {
        Some(file) => names::file(&at.field("headers_file"), file),
        None => Some(()),
    };
    let timeout_ms = raw.timeout_ms.check(&at.field("timeout_ms"));
    let endpoint = endpoint?;
    if !endpoint.tls && !endpoint.is_local() && raw.headers_file.is_some() {
        let message = "the fields of headers_file can be read on the network";
        at.field("endpoint").warn(message, ENDPOINT);
    }
    headers?;
    Some(OtlpExport {
        tls: endpoint.tls,
        host: endpoint.host,
        port: endpoint.port,
        path: endpoint.path,
        authorities: authorities?,
        headers_file: raw.headers_file.clone(),
        timeout_ms: timeout_ms?,
    })
}
