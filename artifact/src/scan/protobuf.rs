//! A walk over a protobuf message that keeps no more of it than one text.
//!
//! A format describes its messages as a [`Schema`]. A field that the schema lacks ends the walk:
//! another reader may know it.

use super::source::{Source, Stop};
use super::{Limits, Report};
use crate::scan::rules::Rule;

/// Messages within messages, as in Google's readers.
const MAX_DEPTH: usize = 100;
/// The longest varint, bytes.
const MAX_VARINT_BYTES: u32 = 10;
/// Bytes of data that a visitor gets.
const HEAD_BYTES: usize = 512;

/// The type of a field. Fields of numbers of a fixed length may be repeated and packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<M> {
    /// A number of variable length. Readers pass over bytes in its place, which may be a message
    /// to a reader of another format.
    Varint,
    /// Such numbers, repeated and perhaps packed.
    Varints,
    /// A number of four bytes.
    Fixed32,
    /// A number of eight bytes.
    Fixed64,
    /// Bytes that stay data.
    Bytes,
    /// A text, or bytes that must be one here.
    Text,
    /// A message of a type.
    Message(M),
}

/// The messages of a format.
pub(super) trait Schema: Copy {
    /// The type of a field, if the message has it.
    fn field(self, number: u32) -> Option<Field<Self>>;

    /// Whether programs may add fields to the message. A number in such a field stays a number, and
    /// any other field is not known rather than wrong.
    fn is_open(self) -> bool {
        false
    }
}

/// What looks at the values. `path` has the types of the messages around them, the innermost last.
pub(super) trait Visitor<M> {
    /// A message begins.
    fn begin(&mut self, _path: &[M], _report: &mut Report) -> Result<(), Stop> {
        Ok(())
    }
    /// A number of variable length, alone or packed.
    fn number(&mut self, _path: &[M], _field: u32, _value: u64, _at: u64) -> Result<(), Stop> {
        Ok(())
    }
    /// Bytes, or numbers of a fixed length: how many bytes they have, and the first of them.
    fn data(&mut self, _path: &[M], _field: u32, _bytes: u64, _head: &[u8]) {}
    /// Where the same bytes are, if they have a length of their own.
    fn bytes_at(&mut self, _path: &[M], _field: u32, _at: u64, _bytes: u64) -> Result<(), Stop> {
        Ok(())
    }
    /// A text.
    fn text(
        &mut self,
        _path: &[M],
        _field: u32,
        _text: String,
        _at: u64,
        _report: &mut Report,
    ) -> Result<(), Stop> {
        Ok(())
    }
    /// A message ends.
    fn end(&mut self, _path: &[M], _at: u64, _report: &mut Report) -> Result<(), Stop> {
        Ok(())
    }
}

/// Follows the message that the whole input is. Findings have `rule`, unless the visitor adds them.
pub(super) fn walk<M: Schema>(
    source: &mut Source<'_>,
    root: M,
    limits: &Limits,
    rule: &'static Rule,
    visitor: &mut impl Visitor<M>,
    report: &mut Report,
) -> Result<(), Stop> {
    let mut path = vec![root];
    let mut ends = vec![source.length()];
    let mut fields_left = limits.operations;
    visitor.begin(&path, report)?;
    while let (Some(message), Some(end)) = (path.last().copied(), ends.last().copied()) {
        let at = source.position();
        if at == end {
            visitor.end(&path, at, report)?;
            path.pop();
            ends.pop();
            continue;
        }
        let Some(left) = fields_left.checked_sub(1) else {
            let detail = format!("more than {} fields", limits.operations);
            return Err(Stop::unknown(at, rule, detail));
        };
        fields_left = left;
        let mut wire = Wire {
            source: &mut *source,
            end,
            rule,
        };
        let (number, encoding) = wire.key()?;
        let field = message.field(number);
        // Readers pass over a number that they do not know, also one with a known field's number.
        if message.is_open() && wire.is_other_number(field, encoding)? {
            continue;
        }
        let Some(field) = field else {
            let detail = format!("the message has no field {number}");
            return Err(if message.is_open() {
                Stop::unknown(at, rule, detail)
            } else {
                Stop::malformed(at, rule, detail)
            });
        };
        match (field, encoding) {
            (Field::Varint | Field::Varints, 0) => {
                let value = wire.varint()?;
                visitor.number(&path, number, value, at)?;
            }
            (Field::Fixed64, 1) => visitor.data(&path, number, 8, &wire.data(8)?),
            (Field::Fixed32, 5) => visitor.data(&path, number, 4, &wire.data(4)?),
            (field, 2) if !matches!(field, Field::Varint) => {
                let length = wire.length()?;
                match field {
                    Field::Message(message) => {
                        if path.len() >= MAX_DEPTH {
                            let detail = format!("more than {MAX_DEPTH} messages in each other");
                            return Err(Stop::malformed(at, rule, detail));
                        }
                        ends.push(wire.source.position().saturating_add(length));
                        path.push(message);
                        visitor.begin(&path, report)?;
                    }
                    Field::Text => {
                        let text = wire.text(length, limits)?;
                        visitor.text(&path, number, text, at, report)?;
                    }
                    Field::Fixed32 if length % 4 != 0 => return Err(wire.not_numbers(length)),
                    Field::Fixed64 if length % 8 != 0 => return Err(wire.not_numbers(length)),
                    Field::Varint | Field::Varints => {
                        let end = wire.source.position().saturating_add(length);
                        let mut packed = Wire {
                            source: &mut *wire.source,
                            end,
                            rule,
                        };
                        while packed.source.position() < end {
                            let at = packed.source.position();
                            let value = packed.varint()?;
                            visitor.number(&path, number, value, at)?;
                        }
                    }
                    Field::Bytes | Field::Fixed32 | Field::Fixed64 => {
                        let start = wire.source.position();
                        let head = wire.data(length)?;
                        visitor.data(&path, number, length, &head);
                        visitor.bytes_at(&path, number, start, length)?;
                    }
                }
            }
            _ => {
                let detail = format!("field {number} has the encoding {encoding}");
                return Err(Stop::malformed(at, rule, detail));
            }
        }
    }
    Ok(())
}

