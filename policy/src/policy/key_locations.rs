//! Locations of API keys in requests. Tokens are always in `authorization`.

use alloc::borrow::Cow;
use alloc::string::String;

use crate::values::getters;

/// Maximum length of a header field's name that may hold keys; longer names are skipped.
pub const MAX_KEY_HEADER_BYTES: usize = 32;

/// Locations of API keys; at least one. A request has its key in at most one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLocations {
    pub(crate) headers: Cow<'static, [Cow<'static, str>]>,
    pub(crate) bearer: bool,
    pub(crate) any_format: bool,
    pub(crate) cookie: Option<String>,
    pub(crate) query: Option<String>,
}

getters! { KeyLocations {
    /// Whether `authorization: Bearer` may hold one.
    bearer: bool,
    /// Whether any key of the policy may have a format other than tensorgate's.
    any_format: bool,
    /// The cookie that holds one.
    cookie: Option<&str>,
    /// The query parameter that holds one.
    query: Option<&str>,
} }

impl KeyLocations {
    /// Default locations: `x-api-key`, and `authorization` with `Bearer tg_…`.
    pub const USUAL: Self = Self {
        headers: Cow::Borrowed(&[Cow::Borrowed("x-api-key")]),
        bearer: true,
        any_format: false,
        cookie: None,
        query: None,
    };

    /// Header fields whose whole value is a key, lower-case, except `authorization`; each at most
    /// [`MAX_KEY_HEADER_BYTES`] long.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|name| &**name)
    }
}

impl Default for KeyLocations {
    fn default() -> Self {
        Self::USUAL
    }
}
