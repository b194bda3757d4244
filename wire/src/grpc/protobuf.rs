//! A strict, bounded parser of the protobuf wire format. Ambiguous input is rejected: padded or
//! overlong varints, groups, field number 0, lengths beyond the end.

use tensorgate_policy::decision::BodyFormat;

use crate::decode::BodyFault;

/// Maximum size of a 64-bit varint.
pub(crate) const MAX_VARINT_BYTES: usize = 10;
/// The largest field number.
const MAX_FIELD: u64 = (1 << 29) - 1;

/// One field's value, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64([u8; 8]),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32([u8; 4]),
}

/// A field's message and number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldRef {
    pub(crate) message: &'static str,
    pub(crate) field: u32,
}

impl FieldRef {
    fn text(self) -> String {
        format!("field {} of {}", self.field, self.message)
    }

    pub(crate) fn wrong(self, what: &'static str) -> BodyFault {
        BodyFault::field(self.text(), what)
    }

    pub(crate) fn unknown(self) -> BodyFault {
        BodyFault::Unknown(self.text())
    }

    /// Sets a singular field, which must not repeat: parsers disagree on first, last or merged.
    pub(crate) fn once<T>(self, slot: &mut Option<T>, value: T) -> Result<(), BodyFault> {
        if slot.is_some() {
            return Err(BodyFault::Duplicate(self.text()));
        }
        *slot = Some(value);
        Ok(())
    }

    pub(crate) fn bytes(self, value: Value<'_>) -> Result<&[u8], BodyFault> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => {
                Err(self.wrong("has another wire type"))
            }
        }
    }

    pub(crate) fn varint(self, value: Value<'_>) -> Result<u64, BodyFault> {
        match value {
            Value::Varint(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed64(_) | Value::Fixed32(_) => {
                Err(self.wrong("has another wire type"))
            }
        }
    }

    pub(crate) fn text_of(self, value: Value<'_>, max_bytes: usize) -> Result<&str, BodyFault> {
        let bytes = self.bytes(value)?;
        if bytes.len() > max_bytes {
            return Err(self.wrong("is too long"));
        }
        str::from_utf8(bytes).map_err(|_| self.wrong("is not UTF-8"))
    }
}

/// Passes every field of a message to `field`, in order.
pub(crate) fn read<'a>(
    message: &'static str,
    bytes: &'a [u8],
    mut field: impl FnMut(FieldRef, Value<'a>) -> Result<(), BodyFault>,
) -> Result<(), BodyFault> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len().saturating_sub(rest.len());
        let (number, value) = take_field(&mut rest).map_err(|what| BodyFault::Form { what, at })?;
        field(
            FieldRef {
                message,
                field: number,
            },
            value,
        )?;
    }
    Ok(())
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), &'static str> {
    let tag = take_varint(rest)?;
    let number = match tag >> 3 {
        0 => return Err("field number 0"),
        number if number <= MAX_FIELD => {
            u32::try_from(number).map_err(|_| "field number too large")?
        }
        _ => return Err("field number too large"),
    };
    let value = match tag & 7 {
        0 => Value::Varint(take_varint(rest)?),
        1 => Value::Fixed64(take_chunk(rest)?),
        2 => {
            let length =
                usize::try_from(take_varint(rest)?).map_err(|_| "a length runs past the end")?;
            let (bytes, after) = rest
                .split_at_checked(length)
                .ok_or("a length runs past the end")?;
            *rest = after;
            Value::Bytes(bytes)
        }
        3 | 4 => return Err("a group"),
        5 => Value::Fixed32(take_chunk(rest)?),
        _ => return Err("an unknown wire type"),
    };
    Ok((number, value))
}

/// Size of the field at the beginning of `rest`, in a message with `left` remaining bytes; `None`
/// if more data is needed.
pub(crate) fn skip_field(rest: &[u8], left: usize) -> Result<Option<usize>, &'static str> {
    let Some(tag_bytes) = varint_bytes(rest, left) else {
        return Ok(None);
    };
    let value = rest.get(tag_bytes..).unwrap_or_default();
    let value_left = left.saturating_sub(tag_bytes);
    let bytes = match take_varint(&mut &*rest)? & 7 {
        0 => match varint_bytes(value, value_left) {
            Some(bytes) => bytes,
            None => return Ok(None),
        },
        1 => 8,
        2 => {
            let Some(length_bytes) = varint_bytes(value, value_left) else {
                return Ok(None);
            };
            usize::try_from(take_varint(&mut &*value)?)
                .ok()
                .and_then(|length| length.checked_add(length_bytes))
                .filter(|bytes| *bytes <= value_left)
                .ok_or("a length runs past the end")?
        }
        3 | 4 => return Err("a group"),
        5 => 4,
        _ => return Err("an unknown wire type"),
    };
    if bytes > value_left {
        return Err("the message ends inside a number");
    }
    Ok((bytes <= value.len()).then(|| tag_bytes.saturating_add(bytes)))
}

