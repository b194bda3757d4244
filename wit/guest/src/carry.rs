//! Bytes from the preprocess handlers of a request to its postprocess handlers. No other request
//! sees them.

/// The most bytes that can be carried.
pub const MAX_BYTES: usize = 65_536;

/// Replaces the carried bytes. More than [`MAX_BYTES`] end the call as a fault.
#[cfg(target_arch = "wasm32")]
pub fn set(data: &[u8]) {
    crate::bindings::preprocess::tensorgate::handler::carry::set(data);
}

/// The bytes that an earlier handler of the same request has set last. Empty without any.
#[cfg(target_arch = "wasm32")]
pub fn get() -> Vec<u8> {
    crate::bindings::preprocess::tensorgate::handler::carry::get()
}

/// Replaces the carried bytes of this thread, which [`get`] returns. There is no host here.
///
/// # Panics
/// Panics if there are more than [`MAX_BYTES`], as the host ends the call.
#[cfg(not(target_arch = "wasm32"))]
pub fn set(data: &[u8]) {
    assert!(data.len() <= MAX_BYTES, "more than {MAX_BYTES} bytes");
    crate::testing::set_carry(data);
}

/// The bytes that [`set`] or [`crate::testing::set_carry`] has set last on this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn get() -> Vec<u8> {
    crate::testing::carry()
}
