//! The audit log: one JSON line for every request, however it ended, in a file whose history cannot be changed unseen.
//!
//! A line is made of a [`record`], sealed by [`mod@line`]: it carries the hash of the line before it, and every so often a
//! checkpoint that is signed ([`key`]). [`files`] keeps the lines on disk, [`recover`] looks at what a former host left, and
//! [`writer`] is the one thread that writes, behind a bounded queue. What the host answered, the host says; what Envoy refused,
//! lost or was left with, Envoy says over its gRPC access log ([`als`]); [`outcomes`] joins the two by our request id, so that
//! one request is one line, and what Envoy lost on the way is counted ([`heard`]). An answer that breaks off amends its line ([`mod@ending`]). [`verify`] reads a log and names what was done to it.
//!
//! What it never does: it decides nothing about a request, and it never writes a credential, a query or a body.

pub mod als;
pub mod cut_offs;
pub mod ending;
pub mod envoy_reply;
pub mod files;
pub mod heard;
pub mod key;
pub mod line;
pub mod outcomes;
pub mod plane;
pub mod record;
pub mod recover;
pub mod time;
pub mod verify;
pub mod writer;

pub use ending::Ending;
pub use outcomes::Outcomes;
pub use plane::AuditPlane;
pub use writer::{Audit, Unwritten};
