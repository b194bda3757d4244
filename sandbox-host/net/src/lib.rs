//! TLS and HTTP to servers that a policy names, and to servers that a handler may reach.

pub mod client_tls;
pub mod dialer;
pub mod exchange;
pub mod http2;
pub mod peer_name;
pub mod pem;
pub mod permits;
pub mod post;
pub mod resolve;
pub mod tls;
