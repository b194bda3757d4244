//! gRPC calls without a generated client: raw bytes in both directions, or messages whose decoded
//! size is checked before decoding.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tensorgate_net::http2::channel::Http2Channel;
use tensorgate_net::http2::raw_codec::RawCodec;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::time::Instant;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::BackendError;
use super::oip::{Channel, MAX_METADATA_BYTES, with_deadline, within};

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

impl Channel {
    /// A gRPC client for responses of at most `max_answer_bytes`.
    pub(super) async fn grpc_client(
        &self,
        max_answer_bytes: usize,
    ) -> Result<Grpc<Http2Channel>, Status> {
        let mut caller = Grpc::new(self.http2())
            .max_decoding_message_size(max_answer_bytes)
            // Requests were bounded when they were read.
            .max_encoding_message_size(usize::MAX);
        let ready = caller.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        Ok(caller)
    }

    /// Calls a method. The response has at most `max_answer_bytes`. `claims` are sent as metadata.
    pub(super) async fn unary(
        &self,
        method: &'static str,
        message: Bytes,
        claims: Option<&HeaderMap>,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let mut request = with_deadline(message, deadline);
        if let Some(claims) = claims {
            request.metadata_mut().as_mut().extend(claims.clone());
        }
        let answer = async {
            let mut caller = self.grpc_client(max_answer_bytes).await?;
            let method = PathAndQuery::from_static(method);
            caller.unary(request, method, RawCodec).await
        };
        within(deadline, answer).await
    }

    /// TF Serving's status of a model's version.
    pub async fn status(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let message = tf_serving::status_request(model, version).into();
        self.unary(
            tf_serving::STATUS,
            message,
            None,
            MAX_METADATA_BYTES,
            deadline,
        )
        .await
    }

    /// TF Serving's description of a model's version.
    pub async fn signature(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let message = tf_serving::metadata_request(model, version).into();
        self.unary(
            tf_serving::METADATA,
            message,
            None,
            MAX_METADATA_BYTES,
            deadline,
        )
        .await
    }

    /// TorchServe's health status.
    pub async fn ping(&self, deadline: Instant) -> Result<Bytes, BackendError> {
        let message = Bytes::new();
        self.unary(
            torchserve::PING,
            message,
            None,
            MAX_METADATA_BYTES,
            deadline,
        )
        .await
    }
}
