//! All that a handler can ask of its host: its configuration, and a line in the log.

/// What the policy's `config:` of this handler says of a key, or `None` if it does not set it.
#[cfg(target_arch = "wasm32")]
pub fn config(key: &str) -> Option<String> {
    crate::bindings::preprocess::tensorgate::handler::config::get(key)
}

/// What [`crate::testing::set_config`] says of a key: there is no host here.
#[cfg(not(target_arch = "wasm32"))]
pub fn config(key: &str) -> Option<String> {
    crate::testing::config(key)
}

/// Lines for the operator's log, under the request's id. Their number and length are bounded by the host: past the
/// bound they are dropped and counted, never an error.
pub mod log {
    pub use crate::bindings::preprocess::tensorgate::handler::log::Level;

    /// Writes a line for the author.
    pub fn debug(message: impl AsRef<str>) {
        write(Level::Debug, message.as_ref());
    }

    /// Writes a line worth knowing.
    pub fn info(message: impl AsRef<str>) {
        write(Level::Info, message.as_ref());
    }

    /// Writes a line worth a look.
    pub fn warn(message: impl AsRef<str>) {
        write(Level::Warn, message.as_ref());
    }

    /// Writes a line worth waking somebody.
    pub fn error(message: impl AsRef<str>) {
        write(Level::Error, message.as_ref());
    }

    #[cfg(target_arch = "wasm32")]
    fn write(level: Level, message: &str) {
        crate::bindings::preprocess::tensorgate::handler::log::write(level, message);
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn write(level: Level, message: &str) {
        eprintln!("{level:?}: {message}");
    }
}
