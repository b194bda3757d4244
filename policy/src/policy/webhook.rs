//! The validated webhook that receives alerts.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use tensorgate_values::{AlertSeverity, getters};

use super::{Network, Server};
use crate::policy::address;

/// A webhook that receives alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub tls: bool,
    pub server: Server,
    pub port: u16,
    pub path: String,
    pub secret_file: String,
    pub ca: Option<String>,
    pub allow_private: Vec<Network>,
    pub severity: AlertSeverity,
}

getters! { Webhook {
    /// Whether it uses TLS; plain text is for loopback only.
    tls: bool,
    /// Its server.
    server: &Server,
    /// The server's port.
    port: u16,
    /// Path and query.
    path: &str,
    /// File of the secret, relative to the policy.
    secret_file: &str,
    /// CA file of the server's certificate, relative to the policy; the system's if absent.
    ca: Option<&str>,
    /// Least severity of the alerts that it receives.
    severity: AlertSeverity,
} }

impl Webhook {
    /// Whether the host may connect to an address of the server. An address in the URL is the
    /// operator's choice. A name may resolve to any address, so its addresses must be public or in
    /// an allowed network.
    ///
    /// # Errors
    /// The class of the address.
    pub fn admits(&self, address: IpAddr) -> Result<(), &'static str> {
        match &self.server {
            Server::Address(named) if *named == address => Ok(()),
            Server::Address(_) | Server::Name(_) => address::check(address, &self.allow_private),
        }
    }
}
