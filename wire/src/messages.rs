//! Messages of a gRPC stream, as framed by a client, or each after a signed envelope.
//!
//! A client's stream consists of frames: flag, length, message. Between filters, and to the host,
//! each message follows an envelope ([`crate::context::MessageEnvelope`]), which is framed with a
//! flag that gRPC does not use. The envelope of a rejection stands alone. The reader returns how
//! many bytes it needs to continue: at most one message and its envelope.
//!
//! A filter that waits for a limit may send messages ahead of their results, in pieces of any
//! length ([`MessageEnvelope::Ahead`]). The reader collects the pieces. The next results are then
//! those of the collected messages, in order.

use std::borrow::Cow;

use tensorgate_policy::{Denial, Reason};

use crate::context::{EnvelopeCodec, MAX_ENVELOPE_BYTES, MessageEnvelope, Refusal};
use crate::fault::BodyFault;
use crate::grpc::FRAME_HEADER_BYTES;

/// Value of the trailer [`crate::context::verdict::TRAILER`] of a stream whose last message is
/// incomplete and was not forwarded. Nothing can be added to a stream that ends in trailers, so the
/// rejection of that message has no envelope. The trailer needs no signature: it can only reject.
pub const INCOMPLETE: &str = "incomplete";
/// What is wrong with a stream that ends inside a message.
const ENDS_INSIDE: &str = "the stream ends inside a message";

/// The denial of a stream's last message if it is incomplete.
pub fn incomplete_message() -> Denial {
    Denial::new(Reason::Malformed, ENDS_INSIDE)
}

/// Flag of an envelope's frame. gRPC uses 0 and 1, gRPC-Web 128.
const ENVELOPE_FLAG: u8 = 0x21;
/// Bytes that may be sent ahead of their results beyond the longest message.
const AHEAD_BYTES: usize = 64 << 10;

/// Result of reading the beginning of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum NextMessage<'b> {
    /// Incomplete: so many bytes are needed in all.
    Incomplete(usize),
    /// A message.
    Message {
        /// Its envelope, if the stream has envelopes.
        envelope: Option<MessageEnvelope>,
        /// Its frame: the end of the used bytes, or owned if it was sent ahead.
        frame: Cow<'b, [u8]>,
        /// Bytes to remove from the input.
        used: usize,
    },
    /// A part of messages that were sent ahead of their results. The reader keeps it.
    Ahead {
        /// Bytes of the part and its envelope.
        used: usize,
    },
    /// A message that the filter has rejected.
    Refused {
        /// The rejection.
        refusal: Box<Refusal>,
        /// Bytes of the envelope.
        used: usize,
    },
}

/// Reader of a stream.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Codec of envelopes; `None` for a client's stream.
    codec: Option<EnvelopeCodec>,
    /// Maximum size of a frame.
    max_bytes: usize,
    /// Messages without a result from `ahead_start` on; the last may be incomplete.
    ahead: Vec<u8>,
    ahead_start: usize,
}

/// Maximum bytes of messages that are sent ahead of their results. `max_bytes`: maximum size of a
/// message with its frame.
pub const fn max_ahead(max_bytes: usize) -> usize {
    max_bytes.saturating_add(AHEAD_BYTES)
}

impl Messages {
    /// A stream from a client. `max_bytes`: maximum size of a message with its frame.
    pub const fn from_client(max_bytes: usize) -> Self {
        Self {
            codec: None,
            max_bytes,
            ahead: Vec::new(),
            ahead_start: 0,
        }
    }

    /// A stream with envelopes.
    pub const fn from_gate(codec: EnvelopeCodec, max_bytes: usize) -> Self {
        Self {
            codec: Some(codec),
            max_bytes,
            ahead: Vec::new(),
            ahead_start: 0,
        }
    }

