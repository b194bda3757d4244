//! TLS and HTTP to servers that a policy names, and to servers that a handler may reach.
//!
//! [`tls`] has the host's identity and the authorities that it trusts. [`dialer`] connects to a
//! server of the policy, and [`http2`] makes gRPC calls over one connection. [`exchange`] makes one
//! HTTP request to an address that [`resolve`] found and checked. [`http1`] makes requests over
//! connections that are kept.

pub mod client_tls;
pub mod dialer;
pub mod exchange;
pub mod http1;
pub mod http2;
pub mod peer_name;
pub mod pem;
pub mod permits;
pub mod post;
pub mod resolve;
pub mod tls;
