//! One inference over gRPC, in whichever protocol its server has: written once, sent as often as it is sent again, and its answer read as untrusted
//! input. Whether the tensors keep the contract is the pipeline's to check.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::Tensor;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::Model;
use tensorgate_policy::raw::BackendKind;
use tensorgate_wire::template;
use tensorgate_wire::upstream::{tf_serving, torchserve};
use tokio::time::Instant;

use super::oip::{self, Line};
use super::written::Pieces;
use super::{BackendError, Call, answer};
use crate::guard::offload;
use crate::owned;

/// What a server speaks over gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The Open Inference Protocol.
    OpenInference,
    /// TF Serving's own.
    TfServing,
    /// TorchServe's own.
    TorchServe,
}

impl Dialect {
    /// That of a kind of backend. Kinds that are spoken to over HTTP/1.1 have none of these, and nothing asks.
    pub const fn of(kind: BackendKind) -> Self {
        match kind {
            BackendKind::TfServing => Self::TfServing,
            BackendKind::TorchServe => Self::TorchServe,
            BackendKind::OpenInference
            | BackendKind::Embedded
            | BackendKind::OpenAi
            | BackendKind::HttpJson => Self::OpenInference,
        }
    }

    /// What an inference takes while it is at a model's backend, beside its inputs, bytes: what is written of it, as JSON of a server's own where the model has a
    /// template for that, and its answer.
    pub fn room(self, model: &Model, inputs: &[Tensor<'_>]) -> usize {
        let written = match (model.backend_template(), self) {
            (Some(template), _) => template::most_request_bytes(template, inputs),
            (None, Self::OpenInference | Self::TfServing) => owned::data_bytes(inputs),
            (None, Self::TorchServe) => torchserve::most_request_bytes(inputs),
        };
        written.saturating_add(self.answer_room(model))
    }

    /// The part of an answer within the contract: what comes, where that is not its tensors' own bytes, and what is read of it.
    pub fn answer_room(self, model: &Model) -> usize {
        let rules = model.backend_outputs();
        let comes = match (model.backend_template(), self) {
            (Some(template), _) => template::most_answer_bytes(template, rules),
            (None, Self::OpenInference) => 0,
            (None, Self::TfServing | Self::TorchServe) => self.max_answer_bytes(rules),
        };
        comes.saturating_add(answer::max_bytes(rules))
    }

    fn max_answer_bytes(self, rules: &[TensorRule]) -> usize {
        match self {
            Self::OpenInference | Self::TfServing => answer::max_bytes(rules),
            Self::TorchServe => torchserve::most_answer_bytes(rules),
        }
    }
}

/// One inference.
#[derive(Debug)]
pub struct Question<'a> {
    message: Message,
    id: &'a str,
    model: &'a str,
    version: &'a str,
    outputs: &'a [TensorRule],
    claims: &'a HeaderMap,
    max_answer_bytes: usize,
}

/// Its message.
#[derive(Debug)]
enum Message {
    Inference(Pieces),
    Predict(Bytes),
    Predictions(Bytes),
}

impl<'a> Question<'a> {
    /// Writes one, on a thread of its own if it is long.
    pub async fn new(dialect: Dialect, call: Call<'a>) -> Result<Self, BackendError> {
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

    /// Asks a server; its tensors, all before the deadline.
    pub async fn ask(
        &self,
        line: &Line,
        deadline: Instant,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let most = self.max_answer_bytes;
        match &self.message {
            Message::Inference(message) => {
                let message = message.clone();
                let answer = line.infer(message, self.claims, most, deadline).await?;
                answer::tensors(answer, self.id, self.model, self.version)
            }
            Message::Predict(message) => {
                let claims = Some(self.claims);
                let answer = line
                    .unary(tf_serving::PREDICT, message.clone(), claims, most, deadline)
                    .await?;
                let read = move || tf_serving::answer(&answer);
                self.predicted(read_of(most, read).await?)
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
                    .map_err(predicted_nothing)?;
                let rules = self.outputs.to_vec();
                read_of(most, move || torchserve::answer(&answer, &rules)).await
            }
        }
    }

    /// Whether TF Serving answered our question: it repeats no id, but the model and the version that it asked.
    fn predicted(
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
    async fn new(dialect: Dialect, call: Call<'_>) -> Result<Self, BackendError> {
        if dialect == Dialect::OpenInference {
            let kept = call.kept;
            let request = oip::request(call)?;
            if let Some(kept) = kept {
                // It shares the tensors' bytes. A call is made of a message once.
                let _ = kept.set(request.clone());
            }
            return Ok(Self::Inference(Pieces::of(request)?));
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
            kept: _,
        } = call;
        let (model, version) = (model.to_owned(), version.to_owned());
        let written = if dialect == Dialect::TfServing {
            let outputs = outputs.to_vec();
            offload(owned::data_bytes(&inputs), move || {
                tf_serving::request((&model, &version), &parameters, &inputs, &outputs)
            })
            .await
            .flatten()
            .map(|message| Self::Predict(message.into()))
        } else {
            let rules = contract.backend_inputs().to_vec();
            // No parameter can have a rule: they have no place there.
            offload(torchserve::most_request_bytes(&inputs), move || {
                torchserve::request((&model, &version), &inputs, &rules)
            })
            .await
            .flatten()
            .map(|message| Self::Predictions(message.into()))
        };
        written.ok_or_else(|| fault("the inputs cannot be said in its protocol".to_owned()))
    }
}

/// Reads an answer, on a thread of its own if it may be long.
async fn read_of<T: Send + 'static>(
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

/// How TorchServe's `UNAVAILABLE` ends where its handler raised.
const HANDLER_RAISED: &str = "org.pytorch.serve.http.InternalServerException";
/// What its `INTERNAL` says where a model has no worker, or none with room.
const NO_WORKER: (&str, &str) = (
    "Internal: Model ",
    " has no worker to serve inference request",
);

/// TorchServe's statuses mean each other's: a handler that raised is a fault of this one request, with which another server would do no better, and a
/// model without a worker is a server that cannot take it now.
fn predicted_nothing(error: BackendError) -> BackendError {
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

    /// As TorchServe 0.12 says them.
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
        assert_eq!(predicted_nothing(busy(raised)), at_fault(raised));
        assert_eq!(predicted_nothing(at_fault(unserved)), busy(unserved));
        assert_eq!(predicted_nothing(at_fault(died)), at_fault(died));
        assert_eq!(predicted_nothing(busy("")), busy(""));
        let gone = BackendError::Unavailable(raised.to_owned());
        assert_eq!(predicted_nothing(gone.clone()), gone);
    }
}
