//! An accepted connection whose peer was checked: who it is, and how long it may stay.

use std::net::IpAddr;
use std::sync::Arc;

/// The gateway at the other end of a connection. Each of its requests has it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPeer {
    /// Its name for operators.
    pub name: Arc<str>,
}

impl GatewayPeer {
    /// A peer of a Unix socket, by its user.
    pub(super) fn local(uid: u32) -> Self {
        let name = format!("uid {uid}").into();
        Self { name }
    }

    /// A peer over TCP: the name in its certificate that the host allows (a SPIFFE ID or a DNS
    /// name), and its address. Pods of one gateway have the same name.
    pub(super) fn over_network(name: &str, address: IpAddr) -> Self {
        let name = format!("{name} at {}", address.to_canonical()).into();
        Self { name }
    }
}

/// Whether the peer of an open connection is still allowed. This blocks for less than a
/// millisecond.
pub type PeerCheck = Box<dyn Fn() -> bool + Send + Sync>;

/// A connection that may be served.
pub struct Connection<S> {
    /// The bytes.
    pub stream: S,
    /// The gateway. `None` at the admin server.
    pub peer: Option<GatewayPeer>,
    /// Repeated while the connection is open. `None` if a peer is allowed for good.
    pub still_allowed: Option<PeerCheck>,
    /// Whether it comes over a network. It then must be HTTP/2, and a peer that no longer answers
    /// is noticed.
    pub over_network: bool,
}

impl<S> Connection<S> {
    /// A connection of this machine, whose peer is allowed for good.
    pub const fn local(stream: S, peer: Option<GatewayPeer>) -> Self {
        Self {
            stream,
            peer,
            still_allowed: None,
            over_network: false,
        }
    }
}
