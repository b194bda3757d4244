//! Header fields to facts: route, types, credential, and whatever makes a head ambiguous.

use tensorgate_policy::request::{ContentType, Credential, Head, Identity, Route};

/// Our own headers begin so; a client that sends one is refused.
pub const OWN_PREFIX: &[u8] = b"x-tensorgate-";

/// A head, read once.
#[derive(Debug)]
pub struct ReadHead<'a> {
    /// `:method`; empty if absent.
    pub method: &'a str,
    /// `:path` with its query; empty if absent.
    pub path: &'a str,
    /// `x-request-id` as the proxy set it; empty if absent.
    pub request_id: &'a str,
    /// What came as proof of identity.
    pub credential: Credential<'a>,
    header_bytes: usize,
    header_count: usize,
    ambiguous: Option<&'static str>,
    route: Route<'a>,
    content_type: ContentType<'a>,
    encoded: bool,
    content_length: Option<u64>,
    end_of_stream: bool,
}

impl<'a> ReadHead<'a> {
    /// Reads every field once. Names are compared without case; values are bytes and may be anything.
    /// `end_of_stream`: no body follows.
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &'a [(N, V)], end_of_stream: bool) -> Self {
        let _ = (fields, end_of_stream);
        unimplemented!()
    }

    /// The facts that a decision reads, with the identity that the credential came to.
    pub fn into_head(self, identity: Identity) -> Head<'a> {
        Head {
            header_bytes: self.header_bytes,
            header_count: self.header_count,
            ambiguous: self.ambiguous,
            identity,
            route: self.route,
            content_type: self.content_type,
            encoded: self.encoded,
            content_length: self.content_length,
            end_of_stream: self.end_of_stream,
        }
    }
}
