//! The tensor kit: array operations for handlers, with bounded cost and without panics. Handlers in
//! Rust use it as a crate. For other languages it is a component without imports that exports
//! `wit/kit.wit`.
//!
//! ```
//! use tensorgate_kit::{Array, Datatype, Filter, planes, resize};
//!
//! # fn main() -> Result<(), tensorgate_kit::Failure> {
//! let photo = Array::from_bytes(Datatype::Uint8, &[2, 2, 3], &[0; 12])?;
//! let resized = resize::resize(&photo, 0, 4, 4, Filter::Bilinear)?;
//! let image = planes::planes(&resized, 1.0 / 255.0, &[0.5; 3], &[0.5; 3])?;
//! assert_eq!(image.shape(), [3, 4, 4]);
//! # Ok(())
//! # }
//! ```
//!
//! It reads no clocks, files or random numbers, and checks the size of each array before it
//! allocates memory.

#[cfg(target_endian = "big")]
compile_error!("elements are little-endian, and are read in place");

// As a component it uses the handlers' allocator, with an arena.
#[cfg(target_arch = "wasm32")]
#[path = "../../guest/src/arena.rs"]
#[expect(dead_code, reason = "nothing of the kit is made before its calls")]
mod arena;
pub mod arithmetic;
mod array;
mod blocks;
pub mod boxes;
mod buffer;
#[cfg(target_arch = "wasm32")]
mod component;
mod datatype;
mod failure;
mod image;
mod lanes;
pub mod moves;
mod operator;
pub mod planes;
pub mod reduce;
pub mod resize;
mod sound;
pub mod unary;

pub use array::{Array, MAX_DIMS, MAX_ELEMENTS};
pub use blocks::Block;
pub use datatype::Datatype;
pub use failure::{Failure, Kind};
pub use image::{Channels, MAX_PIXELS, decode_image};
pub use moves::Span;
pub use operator::Operator;
pub use reduce::Reduction;
pub use resize::Filter;
pub use sound::{MAX_SOUND_CHANNELS, decode_wav};
pub use unary::Function;
