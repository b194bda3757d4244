//! Messages of a gRPC stream as a client frames them: flag, length, message. The reader returns how
//! many bytes it needs to continue, at most one message.

use tensorgate_policy::{Denial, Reason};

use crate::fault::BodyFault;
use crate::grpc::FRAME_HEADER_BYTES;

/// Result of reading the beginning of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum NextMessage<'b> {
    /// Incomplete: so many bytes are needed in all.
    Incomplete(usize),
    /// A message.
    Message {
        /// Its frame: the beginning of the input.
        frame: &'b [u8],
    },
}

/// Reader of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Messages {
    /// Maximum size of a frame.
    max_bytes: usize,
}

impl Messages {
    /// A reader. `max_bytes`: maximum size of a message with its frame.
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }

    /// Reads the next message from `received`. After a fault the stream ends, because message
    /// boundaries are unknown. The decoder checks compression.
    ///
    /// # Errors
    /// `malformed`, `body-too-large`.
    pub fn take<'b>(&self, received: &'b [u8]) -> Result<NextMessage<'b>, Denial> {
        let Some((&[flag, a, b, c, d], _)) = received.split_first_chunk::<FRAME_HEADER_BYTES>()
        else {
            return Ok(NextMessage::Incomplete(FRAME_HEADER_BYTES));
        };
        if flag > 1 {
            let what = "unknown frame flag";
            return Err(BodyFault::Form { what, at: 0 }.into());
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let bytes = FRAME_HEADER_BYTES.saturating_add(length);
        if bytes > self.max_bytes {
            let cause = format!(
                "a message has {bytes} bytes, {} are allowed",
                self.max_bytes
            );
            return Err(Denial::new(Reason::BodyTooLarge, cause));
        }
        Ok(match received.get(..bytes) {
            Some(frame) => NextMessage::Message { frame },
            None => NextMessage::Incomplete(bytes),
        })
    }

    /// Ends the stream with `left` unread bytes.
    ///
    /// # Errors
    /// `malformed` if there are any.
    pub fn end(&self, left: usize) -> Result<(), Denial> {
        if left == 0 {
            return Ok(());
        }
        Err(BodyFault::Form {
            what: "the stream ends inside a message",
            at: left,
        }
        .into())
    }
}

/// The denial of a message that arrives at this time, if the credential that opened the stream has
/// expired. Both are in Unix seconds.
pub fn expired(until_unix_s: Option<u64>, now_unix_s: u64) -> Option<Denial> {
    let is_over = until_unix_s.is_some_and(|until| now_unix_s >= until);
    is_over.then(|| {
        let cause = "the credential that opened the stream has expired";
        Denial::new(Reason::Unauthenticated, cause)
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;

    fn frame_of(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat()
    }

    /// All messages of a stream that arrives in chunks of this size.
    fn all(messages: Messages, stream: &[u8], at_a_time: usize) -> Result<Vec<Vec<u8>>, Reason> {
        let (mut from, mut received, mut taken) = (0, 0, Vec::new());
        loop {
            match messages
                .take(&stream[from..received])
                .map_err(|it| it.reason)?
            {
                NextMessage::Incomplete(bytes) => {
                    assert!(bytes > received - from, "it has what it wants");
                    if received == stream.len() {
                        messages.end(received - from).map_err(|it| it.reason)?;
                        return Ok(taken);
                    }
                    received = (received + at_a_time).min(stream.len());
                }
                NextMessage::Message { frame } => {
                    taken.push(frame.to_vec());
                    from += frame.len();
                }
            }
        }
    }

    #[test]
    fn a_stream_gives_the_same_messages_for_every_split() {
        let frames = [
            frame_of(0, b""),
            frame_of(1, b"zipped"),
            frame_of(0, &[7; 300]),
        ];
        let stream = frames.concat();
        for at_a_time in (1..40).chain([999]) {
            let messages = Messages::new(305);
            assert_eq!(all(messages, &stream, at_a_time), Ok(frames.to_vec()));
        }
    }

    #[test]
    fn invalid_streams_are_rejected_for_every_split() {
        let frame = frame_of(0, b"abc");
        for end in 1..frame.len() {
            let stream = [&frame[..], &frame[..end]].concat();
            assert_eq!(
                all(Messages::new(99), &stream, 3),
                Err(Reason::Malformed),
                "cut at {end}"
            );
        }
        for (next, expected) in [
            (frame_of(2, b""), Reason::Malformed),
            (frame_of(0x21, b""), Reason::Malformed),
            (frame_of(0x80, b""), Reason::Malformed),
            (frame_of(0, &[0; 95]), Reason::BodyTooLarge),
            (b"\0\xff\xff\xff\xff".to_vec(), Reason::BodyTooLarge),
        ] {
            let stream = [&frame[..], &next].concat();
            let read = all(Messages::new(99), &stream, 2);
            assert_eq!(read, Err(expected), "{next:?}");
        }
    }
}
