//! The port on the proxy-wasm SDK.
