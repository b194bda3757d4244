//! Calls of gRPC methods that no generated client is there for: bytes out, bytes in, over the one connection of a line. What they say is for whoever
//! asks to write and to read.

use bytes::{Buf as _, BufMut as _, Bytes};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::time::Instant;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::BackendError;
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

impl Line {
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
        let mut client = Grpc::new(self.channel())
            .max_decoding_message_size(max_answer_bytes)
            // What we send was bounded when it was read.
            .max_encoding_message_size(usize::MAX);
        let answer = async {
            let ready = client.ready().await;
            ready.map_err(|error| Status::from_error(error.into()))?;
            let method = PathAndQuery::from_static(method);
            client.unary(request, method, Raw).await
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
