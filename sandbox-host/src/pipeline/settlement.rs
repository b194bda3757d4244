//! Reports the number of used tokens to the gate in a trailer of the response. The gate removes the
//! trailer.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tensorgate_wire::context::Key;
use tensorgate_wire::settlement::{Settlement, TRAILER};

/// The request, and the key that signs for it.
pub struct TokenSettlement {
    key: Arc<Key>,
    request_id: String,
}

impl TokenSettlement {
    /// Creates the report of a verified request.
    pub fn new(key: Arc<Key>, request_id: &str) -> Self {
        Self {
            key,
            request_id: request_id.to_owned(),
        }
    }

    /// The trailers of a response that used this many tokens.
    pub(super) fn trailers(&self, tokens: u64) -> Option<HeaderMap> {
        let request_id = self.request_id.clone();
        trailers(&Settlement { request_id, tokens }.sign(&self.key))
    }
}

/// The trailers with a text for the gate, which removes it.
pub(super) fn trailers(value: &str) -> Option<HeaderMap> {
    let value = HeaderValue::from_str(value).ok()?;
    Some(HeaderMap::from_iter([(
        HeaderName::from_static(TRAILER),
        value,
    )]))
}

impl fmt::Debug for TokenSettlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settling").finish_non_exhaustive()
    }
}
