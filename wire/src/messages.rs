//! Messages of a gRPC stream, as framed by a client, or each after a signed envelope.
//!
//! A client's stream consists of frames: flag, length, message. Between filters, and to the host,
//! each message follows an envelope ([`crate::context::MessageEnvelope`]), which is framed with a
//! flag that gRPC does not use. The envelope of a rejection stands alone. The reader returns how
//! many bytes it needs to continue: at most one message and its envelope.

use tensorgate_policy::{Denial, Reason};

use crate::context::{EnvelopeCodec, MAX_ENVELOPE_BYTES, MessageEnvelope, Refusal};
use crate::decode::BodyFault;
use crate::grpc::FRAME_HEADER_BYTES;

/// Flag of an envelope's frame. gRPC uses 0 and 1, gRPC-Web 128.
const ENVELOPE_FLAG: u8 = 0x21;

/// Result of reading the beginning of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum NextMessage<'b> {
    /// Incomplete: so many bytes are needed in all.
    Incomplete(usize),
    /// A message.
    Message {
        /// Its envelope, if the stream has envelopes.
        envelope: Option<MessageEnvelope>,
        /// Its frame.
        frame: &'b [u8],
        /// Bytes of message and envelope.
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
}

impl Messages {
    /// A stream from a client. `max_bytes`: maximum size of a message with its frame.
    pub const fn from_client(max_bytes: usize) -> Self {
        Self {
            codec: None,
            max_bytes,
        }
    }

    /// A stream with envelopes.
    pub const fn from_gate(codec: EnvelopeCodec, max_bytes: usize) -> Self {
        Self {
            codec: Some(codec),
            max_bytes,
        }
    }

    /// Reads the next message from `came`. After a fault the stream ends, because message
    /// boundaries are unknown.
    ///
    /// # Errors
    /// `malformed`, `body-too-large`; `unauthenticated` for an invalid envelope.
    pub fn take<'b>(&mut self, came: &'b [u8]) -> Result<NextMessage<'b>, Denial> {
        let Some(codec) = &mut self.codec else {
            return Ok(match frame(came, 0, self.max_bytes)? {
                Ok(frame) => NextMessage::Message {
                    envelope: None,
                    frame,
                    used: frame.len(),
                },
                Err(wants) => NextMessage::Incomplete(wants),
            });
        };
        let Some(header) = header(came, 0) else {
            return Ok(NextMessage::Incomplete(FRAME_HEADER_BYTES));
        };
        let (flag, length) = header;
        let behind = FRAME_HEADER_BYTES.saturating_add(length);
        if flag != ENVELOPE_FLAG || length > MAX_ENVELOPE_BYTES {
            return Err(not_enveloped("a message came without an envelope"));
        }
        let Some(envelope) = came.get(FRAME_HEADER_BYTES..behind) else {
            return Ok(NextMessage::Incomplete(behind));
        };
        // Read only once the whole message is there, because reading advances the counter.
        let mut after = codec.clone();
        let envelope = after
            .read(envelope)
            .map_err(|fault| not_enveloped(&fault.to_string()))?;
        let taken = match envelope {
            MessageEnvelope::Refused(refusal) => NextMessage::Refused {
                refusal,
                used: behind,
            },
            envelope => match frame(came, behind, self.max_bytes)? {
                Ok(frame) => NextMessage::Message {
                    envelope: Some(envelope),
                    frame,
                    used: behind.saturating_add(frame.len()),
                },
                Err(wants) => return Ok(NextMessage::Incomplete(wants)),
            },
        };
        *codec = after;
        Ok(taken)
    }

    /// Ends the stream with `left` unread bytes.
    ///
    /// # Errors
    /// `malformed` if there are any.
    pub fn end(&self, left: usize) -> Result<(), Denial> {
        if left == 0 {
            return Ok(());
        }
        let what = "the stream ends inside a message";
        Err(BodyFault::Form { what, at: left }.into())
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
fn header(came: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = came.get(at..)?;
    let (&[flag, a, b, c, d], _) = rest.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    Some((flag, length))
}

/// The frame at this offset, or the bytes needed for it. The decoder checks compression.
fn frame(came: &[u8], at: usize, max_bytes: usize) -> Result<Result<&[u8], usize>, Denial> {
    let Some((flag, length)) = header(came, at) else {
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
    Ok(came.get(at..end).ok_or(end))
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
    use crate::context::{Key, RemainingQuotas};

    fn codec() -> EnvelopeCodec {
        EnvelopeCodec::new(
            &Key::from_hex(&"07".repeat(32)).unwrap(),
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
            quotas: RemainingQuotas::default(),
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
        let (mut from, mut came, mut taken) = (0, 0, Vec::new());
        loop {
            match messages.take(&stream[from..came]).map_err(|it| it.reason)? {
                NextMessage::Incomplete(bytes) => {
                    assert!(bytes > came - from, "it has what it wants");
                    if came == stream.len() {
                        messages.end(came - from).map_err(|it| it.reason)?;
                        return Ok(taken);
                    }
                    came = (came + at_a_time).min(stream.len());
                }
                NextMessage::Message { frame, used, .. } => {
                    taken.push(frame.to_vec());
                    from += used;
                }
                NextMessage::Refused { used, .. } => {
                    taken.push(Vec::new());
                    from += used;
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
        let good = frame_of(0, b"abc");
        for end in 1..good.len() {
            let stream = [&good[..], &good[..end]].concat();
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
            let stream = [&good[..], &next].concat();
            let read = all(Messages::from_client(99), &stream, 2);
            assert_eq!(read, Err(expected), "{next:?}");
        }
    }

    #[test]
    fn only_messages_in_envelopes_are_accepted_behind_a_gate() {
        let good = frame_of(0, b"abc");
        let envelope = |envelope: &MessageEnvelope| framed(&codec().write(envelope));
        let whole = [envelope(&let_through()), good.clone()].concat();
        let host = || Messages::from_gate(codec(), 99);
        assert_eq!(all(host(), &whole, 1), Ok(vec![good.clone()]));
        for (stream, expected) in [
            (good.clone(), Reason::Unauthenticated),
            (
                [good.clone(), whole.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (
                [whole.clone(), good.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (
                [whole.clone(), whole.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (
                // A rejected message is never forwarded.
                [envelope(&refused(false)), good.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (envelope(&let_through()), Reason::Malformed),
            (whole[..whole.len() - 1].to_vec(), Reason::Malformed),
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

    #[test]
    fn an_envelope_is_read_once_while_its_message_is_incomplete() {
        let whole = [framed(&codec().write(&let_through())), frame_of(0, b"abc")].concat();
        let mut host = Messages::from_gate(codec(), 99);
        for end in 0..whole.len() {
            assert!(matches!(
                host.take(&whole[..end]),
                Ok(NextMessage::Incomplete(_))
            ));
        }
        let Ok(NextMessage::Message { used, .. }) = host.take(&whole) else {
            panic!("it is whole")
        };
        assert_eq!(used, whole.len());
    }
}
