//! HTTP files that the host fetches.

pub use crate::bindings::granted::tensorgate::handler::fetch::{Failure, File};

/// Fetches `https` URLs and returns one result for each. The host loads a component that calls this
/// only if its policy has `fetch:`.
///
/// The handler has no network. When a file is not available yet, the host ends the call, fetches
/// the file, and runs the call again from its beginning. The fuel and time limits cover all runs
/// together, so request all files in one call, as early as possible.
#[cfg(target_arch = "wasm32")]
pub fn fetch<U: AsRef<str>>(urls: &[U]) -> Vec<Result<File, Failure>> {
    let urls: Vec<String> = urls.iter().map(|url| url.as_ref().to_owned()).collect();
    crate::bindings::granted::tensorgate::handler::fetch::get(&urls)
}

/// Returns what [`crate::testing::set_file`] sets for these URLs. There is no host here.
#[cfg(not(target_arch = "wasm32"))]
pub fn fetch<U: AsRef<str>>(urls: &[U]) -> Vec<Result<File, Failure>> {
    urls.iter()
        .map(|url| crate::testing::file(url.as_ref()))
        .collect()
}

impl Failure {
    /// The failure's name in `handler.wit`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too-large",
            Self::WrongType => "wrong-type",
            Self::NotFound => "not-found",
        }
    }
}
