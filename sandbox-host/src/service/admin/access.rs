//! Who may read what of the admin server.
//!
//! | at an address | probes and metrics | the rest |
//! |---|---|---|
//! | of loopback | with a `Host` of this machine | the same; the credential if there is one |
//! | that other machines can reach | yes | with the credential; 404 if there is none |
//!
//! With a credential, no address serves the rest without it. A server with TLS on this machine may
//! pass on requests of others to a loopback address.

use std::net::SocketAddr;

use axum::extract::Request;
use axum::http::StatusCode;
use tensorgate_base::local_host;

use crate::server::reader_credential::ReaderCredential;

/// What other machines may read.
const PUBLIC: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The rules of one address of an admin server.
#[derive(Debug)]
pub(super) struct Access {
    /// Whether only this machine can reach it.
    is_loopback: bool,
    /// The credential for all but probes and metrics.
    credential: Option<ReaderCredential>,
}

impl Access {
    /// The rules at an address.
    pub(super) fn new(address: SocketAddr, credential: Option<ReaderCredential>) -> Self {
        Self {
            is_loopback: address.ip().to_canonical().is_loopback(),
            credential,
        }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// Returns the status of the rejection: 421 for a `Host` that is not this machine's, 401
    /// without the credential, 404 for what is not served to other machines.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), StatusCode> {
        let is_public = PUBLIC.contains(&request.uri().path());
        let needs_none = is_public || (self.is_loopback && self.credential.is_none());
        match &self.credential {
            Some(credential) if credential.is_in(request.headers()) => Ok(()),
            // A page in a browser of this machine could otherwise read it.
            _ if needs_none && self.is_loopback && !local_host::is_named(request) => {
                Err(StatusCode::MISDIRECTED_REQUEST)
            }
            _ if needs_none => Ok(()),
            Some(_) => Err(StatusCode::UNAUTHORIZED),
            None => Err(StatusCode::NOT_FOUND),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use axum::http::header::{AUTHORIZATION, HOST};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    /// The status of a request, with the secret or without it.
    fn status(access: &Access, path: &str, host: &str, has_secret: bool) -> u16 {
        let mut request = Request::builder().uri(path).header(HOST, host);
        if has_secret {
            request = request.header(AUTHORIZATION, format!("Bearer {SECRET}"));
        }
        let checked = access.check(&request.body(()).unwrap());
        checked.map_or_else(|status| status.as_u16(), |()| 200)
    }

    #[test]
    fn other_machines_get_probes_and_metrics_and_the_rest_with_the_credential_only() {
        let address = "0.0.0.0:9902".parse().unwrap();
        let open = Access::new(address, None);
        let secured = Access::new(address, ReaderCredential::from_secret(SECRET.as_bytes()));
        for (path, is_public) in [
            ("/healthz", true),
            ("/readyz", true),
            ("/readyz?started", true),
            ("/metrics", true),
            ("/", false),
            ("/status", false),
            ("/generations", false),
            ("/blocks", false),
            ("/console/sections", false),
            ("/healthz/", false),
            ("//metrics", false),
            ("/%6detrics", false),
            ("/metrics/../status", false),
            ("/metrics;/status", false),
            ("http://localhost/status", false),
            ("/none", false),
        ] {
            for host in ["gate.example:9902", "localhost"] {
                let of = |access, has_secret| status(access, path, host, has_secret);
                let (found, unnamed) = if is_public { (200, 200) } else { (404, 401) };
                assert_eq!(of(&open, false), found, "{path} {host}");
                assert_eq!(
                    of(&open, true),
                    found,
                    "{path} {host}: there is no credential"
                );
                assert_eq!(of(&secured, false), unnamed, "{path} {host}");
                assert_eq!(of(&secured, true), 200, "{path} {host}");
            }
        }
    }

    #[test]
    fn this_machine_gets_all_of_it_if_it_is_named() {
        for address in ["127.0.0.1:9902", "[::1]:9902", "[::ffff:127.0.0.1]:9902"] {
            let access = Access::new(address.parse().unwrap(), None);
            for path in ["/", "/status", "/healthz"] {
                assert_eq!(status(&access, path, "localhost:9902", false), 200);
                assert_eq!(status(&access, path, "gate.example", true), 421);
            }
        }
    }

    #[test]
    fn with_a_credential_this_machine_needs_it_too() {
        let credential = ReaderCredential::from_secret(SECRET.as_bytes());
        let access = Access::new("127.0.0.1:9902".parse().unwrap(), credential);
        for (path, host, unnamed) in [
            ("/", "localhost:9902", 401),
            ("/status", "localhost:9902", 401),
            ("/healthz", "localhost:9902", 200),
            ("/metrics", "localhost:9902", 200),
            ("/", "gate.example", 401),
            ("/metrics", "gate.example", 421),
        ] {
            assert_eq!(status(&access, path, host, false), unnamed, "{path} {host}");
            assert_eq!(status(&access, path, host, true), 200, "{path} {host}");
        }
    }
}
