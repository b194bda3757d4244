//! One inference request in the protocol of TF Serving.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_base::guard::offload;
use tensorgate_base::owned;
use tensorgate_policy::Tensor;
use tensorgate_wire::upstream::tf_serving::{self, Predicted};
use tokio::time::Instant;

use super::answer_decoding::decode;
use super::oip::Channel;
use super::{BackendError, Call};

/// Encodes a request, on a separate thread if it is large. `None` if the protocol cannot represent
/// it.
pub(super) async fn encode(call: Call<'_>) -> Option<Bytes> {
    let Call {
        contract: _,
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
    let outputs = outputs.to_vec();
    offload(owned::data_bytes(&inputs), move || {
        tf_serving::request((&model, &version), &parameters, &inputs, &outputs)
    })
    .await
    .flatten()
    .map(Bytes::from)
}

/// Sends an encoded request and returns its response, before the deadline.
pub(super) async fn send(
    line: &Channel,
    message: Bytes,
    claims: &HeaderMap,
    most: usize,
    deadline: Instant,
) -> Result<Predicted, BackendError> {
    let answer = line
        .unary(tf_serving::PREDICT, message, claims, most, deadline)
        .await?;
    let read = move || tf_serving::answer(&answer);
    decode(most, read).await
}

/// Checks that a response matches the request. It repeats the model and the version, but no ID.
pub(super) fn check(
    predicted: Predicted,
    sent_model: &str,
    sent_version: &str,
) -> Result<Vec<Tensor<'static>>, BackendError> {
    let Predicted {
        model,
        version,
        outputs,
    } = predicted;
    if model.as_deref().is_some_and(|model| model != sent_model) {
        return Err(BackendError::Fault(format!(
            "answers for model {model:?}, not {sent_model:?}"
        )));
    }
    if version
        .as_deref()
        .is_some_and(|version| version != sent_version)
    {
        return Err(BackendError::Fault(format!(
            "answers for version {version:?}, not {sent_version:?}"
        )));
    }
    Ok(outputs)
}
