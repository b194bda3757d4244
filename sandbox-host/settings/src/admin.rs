//! The interface of the admin server: its address, its documents, and the header of a proxy.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The default address.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9902);

/// The port of the loopback address in a pod, where the admin server serves all of it. Its other
/// address is reachable for probes and scrapers, and serves only what these need.
pub const LOCAL_PORT: u16 = 9904;
/// Why the host is not ready before its first policy is active.
pub const COMPILING: &str = "compiling handlers";
/// How a further line starts, which names one of these handlers.
pub const COMPILING_HANDLER: &str = "compiling handler ";

/// Header in which a proxy beside the host, such as the sidecar of a mesh, names the gateway that
/// it received a request from. The filter rejects requests of clients that have it.
pub const GATEWAY_HEADER: &str = "x-tensorgate-gateway";

/// A gateway, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// The gateway's name.
    pub gateway: String,
    /// The policy version of its last request.
    pub generation: String,
    /// Whether the host has that version now.
    pub known: bool,
    /// The age of that request, in seconds.
    pub last_seen_s: u64,
}
