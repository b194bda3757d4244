//! Write a tensorgate handler in Rust.
//!
//! A handler is a function from tensors (or a raw body) to tensors. It computes and nothing else: it has no file,
//! socket, clock or random source, and nothing that it stores survives its call. Its policy bounds its instructions,
//! memory and time; past a bound it is stopped and the caller gets a calm error.
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
//! Put this in a crate with `crate-type = ["cdylib"]`, build it with
//! `cargo build --release --target wasm32-unknown-unknown`, and wrap the result:
//! `tensorgate-componentize target/wasm32-unknown-unknown/release/normalise.wasm -o normalise.wasm` prints the digest
//! that the policy's `handlers.normalise.sha256` wants. `RUSTFLAGS="-Clink-arg=-zstack-size=262144 -Ctarget-feature=+simd128"` spares each call most of its start: the
//! host clears an instance's memory after it, and a module has a stack of 1 MiB unless it says otherwise. It also has loops done by vectors. `tensorgate handler build` gives both.
//!
//! Say how much memory a call takes, and an instance has it from its start: `export_preprocess!(Normalise, arena: 736 << 10)`. Memory that grows during a call costs it as much as
//! half of its work. `tensorgate handler bench` says how much it grew; see [`export_preprocess!`].
//!
//! Natively everything but the exports works too, so that `cargo test` can test a handler: [`log`] writes to standard
//! error, and [`config`] answers what [`testing::set_config`] was given.
//!
//! Metering costs up to 70 % on a tight loop, because each turn of it is counted. Work on blocks: a loop whose body
//! handles 16 elements at once (`chunks_exact(16)`) is counted once for all of them.

#[cfg(target_endian = "big")]
compile_error!("tensor data is little-endian, and is read in place");

mod arena;
pub mod bindings;
mod book;
mod bytes;
mod configured;
mod element;
mod error;
mod export;
mod fetch;
mod host;
pub mod lookup;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub use arena::{Arena, before_calls};
pub use bindings::preprocess::Payload;
pub use bindings::preprocess::tensorgate::handler::types::{Datatype, Error, RawBody, Tensor};
pub use configured::configured;
#[doc(hidden)]
pub use configured::{keep, told};
pub use element::Element;
pub use export::{Postprocess, Preprocess, log_panics};
pub use fetch::{Failure, File, fetch};
pub use host::{config, log};
pub use ndarray;
