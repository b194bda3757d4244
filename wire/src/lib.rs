//! Decodes inference protocols to bounded tensor views, and encodes responses.
//!
//! Filter and sandbox host share this decoder. It rejects input that two parsers could read
//! differently: duplicate keys and singular fields, unknown fields, trailing bytes. Every size,
//! depth and count has a limit in [`limits`]. Protocol types stay inside their modules; the result
//! is [`tensorgate_policy::InferRequest`].
#![forbid(unsafe_code)]
// A new variant of an enum must be decided in each `match` of the enum.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod answer;
pub mod context;
mod credential;
pub mod decode;
pub mod encode;
mod expand;
mod fault;
mod grpc;
pub mod headers;
mod json;
mod json_text;
pub mod limits;
pub mod messages;
mod multipart;
pub mod openai;
mod owned;
mod parameters;
pub mod percent;
#[cfg(feature = "grpc")]
pub mod proto;
pub mod rate_limit;
mod raw_contents;
pub mod readiness;
pub mod request_id;
mod route;
mod signature;
pub mod stream;
pub mod stream_event;
pub mod template;
#[cfg(any(feature = "grpc", feature = "test-messages"))]
#[doc(hidden)]
pub mod tensorflow;
mod torch;
pub mod trace_context;
mod unserved;
pub mod upstream;

pub use answer::Answer;
pub use decode::{addressee, check_server_query, decode};
pub use expand::{expand, most_expanded};
pub use route::{asks_config, refused_in};
pub use stream::BodyStream;

/// The members of one JSON object: a tree of limited depth and size with unique names.
///
/// # Errors
/// The fault, as for a request body.
pub fn json_members(
    body: &[u8],
) -> Result<tensorgate_policy::json::Members<'_>, tensorgate_policy::Denial> {
    json::members(body).map_err(tensorgate_policy::Denial::from)
}
