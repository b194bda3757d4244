//! Configured components: a component that is built once and configured for each user. What it
//! computes from a user's files is stored in it. All functions here are inlined, so a handler
//! without a configuration has no trace of them.

use std::sync::OnceLock;

/// The bytes that `tensorgate handler configure` stored in this component, or `None` if it is not
/// configured.
#[cfg(target_arch = "wasm32")]
#[inline]
pub fn configured() -> Option<&'static [u8]> {
    kept().get().copied()
}

/// The bytes that [`crate::testing::set_configured`] sets. There is no host here.
#[cfg(not(target_arch = "wasm32"))]
pub fn configured() -> Option<&'static [u8]> {
    crate::testing::configured()
}

#[inline]
fn kept() -> &'static OnceLock<&'static [u8]> {
    static KEPT: OnceLock<&'static [u8]> = OnceLock::new();
    &KEPT
}

/// Three words about the outcome of a configuration: 1 for success and 0 for an error, the address
/// of the bytes, their length. For [`crate::export_configure`].
#[doc(hidden)]
#[inline]
pub fn outcome_words(outcome: Result<Vec<u8>, String>) -> &'static [usize; 3] {
    let (success, bytes) = match outcome {
        Ok(made) => (1, made),
        Err(why) => (0, why.into_bytes()),
    };
    let bytes: &'static [u8] = bytes.leak();
    Box::leak(Box::new([success, bytes.as_ptr().addr(), bytes.len()]))
}

/// Memory for the configured bytes; `handler configure` writes them before anything reads them. For
/// [`crate::export_configure`].
#[doc(hidden)]
#[inline]
pub fn keep(bytes: usize) -> usize {
    let room: &'static [u8] = crate::arena::before_calls(|| vec![0; bytes].leak());
    kept().get_or_init(|| room).as_ptr().addr()
}
