//! A component that is made for many users and fitted to one: what it makes of a user's files is made once, and kept in it. All of it is inlined, so that
//! it is nowhere where nobody asks for it.

use std::sync::OnceLock;

/// What `tensorgate handler configure` has put into this component, or `None` before it has.
#[cfg(target_arch = "wasm32")]
#[inline]
pub fn configured() -> Option<&'static [u8]> {
    kept().get().copied()
}

/// What [`crate::testing::set_configured`] says: nobody has configured anything here.
#[cfg(not(target_arch = "wasm32"))]
pub fn configured() -> Option<&'static [u8]> {
    crate::testing::configured()
}

#[inline]
fn kept() -> &'static OnceLock<&'static [u8]> {
    static KEPT: OnceLock<&'static [u8]> = OnceLock::new();
    &KEPT
}

/// Where the outcome of a configuration lies: 1 for what was made, 0 for why not, its address, its bytes. For [`crate::export_configure`].
#[doc(hidden)]
#[inline]
pub fn told(outcome: Result<Vec<u8>, String>) -> &'static [usize; 3] {
    let (good, bytes) = match outcome {
        Ok(made) => (1, made),
        Err(why) => (0, why.into_bytes()),
    };
    let bytes: &'static [u8] = bytes.leak();
    Box::leak(Box::new([good, bytes.as_ptr().addr(), bytes.len()]))
}

/// Room for what is kept; whoever configures writes there before anything reads it. For [`crate::export_configure`].
#[doc(hidden)]
#[inline]
pub fn keep(bytes: usize) -> usize {
    let room: &'static [u8] = crate::before_calls(|| vec![0; bytes].leak());
    kept().get_or_init(|| room).as_ptr().addr()
}
