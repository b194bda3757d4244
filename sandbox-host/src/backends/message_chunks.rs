//! An encoded inference message in chunks. Long chunks are the tensors' own bytes, which are not
//! copied.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tensorgate_wire::proto::ModelInferRequest;

use super::BackendError;

/// The field number of `raw_input_contents`.
const RAW_CONTENTS: u32 = 7;
/// Tensor data up to this size is copied, because a chunk of its own would cost more.
const MAX_COPIED_BYTES: usize = 16 << 10;

/// The remaining chunks of a message. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct MessageChunks(VecDeque<Bytes>);

impl MessageChunks {
    /// Encodes a message with its gRPC prefix.
    ///
    /// # Errors
    /// Returns an error if the message is too long.
    pub fn encode(mut message: ModelInferRequest) -> Result<Self, BackendError> {
        let raw = std::mem::take(&mut message.raw_input_contents);
        let described = message.encoded_len();
        let bytes = raw.iter().fold(described, |sum, raw| {
            sum.saturating_add(field_header_bytes(raw))
                .saturating_add(raw.len())
        });
        let length = u32::try_from(bytes)
            .map_err(|_| BackendError::Fault(format!("a message of {bytes} bytes is too large")))?;
        let copied = raw.iter().filter(|raw| raw.len() <= MAX_COPIED_BYTES);
        let copied = copied.fold(described, |sum, raw| sum.saturating_add(raw.len()));
        let heads = raw.iter().fold(PREFIX_BYTES, |sum, raw| {
            sum.saturating_add(field_header_bytes(raw))
        });
        let mut piece = BytesMut::with_capacity(copied.saturating_add(heads));
        piece.put_u8(0);
        piece.put_u32(length);
        message.encode_raw(&mut piece);
        let mut pieces = VecDeque::new();
        for raw in raw {
            encode_key(RAW_CONTENTS, WireType::LengthDelimited, &mut piece);
            encode_varint(to_u64(raw.len()), &mut piece);
            if raw.len() <= MAX_COPIED_BYTES {
                piece.put(raw);
            } else {
                pieces.push_back(piece.split().freeze());
                pieces.push_back(raw);
            }
        }
        if !piece.is_empty() {
            pieces.push_back(piece.freeze());
        }
        Ok(Self(pieces))
    }
}

/// The prefix of a gRPC message: a flag and a length.
const PREFIX_BYTES: usize = 5;

/// The bytes before a tensor's data.
fn field_header_bytes(raw: &Bytes) -> usize {
    key_len(RAW_CONTENTS).saturating_add(encoded_len_varint(to_u64(raw.len())))
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl hyper::body::Body for MessageChunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.0.iter().map(|piece| to_u64(piece.len()));
        SizeHint::with_exact(bytes.fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_message_in_pieces_is_the_message_and_long_tensors_are_not_copied() {
        let long = Bytes::from(vec![1; MAX_COPIED_BYTES + 1]);
        let short = Bytes::from_static(b"short");
        for raw in [
            vec![],
            vec![short.clone()],
            vec![Bytes::new(), short.clone()],
            vec![long.clone()],
            vec![long.clone(), short.clone(), long.clone()],
            vec![short, long.clone(), long.clone()],
        ] {
            let message = ModelInferRequest {
                model_name: "m".into(),
                id: "1".into(),
                raw_input_contents: raw,
                ..ModelInferRequest::default()
            };
            let pieces = MessageChunks::encode(message.clone()).unwrap();
            let kept = pieces.0.iter().filter(|it| it.as_ptr() == long.as_ptr());
            let longs = message
                .raw_input_contents
                .iter()
                .filter(|it| it.len() > MAX_COPIED_BYTES);
            assert_eq!(kept.count(), longs.count());
            let sent = pieces.collect().await.unwrap().to_bytes();
            let (prefix, text) = sent.split_at(PREFIX_BYTES);
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            assert_eq!(prefix, [&[0], &length[..]].concat());
            assert_eq!(ModelInferRequest::decode(text).unwrap(), message);
        }
    }
}
