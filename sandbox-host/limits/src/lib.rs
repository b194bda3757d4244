//! The rate-limit service: counts in Redis the limits that several gateways share, over Envoy's
//! rate-limit protocol. `tensorgate_policy` defines the limits and computes the outcome of a
//! charge. The same Redis has the list of blocked clients.

mod counter;
mod redis;
mod refunds;
pub mod service;
mod shared_blocks;
mod shared_limits;

pub use counter::CounterFault;
pub use redis::{ConnectFault, Redis, RedisFault, Settings};
pub use service::PATH;
pub use shared_blocks::SharedBlock;
pub use shared_limits::SharedLimits;
