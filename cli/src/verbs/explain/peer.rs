//! The caller's certificate and address, from the command line, in the form that Envoy would
//! report.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_in_memory_proxy::{Peer, PeerCertificate};
use tensorgate_policy::{Policy, unhex};

/// Largest certificate file, bytes, including text before the certificate.
const MAX_FILE_BYTES: u64 = 256 << 10;
/// Markers of a PEM certificate.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----\n";

/// The caller. `shown` is a certificate file, or properties of a certificate.
pub(super) fn from_arguments(
    policy: &Policy,
    shown: &[String],
    source: Option<IpAddr>,
) -> Result<Peer, Failure> {
    let mut peer = Peer::default();
    if let Some(source) = source {
        peer.address = SocketAddr::new(source, 0).to_string();
    }
    if shown.is_empty() {
        return Ok(peer);
    }
    if !policy.listen().asks_for_certificates() {
        return Err(Failure::Input(
            "the policy does not use client certificates: it has no listen.tls.client_ca".into(),
        ));
    }
    peer.certificate = Some(match shown {
        [file] if !is_property(file) => read(Path::new(file))?,
        properties => from_properties(properties)?,
    });
    Ok(peer)
}

fn is_property(text: &str) -> bool {
    text.contains("://") || text.starts_with("dns:") || text.starts_with("sha256:")
}

/// A certificate from its properties.
fn from_properties(properties: &[String]) -> Result<PeerCertificate, Failure> {
    let mut certificate = PeerCertificate::default();
    let mut digests = 0_usize;
    for text in properties {
        if let Some(name) = text.strip_prefix("dns:").filter(|name| !name.is_empty()) {
            certificate.dns.push(name.to_owned());
        } else if let Some(digits) = text.strip_prefix("sha256:") {
            // openssl's format with colons is accepted too.
            let digits = digits.replace(':', "").to_ascii_lowercase();
            let digest = unhex(digits.as_bytes());
            certificate.sha256 = digest.ok_or_else(|| {
                Failure::Input(format!("{text:?} is not sha256: and 64 hex digits"))
            })?;
            digests = digests.saturating_add(1);
        } else if text.contains("://") {
            certificate.uris.push(text.clone());
        } else {
            return Err(Failure::Input(format!(
                "{text:?} is not spiffe://trust-domain/path, dns:name or sha256:digest; a certificate file must be given alone"
            )));
        }
    }
    if digests > 1 {
        return Err(Failure::Input("give one sha256: digest only".into()));
    }
    Ok(certificate)
}

/// The first certificate in a file.
fn read(file: &Path) -> Result<PeerCertificate, Failure> {
    let cannot = |why: String| Failure::Input(format!("{}: {why}", file.display()));
    let bytes = read_at_most(file, MAX_FILE_BYTES)
        .map_err(|error| {
            cannot(format!(
                "{error}; give a PEM file, or spiffe://…, dns:NAME, sha256:HEX"
            ))
        })?
        .ok_or_else(|| cannot(format!("is larger than {MAX_FILE_BYTES} bytes")))?;
    let text = String::from_utf8(bytes).map_err(|_| cannot("is not UTF-8".into()))?;
    let text = text.replace("\r\n", "\n");
    let first = text.find(BEGIN).and_then(|begin| {
        let text = text.get(begin..)?;
        text.get(..text.find(END)?.saturating_add(END.len()))
    });
    first
        .and_then(PeerCertificate::read)
        .ok_or_else(|| cannot("contains no readable certificate in PEM form".into()))
}
