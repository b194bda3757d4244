//! Gateways that call a sandbox host over TCP, and the certificates of both.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_client::tls::Caller;

use super::{CONTEXT_KEY, GATEWAY, HOST};
use crate::generated;

/// Gateways with certificates, whose keys exist only in this process.
pub struct Gateways {
    /// One that the host serves.
    pub listed: Caller,
    /// One with another name.
    pub unlisted: Caller,
    /// One with the right name, from another authority.
    pub impostor: Caller,
}

impl Gateways {
    /// Generates their certificates, and the files of the host and of Envoy in a folder.
    pub fn make(folder: &Path) -> Result<Self> {
        let (ours, other) = (Authority::new("demo hosts")?, Authority::new("others")?);
        let host = ours.issue(1, &["ip:127.0.0.1", &format!("dns:{HOST}")])?;
        let name = format!("uri:{GATEWAY}");
        let (envoy, listed) = (ours.issue(2, &[&name])?, ours.issue(3, &[&name])?);
        let unlisted = ours.issue(4, &["uri:spiffe://demo.example/ns/other/sa/gateway"])?;
        let impostor = other.issue(3, &[&name])?;
        generated::write(
            folder,
            &[
                ("host.crt", host.pem.as_str()),
                ("host.key", host.key.as_str()),
                ("envoy.crt", envoy.pem.as_str()),
                ("envoy.key", envoy.key.as_str()),
                ("ca.crt", ours.pem.as_str()),
                (CONTEXT_KEY, random_key()?.as_str()),
            ],
        )?;
        let caller = |leaf: &Leaf| -> Result<Caller> {
            Ok(Caller::new(&ours.pem, leaf.shown())?.with_http2())
        };
        Ok(Self {
            listed: caller(&listed)?,
            unlisted: caller(&unlisted)?,
            impostor: caller(&impostor)?,
        })
    }
}

/// 32 random bytes in hex.
fn random_key() -> Result<String> {
    let mut key = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .context("reading random bytes")?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}
