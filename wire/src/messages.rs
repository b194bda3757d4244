//! The messages of a gRPC stream, one after the other: as a client frames them, or each behind the gate's mark.
//!
//! A client's stream is frames: a flag, a length, a message. Between our filters, and from the gate to the host, each message comes behind a mark
//! ([`crate::context::Mark`]), which is framed in the same way under a flag that no gRPC peer has a use for; a mark that refuses stands alone. Whoever reads
//! keeps what has not ended, and says how much of that is needed to go on: never more than one message and its mark.

use tensorgate_policy::{Denial, Reason};

use crate::context::{MAX_MARK_BYTES, Mark, Marker, Refusal};
use crate::fault::BodyFault;
use crate::grpc::FRAME_HEADER_BYTES;

/// The flag of a mark's frame. gRPC has 0 and 1, gRPC-Web 128.
const MARK: u8 = 0x21;

/// What was taken off the front of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<'b> {
    /// Nothing: it takes so many bytes in all to go on.
    Wants(usize),
    /// A message.
    Message {
        /// What the gate says of it, where there is a gate.
        mark: Option<Mark>,
        /// Its frame.
        frame: &'b [u8],
        /// Bytes that it and its mark take.
        used: usize,
    },
    /// A message that the gate has refused.
    Refused {
        /// Why.
        refusal: Box<Refusal>,
        /// Bytes that its mark takes.
        used: usize,
    },
}

/// Reads a stream.
#[derive(Clone, Debug)]
pub struct Messages {
    /// Who has marked them; nobody has marked a client's.
    marker: Option<Marker>,
    /// The longest frame, bytes.
    max_bytes: usize,
}

impl Messages {
    /// A stream as a client sends it. `max_bytes`: of a message with its frame.
    pub const fn of_client(max_bytes: usize) -> Self {
        Self {
            marker: None,
            max_bytes,
        }
    }

    /// A stream that a gate has marked.
    pub const fn marked(marker: Marker, max_bytes: usize) -> Self {
        Self {
            marker: Some(marker),
            max_bytes,
        }
    }

    /// Takes the next message off the front of what has come and was not yet taken. After a fault the stream is over: where its next message
    /// begins nobody knows.
    ///
    /// # Errors
    /// `malformed`, `body-too-large`; `unauthenticated` for a mark that no gate has written for this message.
    pub fn take<'b>(&mut self, came: &'b [u8]) -> Result<Taken<'b>, Denial> {
        let Some(marker) = &mut self.marker else {
            return Ok(match frame(came, 0, self.max_bytes)? {
                Ok(frame) => Taken::Message {
                    mark: None,
                    frame,
                    used: frame.len(),
                },
                Err(wants) => Taken::Wants(wants),
            });
        };
        let Some(header) = header(came, 0) else {
            return Ok(Taken::Wants(FRAME_HEADER_BYTES));
        };
        let (flag, length) = header;
        let behind = FRAME_HEADER_BYTES.saturating_add(length);
        if flag != MARK || length > MAX_MARK_BYTES {
            return Err(unmarked("a message came without a mark"));
        }
        let Some(mark) = came.get(FRAME_HEADER_BYTES..behind) else {
            return Ok(Taken::Wants(behind));
        };
        // Read only once all that belongs to it is there: it counts then.
        let mut after = marker.clone();
        let mark = after
            .read(mark)
            .map_err(|fault| unmarked(&fault.to_string()))?;
        let taken = match mark {
            Mark::Refused(refusal) => Taken::Refused {
                refusal,
                used: behind,
            },
            mark => match frame(came, behind, self.max_bytes)? {
                Ok(frame) => Taken::Message {
                    mark: Some(mark),
                    frame,
                    used: behind.saturating_add(frame.len()),
                },
                Err(wants) => return Ok(Taken::Wants(wants)),
            },
        };
        *marker = after;
        Ok(taken)
    }

    /// The stream is over, and so many bytes were never taken.
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

/// A mark, framed.
pub fn framed(mark: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_HEADER_BYTES.saturating_add(mark.len()));
    framed.push(MARK);
    framed.extend_from_slice(&u32::try_from(mark.len()).unwrap_or_default().to_be_bytes());
    framed.extend_from_slice(mark);
    framed
}

/// Flag and length of the frame at this place.
fn header(came: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = came.get(at..)?;
    let (&[flag, a, b, c, d], _) = rest.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    Some((flag, length))
}

