//! The bound of a stream that the sandbox host reads: small chunks that it may not have read yet.
//!
//! A proxy sends each chunk to the host as an HTTP/2 frame of a connection that many clients share.
//! A server closes a connection with too many small unread frames. The filter cannot know what the
//! host has read, but the host reads a message before it answers the message. So the filter counts
//! the messages of both directions. This tells nothing if a message may have several answers: then
//! no chunk counts as answered.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};

use super::frame_scanner::FrameScanner;
use crate::body::small_chunks::MIN_CHUNK_BYTES;
use crate::host::HostFault;

/// Small chunks of one stream that may wait for an answer, each of which costs at most 255. The
/// host's HTTP/2 library (h2 0.4.20) allows a connection half of its window for all of its streams:
/// 128 MiB of 1,024 streams. So 257 streams would have to reach this bound at once.
const MAX_UNANSWERED_CHUNKS: usize = 2_048;

/// Counts the small chunks of a stream that have no answer.
#[derive(Debug)]
pub(crate) struct UnansweredChunks {
    /// Whether each message has one answer.
    counts_answers: bool,
    request: FrameScanner,
    response: FrameScanner,
    /// Small chunks since the last checkpoint that was answered.
    chunks: usize,
    checkpoint: Checkpoint,
}

/// A position in the request.
#[derive(Debug, Default)]
struct Checkpoint {
    /// The messages up to it.
    messages: usize,
    /// Of [`UnansweredChunks::chunks`], those up to it.
    chunks: usize,
}

impl UnansweredChunks {
    /// Nothing has been sent. `counts_answers`: each message has one answer.
    pub(crate) fn new(counts_answers: bool) -> Self {
        Self {
            counts_answers,
            request: FrameScanner::default(),
            response: FrameScanner::default(),
            chunks: 0,
            checkpoint: Checkpoint::default(),
        }
    }

    /// Counts a chunk of the request. `read` reads at most so many of its bytes from an offset.
    ///
    /// # Errors
    /// `overloaded`: too many small chunks have no answer, or the messages cannot be counted.
    pub(crate) fn add(
        &mut self,
        chunk_bytes: usize,
        read: impl FnMut(usize, usize) -> Result<Vec<u8>, HostFault>,
    ) -> Result<(), Denial> {
        if self.counts_answers && !self.request.scan(chunk_bytes, read) {
            let cause = "host call get_buffer_bytes did not give the messages of a stream";
            let denial = Denial::new(Reason::Overloaded, cause);
            return Err(denial.overloaded_by(OverloadCause::HostCall));
        }
        if chunk_bytes == 0 || chunk_bytes >= MIN_CHUNK_BYTES {
            return Ok(());
        }
        if self.chunks >= MAX_UNANSWERED_CHUNKS {
            let cause = format!(
                "{MAX_UNANSWERED_CHUNKS} chunks of a stream below {MIN_CHUNK_BYTES} bytes are not answered"
            );
            let denial = Denial::new(Reason::Overloaded, cause);
            return Err(denial.overloaded_by(OverloadCause::Memory));
        }
        self.chunks = self.chunks.saturating_add(1);
        Ok(())
    }

    /// Counts a chunk of the response.
    pub(crate) fn answer(
        &mut self,
        chunk_bytes: usize,
        read: impl FnMut(usize, usize) -> Result<Vec<u8>, HostFault>,
    ) {
        if !self.counts_answers {
            return;
        }
        self.response.scan(chunk_bytes, read);
        if self.response.messages() < self.checkpoint.messages {
            return;
        }
        self.chunks = self.chunks.saturating_sub(self.checkpoint.chunks);
        self.checkpoint = Checkpoint {
            messages: self.request.messages(),
            chunks: self.chunks,
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "tests"
    )]
    use super::super::tests::frame;
    use super::*;

    fn add(unanswered: &mut UnansweredChunks, chunk: &[u8]) -> Result<(), Denial> {
        unanswered.add(chunk.len(), |start, bytes| {
            Ok(chunk[start..start + bytes].to_vec())
        })
    }

    fn answer(unanswered: &mut UnansweredChunks) {
        let answer = frame(3);
        unanswered.answer(answer.len(), |start, bytes| {
            Ok(answer[start..start + bytes].to_vec())
        });
    }

    #[test]
    fn only_small_chunks_are_counted_up_to_a_bound() {
        let (mut unanswered, small) = (UnansweredChunks::new(true), frame(0));
        let large = [&[0, 0, 0, 1, 0][..], &[1; MIN_CHUNK_BYTES]].concat();
        for _ in 0..MAX_UNANSWERED_CHUNKS {
            assert!(add(&mut unanswered, &small).is_ok());
            assert!(add(&mut unanswered, &large).is_ok() && add(&mut unanswered, &[]).is_ok());
        }
        let denial = add(&mut unanswered, &small).unwrap_err();
        assert_eq!(denial.reason, Reason::Overloaded);
        assert_eq!(denial.overload, Some(OverloadCause::Memory));
        assert!(add(&mut unanswered, &large).is_ok());
    }

    #[test]
    fn answered_chunks_no_longer_count_however_a_message_is_split() {
        // Each message in three small chunks, and some messages ahead of their answers.
        for ahead in [1, 8, 300] {
            let (mut unanswered, message) = (UnansweredChunks::new(true), frame(9));
            let mut sent = 0;
            for answered in 0..3 * MAX_UNANSWERED_CHUNKS {
                while sent < answered + ahead {
                    for chunk in message.chunks(5) {
                        assert!(add(&mut unanswered, chunk).is_ok(), "{ahead} {answered}");
                    }
                    sent += 1;
                }
                answer(&mut unanswered);
            }
        }
    }

    #[test]
    fn an_answer_stands_for_the_messages_before_it_only() {
        let (mut unanswered, small) = (UnansweredChunks::new(true), frame(0));
        for _ in 0..MAX_UNANSWERED_CHUNKS {
            assert!(add(&mut unanswered, &small).is_ok());
        }
        for _ in 0..MAX_UNANSWERED_CHUNKS {
            assert_eq!(unanswered.chunks, MAX_UNANSWERED_CHUNKS);
            answer(&mut unanswered);
        }
        assert_eq!(unanswered.chunks, 0, "all are answered");
    }

    #[test]
    fn no_chunk_is_answered_where_a_message_may_have_several_answers() {
        let (mut unanswered, small) = (UnansweredChunks::new(false), frame(0));
        for _ in 0..MAX_UNANSWERED_CHUNKS {
            assert!(add(&mut unanswered, &small).is_ok());
            answer(&mut unanswered);
        }
        assert!(add(&mut unanswered, &small).is_err());
    }

    #[test]
    fn a_stream_ends_if_its_messages_cannot_be_counted() {
        let fault = HostFault {
            call: "get_buffer_bytes",
            status: 10,
        };
        let denial = UnansweredChunks::new(true).add(5, |_, _| Err(fault));
        assert_eq!(denial.unwrap_err().overload, Some(OverloadCause::HostCall));
    }
}
