//! Who counts limits of scope `global`, validated.

use alloc::string::String;

use crate::raw::ServiceFailure;

/// The rate limit service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitService {
    pub(crate) counter: Counter,
    pub(crate) domain: String,
    pub(crate) timeout_ms: u64,
    pub(crate) on_failure: ServiceFailure,
}

/// Where counts are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// In a Redis, by the sandbox host.
    Redis(Redis),
    /// By another server, of whose answers alone anything is known.
    Endpoint {
        /// A DNS name or an address; IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// A Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: u8,
    pub(crate) ca: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<String>,
}

impl RateLimitService {
    /// Where counts are kept.
    pub const fn counter(&self) -> &Counter {
        &self.counter
    }

    /// What keeps these limits apart from those of others.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// How long a request waits, milliseconds.
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// What holds while it does not answer.
    pub const fn on_failure(&self) -> ServiceFailure {
        self.on_failure
    }
}

impl Redis {
    /// A DNS name or an address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The database.
    pub const fn database(&self) -> u8 {
        self.database
    }

    /// TLS, by the authorities of this file, relative to the policy; plain text without it.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Whom the gate is to it.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The password's file, relative to the policy.
    pub fn password_file(&self) -> Option<&str> {
        self.password_file.as_deref()
    }
}
