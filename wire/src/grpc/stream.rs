//! Streaming decoder of a `ModelInferRequest`: fields before the raw contents are buffered, and the
//! raw contents pass through. They must be the last field, as protobuf libraries write it, because
//! later fields could not be validated in time.

use std::borrow::Cow;

use tensorgate_policy::Denial;
use tensorgate_policy::contract::Part;

use super::framing::{HEADER_BYTES, NOT_THE_BODY, plain};
use super::protobuf::{MAX_VARINT_BYTES, skip_field, take_varint};
use super::request::{Announced, InferHead, ONE_EACH, RAW, infer_head};
use crate::fault::BodyFault;
use crate::stream_event::{Event, Sink, head_too_large};

/// The tag of `raw_input_contents`: field 7, length-delimited.
const RAW_TAG: u8 = 7 << 3 | 2;

/// A body in progress.
#[derive(Debug)]
pub(crate) struct GrpcStream {
    max_head_bytes: usize,
    declared: Option<usize>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before the raw contents: the buffer, and the offset up to which fields were scanned.
    Head { buffered: Vec<u8>, at: usize },
    /// In the raw contents.
    Raws(Raws),
}

/// Progress in the raw contents.
#[derive(Debug)]
struct Raws {
    /// Remaining bytes of the message.
    left: usize,
    /// Missing entries.
    missing: std::vec::IntoIter<Announced>,
    /// Declared size of the next entry.
    announced: Announced,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// The tag of an entry, or the end.
    Tag,
    /// The length of an entry, with the bytes so far.
    Length {
        bytes: [u8; MAX_VARINT_BYTES],
        count: usize,
    },
    /// Remaining bytes of an entry.
    Data(usize),
}

/// End of a head.
struct HeadEnd {
    /// Offset after the head.
    at: usize,
    /// Offset after the message.
    message: usize,
}

impl GrpcStream {
    pub(crate) const fn new(max_head_bytes: usize, declared: Option<usize>) -> Self {
        Self {
            max_head_bytes,
            declared,
            state: State::Head {
                buffered: Vec::new(),
                at: HEADER_BYTES,
            },
        }
    }

    pub(crate) fn feed(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        let State::Head { buffered, at } = &mut self.state else {
            return self.pass(piece, sink);
        };
        // A head in one chunk is read without copying.
        let room = self.max_head_bytes.saturating_sub(buffered.len());
        let (now, later) = piece.split_at(room.min(piece.len()));
        let window = if buffered.is_empty() {
            Cow::Borrowed(now)
        } else {
            let mut joined = core::mem::take(buffered);
            joined.extend_from_slice(now);
            Cow::Owned(joined)
        };
        let Some(end) = head_end(&window, at, self.declared)? else {
            if !later.is_empty() {
                return Err(head_too_large(
                    "the message before raw contents",
                    self.max_head_bytes,
                ));
            }
            *buffered = window.into_owned();
            return Ok(());
        };
        let head = window.get(HEADER_BYTES..end.at).unwrap_or_default();
        let left = end.message.saturating_sub(end.at);
        let InferHead {
            request,
            elements,
            announced,
        } = infer_head(head, left > 0)?;
        sink(Event::Head {
            request: &request,
            elements: &elements,
            body_bytes: end.message,
        })?;
        drop(request);
        self.state = State::Raws(Raws {
            left,
            missing: announced.into_iter(),
            announced: Announced::Nothing,
            next: Next::Tag,
        });
        let rest = window.get(end.at..).unwrap_or_default();
        self.pass(rest, sink)?;
        self.pass(later, sink)
    }

    fn pass(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        match &mut self.state {
            State::Raws(raws) => raws.pass(piece, sink),
            State::Head { .. } => Ok(()),
        }
    }

    pub(crate) fn end(&self) -> Result<(), Denial> {
        match &self.state {
            State::Raws(Raws {
                left: 0,
                next: Next::Tag,
                ..
            }) => Ok(()),
            State::Raws(_) | State::Head { .. } => Err(not_the_body()),
        }
    }
}

