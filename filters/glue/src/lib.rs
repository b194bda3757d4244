//! The one crate that knows proxy-wasm. Filters are written against [`host::Proxy`]: inside Envoy that is
//! the SDK (only there), natively it is [`native::NativeProxy`], so that every callback can be tested in milliseconds
//! and `explain` runs the filters' own code.

mod body;
mod breaker;
mod caller;
mod checking;
pub mod enforced;
mod entry;
pub mod filter;
pub mod gate;
pub mod host;
mod identify;
pub mod keys;
pub mod lockout;
pub mod map;
pub mod native;
mod outcome;
mod pay;
pub mod places;
pub mod record;
mod reserved;
mod rewrite;
pub mod root;
#[cfg(target_family = "wasm")]
pub mod sdk;
pub mod shared_identity;
pub mod shared_limits;
pub mod signature;
pub mod slots;
pub mod spend;
mod streaming;
pub mod upstream;
mod waiting;
