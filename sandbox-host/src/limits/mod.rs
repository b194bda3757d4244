//! Our rate limit service: counts in a Redis what several gateways share, and speaks Envoy's protocol for it. It decides nothing that the
//! policy does not: which limits there are, and what a count comes to, `tensorgate_policy` says.

mod counter;
mod index;
mod plane;
mod redis;
mod service;

pub use counter::CounterFault;
pub use plane::LimitsPlane;
pub use redis::{ConnectFault, Redis, RedisFault, Settings};
pub use service::PATH;

pub(crate) use index::Limits;
