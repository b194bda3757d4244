//! Reserves memory in the host's budget for a complete response, as it arrives instead of for its
//! largest possible size. A response never waits for memory. It is not read further if there is
//! none, so a backend cannot fill the host.

use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::document::Document;
pub use tensorgate_judge::response_size::{ANSWER_COPIES, answer_copies};
use tensorgate_policy::request::Api;

/// The first reservation in bytes. Memory for a short response is reserved before the request is
/// sent, so that no response is generated in vain.
const FIRST_BYTES: usize = 64 << 10;
/// The factor for a growing buffer, which is copied to one of twice its length.
const GROWTH_FACTOR: usize = 3;
/// Bytes that are added to a response: an ID and a model name.
const ENVELOPE_BYTES: usize = 2 << 10;
/// How much longer an escaped character may be encoded in the text of an object (a call's
/// arguments): each of its two characters is escaped.
const ESCAPE_GROWTH_BYTES: usize = 2;

/// The memory of one response.
#[derive(Debug)]
pub struct ResponseMemory<'h> {
    held: &'h mut MemoryPermit,
    /// The bytes that the request holds.
    request_bytes: usize,
}

impl<'h> ResponseMemory<'h> {
    /// Creates a reservation for a response, in addition to `beside` bytes of its request.
    pub const fn new(held: &'h mut MemoryPermit, beside: usize) -> Self {
        Self {
            held,
            request_bytes: beside,
        }
    }

    /// Reserves the memory of a short response. Returns `false` if there is none.
    #[must_use]
    pub fn reserve_first(&mut self) -> bool {
        self.reserve(0)
    }

    /// Reserves the memory for this many received bytes.
    #[must_use]
    pub(super) fn reserve_received(&mut self, bytes: usize) -> bool {
        self.reserve(bytes.saturating_mul(GROWTH_FACTOR))
    }

    /// Reserves the memory to check a response and encode it anew.
    #[must_use]
    pub(super) fn reserve_checked(&mut self, document: &Document, answer: &[u8]) -> bool {
        self.reserve(required_bytes(document, answer))
    }

    /// Keeps the memory of the encoded response and releases the rest.
    pub fn shrink_to(self, bytes: usize) {
        let bytes = bytes.min(self.held.bytes());
        // Shrinking never fails.
        let _ = self.held.resize(bytes);
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let least = FIRST_BYTES.saturating_mul(ANSWER_COPIES);
        self.held
            .resize(self.request_bytes.saturating_add(bytes.max(least)))
    }
}

/// The memory of one value beside its strings: the type it is decoded to, three times because lists
/// grow. Each value comes with one of the characters that [`values`] counts.
const fn value_bytes(api: Api) -> usize {
    match api {
        // A token with its probabilities has at least three of these characters, and is the largest
        // for its number.
        Api::Chat | Api::Completions => 128,
        // A number, or a short embedding with three of these characters.
        Api::Embeddings => 48,
    }
}

/// How much longer a value may be encoded than it was received: a number with all zeros, or members
/// that the server left out.
const fn value_growth_bytes(api: Api) -> usize {
    match api {
        // A call whose server writes only its name has three of the characters that [`values`]
        // counts, and gets an ID, a type and arguments.
        Api::Chat | Api::Completions => 48,
        Api::Embeddings => 16,
    }
}

/// How much longer a response with this many values may be encoded than it was received.
fn growth_bytes(api: Api, answer: &[u8], values: usize) -> usize {
    let values = values.saturating_mul(value_growth_bytes(api));
    let escapes = answer.iter().filter(|byte| **byte == b'\\').count();
    values.saturating_add(escapes.saturating_mul(ESCAPE_GROWTH_BYTES))
}

/// An upper bound on the number of values in a text: the characters that start or separate values.
fn values(answer: &[u8]) -> usize {
    let mark = |byte: &&u8| matches!(**byte, b',' | b'[' | b'{');
    answer.iter().filter(mark).count()
}

/// The most bytes that are needed to check a response and encode it anew, its own included.
pub fn required_bytes(document: &Document, answer: &[u8]) -> usize {
    let copies = answer_copies(document.answer_links.is_some());
    let texts = answer.len().saturating_mul(copies);
    let values = values(answer);
    texts
        .saturating_add(values.saturating_mul(value_bytes(document.api)))
        .saturating_add(growth_bytes(document.api, answer, values))
        .saturating_add(ENVELOPE_BYTES)
}

/// The most bytes of the encoded response.
pub(super) fn max_encoded_bytes(api: Api, answer: &[u8]) -> usize {
    answer
        .len()
        .saturating_add(growth_bytes(api, answer, values(answer)))
        .saturating_add(ENVELOPE_BYTES)
}
