//! The servers of a model version, and what health checks saw of the version there.

use crate::endpoint_loads::{EndpointLoads, Load, Sighting};

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
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenServers {
    servers: ModelServers,
    /// As many as addresses.
    loads: Vec<EndpointLoads>,
}

impl SeenServers {
    pub fn new(servers: ModelServers) -> Self {
        let loads = vec![EndpointLoads::default(); servers.addresses.len()];
        Self { servers, loads }
    }

    /// Sets the servers, and keeps what was seen of those that stay. Returns whether one is new.
    pub fn set(&mut self, servers: ModelServers) -> bool {
        let is_same = self.servers.model == servers.model
            && self.servers.load_only_verified == servers.load_only_verified;
        let before = std::mem::replace(self, Self::new(servers));
        let mut has_new = false;
        for (address, loads) in self.servers.addresses.iter().zip(&mut self.loads) {
            let mut known = before.servers.addresses.iter().zip(&before.loads);
            match known.find(|(known, _)| is_same && *known == address) {
                Some((_, seen)) => loads.clone_from(seen),
                None => has_new = true,
            }
        }
        has_new
    }

    /// Records that all servers have loaded the verified files at this time.
    pub fn trust(&mut self, at_ms: u64) {
        self.loads.fill(EndpointLoads::loaded(at_ms));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_a_policy_adds_has_loaded_nothing() {
        let servers = |addresses: &[&str]| ModelServers {
            model: "m".to_owned(),
            addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
            load_only_verified: false,
        };
        let mut seen = SeenServers::new(servers(&["a", "b"]));
        assert!(!seen.set(servers(&["a"])));
        seen.trust(5);
        assert!(!seen.set(servers(&["a"])));
        assert!(seen.set(servers(&["b", "a"])));
        let load = Load {
            began_ms: 5,
            seen_ms: 5,
        };
        assert_eq!(seen.loads(), [None, Some(load)]);
        let renamed = ModelServers {
            model: "n".to_owned(),
            ..servers(&["a"])
        };
        assert!(seen.set(renamed));
        assert_eq!(seen.loads(), [None]);
    }
}
