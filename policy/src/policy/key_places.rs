//! Where a request may carry an API key. A token's place is always `authorization`.

use alloc::borrow::Cow;
use alloc::string::String;

/// The longest name of a header field that holds keys, bytes: whoever reads heads looks at no longer ones.
pub const MAX_KEY_HEADER_BYTES: usize = 32;

/// The places; at least one. A request has its key in one of them, or in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlaces {
    pub(crate) headers: Cow<'static, [Cow<'static, str>]>,
    pub(crate) bearer: bool,
    pub(crate) cookie: Option<String>,
    pub(crate) query: Option<String>,
}

impl KeyPlaces {
    /// Where keys are unless a policy says: `x-api-key`, and `authorization` with `Bearer tg_…`.
    pub const USUAL: Self = Self {
        headers: Cow::Borrowed(&[Cow::Borrowed("x-api-key")]),
        bearer: true,
        cookie: None,
        query: None,
    };

    /// Header fields whose whole value is a key, lower-case, `authorization` apart; each at most [`MAX_KEY_HEADER_BYTES`] long.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|name| &**name)
    }

    /// Whether `authorization: Bearer` may hold one.
    pub const fn bearer(&self) -> bool {
        self.bearer
    }

    /// The cookie that holds one.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// The parameter of a query that holds one.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
}

impl Default for KeyPlaces {
    fn default() -> Self {
        Self::USUAL
    }
}