/// Size of a varint, valid or not; `None` if more data is needed.
fn varint_bytes(rest: &[u8], left: usize) -> Option<usize> {
    let end = rest
        .iter()
        .take(MAX_VARINT_BYTES)
        .position(|byte| byte & 0x80 == 0);
    match end {
        Some(last) => Some(last.saturating_add(1)),
        None if rest.len() >= MAX_VARINT_BYTES.min(left) => Some(rest.len().min(MAX_VARINT_BYTES)),
        None => None,
    }
}

fn take_chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (chunk, after) = rest
        .split_first_chunk()
        .ok_or("the message ends inside a number")?;
    *rest = after;
    Ok(*chunk)
}

/// Reads one canonical (shortest) varint.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    let mut shift = 0_u32;
    let mut bytes = rest.iter();
    for _ in 0..MAX_VARINT_BYTES {
        let byte = *bytes.next().ok_or("the message ends inside a varint")?;
        let group = u64::from(byte & 0x7f);
        // The tenth byte may contain one bit.
        if shift == 63 && byte > 1 {
            break;
        }
        value |= group.wrapping_shl(shift);
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err("a padded varint");
            }
            *rest = bytes.as_slice();
            return Ok(value);
        }
        shift = shift.wrapping_add(7);
    }
    Err("a varint of more than 64 bits")
}

// gRPC framing of a unary body: exactly one message, with a compressed flag.

/// Flag byte and big-endian length.
pub(crate) const HEADER_BYTES: usize = 5;

/// The header of a frame around an empty plain message.
pub(crate) const PLAIN_FRAME: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// Whether a body of this format is a frame.
pub(crate) const fn is_framed(format: BodyFormat) -> bool {
    match format {
        BodyFormat::OipGrpcInfer
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::TorchGrpc => true,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::OpenAi(_)
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => false,
    }
}