/// Scans whole fields from `at` to the first raw contents or the end of the message; `None` if more
/// data is needed.
fn head_end(
    window: &[u8],
    at: &mut usize,
    declared: Option<usize>,
) -> Result<Option<HeadEnd>, BodyFault> {
    let Some(length) = plain(window)? else {
        return Ok(None);
    };
    let message = length.checked_add(HEADER_BYTES).ok_or(NOT_THE_BODY)?;
    if declared.is_some_and(|declared| declared != message) {
        return Err(NOT_THE_BODY);
    }
    while *at < message {
        let window = window.get(..message.min(window.len())).unwrap_or_default();
        let rest = window.get(*at..).unwrap_or_default();
        if rest.first() == Some(&RAW_TAG) {
            break;
        }
        let form = |what| BodyFault::Form {
            what,
            at: at.saturating_sub(HEADER_BYTES),
        };
        let Some(bytes) = skip_field(rest, message.saturating_sub(*at)).map_err(form)? else {
            return Ok(None);
        };
        *at = at.saturating_add(bytes);
    }
    Ok(Some(HeadEnd { at: *at, message }))
}

/// Length of an entry, in a message with `left` remaining bytes including the length's last one.
fn entry(mut length: &[u8], left: usize) -> Result<usize, BodyFault> {
    let form = |what| BodyFault::Form { what, at: 0 };
    let length = take_varint(&mut length).map_err(form)?;
    usize::try_from(length)
        .ok()
        .filter(|length| *length < left)
        .ok_or_else(|| form("a length runs past the end"))
}

impl Raws {
    fn pass(&mut self, mut piece: &[u8], sink: &mut Sink<'_>) -> Result<(), Denial> {
        while let Some(first) = piece.first() {
            if self.left == 0 {
                return Err(not_the_body());
            }
            let used = match &mut self.next {
                Next::Tag => {
                    if *first != RAW_TAG {
                        return Err(BodyFault::field(
                            RAW,
                            "is not the last field of a message that is too large to buffer",
                        )
                        .into());
                    }
                    let announced = self.missing.next();
                    self.announced = announced.ok_or_else(|| BodyFault::field(RAW, ONE_EACH))?;
                    self.next = Next::Length {
                        bytes: [0; MAX_VARINT_BYTES],
                        count: 0,
                    };
                    1
                }
                Next::Length { bytes, count } => {
                    if let Some(slot) = bytes.get_mut(*count) {
                        *slot = *first;
                    }
                    *count = count.saturating_add(1);
                    if first & 0x80 == 0 || *count >= MAX_VARINT_BYTES {
                        let length = entry(bytes.get(..*count).unwrap_or_default(), self.left)?;
                        self.announced.holds(length)?;
                        sink(Event::Part(Part::Begin { bytes: length }))?;
                        self.next = Next::Data(length);
                    }
                    1
                }
                Next::Data(left) => {
                    let (now, _) = piece.split_at((*left).min(piece.len()));
                    sink(Event::Part(Part::Chunk(now)))?;
                    *left = left.saturating_sub(now.len());
                    now.len()
                }
            };
            self.left = self.left.saturating_sub(used);
            piece = piece.get(used..).unwrap_or_default();
            if matches!(self.next, Next::Data(0)) {
                sink(Event::Part(Part::End))?;
                self.next = Next::Tag;
            }
            if self.left == 0 {
                self.check_complete()?;
            }
        }
        Ok(())
    }

    /// Checks that the message is complete.
    fn check_complete(&self) -> Result<(), BodyFault> {
        match self.next {
            Next::Tag if self.missing.as_slice().is_empty() => Ok(()),
            Next::Tag => Err(BodyFault::field(RAW, ONE_EACH)),
            Next::Length { .. } | Next::Data(_) => Err(BodyFault::Form {
                what: "the message ends inside a field",
                at: 0,
            }),
        }
    }
}

fn not_the_body() -> Denial {
    NOT_THE_BODY.into()
}
