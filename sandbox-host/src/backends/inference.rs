//! One inference request over gRPC, in any of the supported protocols. It is encoded once and
//! reused for retries. The response is read as untrusted input. The pipeline checks whether the
//! tensors fit the contract.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::Model;
use tensorgate_policy::raw::BackendKind;
use tensorgate_wire::template;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::time::Instant;

use super::channel::MessageChunks;
use super::oip::Channel;
use super::{BackendError, Call};
use crate::guard::offload;
use crate::owned;

/// The protocol adapter of a gRPC backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolAdapter {
    /// The Open Inference Protocol.
    OpenInference,
    /// The protocol of TF Serving.
    TfServing,
    /// The protocol of TorchServe.
    TorchServe,
}

impl ProtocolAdapter {
    /// The protocol of a kind of backend. Kinds with HTTP/1.1 do not use it.
    pub const fn for_kind(kind: BackendKind) -> Self {
        match kind {
            BackendKind::TfServing => Self::TfServing,
            BackendKind::TorchServe => Self::TorchServe,
            BackendKind::OpenInference
            | BackendKind::Embedded
            | BackendKind::OpenAi
            | BackendKind::HttpJson => Self::OpenInference,
        }
    }

    /// The memory of an inference at a model's backend beside its inputs, in bytes: the encoded
    /// request, and the response.
    pub fn request_memory(self, model: &Model, inputs: &[Tensor<'_>]) -> usize {
        let written = match (model.backend_template(), self) {
            (Some(template), _) => template::most_request_bytes(template, inputs),
            (None, Self::OpenInference | Self::TfServing) => owned::data_bytes(inputs),
            (None, Self::TorchServe) => torchserve::most_request_bytes(inputs),
        };
        written.saturating_add(self.response_memory(model))
    }

    /// The memory for a response within the contract: the received bytes, unless they become the
    /// tensors' data, and the decoded tensors.
    pub fn response_memory(self, model: &Model) -> usize {
        let rules = model.backend_outputs();
        let comes = match (model.backend_template(), self) {
            (Some(template), _) => template::most_answer_bytes(template, rules),
            (None, Self::OpenInference) => 0,
            (None, Self::TfServing | Self::TorchServe) => self.max_answer_bytes(rules),
        };
        comes.saturating_add(super::answer::max_bytes(rules))
    }

    fn max_answer_bytes(self, rules: &[TensorRule]) -> usize {
        match self {
            Self::OpenInference | Self::TfServing => super::answer::max_bytes(rules),
            Self::TorchServe => torchserve::most_answer_bytes(rules),
        }
    }
}

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

    /// Sends the request and returns its tensors, before the deadline.
    pub async fn send(
        &self,
        line: &Channel,
        deadline: Instant,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let most = self.max_answer_bytes;
        match &self.message {
            Message::Inference(message) => {
                let message = message.clone();
                let answer = line.infer(message, self.claims, most, deadline).await?;
                super::answer::tensors(answer, self.id, self.model, self.version)
            }
            Message::Predict(message) => {
                let claims = Some(self.claims);
                let answer = line
                    .unary(tf_serving::PREDICT, message.clone(), claims, most, deadline)
                    .await?;
                let read = move || tf_serving::answer(&answer);
                self.check_tf_serving(decode(most, read).await?)
            }
            Message::Predictions(message) => {
                let claims = Some(self.claims);
                let answer = line
                    .unary(
                        torchserve::PREDICTIONS,
                        message.clone(),
                        claims,
                        most,
                        deadline,
                    )
                    .await
                    .map_err(classify_torchserve_error)?;
                let rules = self.outputs.to_vec();
                decode(most, move || torchserve::answer(&answer, &rules)).await
            }
        }
    }

    /// Checks that a TF Serving response matches the request. It repeats the model and the version,
    /// but no ID.
    fn check_tf_serving(
        &self,
        predicted: tf_serving::Predicted,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let tf_serving::Predicted {
            model,
            version,
            outputs,
        } = predicted;
        if model.as_deref().is_some_and(|model| model != self.model) {
            return Err(fault(format!(
                "answers for model {model:?}, not {:?}",
                self.model
            )));
        }
        if version
            .as_deref()
            .is_some_and(|version| version != self.version)
        {
            return Err(fault(format!(
                "answers for version {version:?}, not {:?}",
                self.version
            )));
        }
        Ok(outputs)
    }
}

