//! The servers of a model version, and what health checks saw of the version there.

use super::endpoint_loads::{EndpointLoads, Load, Sighting};

/// The servers that a policy has for a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelServers {
    /// The model's name there.
    pub model: String,
    /// Their addresses.
    pub addresses: Vec<String>,
    /// Whether they load only bytes of the verified digest, as embedded ones do.
    pub load_only_verified: bool,
}

/// The servers, and the loads that were seen there.
#[derive(Debug, Default)]
pub(super) struct SeenServers {
    servers: ModelServers,
    /// As many as addresses.
    loads: Vec<EndpointLoads>,
}

impl SeenServers {
    pub fn new(servers: ModelServers) -> Self {
        let loads = vec![EndpointLoads::default(); servers.addresses.len()];
        Self { servers, loads }
    }

    /// Sets the servers. What was seen at others does not count.
    pub fn set(&mut self, servers: ModelServers) {
        if self.servers != servers {
            *self = Self::new(servers);
        }
    }

    pub const fn load_only_verified(&self) -> bool {
        self.servers.load_only_verified
    }

    /// Whether an address is one of theirs.
    pub fn has(&self, address: &str) -> bool {
        self.servers.addresses.iter().any(|known| known == address)
    }

    /// Records what a health check of an address saw that began at this time. `sighting` gets the
    /// model's name there.
    pub fn record(&mut self, address: &str, began_ms: u64, sighting: impl Fn(&str) -> Sighting) {
        let loads = self.servers.addresses.iter().zip(&mut self.loads);
        for (_, loads) in loads.filter(|(known, _)| *known == address) {
            loads.record(sighting(&self.servers.model), began_ms);
        }
    }

    /// Forgets what was seen.
    pub fn forget(&mut self) {
        self.loads.fill(EndpointLoads::default());
    }

    /// The last load at each server.
    pub fn loads(&self) -> Vec<Option<Load>> {
        self.loads.iter().map(EndpointLoads::last).collect()
    }
}