    /// Reads the next message from `received`. After a fault the stream ends, because message
    /// boundaries are unknown.
    ///
    /// # Errors
    /// `malformed`, `body-too-large`; `unauthenticated` for an invalid envelope.
    pub fn take<'b>(&mut self, received: &'b [u8]) -> Result<NextMessage<'b>, Denial> {
        let Some(codec) = &mut self.codec else {
            return Ok(match frame(received, 0, self.max_bytes)? {
                Ok(frame) => NextMessage::Message {
                    envelope: None,
                    frame: Cow::Borrowed(frame),
                    used: frame.len(),
                },
                Err(wants) => NextMessage::Incomplete(wants),
            });
        };
        let Some(header) = header(received, 0) else {
            return Ok(NextMessage::Incomplete(FRAME_HEADER_BYTES));
        };
        let (flag, length) = header;
        let behind = FRAME_HEADER_BYTES.saturating_add(length);
        if flag != ENVELOPE_FLAG || length > MAX_ENVELOPE_BYTES {
            return Err(not_enveloped("a message has no envelope"));
        }
        let Some(envelope) = received.get(FRAME_HEADER_BYTES..behind) else {
            return Ok(NextMessage::Incomplete(behind));
        };
        // Read only once the whole message is there, because reading advances the counter.
        let mut after = codec.clone();
        let envelope = after
            .read(envelope)
            .map_err(|fault| not_enveloped(&fault.to_string()))?;
        let taken = match envelope {
            MessageEnvelope::Ahead { bytes } => {
                let end = behind.saturating_add(bytes);
                if self.ahead_bytes().saturating_add(bytes) > max_ahead(self.max_bytes) {
                    return Err(not_enveloped("too much data was sent ahead of its result"));
                }
                let Some(part) = received.get(behind..end) else {
                    return Ok(NextMessage::Incomplete(end));
                };
                self.ahead.extend_from_slice(part);
                NextMessage::Ahead { used: end }
            }
            MessageEnvelope::Refused(refusal) => {
                if refusal.ends {
                    self.ahead = Vec::new();
                    self.ahead_start = 0;
                } else if self.ahead_bytes() > 0 {
                    self.take_ahead()?;
                }
                NextMessage::Refused {
                    refusal,
                    used: behind,
                }
            }
            envelope if self.ahead_bytes() > 0 => NextMessage::Message {
                envelope: Some(envelope),
                frame: Cow::Owned(self.take_ahead()?),
                used: behind,
            },
            envelope => match frame(received, behind, self.max_bytes)? {
                Ok(frame) => NextMessage::Message {
                    envelope: Some(envelope),
                    frame: Cow::Borrowed(frame),
                    used: behind.saturating_add(frame.len()),
                },
                Err(wants) => return Ok(NextMessage::Incomplete(wants)),
            },
        };
        self.codec = Some(after);
        Ok(taken)
    }

    /// Takes the first message that was sent ahead. A result before its message is complete is not
    /// written by any gate. What was taken is removed once it is half of all, so that each byte is
    /// copied once.
    fn take_ahead(&mut self) -> Result<Vec<u8>, Denial> {
        let ahead = self.ahead.get(self.ahead_start..).unwrap_or_default();
        let Ok(frame) = frame(ahead, 0, self.max_bytes)? else {
            return Err(not_enveloped("a result was sent before its message"));
        };
        let end = self.ahead_start.saturating_add(frame.len());
        if end == self.ahead.len() && self.ahead_start == 0 {
            return Ok(core::mem::take(&mut self.ahead));
        }
        let frame = frame.to_vec();
        self.ahead_start = end;
        let rest = self.ahead.get(end..).unwrap_or_default();
        if end >= rest.len() {
            self.ahead = rest.to_vec();
            self.ahead_start = 0;
        }
        Ok(frame)
    }

    /// Bytes of messages that were sent ahead and have no result yet.
    pub const fn ahead_bytes(&self) -> usize {
        self.ahead.len().saturating_sub(self.ahead_start)
    }

    /// Ends the stream with `left` unread bytes.
    ///
    /// # Errors
    /// `malformed` if there are any, or if a message has no result.
    pub fn end(&self, left: usize) -> Result<(), Denial> {
        if left == 0 && self.ahead_bytes() == 0 {
            return Ok(());
        }
        Err(BodyFault::Form {
            what: ENDS_INSIDE,
            at: left,
        }
        .into())
    }
}

