//! Write a tensorgate handler in Rust.
//!
//! A handler is a function from tensors (or a raw body) to tensors. It has no files and sockets,
//! its clock stands at the time of the request, and nothing that it stores survives its call. Its
//! policy bounds its instructions, memory and time. A call that exceeds a bound is stopped, and the
//! caller gets an error without details.
//!
//! ```
//! use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess, log};
//!
//! struct Normalise;
//!
//! impl Preprocess for Normalise {
//!     fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
//!         let mean: f32 = config("mean").and_then(|text| text.parse().ok()).unwrap_or(0.0);
//!         let Payload::Tensors(tensors) = input else {
//!             return Err(Error::bad_input("expected tensors"));
//!         };
//!         let image = tensors.first().ok_or_else(|| Error::bad_input("no tensor"))?;
//!         let pixels = image.view::<f32>()?;
//!         log::debug(format!("{:?}", pixels.shape()));
//!         Ok(vec![Tensor::from_array("image", pixels.mapv(|pixel| pixel - mean))?])
//!     }
//! }
//!
//! export_preprocess!(Normalise);
//! # fn main() {}
//! ```
//!
//! `tensorgate handler build` compiles the crate and prints the digest for the policy's
//! `handlers.normalise.sha256`. Without it:
//!
//! - Set `crate-type = ["cdylib"]` and build with `cargo build --release --target wasm32-wasip2`.
//!   The result is a component: the policy may name it. `std::time`, `println!` and hash maps work.
//! - A crate without them is smaller with `--target wasm32-unknown-unknown`. That result has to be
//!   wrapped: `tensorgate-componentize target/wasm32-unknown-unknown/release/normalise.wasm -o
//!   normalise.wasm`. It prints the digest too.
//! - Set `RUSTFLAGS="-Clink-arg=-zstack-size=262144 -Ctarget-feature=+simd128"`. A smaller stack
//!   starts calls faster, because the host clears an instance's memory after each call, and the
//!   default stack has 1 MiB. The second flag vectorises loops. `tensorgate handler build` sets
//!   both.
//!
//! # Performance
//!
//! State how much memory a call needs: `export_preprocess!(Normalise, arena: 736 << 10)`. Growing
//! the memory during a call costs as much as half of its work. `tensorgate handler bench` prints
//! how much it grew; see [`export_preprocess!`].
//!
//! Metering costs up to 70 % in a tight loop, because each iteration is counted. Work on blocks: a
//! loop whose body handles 16 elements (`chunks_exact(16)`) is counted once for all of them.
//!
//! # Tests
//!
//! All but the exports works natively, so `cargo test` can test a handler. [`log`] writes to
//! standard error, and [`config`] returns what [`testing::set_config`] sets. [`context`] returns
//! what [`testing::set_context`] sets.

#[cfg(target_endian = "big")]
compile_error!("tensor data is little-endian, and is read in place");

mod arena;
pub mod bindings;
mod bytes;
pub mod carry;
mod configured;
mod context;
mod element;
mod error;
mod export;
mod fetch;
mod host;
pub mod lookup;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
#[doc(hidden)]
pub use arena::{Allocator, Arena, allocator};
#[doc(hidden)]
pub use arena::{LEAST_BYTES, before_calls};
pub use bindings::preprocess::Payload;
pub use bindings::preprocess::tensorgate::handler::errors::{Error, Rejection};
pub use bindings::preprocess::tensorgate::handler::types::{Datatype, RawBody, Tensor};
pub use configured::configured;
#[doc(hidden)]
pub use configured::{keep, outcome_words};
pub use context::{Input, Parameter, Request, TensorShape, context};
pub use element::Element;
pub use export::{Postprocess, Preprocess, log_panics};
pub use fetch::{Failure, File, fetch};
pub use host::{config, log};
pub use ndarray;
