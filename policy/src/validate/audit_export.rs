//! Where the lines of the audit log are also sent: an endpoint that encrypts them, unless they stay
//! on this machine.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::net::IpAddr;

use super::backends;
use super::http_url::authority;
use super::names;
use super::report::{Bounds, Path, bounds, optional, quote};
use crate::policy::{AuditExport, OtlpExport, Server};
use crate::raw;

/// Path of logs below the endpoint (OTLP 1.0, "OTLP/HTTP Request").
const LOGS_PATH: &str = "/v1/logs";
/// Maximum length of an endpoint's path.
const MAX_PATH_BYTES: usize = 1_024;
/// Timeout of a request; the default is that of the OpenTelemetry SDKs.
const TIMEOUT: Bounds = bounds(100, 60_000, 10_000, "ms");
/// A fix for an endpoint.
const ENDPOINT: &str = "https://collector.example.com:4318";

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
        otlp,
    })
}

fn otlp(at: &Path, raw: &raw::OtlpExport) -> Option<OtlpExport> {
    let endpoint = endpoint(&at.field("endpoint"), raw);
    let authorities = backends::authorities(at, raw.endpoint.as_ref(), raw.tls.as_ref());
    let headers = match &raw.headers_file {
        Some(file) => names::file(&at.field("headers_file"), file),
        None => Some(()),
    };
    let timeout_ms = at.number("timeout_ms", raw.timeout_ms, &TIMEOUT);
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

/// The parts of an endpoint.
struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Endpoint {
    /// Reads `https://host:port/path` or `http://host:port/path`. Port and path may be absent.
    fn read(text: &str) -> Option<Self> {
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let (server, path) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash)?,
            None => (rest, ""),
        };
        let (server, port) = authority(server)?;
        let host = match server {
            Server::Name(name) => name,
            Server::Address(address) => address.to_string(),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
        let usable = path.len() <= MAX_PATH_BYTES
            && path.bytes().all(plain)
            && !path.split('/').any(|part| part == "." || part == "..");
        let path = format!("{}{LOGS_PATH}", path.trim_end_matches('/'));
        usable.then_some(Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path,
        })
    }

    /// Whether it is on this machine.
    fn is_local(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

fn endpoint(at: &Path, raw: &raw::OtlpExport) -> Option<Endpoint> {
    let text = at.required(raw.endpoint.as_ref(), ENDPOINT)?;
    if let Some(base) = text.trim_end_matches('/').strip_suffix(LOGS_PATH) {
        let message = format!("ends with {LOGS_PATH}, which is appended");
        return at.fail_with_fix(message, base);
    }
    let Some(endpoint) = Endpoint::read(text) else {
        let message = format!("{} is not the URL of a receiver", quote(text));
        return at.fail_with_fix(message, ENDPOINT);
    };
    if !endpoint.tls && !endpoint.is_local() && !raw.insecure {
        return at.fail_with_fix(
            "would send the audit log to another machine without encryption",
            "https://host:port, or insecure: true in a network that encrypts by itself",
        );
    }
    Some(endpoint)
}