/// Frames an envelope.
pub fn framed(envelope: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_HEADER_BYTES.saturating_add(envelope.len()));
    framed.push(ENVELOPE_FLAG);
    framed.extend_from_slice(
        &u32::try_from(envelope.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    framed.extend_from_slice(envelope);
    framed
}

/// Flag and length of the frame at this offset.
fn header(buffer: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = buffer.get(at..)?;
    let (&[flag, a, b, c, d], _) = rest.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    Some((flag, length))
}

/// The frame at this offset, or the bytes needed for it. The decoder checks compression.
fn frame(buffer: &[u8], at: usize, max_bytes: usize) -> Result<Result<&[u8], usize>, Denial> {
    let Some((flag, length)) = header(buffer, at) else {
        return Ok(Err(at.saturating_add(FRAME_HEADER_BYTES)));
    };
    if flag > 1 {
        let what = "unknown frame flag";
        return Err(BodyFault::Form { what, at: 0 }.into());
    }
    let bytes = FRAME_HEADER_BYTES.saturating_add(length);
    if bytes > max_bytes {
        let cause = format!("a message has {bytes} bytes, {max_bytes} are allowed");
        return Err(Denial::new(Reason::BodyTooLarge, cause));
    }
    let end = at.saturating_add(bytes);
    Ok(buffer.get(at..end).ok_or(end))
}

fn not_enveloped(cause: &str) -> Denial {
    Denial::new(Reason::Unauthenticated, cause)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;
    use crate::context::Key;

    fn codec() -> EnvelopeCodec {
        EnvelopeCodec::new(
            &Key::from_hex(&("07".repeat(31) + "f0")).unwrap(),
            "v5.AAAA.signature",
        )
    }

    fn frame_of(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat()
    }

    fn let_through() -> MessageEnvelope {
        MessageEnvelope::Message {
            checked: true,
            quotas: Vec::new(),
        }
    }

    fn refused(ends: bool) -> MessageEnvelope {
        MessageEnvelope::Refused(Box::new(Refusal {
            denial: Denial::new(Reason::Shape, "no"),
            model: None,
            rule: None,
            id: None,
            shadowed: Vec::new(),
            ends,
        }))
    }

    /// All messages of a stream that arrives in chunks of this size.
    fn all(
        mut messages: Messages,
        stream: &[u8],
        at_a_time: usize,
    ) -> Result<Vec<Vec<u8>>, Reason> {
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
                NextMessage::Message { frame, used, .. } => {
                    taken.push(frame.into_owned());
                    from += used;
                }
                NextMessage::Refused { used, .. } => {
                    taken.push(Vec::new());
                    from += used;
                }
                NextMessage::Ahead { used } => from += used,
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
        let plain = frames.concat();
        let mut gate = codec();
        let marked: Vec<u8> = frames
            .iter()
            .flat_map(|frame| {
                let refused = framed(&gate.write(&refused(false)));
                [refused, framed(&gate.write(&let_through())), frame.clone()].concat()
            })
            .collect();
        let with_refusals: Vec<_> = frames
            .iter()
            .flat_map(|frame| [Vec::new(), frame.clone()])
            .collect();
        for at_a_time in (1..40).chain([999]) {
            let client = Messages::from_client(305);
            assert_eq!(all(client, &plain, at_a_time), Ok(frames.to_vec()));
            let host = Messages::from_gate(codec(), 305);
            assert_eq!(all(host, &marked, at_a_time), Ok(with_refusals.clone()));
        }
    }

    #[test]
    fn invalid_streams_are_rejected_for_every_split() {
        let frame = frame_of(0, b"abc");
        for end in 1..frame.len() {
            let stream = [&frame[..], &frame[..end]].concat();
            assert_eq!(
                all(Messages::from_client(99), &stream, 3),
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
            let read = all(Messages::from_client(99), &stream, 2);
            assert_eq!(read, Err(expected), "{next:?}");
        }
    }

    #[test]
    fn only_messages_in_envelopes_are_accepted_behind_a_gate() {
        let frame = frame_of(0, b"abc");
        let envelope = |envelope: &MessageEnvelope| framed(&codec().write(envelope));
        let enveloped = [envelope(&let_through()), frame.clone()].concat();
        let host = || Messages::from_gate(codec(), 99);
        assert_eq!(all(host(), &enveloped, 1), Ok(vec![frame.clone()]));
        for (stream, expected) in [
            (frame.clone(), Reason::Unauthenticated),
            (
                [frame.clone(), enveloped.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (
                [enveloped.clone(), frame.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (
                [enveloped.clone(), enveloped.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (
                // A rejected message is never forwarded.
                [envelope(&refused(false)), frame.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (envelope(&let_through()), Reason::Malformed),
            (enveloped[..enveloped.len() - 1].to_vec(), Reason::Malformed),
            (
                [envelope(&let_through()), frame_of(0, &[0; 95])].concat(),
                Reason::BodyTooLarge,
            ),
            (b"\x21\xff\xff\xff\xff".to_vec(), Reason::Unauthenticated),
            (framed(b""), Reason::Unauthenticated),
        ] {
            assert_eq!(all(host(), &stream, 7), Err(expected), "{stream:?}");
        }
    }

    /// An envelope and the bytes that it sends ahead.
    fn ahead(gate: &mut EnvelopeCodec, bytes: &[u8]) -> Vec<u8> {
        let envelope = MessageEnvelope::Ahead { bytes: bytes.len() };
        [framed(&gate.write(&envelope)), bytes.to_vec()].concat()
    }

    #[test]
    fn messages_sent_ahead_get_the_results_that_follow_in_order() {
        let frames = [
            frame_of(0, &[1; 40]),
            frame_of(0, &[2; 50]),
            frame_of(0, &[3; 60]),
        ];
        let both = frames[..2].concat();
        for cut in 1..both.len() {
            let mut gate = codec();
            let stream = [
                ahead(&mut gate, &both[..cut]),
                ahead(&mut gate, &both[cut..]),
                framed(&gate.write(&refused(false))),
                framed(&gate.write(&let_through())),
                // Nothing is ahead any more.
                framed(&gate.write(&let_through())),
                frames[2].clone(),
            ]
            .concat();
            let expected = vec![Vec::new(), frames[1].clone(), frames[2].clone()];
            for at_a_time in [1, 7, 999] {
                let host = Messages::from_gate(codec(), 99);
                assert_eq!(all(host, &stream, at_a_time), Ok(expected.clone()), "{cut}");
            }
        }
        // A result while the next message is incomplete.
        let mut gate = codec();
        let stream = [
            ahead(&mut gate, &both[..60]),
            framed(&gate.write(&let_through())),
            ahead(&mut gate, &both[60..]),
            framed(&gate.write(&let_through())),
        ]
        .concat();
        let host = Messages::from_gate(codec(), 99);
        assert_eq!(all(host, &stream, 5), Ok(frames[..2].to_vec()));
    }

    /// Writes a part of a stream.
    type Part<'p> = dyn Fn(&mut EnvelopeCodec) -> Vec<u8> + 'p;

    #[test]
    fn messages_sent_ahead_without_a_result_are_not_accepted() {
        let frame = frame_of(0, &[1; 40]);
        let stream = |parts: &[&Part<'_>]| {
            let mut gate = codec();
            parts
                .iter()
                .flat_map(|part| part(&mut gate))
                .collect::<Vec<u8>>()
        };
        let passes = |gate: &mut EnvelopeCodec| framed(&gate.write(&let_through()));
        let refuses = |gate: &mut EnvelopeCodec| framed(&gate.write(&refused(false)));
        let half = |gate: &mut EnvelopeCodec| ahead(gate, &frame[..9]);
        let complete = |gate: &mut EnvelopeCodec| ahead(gate, &frame);
        let flood = |gate: &mut EnvelopeCodec| {
            let envelope = MessageEnvelope::Ahead {
                bytes: max_ahead(99) - frame.len() + 1,
            };
            framed(&gate.write(&envelope))
        };
        let odd = |gate: &mut EnvelopeCodec| ahead(gate, &[9; 40]);
        let unsigned = |_: &mut EnvelopeCodec| frame.clone();
        for (parts, expected) in [
            (&[&complete as &Part<'_>][..], Reason::Malformed),
            (&[&half, &passes], Reason::Unauthenticated),
            (&[&half, &refuses], Reason::Unauthenticated),
            (&[&complete, &unsigned], Reason::Unauthenticated),
            // The result is that of the message ahead, so this one has none.
            (&[&complete, &passes, &unsigned], Reason::Unauthenticated),
            (&[&complete, &flood], Reason::Unauthenticated),
            (&[&odd, &passes], Reason::Malformed),
        ] {
            let host = Messages::from_gate(codec(), 99);
            assert_eq!(all(host, &stream(parts), 7), Err(expected));
        }
        // The end of a stream drops what was sent ahead.
        let ends = |gate: &mut EnvelopeCodec| framed(&gate.write(&refused(true)));
        let host = Messages::from_gate(codec(), 99);
        assert_eq!(all(host, &stream(&[&half, &ends]), 7), Ok(vec![Vec::new()]));
    }

    #[test]
    fn an_envelope_is_read_once_while_its_message_is_incomplete() {
        let enveloped = [framed(&codec().write(&let_through())), frame_of(0, b"abc")].concat();
        let mut host = Messages::from_gate(codec(), 99);
        for end in 0..enveloped.len() {
            assert!(matches!(
                host.take(&enveloped[..end]),
                Ok(NextMessage::Incomplete(_))
            ));
        }
        let Ok(NextMessage::Message { used, .. }) = host.take(&enveloped) else {
            panic!("it is whole")
        };
        assert_eq!(used, enveloped.len());
    }
}