impl Message {
    async fn new(dialect: ProtocolAdapter, call: Call<'_>) -> Result<Self, BackendError> {
        if dialect == ProtocolAdapter::OpenInference {
            let kept = call.sent_message;
            let request = super::oip::request(call)?;
            if let Some(kept) = kept {
                // The clone shares the tensors' bytes. The cell is set once for each call.
                let _ = kept.set(request.clone());
            }
            return Ok(Self::Inference(MessageChunks::encode(request)?));
        }
        let Call {
            contract,
            id: _,
            model,
            version,
            parameters,
            inputs,
            outputs,
            claims: _,
            sent_message: _,
        } = call;
        let (model, version) = (model.to_owned(), version.to_owned());
        let written = if dialect == ProtocolAdapter::TfServing {
            let outputs = outputs.to_vec();
            offload(owned::data_bytes(&inputs), move || {
                tf_serving::request((&model, &version), &parameters, &inputs, &outputs)
            })
            .await
            .flatten()
            .map(|message| Self::Predict(message.into()))
        } else {
            let rules = contract.backend_inputs().to_vec();
            // The protocol has no place for parameters, so no rule can allow one.
            offload(torchserve::most_request_bytes(&inputs), move || {
                torchserve::request((&model, &version), &inputs, &rules)
            })
            .await
            .flatten()
            .map(|message| Self::Predictions(message.into()))
        };
        written.ok_or_else(|| fault("the inputs cannot be encoded in its protocol".to_owned()))
    }
}

/// Decodes a response, on a separate thread if it may be large.
async fn decode<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, BackendError> {
    let read = offload(bytes, read).await;
    read.unwrap_or_else(|| Err("it could not be read".to_owned()))
        .map_err(|cause| fault(format!("its answer: {cause}")))
}

fn fault(cause: String) -> BackendError {
    BackendError::Fault(cause)
}

/// The end of TorchServe's `UNAVAILABLE` text after an exception in its handler.
const HANDLER_RAISED: &str = "org.pytorch.serve.http.InternalServerException";
/// The text of TorchServe's `INTERNAL` status if a model has no free worker.
const NO_WORKER: (&str, &str) = (
    "Internal: Model ",
    " has no worker to serve inference request",
);

/// Corrects TorchServe's statuses, which it confuses. An exception in a handler is a fault of this
/// request, which a retry would not fix. A model without a free worker is a busy server.
fn classify_torchserve_error(error: BackendError) -> BackendError {
    match error {
        BackendError::Busy(cause) if cause.ends_with(HANDLER_RAISED) => fault(cause),
        BackendError::Fault(cause)
            if cause.starts_with(NO_WORKER.0) && cause.contains(NO_WORKER.1) =>
        {
            BackendError::Busy(cause)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of TorchServe 0.12.
    #[test]
    fn torchserve_is_busy_without_a_worker_and_at_fault_where_its_handler_raised() {
        let raised =
            "Unavailable: Prediction failed\norg.pytorch.serve.http.InternalServerException";
        let unserved = "Internal: Model \"m\" Version 1.0\" has no worker to serve inference request. Please use scale workers API to add workers. If \
                        this is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize\n\
                        InternalServerException.()";
        let died = "Internal: Worker died.\norg.pytorch.serve.http.InternalServerException";
        let busy = |cause: &str| BackendError::Busy(cause.to_owned());
        let at_fault = |cause: &str| fault(cause.to_owned());
        assert_eq!(classify_torchserve_error(busy(raised)), at_fault(raised));
        assert_eq!(
            classify_torchserve_error(at_fault(unserved)),
            busy(unserved)
        );
        assert_eq!(classify_torchserve_error(at_fault(died)), at_fault(died));
        assert_eq!(classify_torchserve_error(busy("")), busy(""));
        let gone = BackendError::Unavailable(raised.to_owned());
        assert_eq!(classify_torchserve_error(gone.clone()), gone);
    }
}
