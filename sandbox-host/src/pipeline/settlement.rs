//! Reports the number of used tokens to the gate in a trailer of the response. The gate removes the
//! trailer.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tensorgate_wire::settlement::TRAILER;

use crate::pipeline::request::Verifier;

/// The request, and the verifier that signs for it.
pub struct TokenSettlement {
    judge: Arc<Verifier>,
    request_id: String,
}

impl TokenSettlement {
    /// Creates the report of a verified request.
    pub fn new(judge: &Arc<Verifier>, request_id: &str) -> Self {
        Self {
            judge: Arc::clone(judge),
            request_id: request_id.to_owned(),
        }
    }

    /// The trailers of a response that used this many tokens.
    pub(super) fn trailers(&self, tokens: u64) -> Option<HeaderMap> {
        let value = self.judge.sign_settlement(&self.request_id, tokens);
        let value = HeaderValue::from_str(&value).ok()?;
        Some(HeaderMap::from_iter([(
            HeaderName::from_static(TRAILER),
            value,
        )]))
    }
}

impl fmt::Debug for TokenSettlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settling").finish_non_exhaustive()
    }
}
