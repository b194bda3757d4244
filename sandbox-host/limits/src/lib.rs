//! The limits and concurrency permits that a host counts: in its own memory, and in Redis or at
//! another server those that several gateways share. Gateways ask for shared limits over Envoy's
//! rate-limit protocol, and the host charges them itself. `tensorgate_policy` defines the limits
//! and computes the outcome of a charge. The same Redis has the list of blocked clients.

mod counter;
mod in_flight;
mod local_limits;
mod redis;
mod refunds;
pub mod saved_limits;
pub mod service;
mod shared_blocks;
mod shared_charges;
mod shared_limits;

pub use counter::CounterFault;
pub use in_flight::{InFlight, InFlightPermits};
pub use local_limits::{LocalLimits, LocalReservation, Spent};
pub use redis::{ConnectFault, Redis, RedisFault, Settings};
pub use saved_limits::SavedLimit;
pub use service::PATH;
pub use shared_blocks::SharedBlock;
pub use shared_charges::{Clock, Reservations, SharedCharges};
pub use shared_limits::SharedLimits;
