//! HTTP/1.1 to servers that a policy names, with connections that are kept between requests.
//!
//! A connection belongs to one endpoint, one TLS identity and one kind of [`Reuse`]. It carries one
//! request at a time.
//! What must be true before it carries another one stands in `framing` (the answer's head),
//! `progress` (what passed over the transport) and `connection` (the decision).
//!
//! | module | what it has |
//! |---|---|
//! | `client` | sends a request over a kept or a new connection |
//! | `lease` | the use of a connection by one request, and the answer's body |
//! | `idle` | the idle connections of one endpoint |
//! | `connection` | one connection, and whether it is kept |
//! | `framing` | how an answer's head says where its body ends |
//! | `progress` | what was written and read, and the transport and body that record it |

pub mod client;
mod connection;
mod framing;
mod idle;
mod lease;
mod progress;
#[cfg(test)]
mod tests;

pub use connection::{CloseCause, ConnectionEvent, Observe, Reuse};
pub use lease::{AnswerBody, Lease};
