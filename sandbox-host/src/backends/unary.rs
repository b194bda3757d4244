//! Calls of gRPC methods over the one connection of a line where no generated client will do: bytes out, bytes in, for whoever asks to write and to
//! read; or messages, where what comes back is weighed before it is decoded.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::time::Instant;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::BackendError;
use super::channel::Channel;
use super::oip::{Line, MAX_METADATA_BYTES, timed, within};

/// A message as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        // All of it is one message: its length stood before it.
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What a message takes once it is decoded, bytes, or why nobody would decode it.
pub(super) type Weigh = fn(&[u8]) -> Result<usize, String>;

/// What an answer is read into at first, bytes: most are shorter, and what is longer says so before it comes.
const FIRST_BYTES: usize = 512;
/// Bytes that would be gathered before they are written, of messages in a stream. We write none.
const GATHERED_BYTES: usize = 32 << 10;

/// What comes back may take so many times its longest message once it is decoded: an item of one byte takes seven of a message, and 33 then.
const DECODED_TIMES: usize = 5;

/// Generated messages. An answer that would take more than it may is not decoded.
#[derive(Debug)]
pub(super) struct Weighed<Q, A> {
    weigh: Weigh,
    max_bytes: usize,
    of: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Weighed<Q, A> {
    /// For answers whose messages have at most `max_answer_bytes`.
    pub(super) const fn new(weigh: Weigh, max_answer_bytes: usize) -> Self {
        Self {
            weigh,
            max_bytes: max_answer_bytes.saturating_mul(DECODED_TIMES),
            of: PhantomData,
        }
    }
}

impl<A> Weighed<(), A> {
    /// What reads such answers.
    pub(super) const fn reader(weigh: Weigh, max_answer_bytes: usize) -> Self {
        Self::new(weigh, max_answer_bytes)
    }
}

impl<Q, A> Codec for Weighed<Q, A>
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

impl<Q: prost::Message, A> Encoder for Weighed<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, message: Q, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = message.encode(into);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, A: prost::Message + Default> Decoder for Weighed<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let message = from.copy_to_bytes(from.remaining());
        let takes = (self.weigh)(&message).map_err(Status::out_of_range)?;
        if takes > self.max_bytes {
            let most = self.max_bytes;
            return Err(Status::out_of_range(format!(
                "an answer of {takes} bytes once it is decoded, of {most} at most"
            )));
        }
        let decoded = A::decode(message);
        decoded
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FIRST_BYTES, GATHERED_BYTES)
    }
}

impl Line {
    /// What calls a method; a message that comes back has at most `max_answer_bytes`.
    pub(super) async fn caller(&self, max_answer_bytes: usize) -> Result<Grpc<Channel>, Status> {
        let mut caller = Grpc::new(self.channel())
            .max_decoding_message_size(max_answer_bytes)
            // What we send was bounded when it was read.
            .max_encoding_message_size(usize::MAX);
        let ready = caller.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        Ok(caller)
    }

    /// Calls a method. The answer's message is bounded by `max_answer_bytes`; `claims` go along as metadata.
    pub(super) async fn unary(
        &self,
        method: &'static str,
        message: Bytes,
        claims: Option<&HeaderMap>,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let mut request = timed(message, deadline);
        if let Some(claims) = claims {
            request.metadata_mut().as_mut().extend(claims.clone());
        }
        let answer = async {
            let mut caller = self.caller(max_answer_bytes).await?;
            let method = PathAndQuery::from_static(method);
            caller.unary(request, method, Raw).await
        };
        within(deadline, answer).await
    }

    /// What TF Serving says of the status of a model's version.
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

    /// What it says of the tensors that a model's version takes and gives.
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

    /// What TorchServe says of how it is.
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
