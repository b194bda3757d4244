//! Writer for protobuf responses. The stricter parser is in [`crate::grpc`].

/// A message in progress. Default values are omitted, as in proto3.
#[derive(Default)]
pub(crate) struct Message(Vec<u8>);

const VARINT: u32 = 0;
const BYTES: u32 = 2;
/// Maximum size before a value: a 32-bit tag and a 64-bit length, as varints.
const PREFIX_BYTES: usize = 15;

impl Message {
    /// A message that becomes a frame of gRPC: its prefix is written in front of it, so that a long
    /// message is not copied for it.
    pub(crate) fn in_frame() -> Self {
        Self(super::PLAIN_FRAME.to_vec())
    }

    /// The frame of a message that was begun with [`Self::in_frame`]. `None` if it is too long.
    pub(crate) fn into_frame(self) -> Option<Vec<u8>> {
        let mut frame = self.0;
        let bytes = frame.len().checked_sub(super::PLAIN_FRAME.len())?;
        let length = u32::try_from(bytes).ok()?.to_be_bytes();
        let prefix = frame.get_mut(1..super::PLAIN_FRAME.len())?;
        prefix.copy_from_slice(&length);
        Some(frame)
    }

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
