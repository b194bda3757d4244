//! The host's functions for every handler: its configuration, and the log.

/// The value of a key in the policy's `config:` of this handler, or `None` if the policy does not
/// set it.
#[cfg(target_arch = "wasm32")]
pub fn config(key: &str) -> Option<String> {
    crate::bindings::preprocess::tensorgate::handler::config::get(key)
}

/// The value that [`crate::testing::set_config`] sets for a key. There is no host here.
#[cfg(not(target_arch = "wasm32"))]
pub fn config(key: &str) -> Option<String> {
    crate::testing::config(key)
}

/// The operator's log. Each line carries the request's ID. The host bounds number and length of the
/// lines: over the bound they are dropped and counted, which is never an error.
pub mod log {
    pub use crate::bindings::preprocess::tensorgate::handler::log::Level;

    /// Writes details for the handler's author.
    pub fn debug(message: impl AsRef<str>) {
        write(Level::Debug, message.as_ref());
    }

    /// Writes a line about normal operation.
    pub fn info(message: impl AsRef<str>) {
        write(Level::Info, message.as_ref());
    }

    /// Writes a line about something unexpected.
    pub fn warn(message: impl AsRef<str>) {
        write(Level::Warn, message.as_ref());
    }

    /// Writes an error that an operator should act on.
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
