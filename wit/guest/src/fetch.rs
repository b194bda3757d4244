//! Files from elsewhere, which the host fetches.

pub use crate::bindings::granted::tensorgate::handler::fetch::{Failure, File};

/// The files at these `https` URLs, one for each, if the policy's `fetch:` of this handler lets them be fetched. A component
/// that calls this is not loaded without that.
///
/// The handler has no network: where a file is not at hand yet, the call ends here, and runs again from its beginning once it is. Its
/// fuel and time are those of all runs together, so ask for all files in one call, as early as it can be said which.
#[cfg(target_arch = "wasm32")]
pub fn fetch<U: AsRef<str>>(urls: &[U]) -> Vec<Result<File, Failure>> {
    let urls: Vec<String> = urls.iter().map(|url| url.as_ref().to_owned()).collect();
    crate::bindings::granted::tensorgate::handler::fetch::get(&urls)
}

/// What [`crate::testing::set_file`] says of these URLs: there is no host here.
#[cfg(not(target_arch = "wasm32"))]
pub fn fetch<U: AsRef<str>>(urls: &[U]) -> Vec<Result<File, Failure>> {
    urls.iter()
        .map(|url| crate::testing::file(url.as_ref()))
        .collect()
}

impl Failure {
    /// Its name in the contract.
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
