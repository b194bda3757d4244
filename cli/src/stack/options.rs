//! Options of `tensorgate up`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::chain::Chain;
use crate::render::envoy::Driver;
use crate::render::envoy::control_plane::ControlPlane;

/// Options of the command.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder that the policy's paths are relative to.
    pub root: PathBuf,
    /// Folder for logs and rendered configuration.
    pub state: PathBuf,
    /// How Envoy runs the filters.
    pub driver: Driver,
    /// Folder of the filters' modules.
    pub filters: PathBuf,
    /// The filters in front of the host, in order.
    pub chain: Chain,
    /// The control plane whose configuration is rendered.
    pub control_plane: ControlPlane,
    /// Overrides the policy's listen address.
    pub listen: Option<SocketAddr>,
    /// The host's admin address; the system chooses port 0.
    pub admin: SocketAddr,
    /// Whether the admin address may be reachable from other machines.
    pub admin_public: bool,
    /// File with the secret of those who read the console at a public admin address.
    pub console_public: Option<PathBuf>,
    /// Where Prometheus reads Envoy's counters; nowhere if absent.
    pub stats: Option<SocketAddr>,
    /// Number of Envoy's worker threads.
    pub concurrency: Option<u16>,
    /// Whether logs have more detail, and compiled handlers are shared with `tensorgate handler`.
    pub dev: bool,
}