/// The fields of one message.
struct Wire<'a, 'i> {
    source: &'a mut Source<'i>,
    /// Where the message ends.
    end: u64,
    rule: &'static Rule,
}

impl Wire<'_, '_> {
    /// The number of the next field and how it is encoded.
    fn key(&mut self) -> Result<(u32, u32), Stop> {
        let at = self.source.position();
        let key = u32::try_from(self.varint()?).ok();
        let key = key.filter(|key| key >> 3 != 0);
        let key = key.ok_or_else(|| Stop::malformed(at, self.rule, "the number of a field"))?;
        Ok((key >> 3, key & 7))
    }

    /// Passes over a number, if it is one, and not in the form that its field has. Numbers in a
    /// list are no such number: the bytes could be a text.
    fn is_other_number<M>(&mut self, field: Option<Field<M>>, encoding: u32) -> Result<bool, Stop> {
        let bytes = match (field, encoding) {
            (Some(Field::Varint | Field::Varints), 0)
            | (Some(Field::Fixed64), 1)
            | (Some(Field::Fixed32), 5) => return Ok(false),
            (_, 0) => return self.varint().map(|_| true),
            (_, 1) => 8,
            (_, 5) => 4,
            _ => return Ok(false),
        };
        self.data(bytes).map(|_| true)
    }

    fn varint(&mut self) -> Result<u64, Stop> {
        let at = self.source.position();
        let mut value = 0_u64;
        for index in 0..MAX_VARINT_BYTES {
            if self.source.position() >= self.end {
                break;
            }
            let byte = self.source.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shift = index.saturating_mul(7);
            let shifted = bits
                .checked_shl(shift)
                .filter(|shifted| *shifted >> shift == bits);
            let Some(shifted) = shifted else { break };
            value |= shifted;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let detail = "a number that does not end, or has more than 64 bits";
        Err(Stop::malformed(at, self.rule, detail))
    }

    /// The length of a field that fits into the message.
    fn length(&mut self) -> Result<u64, Stop> {
        let at = self.source.position();
        let length = self.varint()?;
        let left = self.end.saturating_sub(self.source.position());
        if length > left {
            let detail = format!("a field of {length} bytes where {left} are left");
            return Err(Stop::malformed(at, self.rule, detail));
        }
        Ok(length)
    }

    /// Passes over bytes, of which the first are read.
    fn data(&mut self, bytes: u64) -> Result<Vec<u8>, Stop> {
        let at = self.source.position();
        if bytes > self.end.saturating_sub(at) {
            return Err(Stop::malformed(at, self.rule, "a number that does not end"));
        }
        let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(HEAD_BYTES);
        let head = self.source.read_bytes(count)?;
        self.source.seek(at.saturating_add(bytes));
        Ok(head)
    }

    fn text(&mut self, length: u64, limits: &Limits) -> Result<String, Stop> {
        let at = self.source.position();
        let bounded = usize::try_from(length).ok();
        let Some(length) = bounded.filter(|length| *length <= limits.header_bytes) else {
            let detail = format!("a text of {length} bytes");
            return Err(Stop::unknown(at, self.rule, detail));
        };
        let text = String::from_utf8(self.source.read_bytes(length)?);
        text.map_err(|_| Stop::malformed(at, self.rule, "a text that is not UTF-8"))
    }

    fn not_numbers(&self, length: u64) -> Stop {
        let detail = format!("{length} bytes of numbers, which is no multiple of their size");
        Stop::malformed(self.source.position(), self.rule, detail)
    }
}

/// Writes messages for the tests of formats.
#[cfg(test)]
pub(super) mod write {
    /// A number of variable length.
    pub(crate) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap_or(0));
        bytes
    }

    /// A field with a number.
    pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    /// A field with bytes, a text or a message.
    pub(crate) fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        let length = varint(u64::try_from(value.len()).unwrap_or(0));
        [&varint(field << 3 | 2)[..], &length, value].concat()
    }
}
