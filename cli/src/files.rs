//! Files that a policy names and that are not inlined: certificates, keys, passwords, components
//! and manifests of models.
//!
//! Each file is read by the code that uses it later: the host's own readers, and [`certificates`]
//! for the files that Envoy reads. So a check reports exactly what would happen at run time.

use std::path::Path;

use tensorgate_audit::export::read_headers;
use tensorgate_audit::key::SigningKey;
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_limits::{ConnectFault, Settings};
use tensorgate_net::pem::{self, TlsError};
use tensorgate_net::tls::Tls;
use tensorgate_policy::policy::{BackendTls, Counter, RateLimitService, Redis, Trust};
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_load::load::Loaded;
use tensorgate_policy_text::path::below;
use tensorgate_settings::sealed_capture::CaptureKeys;
use tensorgate_watch::webhook::{Target, WebhookFault};

use crate::render::envoy::key_sets;
use crate::{certificates, components, model_artifacts};

const CA_FIX: &str =
    "a PEM file with the server's certificate authorities; the path is relative to the policy";
const IDENTITY_FIX: &str = "a certificate with its chain, and the key of that certificate, PEM";
const KEY_FIX: &str = "a file of 64 hex digits that only its owner may read (mode 0600)";
const SECRET_FIX: &str =
    "a file of whsec_ and the base64 of 32 random bytes that only its owner may read (mode 0600)";
const HEADERS_FIX: &str = "a file of lines `name: value` that only its owner may read (mode 0600)";
const PASSWORD_FIX: &str = "a file that holds the password and nothing else";

/// Checks the files of a loaded policy. File names are relative to `root`. A missing component or
/// manifest has the severity `missing`: policies are also checked where these are not.
///
/// # Errors
/// Every unusable file, located where the policy names it.
pub fn check(loaded: Loaded, root: &Path, missing: Severity) -> Result<Loaded, LoadError> {
    let mut faults = faults(&loaded.version.policy, root);
    let unread = |_: &Path| None;
    faults.extend(components::faults(
        &loaded.version.policy,
        root,
        missing,
        unread,
    ));
    faults.extend(model_artifacts::faults(
        &loaded.version.policy,
        root,
        missing,
    ));
    loaded.unless(faults)
}

/// Every fault in the files of a policy.
fn faults(policy: &Policy, root: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(tls) = policy.listen().tls() {
        faults.extend(certificates::faults(tls, root).into_iter().map(Fault::from));
    }
    for (issuer, url) in key_sets::fetched(policy) {
        let Some(file) = url.ca() else { continue };
        if let Err(error) = pem::certificates(&root.join(file)) {
            faults.push(fault(
                below("issuers", &[issuer, "jwks", "ca"]),
                &error,
                CA_FIX,
            ));
        }
    }
    for (name, backend) in policy.backends() {
        let rule = backend.tls();
        faults.extend(rule.and_then(|rule| trust(rule, root, &["backends", name, "tls"])));
    }
    for (name, handler) in policy.handlers() {
        if let Some(ca) = handler.fetch().and_then(|fetch| fetch.ca()) {
            let rule = BackendTls::of_authorities(ca);
            faults.extend(trust(&rule, root, &["handlers", name, "fetch"]));
        }
        for (lookup, rule) in handler.lookups() {
            let path = ["handlers", name, "lookups", lookup, "tls"];
            let rule = rule.authorities();
            faults.extend(rule.and_then(|rule| trust(rule, root, &path)));
        }
    }
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    if let Some(Counter::Redis(rule)) = counter {
        faults.extend(redis(rule, root));
    }
    if let Some(rule) = policy.capture()
        && let Err(error) = CaptureKeys::read(&root.join(rule.key_file()))
    {
        faults.push(fault("capture.key_file".into(), &error, KEY_FIX));
    }
    for (index, rule) in policy.watch().webhooks().iter().enumerate() {
        let Err(error) = Target::new(rule, root) else {
            continue;
        };
        let (field, fix) = match &error {
            WebhookFault::Secret(_) => ("secret_file", SECRET_FIX),
            WebhookFault::Tls(_) => ("ca", CA_FIX),
        };
        let path = policy.watch().webhook_path(index);
        faults.push(fault(format!("{path}.{field}"), &error, fix));
    }
    if let Some(rule) = policy.audit().export().otlp() {
        let path = ["audit", "export", "otlp", "tls"];
        let trusted = rule.authorities();
        faults.extend(trusted.and_then(|tls| trust(tls, root, &path)));
        let headers = rule
            .headers_file()
            .map(|file| read_headers(&root.join(file)));
        if let Some(Err(error)) = headers {
            let path = "audit.export.otlp.headers_file".into();
            faults.push(fault(path, &error, HEADERS_FIX));
        }
    }
    // A relative path lies in the gate's state folder. A missing key file is created at start.
    if let Some(file) = policy.audit().key_file().map(Path::new)
        && file.is_absolute()
        && file.exists()
        && let Err(error) = SigningKey::read_or_make(file)
    {
        faults.push(fault("audit.key_file".into(), &error, KEY_FIX));
    }
    faults
}

/// The fault in the TLS files of a connection to a server. `path` is the policy path of the TLS
/// settings.
fn trust(rule: &BackendTls, root: &Path, path: &[&str]) -> Option<Fault> {
    let error: TlsError = Tls::check(root, rule).err()?;
    let (field, fix) = match rule.trust() {
        Trust::Files {
            identity: Some((cert, _)),
            ..
        } if error.path == root.join(cert) => ("cert", IDENTITY_FIX),
        Trust::Files {
            identity: Some((_, key)),
            ..
        } if error.path == root.join(key) => ("key", IDENTITY_FIX),
        Trust::Files { .. } | Trust::WorkloadApi(_) => ("ca", CA_FIX),
    };
    let (first, rest) = path.split_first()?;
    let rest: Vec<_> = rest.iter().copied().chain([field]).collect();
    Some(fault(below(first, &rest), &error, fix))
}

fn redis(rule: &Redis, root: &Path) -> Option<Fault> {
    let error = Settings::new(rule, root).err()?;
    let password = rule.password_file().map(|file| root.join(file));
    let (field, fix) = match &error {
        ConnectFault::File { path, .. } if Some(path) == password.as_ref() => {
            ("password_file", PASSWORD_FIX)
        }
        ConnectFault::File { .. } | ConnectFault::Authority(_) => ("ca", CA_FIX),
        ConnectFault::Name(_)
        | ConnectFault::Io(_)
        | ConnectFault::Refused(_)
        | ConnectFault::Reply(_) => ("url", "redis://host:port/database"),
    };
    Some(fault(
        below("rate_limit_service", &["redis", field]),
        &error,
        fix,
    ))
}

fn fault(path: String, error: &dyn std::fmt::Display, fix: &str) -> Fault {
    Fault {
        severity: Severity::Error,
        path,
        message: error.to_string(),
        fix: Some(fix.into()),
    }
}
