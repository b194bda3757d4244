//! Credentials to clients. API keys so far: `tg_`, random characters, a checksum; stored and looked up by SHA-256.
//!
//! It tells who is calling and never what they may do; it reads no clock: the time is an argument.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod api_key;

pub use api_key::{KeyRing, digest, format_key};
