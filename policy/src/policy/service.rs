//! The validated rate-limit service for limits of scope `global`.

use alloc::string::String;
use serde::{Deserialize, Serialize};
use tensorgate_values::{ServiceFailure, getters};

/// The rate limit service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitService {
    pub counter: Counter,
    pub domain: String,
    pub timeout_ms: u64,
    pub on_failure: ServiceFailure,
}

/// Where counters are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counter {
    /// In Redis, by the sandbox host.
    Redis(Redis),
    /// In another server of the same protocol.
    Endpoint {
        /// DNS name or address; IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// A Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redis {
    pub host: String,
    pub port: u16,
    pub database: u8,
    pub ca: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<String>,
}

getters! { RateLimitService {
    /// Where counters are stored.
    counter: &Counter,
    /// Domain of these limits in a shared service.
    domain: &str,
    /// Timeout of a call, in milliseconds.
    timeout_ms: u64,
    /// Fallback while the service fails.
    on_failure: ServiceFailure,
} }

impl RateLimitService {
    /// Whether local counters decide while the service fails. Otherwise requests are rejected.
    pub fn falls_back(&self) -> bool {
        self.on_failure == ServiceFailure::Local
    }
}

getters! { Redis {
    /// DNS name or address; IPv6 without brackets.
    host: &str,
    /// Its port.
    port: u16,
    /// The database.
    database: u8,
    /// CA file for TLS, relative to the policy; plain text if absent.
    ca: Option<&str>,
    /// User name.
    username: Option<&str>,
    /// Password file, relative to the policy.
    password_file: Option<&str>,
} }