/// The frame at this place, or how many bytes there must be for it. Whether a compressed one may be is for its decoder to say.
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

fn unmarked(cause: &str) -> Denial {
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
    use crate::context::{Key, Levels};

    fn marker() -> Marker {
        Marker::new(
            &Key::from_hex(&"07".repeat(32)).unwrap(),
            "v5.AAAA.signature",
        )
    }

    fn frame_of(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, message].concat()
    }

    fn let_through() -> Mark {
        Mark::Message {
            checked: true,
            levels: Levels::default(),
        }
    }

    fn refused(ends: bool) -> Mark {
        Mark::Refused(Box::new(Refusal {
            denial: Denial::new(Reason::Shape, "no"),
            model: None,
            rule: None,
            id: None,
            shadowed: Vec::new(),
            ends,
        }))
    }

    /// Everything that is taken of a stream of which so many bytes come at a time.
    fn all(
        mut messages: Messages,
        stream: &[u8],
        at_a_time: usize,
    ) -> Result<Vec<Vec<u8>>, Reason> {
        let (mut from, mut came, mut taken) = (0, 0, Vec::new());
        loop {
            match messages.take(&stream[from..came]).map_err(|it| it.reason)? {
                Taken::Wants(bytes) => {
                    assert!(bytes > came - from, "it has what it wants");
                    if came == stream.len() {
                        messages.end(came - from).map_err(|it| it.reason)?;
                        return Ok(taken);
                    }
                    came = (came + at_a_time).min(stream.len());
                }
                Taken::Message { frame, used, .. } => {
                    taken.push(frame.to_vec());
                    from += used;
                }
                Taken::Refused { used, .. } => {
                    taken.push(Vec::new());
                    from += used;
                }
            }
        }
    }

    #[test]
    fn a_stream_is_the_same_messages_however_it_is_cut() {
        let frames = [
            frame_of(0, b""),
            frame_of(1, b"zipped"),
            frame_of(0, &[7; 300]),
        ];
        let plain = frames.concat();
        let mut gate = marker();
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
            let client = Messages::of_client(305);
            assert_eq!(all(client, &plain, at_a_time), Ok(frames.to_vec()));
            let host = Messages::marked(marker(), 305);
            assert_eq!(all(host, &marked, at_a_time), Ok(with_refusals.clone()));
        }
    }

    #[test]
    fn what_is_no_stream_is_refused_wherever_it_is_cut() {
        let good = frame_of(0, b"abc");
        for end in 1..good.len() {
            let stream = [&good[..], &good[..end]].concat();
            assert_eq!(
                all(Messages::of_client(99), &stream, 3),
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
            let read = all(Messages::of_client(99), &stream, 2);
            assert_eq!(read, Err(expected), "{next:?}");
        }
    }

    #[test]
    fn only_what_a_gate_has_marked_is_taken_behind_it() {
        let good = frame_of(0, b"abc");
        let mark = |mark: &Mark| framed(&marker().write(mark));
        let whole = [mark(&let_through()), good.clone()].concat();
        let host = || Messages::marked(marker(), 99);
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
                // A refused message never comes.
                [mark(&refused(false)), good.clone()].concat(),
                Reason::Unauthenticated,
            ),
            (mark(&let_through()), Reason::Malformed),
            (whole[..whole.len() - 1].to_vec(), Reason::Malformed),
            (
                [mark(&let_through()), frame_of(0, &[0; 95])].concat(),
                Reason::BodyTooLarge,
            ),
            (b"\x21\xff\xff\xff\xff".to_vec(), Reason::Unauthenticated),
            (framed(b""), Reason::Unauthenticated),
        ] {
            assert_eq!(all(host(), &stream, 7), Err(expected), "{stream:?}");
        }
    }

    #[test]
    fn a_mark_is_read_once_however_often_its_message_is_waited_for() {
        let whole = [framed(&marker().write(&let_through())), frame_of(0, b"abc")].concat();
        let mut host = Messages::marked(marker(), 99);
        for end in 0..whole.len() {
            assert!(matches!(host.take(&whole[..end]), Ok(Taken::Wants(_))));
        }
        let Ok(Taken::Message { used, .. }) = host.take(&whole) else {
            panic!("it is whole")
        };
        assert_eq!(used, whole.len());
    }
}
