//! A strict, bounded parser of the protobuf wire format. Ambiguous input is rejected: padded or
//! overlong varints, groups, field number 0, lengths beyond the end.

use crate::fault::BodyFault;

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
    pub(crate) number: u32,
}

impl FieldRef {
    fn text(self) -> String {
        format!("field {} of {}", self.number, self.message)
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

/// Passes every field of a message to `visit`, in order.
pub(crate) fn read<'a>(
    message: &'static str,
    bytes: &'a [u8],
    mut visit: impl FnMut(FieldRef, Value<'a>) -> Result<(), BodyFault>,
) -> Result<(), BodyFault> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len().saturating_sub(rest.len());
        let (number, value) = take_field(&mut rest).map_err(|what| BodyFault::Form { what, at })?;
        visit(FieldRef { message, number }, value)?;
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
