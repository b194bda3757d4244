//! Room within the host's bytes for an answer that comes in one piece: taken as it comes, not for the longest that there may be. Nobody waits for room: a backend
//! cannot fill the host, and what there is none for is not read on.

use tensorgate_policy::request::Api;

use crate::budget::Held;

/// A first piece, bytes: room for a short answer is there before it is asked for, so that none is generated in vain.
const FIRST_BYTES: usize = 64 << 10;
/// Bytes that a text in memory may have room for beside its own: a buffer that grows is copied into one of twice its length.
const GROWING: usize = 3;
/// An answer's text, its words as they were read with room to undo their escapes, and what is written.
pub(crate) const ANSWER_COPIES: usize = 4;
/// What is written around it: an id, a model's name.
const AROUND_BYTES: usize = 2 << 10;
/// How much longer a value may be written than it came: a number with all its zeros, a member that a server left out.
const LONGER_BYTES: usize = 16;

/// Room for one answer.
#[derive(Debug)]
pub struct Room<'h> {
    held: &'h mut Held,
    /// Bytes that its request holds beside it.
    beside: usize,
}

impl<'h> Room<'h> {
    /// Room for an answer beside so many bytes of its request.
    pub const fn new(held: &'h mut Held, beside: usize) -> Self {
        Self { held, beside }
    }

    /// Takes what a short answer needs; `false` if the host does not have it.
    #[must_use]
    pub fn begins(&mut self) -> bool {
        self.takes(0)
    }

    /// Takes what so many bytes of an answer need that is still coming.
    #[must_use]
    pub(super) fn comes(&mut self, bytes: usize) -> bool {
        self.takes(bytes.saturating_mul(GROWING))
    }

    /// Takes what an answer needs to be checked and written anew.
    #[must_use]
    pub(super) fn becomes(&mut self, api: Api, answer: &[u8]) -> bool {
        self.takes(needs(api, answer))
    }

    /// Keeps what was written, and gives back the rest.
    pub fn keeps(self, bytes: usize) {
        let bytes = bytes.min(self.held.bytes());
        // Less than there was: that never fails.
        let _ = self.held.resize(bytes);
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let least = FIRST_BYTES.saturating_mul(ANSWER_COPIES);
        self.held
            .resize(self.beside.saturating_add(bytes.max(least)))
    }
}

/// What one value of an answer takes, beside its words: what it is read into, three times over where lists of them grow. No value comes without one of the marks
/// that are counted here.
const fn value_bytes(api: Api) -> usize {
    match api {
        // A token with its probabilities has at least three marks, and is the largest by them.
        Api::Chat | Api::Completions => 128,
        // A number; and an embedding of few of them, which has three marks.
        Api::Embeddings => 48,
    }
}

/// Values in a text, at most: whatever begins one, or stands between two.
fn values(answer: &[u8]) -> usize {
    let mark = |byte: &&u8| matches!(**byte, b',' | b'[' | b'{');
    answer.iter().filter(mark).count()
}

/// Bytes that an answer needs at most while it is checked and written anew, its own included.
pub fn needs(api: Api, answer: &[u8]) -> usize {
    let each = value_bytes(api).saturating_add(LONGER_BYTES);
    let texts = answer.len().saturating_mul(ANSWER_COPIES);
    let values = values(answer).saturating_mul(each);
    texts.saturating_add(values).saturating_add(AROUND_BYTES)
}

/// How long what is written of it may be.
pub(super) fn longest(answer: &[u8]) -> usize {
    let longer = values(answer).saturating_mul(LONGER_BYTES);
    answer
        .len()
        .saturating_add(longer)
        .saturating_add(AROUND_BYTES)
}
