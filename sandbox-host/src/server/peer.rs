//! An accepted connection whose peer was checked: who it is, and how long it may stay.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use tensorgate_settings::admin::GATEWAY_HEADER;

use super::slots::Slot;

/// The longest such name that is shown, bytes. Identities of a mesh are shorter.
const MAX_NAME_BYTES: usize = 512;

/// The gateway at the other end of a connection. Each of its requests has it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPeer {
    /// Its name for operators.
    pub name: Arc<str>,
    /// Whether it is a process of this machine, which may pass on requests of other gateways.
    is_local: bool,
}

impl GatewayPeer {
    /// A peer of a Unix socket, by its user.
    pub(super) fn local(uid: u32) -> Self {
        Self {
            name: format!("uid {uid}").into(),
            is_local: true,
        }
    }

    /// A peer over TCP: the name in its certificate that the host allows (a SPIFFE ID or a DNS
    /// name), and its address. Pods of one gateway have the same name.
    pub(super) fn over_network(name: &str, address: IpAddr) -> Self {
        Self {
            name: format!("{name} at {}", address.to_canonical()).into(),
            is_local: false,
        }
    }

    /// The name of the gateway that a request came from: this peer, or the one that a proxy of this
    /// machine names.
    pub fn origin<'a>(&'a self, headers: &'a HeaderMap) -> &'a str {
        let mut named = headers.get_all(GATEWAY_HEADER).iter();
        match (named.next().map(HeaderValue::to_str), named.next()) {
            (Some(Ok(name)), None)
                if self.is_local && !name.is_empty() && name.len() <= MAX_NAME_BYTES =>
            {
                name
            }
            _ => &self.name,
        }
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
    /// Its slot. `None` if the listener has none.
    pub slot: Option<Slot>,
}

impl<S> Connection<S> {
    /// A connection of this machine, whose peer is allowed for good.
    pub const fn local(stream: S, peer: Option<GatewayPeer>) -> Self {
        Self {
            stream,
            peer,
            still_allowed: None,
            over_network: false,
            slot: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::net::Ipv4Addr;

    use super::*;

    fn naming(names: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(GATEWAY_HEADER, HeaderValue::from_str(name).unwrap());
        }
        headers
    }

    #[test]
    fn only_a_proxy_of_this_machine_names_another_gateway() {
        let gateway = "spiffe://a/gateway at 10.0.0.7";
        let sidecar = GatewayPeer::local(1337);
        assert_eq!(sidecar.origin(&naming(&[gateway])), gateway);
        let remote = GatewayPeer::over_network("spiffe://a/b", Ipv4Addr::LOCALHOST.into());
        let own = "spiffe://a/b at 127.0.0.1";
        assert_eq!(remote.origin(&naming(&[gateway])), own);
        let long = "a".repeat(MAX_NAME_BYTES.saturating_add(1));
        let odd: [&[&str]; 4] = [&[], &[""], &[gateway, gateway], &[&long]];
        for names in odd {
            assert_eq!(sidecar.origin(&naming(names)), "uid 1337", "{names:?}");
        }
    }
}
