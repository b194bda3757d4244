//! The gate as a dynamic module of Envoy: the filters of `filters/core` as native code.
//!
//! `abi` is the boundary to Envoy and has all `unsafe`. `hooks` says what each hook does, and what
//! a panic in it costs. `host` is the port of one request. What all workers share is the memory of
//! the process (`store`).
//!
//! Envoy runs a module with its own rights. `docs/how-to/native-module.md` compares what a fault
//! costs with the wasm module.

mod abi;
mod clock;
mod configuration;
mod hooks;
mod host;
mod key_fetches;
mod key_requests;
mod lock;
mod panics;
mod state;
mod store;
mod stream;
mod timer;
mod worker;