/// The compressed message of a framed body; `None` if its flag says plain.
pub(crate) fn compressed(body: &[u8]) -> Result<Option<&[u8]>, BodyFault> {
    let Some((&[1, a, b, c, d], message)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    if usize::try_from(u32::from_be_bytes([a, b, c, d])) == Ok(message.len()) {
        Ok(Some(message))
    } else {
        Err(NOT_THE_BODY)
    }
}

/// The message of a framed body.
pub(crate) fn open(body: &[u8]) -> Result<&[u8], BodyFault> {
    let length = plain(body)?.ok_or(BodyFault::Form {
        what: "the body ends inside a frame's header",
        at: body.len(),
    })?;
    let message = body.get(HEADER_BYTES..).unwrap_or_default();
    if length == message.len() {
        Ok(message)
    } else {
        Err(NOT_THE_BODY)
    }
}

/// A body that does not end with its frame.
pub(crate) const NOT_THE_BODY: BodyFault = BodyFault::Form {
    what: "the frame's length is not the body's",
    at: 1,
};

/// Length of the plain message in a frame's header; `None` until the header is complete.
pub(crate) fn plain(body: &[u8]) -> Result<Option<usize>, BodyFault> {
    let Some((&[flag, a, b, c, d], _)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    match flag {
        0 => usize::try_from(u32::from_be_bytes([a, b, c, d]))
            .map(Some)
            .map_err(|_| NOT_THE_BODY),
        1 => Err(BodyFault::Compressed),
        _ => Err(BodyFault::Form {
            what: "unknown frame flag",
            at: 0,
        }),
    }
}

// Writer for protobuf responses. The stricter parser is in [`crate::grpc`].

/// A message in progress. Default values are omitted, as in proto3.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

const VARINT: u32 = 0;
const BYTES: u32 = 2;
/// Maximum size before a value: a 32-bit tag and a 64-bit length, as varints.
const PREFIX_BYTES: usize = 15;

impl Message {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn push_varint(&mut self, mut value: u64) {
        while let Some(rest) = value.checked_shr(7).filter(|rest| *rest > 0) {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value = rest;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.push_varint(u64::from(field) << 3 | u64::from(wire_type));
    }

    /// The bytes before a message of this size in a field.
    pub(crate) fn prefix(mut self, field: u32, bytes: usize) -> Vec<u8> {
        self.tag(field, BYTES);
        self.push_varint(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.0
    }

    pub(crate) fn varint(mut self, field: u32, value: u64) -> Self {
        if value > 0 {
            self.tag(field, VARINT);
            self.push_varint(value);
        }
        self
    }

    /// A boolean of a oneof: present even if false.
    pub(crate) fn flag(mut self, field: u32, value: bool) -> Self {
        self.tag(field, VARINT);
        self.push_varint(u64::from(value));
        self
    }

    /// A singular string or bytes field.
    pub(crate) fn bytes(self, field: u32, value: impl AsRef<[u8]>) -> Self {
        if value.as_ref().is_empty() {
            self
        } else {
            self.element(field, value)
        }
    }

    /// An element of a repeated field, or a message: present even if empty.
    pub(crate) fn element(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.reserve(value.len().saturating_add(PREFIX_BYTES));
        self.tag(field, BYTES);
        // Lengths fit 64 bits on every target.
        self.push_varint(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn message(self, field: u32, message: Self) -> Self {
        self.element(field, message.0)
    }

    pub(crate) fn packed(self, field: u32, values: impl Iterator<Item = u64>) -> Self {
        let mut run = Self::default();
        for value in values {
            run.push_varint(value);
        }
        self.bytes(field, run.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_varints_within_64_bits_are_read() {
        for (bytes, expected) in [
            (&b"\0"[..], Ok(0)),
            (b"\x7f", Ok(127)),
            (b"\x80\x01", Ok(128)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Ok(u64::MAX)),
            (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", Ok(1 << 63)),
            (b"\x80\0", Err("a padded varint")),
            (b"\xff\x80\0", Err("a padded varint")),
            (
                b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\0",
                Err("a padded varint"),
            ),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
                Err("a varint of more than 64 bits"),
            ),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\0",
                Err("a varint of more than 64 bits"),
            ),
            (b"", Err("the message ends inside a varint")),
            (b"\x80", Err("the message ends inside a varint")),
        ] {
            assert_eq!(take_varint(&mut &*bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn every_wire_type_is_read_or_refused() {
        for (bytes, expected) in [
            (&b"\x08\x01"[..], Ok((1, Value::Varint(1)))),
            (b"\x09abcdefgh", Ok((1, Value::Fixed64(*b"abcdefgh")))),
            (b"\x12\x02ab", Ok((2, Value::Bytes(b"ab")))),
            (b"\x12\0", Ok((2, Value::Bytes(b"")))),
            (b"\x0dabcd", Ok((1, Value::Fixed32(*b"abcd")))),
            (
                b"\xf8\xff\xff\xff\x0f\0",
                Ok(((1 << 29) - 1, Value::Varint(0))),
            ),
            (b"\x80\x80\x80\x80\x10\0", Err("field number too large")),
            (
                b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\0",
                Err("field number too large"),
            ),
            (b"\0\0", Err("field number 0")),
            (b"\x0b\x0c", Err("a group")),
            (b"\x0c", Err("a group")),
            (b"\x0e", Err("an unknown wire type")),
            (b"\x0f", Err("an unknown wire type")),
            (b"\x88\0\x01", Err("a padded varint")),
            (b"\x12\x03ab", Err("a length runs past the end")),
            (
                b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab",
                Err("a length runs past the end"),
            ),
            (b"\x09abc", Err("the message ends inside a number")),
            (b"\x0dabc", Err("the message ends inside a number")),
            (b"\x08", Err("the message ends inside a varint")),
        ] {
            assert_eq!(take_field(&mut &*bytes), expected, "{bytes:x?}");
        }
    }
}

#[cfg(test)]
mod frame_tests {
    use super::*;

    #[test]
    fn a_unary_body_is_exactly_one_plain_frame() {
        let form = |what, at| Err(BodyFault::Form { what, at });
        for (body, expected) in [
            (&b"\0\0\0\0\0"[..], Ok(&b""[..])),
            (b"\0\0\0\0\x02ab", Ok(b"ab")),
            (b"", form("the body ends inside a frame's header", 0)),
            (
                b"\0\0\0\0",
                form("the body ends inside a frame's header", 4),
            ),
            (
                b"\0\0\0\0\x02a",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\0\0\0\x02abc",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\x02\0\0\0ab",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\0\0\0\x02ab\0\0\0\0\x02ab",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\xff\xff\xff\xffab",
                form("the frame's length is not the body's", 1),
            ),
            (b"\x01\0\0\0\x02ab", Err(BodyFault::Compressed)),
            (b"\x02\0\0\0\x02ab", form("unknown frame flag", 0)),
            (b"\x80\0\0\0\x02ab", form("unknown frame flag", 0)),
        ] {
            assert_eq!(open(body), expected, "{body:?}");
        }
    }
}

#[cfg(test)]
mod protobuf_tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protobuf_has_them() {
        let message = Message::default;
        for (message, expected) in [
            (
                message()
                    .varint(1, 0)
                    .bytes(2, "")
                    .packed(3, [].into_iter()),
                &b""[..],
            ),
            (
                message().varint(1, 127).varint(2, 300),
                b"\x08\x7f\x10\xac\x02",
            ),
            (
                message().varint(1, u64::MAX),
                b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            ),
            (message().bytes(16, "ab"), b"\x82\x01\x02ab"),
            (message().element(1, ""), b"\x0a\0"),
            (
                message().message(1, message().varint(1, 1)),
                b"\x0a\x02\x08\x01",
            ),
            (
                message().packed(3, [1, 128].into_iter()),
                b"\x1a\x03\x01\x80\x01",
            ),
        ] {
            assert_eq!(message.into_bytes(), expected);
        }
    }
}
