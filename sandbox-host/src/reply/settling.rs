//! How an answer says what it used of the tokens that the gate has reserved for it: in a trailer, which the gate takes away.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tensorgate_wire::settlement::TRAILER;

use crate::request::Judge;

/// Whose answer it is, and what signs for it.
pub struct Settling {
    judge: Arc<Judge>,
    request_id: String,
}

impl Settling {
    /// Of a request that a judge has let through.
    pub fn new(judge: &Arc<Judge>, request_id: &str) -> Self {
        Self {
            judge: Arc::clone(judge),
            request_id: request_id.to_owned(),
        }
    }

    /// The trailers of an answer that used so many tokens.
    pub(super) fn trailers(&self, tokens: u64) -> Option<HeaderMap> {
        let value = self.judge.settlement(&self.request_id, tokens);
        let value = HeaderValue::from_str(&value).ok()?;
        Some(HeaderMap::from_iter([(
            HeaderName::from_static(TRAILER),
            value,
        )]))
    }
}

impl fmt::Debug for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settling").finish_non_exhaustive()
    }
}
