//! A gRPC codec for messages whose decoded size is checked before decoding.

use std::marker::PhantomData;

use bytes::Buf as _;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Computes the decoded size of a message in bytes, or why it must not be decoded.
pub(super) type DecodedSize = fn(&[u8]) -> Result<usize, String>;

/// The initial buffer for a response in bytes. Most are shorter, and longer ones announce their
/// length.
const FIRST_BYTES: usize = 512;
/// The buffer for streamed request messages. The host sends none.
const YIELD_THRESHOLD_BYTES: usize = 32 << 10;

/// The most that a decoded response may exceed its largest message. An item of one byte takes seven
/// bytes encoded and 33 decoded.
const MAX_DECODED_FACTOR: usize = 5;

/// A codec for generated messages. A response whose decoded size exceeds the limit is not decoded.
#[derive(Debug)]
pub(super) struct SizeCheckedCodec<Q, A> {
    decoded_size: DecodedSize,
    max_bytes: usize,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> SizeCheckedCodec<Q, A> {
    /// Creates a codec for response messages of at most `max_answer_bytes`.
    pub(super) const fn new(weigh: DecodedSize, max_answer_bytes: usize) -> Self {
        Self {
            decoded_size: weigh,
            max_bytes: max_answer_bytes.saturating_mul(MAX_DECODED_FACTOR),
            messages: PhantomData,
        }
    }
}

impl<A> SizeCheckedCodec<(), A> {
    /// Creates the decoder only.
    pub(super) const fn reader(weigh: DecodedSize, max_answer_bytes: usize) -> Self {
        Self::new(weigh, max_answer_bytes)
    }
}

impl<Q, A> Codec for SizeCheckedCodec<Q, A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self { ..*self }
    }

    fn decoder(&mut self) -> Self {
        Self { ..*self }
    }
}

impl<Q: prost::Message, A> Encoder for SizeCheckedCodec<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, message: Q, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = message.encode(into);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, A: prost::Message + Default> Decoder for SizeCheckedCodec<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let message = from.copy_to_bytes(from.remaining());
        let takes = (self.decoded_size)(&message).map_err(Status::out_of_range)?;
        if takes > self.max_bytes {
            let most = self.max_bytes;
            return Err(Status::out_of_range(format!(
                "an answer of {takes} bytes when decoded, {most} are allowed"
            )));
        }
        let decoded = A::decode(message);
        decoded
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FIRST_BYTES, YIELD_THRESHOLD_BYTES)
    }
}
