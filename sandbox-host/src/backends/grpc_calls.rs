//! gRPC calls without a generated client: raw bytes in both directions.

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;
use tensorgate_net::http2::channel::Http2Channel;
use tensorgate_net::http2::raw_codec::RawCodec;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::{Request, Response, Status};

use super::BackendError;
use super::grpc_status::{infer_within, within};
use super::oip::{Channel, MAX_METADATA_BYTES, with_deadline};

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

    /// Calls the method of an inference. The response has at most `max_answer_bytes`. `claims` are
    /// sent as metadata.
    pub(super) async fn unary(
        &self,
        method: &'static str,
        message: Bytes,
        claims: &HeaderMap,
        max_answer_bytes: usize,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let mut request = with_deadline(message, deadline);
        request.metadata_mut().as_mut().extend(claims.clone());
        let answer = self.call(method, request, max_answer_bytes);
        infer_within(self.dialect(), deadline, answer).await
    }

    async fn call(
        &self,
        method: &'static str,
        request: Request<Bytes>,
        max_answer_bytes: usize,
    ) -> Result<Response<Bytes>, Status> {
        let mut caller = self.grpc_client(max_answer_bytes).await?;
        let method = PathAndQuery::from_static(method);
        caller.unary(request, method, RawCodec).await
    }

    /// TF Serving's status of a model's version.
    pub async fn status(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let message = tf_serving::status_request(model, version).into();
        self.query(tf_serving::STATUS, message, deadline).await
    }

    /// TF Serving's description of a model's version.
    pub async fn signature(
        &self,
        model: &str,
        version: &str,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let message = tf_serving::metadata_request(model, version).into();
        self.query(tf_serving::METADATA, message, deadline).await
    }

    /// TorchServe's health status.
    pub async fn ping(&self, deadline: Instant) -> Result<Bytes, BackendError> {
        self.query(torchserve::PING, Bytes::new(), deadline).await
    }

    /// Calls a method about the server or a model.
    async fn query(
        &self,
        method: &'static str,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, BackendError> {
        let request = with_deadline(message, deadline);
        let answer = self.call(method, request, MAX_METADATA_BYTES);
        within(deadline, answer).await
    }
}
