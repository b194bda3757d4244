//! One inference request, over gRPC in any of the supported protocols or in JSON by a template. It
//! is encoded once and reused for retries. The response is read as untrusted input. The pipeline
//! checks whether the tensors fit the contract.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_base::client_key::ClientKey;
use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tokio::time::Instant;

use super::http_json::TemplateRequest;
use super::message_chunks::MessageChunks;
use super::oip;
use super::oip::{Channel, Endpoint};
use super::{BackendError, Call, answer, tf_serving, torchserve};

/// One inference request.
#[derive(Debug)]
pub struct BackendRequest<'a> {
    message: Message,
    id: &'a str,
    model: &'a str,
    version: &'a str,
    outputs: &'a [TensorRule],
    claims: &'a HeaderMap,
    max_answer_bytes: usize,
}

/// The encoded message.
#[derive(Debug)]
enum Message {
    Inference(MessageChunks),
    Predict(Bytes),
    Predictions(Bytes),
    Template(TemplateRequest),
}

impl<'a> BackendRequest<'a> {
    /// Encodes a request, on a separate thread if it is large.
    pub async fn new(dialect: ProtocolAdapter, call: Call<'a>) -> Result<Self, BackendError> {
        let (id, model, version) = (call.id, call.model, call.version);
        let (outputs, claims) = (call.outputs, call.claims);
        Ok(Self {
            message: Message::new(dialect, call).await?,
            id,
            model,
            version,
            outputs,
            claims,
            max_answer_bytes: dialect.max_answer_bytes(outputs),
        })
    }

    /// Sends the request of a client and returns its tensors, before the deadline. gRPC uses the
    /// channel, which an endpoint for HTTP/1.1 does not have.
    pub async fn call(
        &self,
        endpoint: &Endpoint,
        line: Option<&Channel>,
        client_key: ClientKey,
        deadline: Instant,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let most = self.max_answer_bytes;
        let line = || line.ok_or_else(BackendError::other_protocol);
        match &self.message {
            Message::Inference(message) => {
                let message = message.clone();
                let answer = line()?.infer(message, self.claims, most, deadline).await?;
                answer::tensors(answer, self.id, self.model, self.version)
            }
            Message::Predict(message) => {
                let (message, claims) = (message.clone(), self.claims);
                let predicted = tf_serving::send(line()?, message, claims, most, deadline).await?;
                tf_serving::check(predicted, self.model, self.version)
            }
            Message::Predictions(message) => {
                let (message, claims) = (message.clone(), self.claims);
                torchserve::send(line()?, message, self.outputs, claims, most, deadline).await
            }
            Message::Template(message) => {
                let upstream = endpoint.http1()?;
                let answer = upstream.infer(message, client_key, deadline).await?;
                message.decode_response(self.outputs, answer).await
            }
        }
    }
}

impl Message {
    async fn new(dialect: ProtocolAdapter, call: Call<'_>) -> Result<Self, BackendError> {
        if let Some(template) = call.contract.backend_template() {
            let request = TemplateRequest::new(call, template).await?;
            return Ok(Self::Template(request));
        }
        let written = match dialect {
            ProtocolAdapter::OpenInference => {
                let kept = call.sent_message;
                let request = oip::request(call)?;
                if let Some(kept) = kept {
                    // The clone shares the tensors' bytes. The cell is set once for each call.
                    let _ = kept.set(request.clone());
                }
                return Ok(Self::Inference(MessageChunks::encode(request)?));
            }
            ProtocolAdapter::TfServing => tf_serving::encode(call).await.map(Self::Predict),
            ProtocolAdapter::TorchServe => torchserve::encode(call).await.map(Self::Predictions),
        };
        written.ok_or_else(|| {
            BackendError::Fault("the inputs cannot be encoded in its protocol".to_owned())
        })
    }
}
