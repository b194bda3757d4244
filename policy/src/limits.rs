//! Counters of limits: rates, daily budgets, requests in flight and failed credentials; and the
//! circuit breaker of a service that counts elsewhere. Pure: the caller reads the clocks and stores
//! the state.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub mod budget;
pub mod circuit_breaker;
pub mod gcra;
pub mod in_flight;
pub mod lockout;

/// A state as it is stored. A bucket with reservations, a counter of several expiry times and a
/// page of a lockout are larger than this and allocated.
pub type StateBytes = SmallVec<[u8; 64]>;

/// The counted unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Elements of a request's input tensors.
    Elements,
    /// Bytes of a request's input tensors in OIP's raw form, or of a raw body.
    Bytes,
    /// Tokens of a request's texts plus the tokens that it may generate. They are reserved in
    /// advance.
    Tokens,
}

impl Unit {
    /// The policy's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Elements => "elements",
            Self::Bytes => "bytes",
            Self::Tokens => "tokens",
        }
    }
}
